//! Reading a lock file in one pass: nothing is kept of an entry that is wrong, and every wrong entry is told.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Problems;
use super::{Extra, LOCK_SCHEMA_VERSION, LockEntry, LockError, Lockfile};
use crate::limits::{LOCK_BYTES, LOCK_DEPTH, LOCK_ENTRIES, LOCK_TEXT_BYTES};
use crate::{Digest, SourceRef, redact_reference};

pub(super) fn parse(bytes: &[u8]) -> Result<Lockfile, LockError> {
    let mut reading = Reading::default();
    match text_of(bytes) {
        Ok(text) => {
            let mut json = serde_json::Deserializer::from_str(text);
            let read = json.deserialize_any(Top(&mut reading)).and_then(|()| json.end());
            if let Err(error) = read {
                reading.problem(None, &error.to_string());
            }
        }
        Err(reason) => reading.problem(None, &reason),
    }
    reading.problems.into_result()?;
    Ok(Lockfile { entries: reading.entries, extra: reading.extra })
}

/// The text, when it is small, shallow and clean enough to be read at all.
fn text_of(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > LOCK_BYTES {
        return Err(format!("the file is larger than {LOCK_BYTES} bytes"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err("the file begins with a byte order mark; save it as UTF-8 without one".to_owned());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("the file is not UTF-8 from byte {} on", error.valid_up_to()))?;
    if is_deep(bytes) {
        return Err(format!("the file is nested more than {LOCK_DEPTH} levels deep"));
    }
    Ok(text)
}

/// Counts brackets outside of strings. Texts that are no JSON may be counted wrongly; they are refused in any case.
fn is_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > LOCK_DEPTH {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[derive(Default)]
struct Reading {
    entries: Vec<LockEntry>,
    extra: Extra,
    problems: Problems,
    /// What the list of entries is called: nothing in a file that is the list itself.
    list: &'static str,
    /// The entry that is being read.
    index: Option<usize>,
}

impl Reading {
    fn problem(&mut self, field: Option<&str>, reason: &str) {
        self.problems.add(self.list, self.index, field, reason);
    }
}

/// The whole file.
struct Top<'r>(&'r mut Reading);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries, or an object with `components`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Entries(self.0).visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        let (mut versioned, mut listed) = (false, false);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "components" if !listed => {
                    listed = true;
                    reading.list = "components";
                    map.next_value_seed(Entries(&mut *reading))?;
                    (reading.list, reading.index) = ("", None);
                }
                "schema_version" if !versioned => {
                    versioned = true;
                    let value = map.next_value::<&RawValue>()?;
                    // `null` is no version, as it was always read.
                    if value.get() != "null" && value.get().parse() != Ok(LOCK_SCHEMA_VERSION) {
                        let shown: String = value.get().chars().take(32).collect();
                        let reason = format!("{shown} is no schema this client knows (it knows {LOCK_SCHEMA_VERSION})");
                        reading.problem(Some("schema_version"), &reason);
                    }
                }
                "components" | "schema_version" => {
                    map.next_value::<IgnoredAny>()?;
                    reading.problem(Some(key.as_ref()), "the key stands there twice");
                }
                _ => {
                    let kept = reading.extra.keep(&key, map.next_value::<&RawValue>()?);
                    kept.unwrap_or_else(|reason| reading.problem(Some(&key), &reason));
                }
            }
        }
        if !listed {
            reading.problem(Some("components"), "the file lists nothing: it is an object without `components`");
        }
        Ok(())
    }
}

/// The list of entries.
struct Entries<'r>(&'r mut Reading);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let reading = self.0;
        for index in 0.. {
            reading.index = Some(index);
            let Some(raw) = seq.next_element::<&'de RawValue>()? else { break };
            if index >= LOCK_ENTRIES {
                reading.index = None;
                return Err(de::Error::custom(format_args!("there are more than {LOCK_ENTRIES} entries")));
            }
            entry(reading, raw);
        }
        reading.index = None;
        Ok(())
    }
}

/// Reads one entry, and keeps it when nothing is wrong with it.
fn entry(reading: &mut Reading, raw: &RawValue) {
    let text = raw.get();
    let before = reading.problems.total();
    let mut fields = Fields::default();
    let read = match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map(|reference| fields.reference = Some(("reference", reference))),
        Some(b'{') => {
            let mut json = serde_json::Deserializer::from_str(text);
            json.deserialize_map(FieldsOf(reading, &mut fields))
        }
        _ => {
            reading.problem(None, &format!("{} is neither a reference nor an object", kind_of(text)));
            return;
        }
    };
    if let Err(error) = read {
        // The position within the entry says little; the entry is named.
        reading.problem(None, error.to_string().split(" at line ").next().unwrap_or_default());
    }
    if reading.problems.total() == before
        && let Some(entry) = fields.check(reading)
    {
        reading.entries.push(entry);
    }
}

/// The known keys of an entry as they were read.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    /// With the key that gave it.
    reference: Option<(&'static str, String)>,
    digest: Option<Digest>,
    content_digest: Option<Digest>,
    size_bytes: Option<u64>,
    media_type: Option<String>,
    extra: Extra,
}

const KEYS: [&str; 7] = ["name", "reference", "ref", "digest", "content_digest", "size_bytes", "media_type"];

struct FieldsOf<'r, 'f>(&'r mut Reading, &'f mut Fields);

impl<'de> Visitor<'de> for FieldsOf<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(reading, fields) = self;
        let mut seen = [false; KEYS.len()];
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let value = map.next_value::<&RawValue>()?;
            let known = KEYS.iter().zip(seen.iter_mut()).find(|(name, _)| **name == key);
            let Some((name, seen)) = known else {
                let kept = fields.extra.keep(&key, value);
                kept.unwrap_or_else(|reason| reading.problem(Some(&key), &reason));
                continue;
            };
            if std::mem::replace(seen, true) {
                reading.problem(Some(name), "the key stands there twice");
            } else if value.get() != "null" {
                fields.set(reading, name, value.get());
            }
        }
        Ok(())
    }
}

impl Fields {
    fn set(&mut self, reading: &mut Reading, name: &'static str, value: &str) {
        if name == "size_bytes" {
            match value.parse() {
                Ok(bytes) => self.size_bytes = Some(bytes),
                Err(_) => reading.problem(Some(name), "expected a number of bytes"),
            }
            return;
        }
        let text = match serde_json::from_str::<String>(value) {
            Ok(text) if text.len() > LOCK_TEXT_BYTES => {
                return reading.problem(Some(name), &format!("the text is longer than {LOCK_TEXT_BYTES} bytes"));
            }
            Ok(text) => text,
            Err(_) if value.starts_with('"') => return reading.problem(Some(name), "the text is not valid Unicode"),
            Err(_) => return reading.problem(Some(name), &format!("expected a text, found {}", kind_of(value))),
        };
        match name {
            // `reference` wins over `ref`, whichever comes first.
            "reference" => self.reference = Some((name, text)),
            "ref" if self.reference.is_none() => self.reference = Some((name, text)),
            "name" => self.name = Some(text),
            "media_type" => self.media_type = Some(text),
            "digest" => self.digest = digest(reading, name, &text),
            "content_digest" => self.content_digest = digest(reading, name, &text),
            _ => {}
        }
    }

    /// The entry, when its parts name something and do not contradict each other.
    fn check(self, reading: &mut Reading) -> Option<LockEntry> {
        let Self { name, reference, mut digest, content_digest, size_bytes, media_type, extra } = self;
        let reference = match reference {
            None if digest.is_none() => {
                reading.problem(None, "the entry names nothing: it has no `reference`, no `ref` and no `digest`");
                return None;
            }
            None => None,
            Some((field, text)) => {
                let source = match SourceRef::parse(&text) {
                    Ok(SourceRef::Bare(_)) => {
                        let reason = format!(
                            "`{}` names no registry (write `host/name:tag`, or `./name` for a file beside the lock file)",
                            redact_reference(&text)
                        );
                        reading.problem(Some(field), &reason);
                        return None;
                    }
                    Ok(source) => source,
                    Err(error) => {
                        reading.problem(Some(field), &error.to_string());
                        return None;
                    }
                };
                if let (Some(pin), Some(digest)) = (pin_of(&source), digest)
                    && pin != digest
                {
                    reading.problem(Some("digest"), &format!("{digest} is not the digest of the reference, {pin}"));
                    return None;
                }
                match source {
                    SourceRef::Digest(pin) => {
                        digest = Some(pin);
                        None
                    }
                    _ => Some(text),
                }
            }
        };
        Some(LockEntry { name, reference, digest, content_digest, size_bytes, media_type, extra })
    }
}

/// The digest a reference carries by itself.
fn pin_of(source: &SourceRef) -> Option<Digest> {
    match source {
        SourceRef::Digest(digest) => Some(*digest),
        SourceRef::Oci(reference) => reference.digest(),
        SourceRef::Repo(target) | SourceRef::Store(target) => target.rsplit_once('@')?.1.parse().ok(),
        _ => None,
    }
}

/// Parses a digest; `sha256:` may be left out.
fn digest(reading: &mut Reading, field: &str, text: &str) -> Option<Digest> {
    let parsed = if text.contains(':') { text.parse() } else { Digest::from_hex(text) };
    parsed.map_err(|error: crate::ParseDigestError| reading.problem(Some(field), &error.to_string())).ok()
}

/// What a JSON text is, by its first character.
fn kind_of(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "`null`",
        _ => "a number",
    }
}
