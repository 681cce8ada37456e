//! The text of a catalog as a value: JSON first, then YAML, without duplicate keys and within limits.

use std::cell::Cell;
use std::fmt;

use greentic_dist_types::SafeText;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Catalog, CatalogError, read, yaml};

/// Largest document, in bytes. The published one has 12 KiB.
pub(super) const DOCUMENT_BYTES: u64 = 16 << 20;
/// Most values in a document, keys included. Ten thousand providers have some hundred thousand.
const VALUES: usize = 400_000;
/// Deepest nesting of what is handed out: what `serde_json` reads. A catalog has five levels.
const DEPTH: usize = 127;
/// Most characters of a document that an error repeats.
const EXCERPT_CHARS: usize = 32;

/// Refuses what is no JSON object or array: the least that is asked of everything that may take the place of a good copy.
pub(super) fn require_json(bytes: &[u8]) -> Result<(), CatalogError> {
    let text = text_of(bytes)?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| no_json(text, &error))?;
    if is_deep(text) {
        let excerpt = SafeText::excerpt(text.trim_start(), EXCERPT_CHARS);
        let reason = SafeText::new(&format!("it is nested more than {DEPTH} levels deep"));
        return Err(CatalogError::Syntax { format: "JSON", excerpt, reason });
    }
    if text.trim_start().starts_with(['{', '[']) { Ok(()) } else { Err(CatalogError::NoContainer) }
}

/// Counts brackets outside of strings, in a text that is JSON.
fn is_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return true;
        }
    }
    false
}

/// As [`require_json`]; a catalog in YAML is one too.
pub(super) fn require(bytes: &[u8]) -> Result<(), CatalogError> {
    require_json(bytes).or_else(|error| Catalog::from_slice(bytes).map(drop).map_err(|_worse| error))
}

/// The document as a value, whatever it says.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, CatalogError> {
    let text = text_of(bytes)?;
    // Editors write one; what is handed on as JSON has none.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let budget = Budget::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_any(Strict(&budget)).and_then(|value| json.end().map(|()| value));
    match read {
        Ok(value) => Ok(value),
        Err(error) if budget.is_spent() => Err(no_json(text, &error)),
        // What begins like JSON was meant to be JSON.
        Err(error) if text.trim_start().starts_with(['{', '[']) => Err(no_json(text, &error)),
        Err(_) => yaml::parse(text, &Budget::new()),
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, CatalogError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > DOCUMENT_BYTES {
        return Err(CatalogError::TooLarge { limit_bytes: DOCUMENT_BYTES });
    }
    let text = std::str::from_utf8(bytes).map_err(|_invalid| CatalogError::NotText {
        excerpt: SafeText::excerpt(&String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes)), EXCERPT_CHARS),
    })?;
    if text.trim().is_empty() { Err(CatalogError::Empty) } else { Ok(text) }
}

fn no_json(text: &str, error: &serde_json::Error) -> CatalogError {
    let begins = SafeText::excerpt(text.trim_start(), EXCERPT_CHARS);
    CatalogError::Syntax { format: "JSON", excerpt: begins, reason: SafeText::new(&error.to_string()) }
}

/// Refuses what no version of this client could know as a catalog: a document that lists no providers and names no version of its
/// own. A login page is none, and a registry's error is none either, though it is JSON.
pub(super) fn require_catalog(bytes: &[u8]) -> Result<(), CatalogError> {
    let document = parse(bytes)?;
    if read::is_catalog(&document) { Ok(()) } else { read::catalog(document).map(drop) }
}

/// How many values may still come.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(VALUES))
    }

    /// Takes one value out; the text is the error of a document that has too many.
    pub(super) fn take(&self) -> Result<(), String> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(format!("the document has more than {VALUES} values")),
        }
    }

    fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// Builds a value, and refuses a key that stands in an object twice. The depth is bounded by `serde_json` itself (128).
#[derive(Clone, Copy)]
struct Strict<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict<'_> {
    fn one<E: de::Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.0.take().map_err(E::custom)?;
        Ok(value.into())
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.one(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        self.one(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.0.take().map_err(de::Error::custom)?;
            let value = map.next_value_seed(self)?;
            if object.contains_key(&key) {
                let shown = SafeText::excerpt(&key, EXCERPT_CHARS);
                return Err(de::Error::custom(format_args!("the key `{shown}` stands in an object twice")));
            }
            object.insert(key, value);
        }
        self.one(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_json_objects_and_arrays_may_take_the_place_of_a_copy() {
        for good in ["{}", "[]", " \n{\"a\":1}\n"] {
            require_json(good.as_bytes()).unwrap();
        }
        for bad in [
            &b""[..],
            b" \n",
            b"null",
            b"7",
            b"\"text\"",
            b"<!doctype html><title>Log in</title>",
            b"\0asm\x01\0\0\0",
            b"\x00asm\xff",
            b"items: []",
            b"{} {}",
            b"{\"a\":",
            b"\xef\xbb\xbf{}",
        ] {
            let error = require_json(bad).unwrap_err();
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
        let nested = |levels: usize| format!("[\"[[\\\"[[\", {}{}]", "[".repeat(levels), "]".repeat(levels));
        require_json(nested(DEPTH - 1).as_bytes()).unwrap();
        assert!(serde_json::from_str::<Value>(&nested(DEPTH - 1)).is_ok());
        assert!(serde_json::from_str::<Value>(&nested(DEPTH)).is_err());
        assert!(require_json(nested(DEPTH).as_bytes()).unwrap_err().to_string().contains("127 levels"));
        let large = vec![b' '; usize::try_from(DOCUMENT_BYTES).unwrap() + 1];
        assert!(matches!(require_json(&large), Err(CatalogError::TooLarge { .. })));
    }

    #[test]
    fn doubled_keys_deep_nesting_and_endless_lists_are_refused() {
        for (text, said) in [
            (r#"{"items":[],"items":[]}"#.to_owned(), "`items` stands in an object twice"),
            (r#"{"a":{"b":1,"b":2}}"#.to_owned(), "`b` stands in an object twice"),
            ("[".repeat(10_000), "recursion limit"),
            (format!("[{}0]", "0,".repeat(VALUES)), "more than 400000 values"),
            ("{\"a\": nonsense}".to_owned(), "expected"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total_and_json_is_read_as_serde_json_reads_it(text in "[\\[\\]{}\",:0-9a-c \n-]{0,60}") {
            let ours = parse(text.as_bytes());
            if let (Ok(ours), Ok(theirs)) = (&ours, serde_json::from_str::<Value>(&text)) {
                prop_assert_eq!(ours, &theirs);
            }
        }
    }
}
