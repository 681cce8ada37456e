//! Proof while bytes pass: a size cap, an exact size, a digest, short and long reads.
//!
//! The one place that decides whether bytes are the right ones. Whoever moves bytes feeds them through a [`Verifier`]
//! and may publish them only with the [`Verified`] it returns.

use std::io::{self, Read};

use crate::{Algorithm, Digest, Hasher};

/// Bytes read at a time where everything that is left is taken.
const BUFFER_BYTES: usize = 256 << 10;

/// Why bytes are not what was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// All bytes came, and they hash to something else.
    #[error("the bytes hash to {actual}, expected {expected}")]
    Digest {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// The bytes ended before the promised size.
    #[error("only {actual} of {expected} bytes arrived")]
    Short {
        /// The promised size in bytes.
        expected: u64,
        /// The bytes that came.
        actual: u64,
    },
    /// More bytes came than were promised; counting stopped at the first one too many.
    #[error("more than the promised {expected} bytes arrived")]
    Long {
        /// The promised size in bytes.
        expected: u64,
    },
    /// The content is larger than the limit in force.
    #[error("the content is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// Bytes that were proven: what they hash to, and how many they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    digest: Digest,
    size_bytes: u64,
}

impl Verified {
    /// The digest of the bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The number of bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// Hashes and counts bytes, and refuses the first byte beyond what is allowed.
#[derive(Clone, Debug)]
pub struct Verifier {
    hasher: Hasher,
    expected_digest: Option<Digest>,
    expected_size: Option<u64>,
    limit: u64,
    seen: u64,
}

impl Verifier {
    /// Expects bytes with exactly this digest; the size is free below `limit` bytes.
    pub fn for_digest(digest: Digest, limit: u64) -> Self {
        Self { hasher: digest.hasher(), expected_digest: Some(digest), expected_size: None, limit, seen: 0 }
    }

    /// Expects exactly `size_bytes` bytes with this digest.
    pub fn for_content(digest: Digest, size_bytes: u64) -> Self {
        Self {
            hasher: digest.hasher(),
            expected_digest: Some(digest),
            expected_size: Some(size_bytes),
            limit: u64::MAX,
            seen: 0,
        }
    }

    /// Expects nothing but an end within `limit` bytes: computes the digest of bytes nobody named in advance.
    pub fn measuring(algorithm: Algorithm, limit: u64) -> Self {
        Self { hasher: Hasher::new(algorithm), expected_digest: None, expected_size: None, limit, seen: 0 }
    }

    /// Bytes seen so far.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Bytes that may still come before [`Verifier::update`] refuses.
    pub fn remaining(&self) -> u64 {
        self.expected_size.unwrap_or(u64::MAX).min(self.limit).saturating_sub(self.seen)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Mismatch::Long`] or [`Mismatch::TooLarge`] as soon as one byte too many is seen. None of `data` may be used.
    pub fn update(&mut self, data: &[u8]) -> Result<(), Mismatch> {
        let total = self.seen.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if let Some(expected) = self.expected_size
            && total > expected
        {
            return Err(Mismatch::Long { expected });
        }
        if total > self.limit {
            return Err(Mismatch::TooLarge { limit: self.limit });
        }
        self.hasher.update(data);
        self.seen = total;
        Ok(())
    }

    /// Takes everything that is left of a reader, or up to the byte that is too many. Whether all of it was taken is the inner
    /// result.
    ///
    /// # Errors
    /// The reader's.
    pub fn read_all_of(&mut self, reader: &mut impl Read) -> io::Result<Result<(), Mismatch>> {
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(Ok(())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if let Err(mismatch) = self.update(buffer.get(..count).unwrap_or_default()) {
                return Ok(Err(mismatch));
            }
        }
    }

    /// Ends the proof.
    ///
    /// # Errors
    /// [`Mismatch::Short`] when bytes are missing, [`Mismatch::Digest`] when they are not the promised ones.
    pub fn finish(self) -> Result<Verified, Mismatch> {
        if let Some(expected) = self.expected_size
            && self.seen != expected
        {
            return Err(Mismatch::Short { expected, actual: self.seen });
        }
        let actual = self.hasher.finish();
        match self.expected_digest {
            Some(expected) if expected != actual => Err(Mismatch::Digest { expected, actual }),
            _ => Ok(Verified { digest: actual, size_bytes: self.seen }),
        }
    }
}

/// A reader that cannot be read to its end without proof: where the content is wrong, an error stands in place of the
/// end of file.
#[derive(Debug)]
pub struct VerifyReader<R> {
    inner: R,
    verifier: Option<Verifier>,
    verified: Option<Verified>,
}

impl<R: Read> VerifyReader<R> {
    /// Reads from `inner` and proves it with `verifier`.
    pub fn new(inner: R, verifier: Verifier) -> Self {
        Self { inner, verifier: Some(verifier), verified: None }
    }

    /// The proof; `None` until the end of file was reached.
    pub const fn verified(&self) -> Option<Verified> {
        self.verified
    }
}

impl<R: Read> Read for VerifyReader<R> {
    /// # Errors
    /// The inner reader's, and `InvalidData` with a [`Mismatch`] inside when the content is wrong.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.verified.is_some() {
            return Ok(0);
        }
        let failed = || io::Error::new(io::ErrorKind::InvalidData, "the content was already refused");
        let count = self.inner.read(buffer)?;
        let mut verifier = self.verifier.take().ok_or_else(failed)?;
        let wrong = |mismatch| io::Error::new(io::ErrorKind::InvalidData, mismatch);
        if count == 0 {
            self.verified = Some(verifier.finish().map_err(wrong)?);
        } else {
            verifier.update(buffer.get(..count).unwrap_or(&[])).map_err(wrong)?;
            self.verifier = Some(verifier);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(mut verifier: Verifier, chunks: &[&[u8]]) -> Result<Verified, Mismatch> {
        for chunk in chunks {
            verifier.update(chunk)?;
        }
        verifier.finish()
    }

    #[test]
    fn right_bytes_pass_and_report_what_they_are() {
        let digest = Digest::sha256(b"hello");
        let verified = feed(Verifier::for_content(digest, 5), &[b"he", b"", b"llo"]).unwrap();
        assert_eq!((verified.digest(), verified.size_bytes()), (digest, 5));
    }

    #[test]
    fn wrong_short_long_and_oversized_content_is_told_apart() {
        let digest = Digest::sha256(b"hello");
        assert!(matches!(feed(Verifier::for_content(digest, 5), &[b"hellO"]), Err(Mismatch::Digest { .. })));
        assert_eq!(feed(Verifier::for_content(digest, 5), &[b"hell"]), Err(Mismatch::Short { expected: 5, actual: 4 }));
        assert_eq!(feed(Verifier::for_content(digest, 5), &[b"hello!"]), Err(Mismatch::Long { expected: 5 }));
        assert_eq!(feed(Verifier::for_digest(digest, 4), &[b"hello"]), Err(Mismatch::TooLarge { limit: 4 }));
        assert_eq!(
            feed(Verifier::measuring(Algorithm::Sha256, 4), &[b"hel", b"lo"]),
            Err(Mismatch::TooLarge { limit: 4 })
        );
    }

    /// Ends in an error.
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_is_taken_to_its_end_or_to_the_byte_that_is_too_many() {
        let digest = Digest::sha256(b"hello");
        let mut verifier = Verifier::for_content(digest, 5);
        verifier.update(b"he").unwrap();
        assert_eq!(verifier.read_all_of(&mut &b"llo"[..]).unwrap(), Ok(()));
        assert_eq!(verifier.finish().unwrap().digest(), digest);
        let taken = Verifier::for_content(digest, 5).read_all_of(&mut &b"hello!"[..]).unwrap();
        assert_eq!(taken, Err(Mismatch::Long { expected: 5 }));
        let failed = Verifier::for_content(digest, 5).read_all_of(&mut Broken).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_cannot_be_read_to_the_end_when_the_content_is_wrong() {
        let verifier = Verifier::for_content(Digest::sha256(b"hello"), 5);
        let mut reader = VerifyReader::new(&b"hullo"[..], verifier);
        let mut out = Vec::new();
        assert_eq!(reader.read_to_end(&mut out).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(reader.verified().is_none());
        // And it stays refused.
        assert!(reader.read(&mut [0; 8]).is_err());
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_verdict(
            data in proptest::collection::vec(any::<u8>(), 0..300),
            sizes in proptest::collection::vec(1_usize..40, 0..64),
            flip in any::<Option<proptest::sample::Index>>(),
        ) {
            let digest = Digest::sha256(&data);
            let mut sent = data.clone();
            if let (Some(index), false) = (flip, data.is_empty()) {
                let at = index.index(sent.len());
                sent[at] ^= 1;
            }
            let mut verifier = Verifier::for_content(digest, data.len() as u64);
            let mut rest = &sent[..];
            let mut sizes = sizes.into_iter();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
                verifier.update(head).unwrap();
                rest = tail;
            }
            prop_assert_eq!(verifier.finish().is_ok(), sent == data);
        }
    }
}
