//! Warnings: what registries want a person to know, read from their answers and told once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use greentic_dist_types::SafeText;
use http::{HeaderMap, header};

use crate::sent::GivenSecrets;

/// Most bytes of the `Warning` fields of one answer that are read (distribution-spec, "Warnings").
const BYTES: usize = 4_096;
/// Most warnings of one answer that are told.
const PER_ANSWER: usize = 4;
/// Most different warnings that are remembered; beyond it the memory begins anew.
const REMEMBERED: usize = 1_024;

/// What was told already, by host.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashSet<(String, String)>>);

impl Told {
    /// Whether this is said about the host for the first time. Registries repeat theirs with every answer.
    pub(crate) fn is_new(&self, host: &str, text: &SafeText) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert((host.to_owned(), text.to_string()))
    }
}

/// The warnings of an answer, what was sent as a login blanked in them.
///
/// Read are `299 - "text"` (RFC 7234, 5.5), which is what a registry may send; the other codes are those of caches on the way,
/// and what has another form is passed over.
pub(crate) fn warnings(headers: &HeaderMap, secrets: &GivenSecrets) -> Vec<SafeText> {
    let mut left = BYTES;
    let mut found = Vec::new();
    for value in headers.get_all(header::WARNING) {
        let bytes = value.as_bytes();
        let Some(rest) = left.checked_sub(bytes.len()) else { break };
        left = rest;
        found.extend(texts(&String::from_utf8_lossy(bytes)));
    }
    if found.is_empty() {
        return Vec::new();
    }
    found.truncate(PER_ANSWER);
    let sent = secrets.known();
    // Blanked before anything is cut: a part of a secret is not found any more.
    found.iter().map(|text| SafeText::new(&sent.blank(text))).filter(|text| !text.is_empty()).collect()
}

/// The texts behind every `299` and its agent in one field.
fn texts(field: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = field;
    while let Some((before, quoted)) = rest.split_once('"') {
        let (text, after) = unquote(quoted);
        // A second quoted text is the date of the first.
        let mut words = before.trim_matches(|ch: char| ch == ',' || ch.is_whitespace()).split_whitespace();
        if words.next() == Some("299") && words.next().is_some() && words.next().is_none() {
            texts.push(text);
        }
        rest = after;
    }
    texts
}

/// The text up to the closing quote, and what follows it. A quote that is never closed ends with the field.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, ch)) = chars.next() {
        match ch {
            '"' => return (text, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => text.extend(chars.next().map(|(_, ch)| ch)),
            _ => text.push(ch),
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(fields: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::WARNING, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        warnings(&headers, &GivenSecrets::default()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_registry_may_send_is_read_and_nothing_else() {
        assert_eq!(read(&[r#"299 - "tag is deprecated""#]), ["tag is deprecated"]);
        assert_eq!(read(&[r#"299 - "a, \"b\" \\ c", 299 r.example:5000 "d""#]), [r#"a, "b" \ c"#, "d"]);
        assert_eq!(read(&[r#"299 - "a" "Sat, 21 Nov 2026 10:00:00 GMT", 299 - "b""#]), ["a", "b"]);
        assert_eq!(read(&[r#"299 - "never closed"#]), ["never closed"]);
        for other in [
            r#"110 - "Response is stale""#,
            r#"199 cache "x""#,
            "299 - without quotes",
            r#"299 "no agent""#,
            r#"2990 - "x""#,
            r#"299 - """#,
            r#""just text""#,
            "",
        ] {
            assert_eq!(read(&[other]), [""; 0], "{other}");
        }
    }

    #[test]
    fn no_more_is_read_of_an_answer_than_the_specification_allows() {
        let long = format!("299 - \"{}\"", "x".repeat(BYTES));
        assert_eq!(read(&[r#"299 - "a""#, &long, r#"299 - "b""#]), ["a"]);
        let many = vec![r#"299 - "a""#; 100];
        assert_eq!(read(&many), ["a"; PER_ANSWER]);
    }

    #[test]
    fn a_warning_is_new_once_for_each_host() {
        let told = Told::default();
        let text = SafeText::new("deprecated");
        assert!(told.is_new("one", &text) && told.is_new("other", &text));
        assert!(!told.is_new("one", &text));
        for number in 0..REMEMBERED {
            told.is_new("one", &SafeText::new(&number.to_string()));
        }
        assert!(told.0.lock().unwrap().len() <= REMEMBERED);
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_a_panic(field in "\\PC{0,80}") {
            drop(texts(&field));
            drop(texts(&format!("299 - \"{field}\\")));
        }
    }
}
