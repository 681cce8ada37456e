//! The tar format (POSIX pax interchange), as much of it as a layout needs.
//!
//! Reading never unpacks: [`index`] notes where the content of each file stands, and what is neither a regular file nor a
//! directory is refused. Extension headers are read up to a fixed size. Writing knows no clock, no owner and no order but
//! its caller's, so that equal content gives equal archives.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Size of a header and unit of everything else.
const BLOCK: usize = 512;
/// Most members looked at, and written: of each the name and the place are held while an archive is open.
pub(super) const MEMBERS: usize = 500_000;
/// Largest extension header in bytes. One of a layout holds a path of 141 characters.
const EXTENSION_BYTES: u64 = 64 << 10;
/// Longest name in the classic header, in bytes.
const NAME_BYTES: usize = 100;
/// Largest size in the classic header: eleven octal digits.
const CLASSIC_SIZE: u64 = (1 << 33) - 1;

/// Where the content of a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Position of its first byte in the archive.
    pub(super) offset: u64,
    /// Its size in bytes.
    pub(super) size_bytes: u64,
}

/// Why an archive is not read.
#[derive(Debug)]
pub(in crate::oci) enum TarError {
    /// It is none, or a broken one.
    Malformed(&'static str),
    /// It holds what a layout must not hold; the text says what.
    Refused(&'static str),
    Io(io::Error),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Malformed("it ends in the middle of a member"),
            _ => Self::Io(error),
        }
    }
}

/// Finds the regular files of an archive whose names `wanted` picks. A leading `./` is not part of a name; a name that could be
/// written otherwise is refused, since two of them may mean one file.
pub(super) fn index<R: Read + Seek>(
    archive: &mut R,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Member>, TarError> {
    let len = archive.seek(SeekFrom::End(0))?;
    archive.seek(SeekFrom::Start(0))?;
    let mut found = BTreeMap::new();
    let mut position = 0_u64;
    let mut long = Extended::default();
    for _ in 0..MEMBERS {
        let Some(header) = Header::read(archive)? else { return Ok(found) };
        position += BLOCK as u64;
        let extends = matches!(header.kind, b'x' | b'g' | b'L' | b'K');
        let size_bytes = if extends { header.size_bytes } else { long.size_bytes.unwrap_or(header.size_bytes) };
        let end = position.checked_add(size_bytes).filter(|end| *end <= len);
        let end = end.ok_or(TarError::Malformed("a member is longer than the archive"))?;
        match header.kind {
            b'x' | b'L' => long.read(header.kind, archive, size_bytes)?,
            // Global settings and long link targets say nothing about regular files.
            b'g' | b'K' => {}
            b'0' | 0 | b'7' => {
                let name = long.name.take().unwrap_or(header.name);
                let name = String::from_utf8_lossy(&name);
                let name = name.strip_prefix("./").unwrap_or(&name);
                // Old writers mark a directory by nothing but its last character.
                if !is_plain(name.strip_suffix('/').unwrap_or(name)) {
                    return Err(TarError::Refused(
                        "a member has an absolute name, or one with `.`, `..` or nothing in it",
                    ));
                }
                let member = Member { offset: position, size_bytes };
                if wanted(name) && found.insert(name.to_owned(), member).is_some() {
                    return Err(TarError::Refused("two members have the same name"));
                }
                long = Extended::default();
            }
            b'5' => long = Extended::default(),
            b'1' | b'2' => return Err(TarError::Refused("it holds a link")),
            _ => return Err(TarError::Refused("it holds something that is neither a file nor a directory")),
        }
        position = end.next_multiple_of(BLOCK as u64);
        archive.seek(SeekFrom::Start(position))?;
    }
    Err(TarError::Refused("it has more than 500000 members"))
}

/// Whether a name leads down, step by step, and can be written in one way only.
fn is_plain(name: &str) -> bool {
    name.split('/').all(|step| !matches!(step, "" | "." | ".."))
}

/// What extension headers say about the member that follows.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size_bytes: Option<u64>,
}

impl Extended {
    fn read<R: Read>(&mut self, kind: u8, archive: &mut R, size_bytes: u64) -> Result<(), TarError> {
        if size_bytes > EXTENSION_BYTES {
            return Err(TarError::Refused("an extension header is larger than 64 KiB"));
        }
        let mut bytes = Vec::new();
        archive.take(size_bytes).read_to_end(&mut bytes)?;
        if kind == b'L' {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            bytes.truncate(end);
            self.name = Some(bytes);
            return Ok(());
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or(TarError::Malformed("an extension header breaks the format"))?;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size_bytes = Some(size.ok_or(TarError::Malformed("a size is no number"))?);
                }
                key if key.starts_with(b"GNU.sparse") => return Err(TarError::Refused("it holds a sparse file")),
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

/// One `LENGTH KEY=VALUE\n` of an extension header, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
    let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((body.get(..equals)?, body.get(equals + 1..)?, bytes.get(length..)?))
}

struct Header {
    name: Vec<u8>,
    size_bytes: u64,
    kind: u8,
}

impl Header {
    /// The next header; `None` at the end of the archive, which is a block of zeros.
    fn read<R: Read>(archive: &mut R) -> Result<Option<Self>, TarError> {
        let mut block = [0_u8; BLOCK];
        archive.read_exact(&mut block)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if block.starts_with(&[0x1f, 0x8b]) || block.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(TarError::Malformed("it is compressed; unpack it first (`gunzip`, `zstd -d`)"));
        }
        let field = |from: usize, len: usize| block.get(from..from + len).unwrap_or_default();
        let sum = block.iter().enumerate().map(|(at, byte)| {
            let counted = if (148..156).contains(&at) { b' ' } else { *byte };
            u64::from(counted)
        });
        if number(field(148, 8)) != Some(sum.sum()) {
            return Err(TarError::Malformed("it is no tar archive, or a header is damaged"));
        }
        let text = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let (mut name, prefix) = (text(field(0, NAME_BYTES)), text(field(345, 155)));
        // GNU's own header has times where the prefix of the POSIX one stands.
        if field(257, 6) == b"ustar\0" && !prefix.is_empty() {
            name = [prefix.as_slice(), b"/", name.as_slice()].concat();
        }
        let size_bytes = number(field(124, 12)).ok_or(TarError::Malformed("a size is no number"))?;
        Ok(Some(Self { name, size_bytes, kind: field(156, 1).first().copied().unwrap_or_default() }))
    }
}

/// A number as headers have them: octal text, or base 256 behind a set bit.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        return rest.iter().try_fold(u64::from(first & 0x7f), |sum, byte| {
            sum.checked_mul(256).and_then(|sum| sum.checked_add(u64::from(*byte)))
        });
    }
    let digits: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, 0 | b' ')).collect();
    digits.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8).and_then(|sum| sum.checked_add(u64::from(byte - b'0'))),
        _ => None,
    })
}

/// Writes an archive, member by member.
#[derive(Debug)]
pub(super) struct TarWriter<W> {
    inner: W,
    missing: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    pub(super) const fn new(inner: W) -> Self {
        Self { inner, missing: 0, padding: 0 }
    }

    /// Writes a directory; its name ends with a slash.
    pub(super) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.header(name.as_bytes(), 0, b'5')
    }

    /// Begins a file of exactly this size; its content follows with [`TarWriter::write`].
    pub(super) fn begin(&mut self, name: &str, size_bytes: u64) -> io::Result<()> {
        let mut records = Vec::new();
        if name.len() > NAME_BYTES {
            push_record(&mut records, "path", name);
        }
        if size_bytes > CLASSIC_SIZE {
            push_record(&mut records, "size", &size_bytes.to_string());
        }
        let (short, _) = name.as_bytes().split_at_checked(NAME_BYTES).unwrap_or((name.as_bytes(), b""));
        if !records.is_empty() {
            self.header(b"pax", records.len() as u64, b'x')?;
            self.inner.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        // A size that does not fit stands in the extension, which wins.
        self.header(short, if size_bytes > CLASSIC_SIZE { 0 } else { size_bytes }, b'0')?;
        self.missing = size_bytes;
        self.padding = usize::try_from(size_bytes.next_multiple_of(BLOCK as u64) - size_bytes).unwrap_or_default();
        Ok(())
    }

    /// Writes content of the file that was begun.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.missing.checked_sub(bytes.len() as u64);
        self.missing = left.ok_or_else(|| io::Error::other("more content than the member has room for"))?;
        self.inner.write_all(bytes)
    }

    /// Ends the file that was begun.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.missing > 0 {
            return Err(io::Error::other("less content than the member has room for"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.inner.write_all([0; BLOCK].get(..padding).unwrap_or_default())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let padding = usize::try_from(written.next_multiple_of(BLOCK as u64) - written).unwrap_or_default();
        self.inner.write_all([0; BLOCK].get(..padding).unwrap_or_default())
    }

    fn header(&mut self, name: &[u8], size_bytes: u64, kind: u8) -> io::Result<()> {
        let mode: &[u8] = if kind == b'5' { b"0000755\0" } else { b"0000644\0" };
        let size = format!("{size_bytes:011o}\0");
        let mut block = [0_u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            for (slot, byte) in block.iter_mut().skip(at).zip(bytes) {
                *slot = *byte;
            }
        };
        put(0, name);
        put(100, mode);
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, size.as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let sum = format!("{sum:06o}\0 ");
        for (slot, byte) in block.iter_mut().skip(148).zip(sum.as_bytes()) {
            *slot = *byte;
        }
        self.inner.write_all(&block)
    }
}

/// Appends `LENGTH KEY=VALUE\n`, whose length counts itself.
fn push_record(out: &mut Vec<u8>, key: &str, value: &str) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while length != bare + length.to_string().len() {
        length += 1;
    }
    out.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (name, content) in members {
            tar.begin(name, content.len() as u64).unwrap();
            tar.write(content).unwrap();
            tar.end().unwrap();
        }
        tar.finish().unwrap()
    }

    fn content(archive: &[u8], member: Member) -> &[u8] {
        let from = usize::try_from(member.offset).unwrap();
        &archive[from..from + usize::try_from(member.size_bytes).unwrap()]
    }

    #[test]
    fn what_is_written_is_found_again_short_names_and_long_ones() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        let members: [(&str, &[u8]); 4] =
            [("oci-layout", b"{}"), ("empty", b""), (&long, &[7; 513]), ("index.json", &[8; 512])];
        let bytes = archive(&members);
        assert_eq!(bytes.len() % BLOCK, 0);
        let found = index(&mut Cursor::new(&bytes), |_| true).unwrap();
        assert_eq!(found.len(), 4);
        for (name, expected) in members {
            assert_eq!(content(&bytes, found[name]), expected, "{name}");
        }
        assert_eq!(index(&mut Cursor::new(&bytes), |name| name == "empty").unwrap().len(), 1);
    }

    #[test]
    fn a_size_beyond_eight_gibibytes_is_written_and_read() {
        let mut tar = TarWriter::new(Vec::new());
        tar.begin("large", CLASSIC_SIZE + 1).unwrap();
        let bytes = tar.inner;
        // There is no such content here, and the reader says so with the right size in mind.
        let cut = index(&mut Cursor::new(&bytes), |_| true);
        assert!(matches!(cut, Err(TarError::Malformed("a member is longer than the archive"))), "{cut:?}");
        assert!(bytes.windows(19).any(|window| window == b"19 size=8589934592\n"));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(CLASSIC_SIZE + 1));
    }

    fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut patched = archive(&[("a", b"x")]);
        patched[at..at + bytes.len()].copy_from_slice(bytes);
        patched[148..156].copy_from_slice(b"        ");
        let sum: u64 = patched[..BLOCK].iter().map(|byte| u64::from(*byte)).sum();
        patched[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        patched
    }

    #[test]
    fn row_36_links_devices_sparse_files_and_doubles_are_refused() {
        for kind in [b"1", b"2", b"3", b"4", b"6", b"S", b"Z"] {
            let found = index(&mut Cursor::new(patched(156, kind)), |_| true);
            assert!(matches!(found, Err(TarError::Refused(_))), "{kind:?}: {found:?}");
        }
        let double = archive(&[("a", b"1"), ("./a", b"2")]);
        assert!(matches!(index(&mut Cursor::new(double), |_| true), Err(TarError::Refused(_))));
        let mut sparse = Vec::new();
        push_record(&mut sparse, "GNU.sparse.major", "1");
        let mut long = Extended::default();
        let size = sparse.len() as u64;
        assert!(matches!(long.read(b'x', &mut sparse.as_slice(), size), Err(TarError::Refused(_))));
        let huge = long.read(b'x', &mut io::repeat(b'1'), EXTENSION_BYTES + 1);
        assert!(matches!(huge, Err(TarError::Refused(_))));
    }

    #[test]
    fn what_is_cut_damaged_or_compressed_is_malformed() {
        let whole = archive(&[("a", &[1; 700])]);
        for len in [0, 1, 511, 600, 1_100, 1_600] {
            let found = index(&mut Cursor::new(&whole[..len]), |_| true);
            assert!(matches!(found, Err(TarError::Malformed(_))), "{len}: {found:?}");
        }
        let mut damaged = whole;
        damaged[3] ^= 1;
        assert!(matches!(index(&mut Cursor::new(damaged), |_| true), Err(TarError::Malformed(_))));
        let mut gzip = vec![0x1f, 0x8b];
        gzip.resize(1_024, 3);
        let found = index(&mut Cursor::new(gzip), |_| true);
        assert!(matches!(found, Err(TarError::Malformed(why)) if why.contains("gunzip")));
        assert!(matches!(
            index(&mut Cursor::new(patched(124, b"00000000009\0")), |_| true),
            Err(TarError::Malformed(_))
        ));
    }

    #[test]
    fn a_member_gets_exactly_the_content_it_was_begun_for() {
        let mut tar = TarWriter::new(Vec::new());
        tar.begin("a", 2).unwrap();
        assert!(tar.write(b"123").is_err());
        tar.write(b"1").unwrap();
        assert!(tar.end().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_archive_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            drop(index(&mut Cursor::new(bytes), |_| true));
        }

        #[test]
        fn records_count_themselves(value in "[a-z]{0,120}") {
            let mut out = Vec::new();
            push_record(&mut out, "path", &value);
            let (key, read, rest) = record(&out).unwrap();
            prop_assert_eq!((key, read, rest), (&b"path"[..], value.as_bytes(), &b""[..]));
        }
    }
}
