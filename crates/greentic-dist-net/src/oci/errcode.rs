//! What a registry says about a failure: its error document, read leniently.
//!
//! Distribution-spec, "Error Codes". Servers send unknown codes, other shapes, plain text, web pages and megabytes.

use greentic_dist_types::{Digest, SafeText};
use serde_json::Value;

use crate::RegistryError;
use crate::sent::SentSecrets;

/// Most entries of an error document that are kept.
const ERRORS: usize = 8;
/// Most digests in the details of an error document that are kept.
const DIGESTS: usize = 64;
/// Codes by which a registry finds fault with what it was sent (distribution-spec, "Error Codes").
const WRONG_CONTENT: [&str; 7] = [
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNVERIFIED",
    "DIGEST_INVALID",
    "SIZE_INVALID",
    "NAME_INVALID",
    "TAG_INVALID",
];

/// A failed answer's body, understood as far as possible, what was sent as a login blanked. Never fails.
#[derive(Debug, Default)]
pub(crate) struct ErrorBody {
    pub(crate) errors: Vec<RegistryError>,
    /// Digests that stand in the details of the entries, of all of them.
    pub(crate) digests: Vec<Digest>,
    /// Text that stood outside an error document.
    pub(crate) text: Option<SafeText>,
    /// Whether the answer was a web page.
    pub(crate) is_page: bool,
}

impl ErrorBody {
    pub(crate) fn parse(body: &[u8], content_type: &str, sent: &SentSecrets) -> Self {
        let trimmed = body.trim_ascii();
        let is_page = content_type.to_ascii_lowercase().starts_with("text/html") || trimmed.starts_with(b"<");
        if trimmed.is_empty() || is_page {
            return Self { is_page, ..Self::default() };
        }
        match serde_json::from_slice::<Value>(trimmed) {
            Ok(document) => Self::from_document(&document, sent),
            Err(_not_json) => Self { text: shown(&String::from_utf8_lossy(trimmed), sent), ..Self::default() },
        }
    }

    /// Whether the fault is with what was sent, which will be no better the next time, whatever the status says (docker-registry
    /// 2.8 answers 500).
    pub(crate) fn finds_fault_with_content(&self) -> bool {
        self.errors.iter().any(|error| WRONG_CONTENT.contains(&error.code.as_str()))
    }

    fn from_document(document: &Value, sent: &SentSecrets) -> Self {
        if let Some(list) = document.get("errors").and_then(Value::as_array) {
            let errors = list.iter().take(ERRORS).filter_map(|said| entry(said, sent)).collect();
            let details = list.iter().filter_map(|said| said.get("detail"));
            let digests = details.flat_map(strings).filter_map(|text| text.parse().ok()).take(DIGESTS).collect();
            return Self { errors, digests, ..Self::default() };
        }
        // Token servers and proxies: {"details": ...}, {"error": ..., "error_description": ...}, {"message": ...}.
        let text = ["error_description", "details", "message", "error", "detail"]
            .iter()
            .find_map(|name| document.get(name).and_then(Value::as_str));
        Self { text: text.and_then(|text| shown(text, sent)), ..Self::default() }
    }
}

/// A text, or the texts in an object or a list.
fn strings(detail: &Value) -> Vec<&str> {
    match detail {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::Object(object) => object.values().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn entry(entry: &Value, sent: &SentSecrets) -> Option<RegistryError> {
    let text = |name: &str| match entry.get(name) {
        Some(Value::String(text)) => SafeText::new(&sent.blank(text)),
        Some(Value::Number(number)) => SafeText::new(&sent.blank(&number.to_string())),
        _ => SafeText::new(""),
    };
    let mut message = text("message");
    if message.is_empty() {
        message = text("detail");
    }
    let code = SafeText::excerpt(text("code").as_str(), 64);
    if code.is_empty() && message.is_empty() { None } else { Some(RegistryError { code, message }) }
}

fn shown(text: &str, sent: &SentSecrets) -> Option<SafeText> {
    // Before the text is cut: a part of a secret is not found any more.
    let text = SafeText::new(sent.blank(text.trim()).trim());
    if text.is_empty() { None } else { Some(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(body: &str) -> ErrorBody {
        ErrorBody::parse(body.as_bytes(), "application/json", &SentSecrets::default())
    }

    #[test]
    fn codes_and_texts_of_every_shape_survive() {
        let known =
            parse(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}"#);
        assert_eq!(known.errors[0].code.as_str(), "MANIFEST_UNKNOWN");
        assert_eq!(known.errors[0].message.as_str(), "manifest unknown");
        let odd = parse(r#"{"errors":[{"code":429,"detail":"slow down"},null,{},{"code":"ARTIFACT_LOCKED"}]}"#);
        let seen: Vec<_> = odd.errors.iter().map(|error| (error.code.as_str(), error.message.as_str())).collect();
        assert_eq!(seen, [("429", "slow down"), ("ARTIFACT_LOCKED", "")]);
        assert_eq!(parse(r#"{"details":"expired PAT"}"#).text.unwrap().as_str(), "expired PAT");
        assert_eq!(parse("Your session expired").text.unwrap().as_str(), "Your session expired");
    }

    #[test]
    fn digests_are_found_in_details_of_every_shape() {
        let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let said = parse(&format!(
            r#"{{"errors":[{{"detail":{{"Digest":"{one}","x":1}}}},{{"detail":"{other}"}},{{"detail":["{one}","y"]}},{{"detail":7}}]}}"#
        ));
        assert_eq!(said.digests, [one, other, one]);
    }

    #[test]
    fn pages_and_nothing_have_no_text() {
        assert!(ErrorBody::parse(b"<html>secret</html>", "text/plain", &SentSecrets::default()).is_page);
        assert!(ErrorBody::parse(b"x", "Text/HTML; charset=utf-8", &SentSecrets::default()).is_page);
        for nothing in ["", "   ", "{}", "[]", "null", "{\"errors\":null}"] {
            let body = parse(nothing);
            assert!(body.errors.is_empty() && body.text.is_none() && !body.is_page, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_understood_somehow(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(ErrorBody::parse(&bytes, "", &SentSecrets::default()));
        }
    }
}
