//! What was sent as a login and may not be read back from a server's words.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greentic_dist_types::Secret;
use http::HeaderValue;
use url::form_urlencoded::byte_serialize;

use crate::Credential;

/// What stands in a secret's place.
const BLANK: &str = "[redacted]";

/// The secrets of one question, in the forms in which servers repeat them.
///
/// A server that echoes the header of a request in its answer would otherwise bring a password into an error text and
/// from there into logs. A server that wants to can encode it so that it is not found.
#[derive(Default)]
pub(crate) struct SentSecrets(Vec<Secret>);

impl fmt::Debug for SentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentSecrets({})", self.0.len())
    }
}

impl SentSecrets {
    /// The secrets in an `Authorization` header: what follows the scheme, and the password in it.
    pub(crate) fn of(authorization: Option<&HeaderValue>) -> Self {
        let mut sent = Self::default();
        let text = authorization.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        let Some((scheme, value)) = text.and_then(|text| text.split_once(' ')) else { return sent };
        sent.add(value.trim_end_matches('='));
        if scheme.eq_ignore_ascii_case("basic")
            && let Ok(Ok(login)) = STANDARD.decode(value).map(String::from_utf8)
            && let Some((_, password)) = Secret::new(login).expose().split_once(':')
        {
            sent.add(password);
        }
        sent
    }

    /// Adds a login that was or may have been sent to another server of the same registry.
    pub(crate) fn add_login(&mut self, login: &Credential) {
        match login {
            Credential::Basic { password: secret, .. } | Credential::IdentityToken(secret) => {
                self.add(secret.expose());
                if let Some(Ok(header)) = login.basic_header() {
                    self.0.append(&mut Self::of(Some(&header)).0);
                }
            }
            Credential::Bearer(token) => self.add(token.expose()),
        }
    }

    /// Adds the value of a configured header, which may be a key.
    pub(crate) fn add_header(&mut self, value: &HeaderValue) {
        if let Ok(text) = std::str::from_utf8(value.as_bytes()) {
            self.add(text);
        }
    }

    fn add(&mut self, secret: &str) {
        let in_url = Secret::new(byte_serialize(secret.as_bytes()).collect::<String>());
        let in_json = Secret::new(serde_json::Value::from(secret).to_string());
        let in_json = in_json.expose();
        let in_json = in_json.get(1..in_json.len().saturating_sub(1)).unwrap_or_default();
        for form in [secret, in_url.expose(), in_json] {
            if !form.is_empty() && !self.0.iter().any(|known| known.expose() == form) {
                self.0.push(form.into());
            }
        }
    }

    /// The text with every secret blanked. For text that was not cut yet: a part of a secret is not found.
    pub(crate) fn blank<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for secret in &self.0 {
            found.extend(text.match_indices(secret.expose()).map(|(start, part)| start..start + part.len()));
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        // Secrets may lie in each other: what any of them covers goes.
        found.sort_unstable_by_key(|range| range.start);
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        for range in found {
            if range.start >= end {
                out.push_str(text.get(end..range.start).unwrap_or_default());
                out.push_str(BLANK);
            }
            end = end.max(range.end);
        }
        out.push_str(text.get(end..).unwrap_or_default());
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credential {
        Credential::Basic { username: user.into(), password: password.into() }
    }

    #[test]
    fn a_login_is_blanked_in_every_form_servers_repeat_it_in() {
        let login = basic("ann", "p\"ä/c:n+ry");
        let header = login.basic_header().unwrap().unwrap();
        let encoded = STANDARD.encode("ann:p\"ä/c:n+ry");
        let sent = SentSecrets::of(Some(&header));
        for (text, shown) in [
            (format!("got Basic {encoded}, sorry"), "got Basic [redacted]"),
            ("the password p\"ä/c:n+ry is wrong".to_owned(), "the password [redacted] is wrong"),
            (r#"{"password":"p\"ä/c:n+ry"}"#.to_owned(), r#"{"password":"[redacted]"}"#),
            ("?p=p%22%C3%A4%2Fc%3An%2Bry&x".to_owned(), "?p=[redacted]&x"),
        ] {
            assert!(sent.blank(&text).starts_with(shown), "{text}: {}", sent.blank(&text));
        }
        assert!(matches!(sent.blank("nothing of ann here"), Cow::Borrowed(_)));
        assert!(!format!("{sent:?}").contains("ry"));
    }

    #[test]
    fn secrets_that_lie_in_each_other_leave_nothing_behind() {
        // The password is a part of its own encoded form.
        let mut sent = SentSecrets::of(Some(&HeaderValue::from_static("Bearer abcdef")));
        sent.add_login(&basic("u", "cd"));
        sent.add_login(&Credential::Bearer("defgh".into()));
        assert_eq!(sent.blank("xabcdefghx cd abcdef!"), "x[redacted]x [redacted] [redacted]!");
    }

    #[test]
    fn an_empty_password_and_an_odd_header_blank_nothing() {
        assert_eq!(SentSecrets::of(None).blank("text"), "text");
        assert_eq!(SentSecrets::of(Some(&HeaderValue::from_static("odd"))).blank("odd"), "odd");
        let mut sent = SentSecrets::default();
        sent.add_login(&Credential::Bearer("".into()));
        assert_eq!(sent.blank("text"), "text");
    }
}
