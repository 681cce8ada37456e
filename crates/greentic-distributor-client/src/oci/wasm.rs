//! What a Wasm file says about itself in its first sections: module or component, and what it imports and exports.

use std::io::{self, Read, Seek, SeekFrom};

use wasmparser::{BinaryReader, ComponentExportSectionReader, ComponentImportSectionReader};

/// What a Wasm file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wasm {
    /// A core module.
    Module,
    /// A component; its interface is `None` where it could not be read: too large, or newer than what is known here.
    Component(Option<Interface>),
}

/// Names of what a component imports and exports, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// The first four bytes of every Wasm file.
pub(super) const MAGIC: &[u8; 4] = b"\0asm";
/// Version and layer of a core module.
const MODULE: [u8; 4] = [1, 0, 0, 0];
/// Version and layer of a component.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
/// Largest import or export section read, in bytes.
const SECTION_BYTES: u64 = 1 << 20;
/// Most sections looked at.
const SECTIONS: usize = 100_000;
/// Most names kept of each kind: they stand in a config that others read whole.
const NAMES: usize = 1_000;

/// Reads the preamble of a file and, of a component, its import and export sections; everything else is skipped, not read.
/// `None` for what is no Wasm, and for versions nobody has published.
pub(super) fn read<R: Read + Seek>(file: &mut R) -> io::Result<Option<Wasm>> {
    let mut preamble = [0_u8; 8];
    file.seek(SeekFrom::Start(0))?;
    match file.read_exact(&mut preamble) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (magic, version) = preamble.split_at(4);
    if magic != MAGIC {
        return Ok(None);
    }
    if version == MODULE {
        return Ok(Some(Wasm::Module));
    }
    if version != COMPONENT {
        return Ok(None);
    }
    Ok(Some(Wasm::Component(interface(file)?)))
}

/// The names in the import and export sections. `None` where they cannot be told.
fn interface<R: Read + Seek>(file: &mut R) -> io::Result<Option<Interface>> {
    let mut interface = Interface::default();
    let end = file.seek(SeekFrom::End(0))?;
    let mut position = file.seek(SeekFrom::Start(8))?;
    for _ in 0..SECTIONS {
        if position == end {
            return Ok(Some(interface));
        }
        let (id, size, header) = match section(file) {
            Ok(Some(section)) => section,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(next) = position.checked_add(header + size).filter(|next| *next <= end) else { return Ok(None) };
        if matches!(id, 10 | 11) {
            if size > SECTION_BYTES {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            file.take(size).read_to_end(&mut bytes)?;
            if names(id, &bytes, &mut interface).is_none() {
                return Ok(None);
            }
        }
        position = file.seek(SeekFrom::Start(next))?;
    }
    Ok(None)
}

/// Number and size of a section, and the size of its header.
fn section<R: Read>(file: &mut R) -> io::Result<Option<(u8, u64, u64)>> {
    let mut byte = [0_u8; 1];
    let mut next = || file.read_exact(&mut byte).map(|()| byte[0]);
    let id = next()?;
    let mut size = 0_u64;
    for at in 0..5_u64 {
        let byte = next()?;
        size |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((id, size, at + 2)));
        }
    }
    Ok(None)
}

fn names(id: u8, bytes: &[u8], interface: &mut Interface) -> Option<()> {
    let reader = BinaryReader::new(bytes, 0);
    if id == 10 {
        for import in ComponentImportSectionReader::new(reader).ok()? {
            interface.imports.push(import.ok()?.name.name.to_owned());
        }
    } else {
        for export in ComponentExportSectionReader::new(reader).ok()? {
            interface.exports.push(export.ok()?.name.name.to_owned());
        }
    }
    (interface.imports.len() <= NAMES && interface.exports.len() <= NAMES).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use greentic_dist_testkit::fixture;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn read(bytes: &[u8]) -> Option<Wasm> {
        super::read(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn a_real_component_names_its_exports() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let interface = Interface { imports: Vec::new(), exports: names(&["greet", "answer"]) };
        assert_eq!(read(fixture::component_bytes()), Some(Wasm::Component(Some(interface))));
    }

    #[test]
    fn modules_components_and_other_bytes_are_told_apart() {
        assert_eq!(read(b"\0asm\x01\0\0\0"), Some(Wasm::Module));
        assert_eq!(read(b"\0asm\x0d\0\x01\0"), Some(Wasm::Component(Some(Interface::default()))));
        for other in [&b""[..], b"\0asm", b"\0asm\x02\0\0\0", b"\0asm\x0a\0\x01\0", b"PK\x03\x04____", b"{\"a\":1}.."] {
            assert_eq!(read(other), None);
        }
    }

    #[test]
    fn a_component_whose_sections_lie_is_still_a_component() {
        for sections in [
            &[10][..],
            &[10, 200, 1],
            &[11, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[10, 1, 0x7f],
            &[3, 0xff, 0xff, 0xff, 0x7f],
        ] {
            let bytes = [&b"\0asm\x0d\0\x01\0"[..], sections].concat();
            assert_eq!(read(&bytes), Some(Wasm::Component(None)), "{sections:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let component = [&b"\0asm\x0d\0\x01\0"[..], &bytes].concat();
            drop(super::read(&mut Cursor::new(component)));
        }
    }
}
