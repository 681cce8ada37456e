//! A content digest: the algorithm and the bytes, parsed strictly and never usable as a path by itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Hasher, SafeText, redact_reference};

/// A hash algorithm this client verifies with. Anything else (md5, sha1) is refused when parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 32 bytes. The default everywhere.
    Sha256,
    /// SHA-384, 48 bytes. Read where others have named something by it; nothing here is named by it unasked.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name used before the colon in a digest string.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the hash in bytes; the hex text is twice as long.
    pub const fn len_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The digest of some bytes, e.g. `sha256:<64 lower-case hex characters>`.
///
/// `Copy`, 66 bytes, compared bytewise. There is deliberately no `AsRef<Path>`: only the store turns a digest into a
/// path, from [`Digest::to_hex`], so a hostile digest string can never leave the cache directory.
///
/// Grammar: OCI image-spec, "Digests", restricted to SHA-2 and to lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    // Unused trailing bytes are zero, so that derived comparison is right.
    bytes: [u8; 64],
}

/// Why a text is not a [`Digest`]. Carries a sanitised excerpt of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not a digest: {problem}")]
pub struct ParseDigestError {
    input: SafeText,
    problem: &'static str,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl Digest {
    /// The output of a hash function, right-sized by the type of the hash.
    pub(crate) fn from_array<const N: usize>(algorithm: Algorithm, hash: [u8; N]) -> Self {
        let mut bytes = [0_u8; 64];
        for (slot, byte) in bytes.iter_mut().zip(hash) {
            *slot = byte;
        }
        Self { algorithm, bytes }
    }

    /// Hashes `data` in memory with SHA-256.
    pub fn sha256(data: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, data)
    }

    /// Hashes `data` in memory.
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A new hasher of this digest's algorithm, to prove some bytes against it.
    pub fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm)
    }

    /// The raw hash.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.len_bytes()).unwrap_or(&[])
    }

    /// The hash as lower-case hex without the algorithm: 64 characters for sha256, 96 for sha384, 128 for sha512.
    pub fn to_hex(&self) -> String {
        let mut out = String::with_capacity(self.algorithm.len_bytes() * 2);
        for byte in self.as_bytes() {
            for nibble in [byte >> 4, byte & 0x0f] {
                out.push(char::from(*HEX.get(usize::from(nibble)).unwrap_or(&b'0')));
            }
        }
        out
    }

    /// Parses the hex part alone, the algorithm being told by its length (64, 96 or 128 characters).
    ///
    /// # Errors
    /// [`ParseDigestError`] for any other length or a character outside `0-9a-f`.
    pub fn from_hex(hex: &str) -> Result<Self, ParseDigestError> {
        let algorithm = match hex.len() {
            64 => Algorithm::Sha256,
            96 => Algorithm::Sha384,
            128 => Algorithm::Sha512,
            _ => {
                let problem = "expected 64 (sha256), 96 (sha384) or 128 (sha512) hex characters";
                return Err(ParseDigestError::new(hex, problem));
            }
        };
        Self::from_hex_of(algorithm, hex, hex)
    }

    /// Parses a digest whose hex may be in capitals, as some programs print it. What comes of it is the digest in its one spelling;
    /// the algorithm is in lower case all the same. For references that people paste, never for documents.
    ///
    /// # Errors
    /// As `parse::<Digest>()`.
    pub fn parse_any_case(text: &str) -> Result<Self, ParseDigestError> {
        match text.split_once(':') {
            Some((algorithm, hex)) => format!("{algorithm}:{}", hex.to_ascii_lowercase()).parse(),
            None => text.parse(),
        }
    }

    fn from_hex_of(algorithm: Algorithm, hex: &str, input: &str) -> Result<Self, ParseDigestError> {
        if hex.len() != algorithm.len_bytes() * 2 {
            return Err(ParseDigestError::new(
                input,
                match algorithm {
                    Algorithm::Sha256 => "sha256 needs exactly 64 hex characters",
                    Algorithm::Sha384 => "sha384 needs exactly 96 hex characters",
                    Algorithm::Sha512 => "sha512 needs exactly 128 hex characters",
                },
            ));
        }
        let mut bytes = [0_u8; 64];
        for (pair, slot) in hex.as_bytes().chunks_exact(2).zip(bytes.iter_mut()) {
            let &[high, low] = pair else { continue };
            let (Some(high), Some(low)) = (hex_value(high), hex_value(low)) else {
                return Err(ParseDigestError::new(input, "only lower-case hex characters are allowed"));
            };
            *slot = (high << 4) | low;
        }
        Ok(Self { algorithm, bytes })
    }

    /// The form shown to people: algorithm and the first 12 hex characters. Never accepted as input.
    pub fn short(&self) -> String {
        let hex = self.to_hex();
        format!("{}:{}", self.algorithm, hex.get(..12).unwrap_or(&hex))
    }
}

impl ParseDigestError {
    fn new(input: &str, problem: &'static str) -> Self {
        Self { input: SafeText::excerpt(&redact_reference(input), 96), problem }
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    /// Parses `sha256:<64 hex>`, `sha384:<96 hex>` or `sha512:<128 hex>`, lower-case only, nothing before or after.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(ParseDigestError::new(text, "expected `sha256:` or `sha512:` in front"));
        };
        match Algorithm::ALL.into_iter().find(|known| name.eq_ignore_ascii_case(known.name())) {
            Some(algorithm) if algorithm.name() == name => Self::from_hex_of(algorithm, hex, text),
            Some(_) => {
                Err(ParseDigestError::new(text, "the algorithm is written in lower case, `sha256:` or `sha512:`"))
            }
            None => Err(ParseDigestError::new(text, "only sha256, sha384 and sha512 are supported")),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_vectors_match() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert!(
            Digest::of(Algorithm::Sha512, b"abc")
                .to_string()
                .starts_with("sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a8")
        );
    }

    #[test]
    fn sha384_is_read_and_proves_what_it_names_and_nothing_else() {
        let text =
            "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest, Digest::of(Algorithm::Sha384, b"abc"));
        assert_eq!((digest.to_string(), digest.as_bytes().len(), digest.to_hex().len()), (text.to_owned(), 48, 96));
        assert_eq!(Digest::from_hex(&digest.to_hex()), Ok(digest));
        assert_eq!(Digest::parse_any_case(&text.replace('b', "B")), Ok(digest));
        let mut hasher = digest.hasher();
        hasher.update(b"abd");
        assert_ne!(hasher.finish(), digest);
        // Neither is a beginning of the other.
        assert!(!Digest::of(Algorithm::Sha512, b"abc").to_hex().starts_with(&digest.to_hex()));
    }

    #[test]
    fn hostile_and_sloppy_digests_are_refused() {
        let hex = "a".repeat(64);
        for bad in [
            String::new(),
            "sha256:".into(),
            hex.clone(),
            format!("SHA256:{hex}"),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}", "a".repeat(63)),
            format!("sha256:{}", "a".repeat(65)),
            format!("sha512:{hex}"),
            format!("md5:{}", "a".repeat(32)),
            format!("sha384:{hex}"),
            format!("sha384:{}", "a".repeat(95)),
            format!("SHA384:{}", "a".repeat(96)),
            format!("sha224:{}", "a".repeat(56)),
            format!("sha512/384:{}", "a".repeat(96)),
            format!("sha256+b64:{hex}"),
            format!(" sha256:{hex}"),
            format!("sha256:{hex}\n"),
            format!("sha256:../../{}", "a".repeat(58)),
            format!("sha256:/abs/{}", "a".repeat(59)),
            format!("sha256:a€{}", "a".repeat(60)),
            format!("sha256:{}\0", "a".repeat(63)),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn hex_in_capitals_is_read_only_where_that_is_asked_for_and_algorithms_in_capitals_never() {
        let digest = Digest::sha256(b"x");
        let capitals = format!("sha256:{}", digest.to_hex().to_uppercase());
        assert_eq!(Digest::parse_any_case(&capitals), Ok(digest));
        assert_eq!(Digest::parse_any_case(&digest.to_string()), Ok(digest));
        assert!(capitals.parse::<Digest>().unwrap_err().to_string().contains("only lower-case hex"));
        for text in [capitals.replace("sha", "SHA"), digest.to_string().replace("sha", "Sha")] {
            for error in [Digest::parse_any_case(&text), text.parse()] {
                assert!(error.unwrap_err().to_string().contains("written in lower case"), "{text}");
            }
        }
        for text in ["sha256:ABC", "sha256:", "", "ABC", &format!("md5:{}", "A".repeat(32))] {
            assert!(Digest::parse_any_case(text).is_err(), "{text}");
        }
    }

    #[test]
    fn from_hex_tells_the_algorithm_by_length() {
        assert_eq!(Digest::from_hex(&"0".repeat(64)).unwrap().algorithm(), Algorithm::Sha256);
        assert_eq!(Digest::from_hex(&"0".repeat(128)).unwrap().algorithm(), Algorithm::Sha512);
        assert!(Digest::from_hex("").is_err());
    }

    proptest! {
        #[test]
        fn display_round_trips(data in proptest::collection::vec(any::<u8>(), 0..64), kind in 0..3_usize) {
            let digest = Digest::of(Algorithm::ALL[kind], &data);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            prop_assert_eq!(Digest::from_hex(&digest.to_hex()).unwrap(), digest);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            drop(text.parse::<Digest>());
        }
    }
}
