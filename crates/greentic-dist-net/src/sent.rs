//! What was given away as a login, and may not be read back from the words of a server.
//!
//! [`GivenSecrets`] is the one place that knows it, for all servers of a client: a token server hands the password it was sent to
//! the registry that named it, and what it says to a request without a login may be about the one before.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use greentic_dist_types::Secret;
use http::{HeaderMap, HeaderValue, header};
use zeroize::Zeroizing;

use crate::Credential;

/// What stands in a secret's place.
const BLANK: &str = "[redacted]";
/// Most logins and keys that are remembered; the oldest makes room.
const LOGINS: usize = 256;
/// Most tokens that are remembered. A server makes as many as it likes, which must not push out a password.
const TOKENS: usize = 128;
/// Most bytes of a text that are looked through. What follows is left out, with [`CUT_BYTES`] before it.
const TEXT_BYTES: usize = 16 << 10;
/// What goes with the end of a text that is cut: a secret may lie across the cut, and a part of one is not found.
const CUT_BYTES: usize = 4 << 10;
/// How often a text is decoded: an address in JSON in an address.
const DECODINGS: usize = 3;
/// Longest secret that is looked for inside of Base64, in bytes.
const BASE64_BYTES: usize = 512;
/// Shortest piece of Base64 that is a trace of a secret.
const TRACE_CHARS: usize = 8;
/// Shortest secret that is taken out of texts of our own: a shorter one may be any word.
const NO_WORD: usize = 8;

/// The logins, keys and tokens that a client has sent or may send. Clones are the same.
///
/// A server that repeats a request in its answer would otherwise bring a password into an error text and from there into logs.
/// They are found as they are, in URLs, in JSON and in Base64; a server that wants to can hide them in another way.
#[derive(Clone, Default)]
pub struct GivenSecrets(Arc<Mutex<Given>>);

#[derive(Default)]
struct Given {
    logins: VecDeque<Arc<Forms>>,
    tokens: VecDeque<Arc<Forms>>,
}

/// One secret in the forms in which servers repeat it, the secret itself first.
struct Forms(Vec<Zeroizing<Vec<u8>>>);

/// The secrets that were given away until a moment.
#[derive(Clone, Default)]
pub(crate) struct SentSecrets(Vec<Arc<Forms>>);

impl fmt::Debug for GivenSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.lock();
        write!(f, "GivenSecrets({})", given.logins.len() + given.tokens.len())
    }
}

impl fmt::Debug for SentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentSecrets({})", self.0.len())
    }
}

impl GivenSecrets {
    /// A text of this client that repeats a server's, without the secrets of eight bytes and more. Shorter ones stay: they may be
    /// any word of it.
    pub fn blank<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.no_words().blank(text)
    }

    /// Those that may not be any word, to be taken out of our own text about a server.
    pub(crate) fn no_words(&self) -> SentSecrets {
        let mut known = self.known();
        known.0.retain(|forms| forms.secret().len() >= NO_WORD);
        known
    }

    /// All of them, to be taken out of the text of a server.
    pub(crate) fn known(&self) -> SentSecrets {
        let given = self.lock();
        SentSecrets(given.logins.iter().chain(&given.tokens).map(Arc::clone).collect())
    }

    /// Takes note of a login.
    pub(crate) fn note_login(&self, login: &Credential) {
        match login {
            Credential::Basic { password: secret, .. } | Credential::IdentityToken(secret) => {
                self.note_secret(secret.expose());
                if let Some(Ok(header)) = login.basic_header() {
                    self.note_authorization(&header);
                }
            }
            Credential::Bearer(token) => self.note_secret(token.expose()),
        }
    }

    /// Takes note of what the header of a request says in confidence.
    pub(crate) fn note_headers(&self, headers: &HeaderMap) {
        for (name, value) in headers {
            if name == header::AUTHORIZATION {
                self.note_authorization(value);
            } else if value.is_sensitive()
                && let Ok(text) = std::str::from_utf8(value.as_bytes())
                // Any header may be configured, and most of them are no keys: short ones are known to their own host only.
                && text.len() >= NO_WORD
            {
                self.note_secret(text);
            }
        }
    }

    /// Takes note of an `Authorization`: what follows the scheme, and the password in it.
    pub(crate) fn note_authorization(&self, value: &HeaderValue) {
        let text = std::str::from_utf8(value.as_bytes()).ok();
        let Some((scheme, value)) = text.and_then(|text| text.split_once(' ')) else { return };
        let value = value.trim_end_matches('=');
        if !scheme.eq_ignore_ascii_case("basic") {
            // No token that is worth anything is as short as a word.
            if value.len() >= NO_WORD {
                note(&mut self.lock().tokens, value, TOKENS, Forms::of);
            }
            return;
        }
        let is_new = note(&mut self.lock().logins, value, LOGINS, Forms::of);
        if is_new
            && let Ok(Ok(login)) = STANDARD_NO_PAD.decode(value).map(String::from_utf8)
            && let Some((_, password)) = Secret::new(login).expose().split_once(':')
        {
            self.note_secret(password);
        }
    }

    /// Takes note of a password, a key, or a token that stands for a user.
    pub(crate) fn note_secret(&self, secret: &str) {
        note(&mut self.lock().logins, secret, LOGINS, |secret| Forms::of(secret).and_in_base64());
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a secret at the end of a list, where it is not there yet. Whether it was not.
fn note(list: &mut VecDeque<Arc<Forms>>, secret: &str, most: usize, forms: impl FnOnce(&str) -> Forms) -> bool {
    let is_new = !secret.is_empty() && !list.iter().any(|known| known.secret() == secret.as_bytes());
    if is_new {
        if list.len() >= most {
            list.pop_front();
        }
        list.push_back(Arc::new(forms(secret)));
    }
    is_new
}

impl Forms {
    fn of(secret: &str) -> Self {
        let mut forms = Self(Vec::new());
        forms.add(secret.as_bytes());
        forms
    }

    /// Adds what Base64 makes of it, alone and as a part of something longer.
    fn and_in_base64(mut self) -> Self {
        let secret = Zeroizing::new(self.secret().to_vec());
        if secret.len() > BASE64_BYTES {
            return self;
        }
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            if secret.len() > 2 {
                self.add(Zeroizing::new(engine.encode(&*secret)).as_bytes());
            }
            // Six bits are one character: with one or two bytes before it the first ones are not its own, and the last may not be.
            for (before, skipped) in [(0, 0), (1, 2), (2, 3)] {
                let mut padded = Zeroizing::new(vec![0; before]);
                padded.extend_from_slice(&secret);
                let encoded = Zeroizing::new(engine.encode(&*padded));
                let own = encoded.as_bytes().get(skipped..padded.len() * 8 / 6).unwrap_or_default();
                if own.len() >= TRACE_CHARS {
                    self.add(own);
                }
            }
        }
        self
    }

    /// Adds a form, and what it looks like in a text that was decoded.
    fn add(&mut self, form: &[u8]) {
        let mut form = View::of(form);
        for _ in 0..=DECODINGS {
            if !form.bytes.is_empty() && !self.0.iter().any(|known| **known == *form.bytes) {
                self.0.push(form.bytes.clone());
            }
            form = form.decoded();
        }
    }

    fn secret(&self) -> &[u8] {
        self.0.first().map_or(&[], |secret| secret.as_slice())
    }
}

impl SentSecrets {
    /// Adds the value of a configured header, which may be a key.
    pub(crate) fn add_header(&mut self, value: &HeaderValue) {
        if let Ok(text) = std::str::from_utf8(value.as_bytes())
            && !text.is_empty()
        {
            self.0.push(Arc::new(Forms::of(text).and_in_base64()));
        }
    }

    /// The text with every secret blanked, and without its end where it is very long. For text that was not cut yet: a part of a
    /// secret is not found.
    pub(crate) fn blank<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let head = if text.len() > TEXT_BYTES { text.get(..text.floor_char_boundary(TEXT_BYTES)) } else { None };
        let kept = head.map(|head| head.floor_char_boundary(head.len().saturating_sub(CUT_BYTES)));
        let mut found = self.found_in(head.unwrap_or(text));
        if found.is_empty() && kept.is_none() {
            return Cow::Borrowed(text);
        }
        // Secrets may lie in each other: what any of them covers goes.
        found.sort_unstable_by_key(|range| range.start);
        let mut out = String::with_capacity(text.len());
        let kept = text.get(..kept.unwrap_or(text.len())).unwrap_or_default();
        let mut end = 0;
        for range in found.into_iter().filter(|range| range.start < kept.len()) {
            if range.start >= end {
                out.push_str(kept.get(end..range.start).unwrap_or_default());
                out.push_str(BLANK);
            }
            end = end.max(range.end);
        }
        out.push_str(kept.get(end..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// Where in a text the secrets are, whole characters of it.
    fn found_in(&self, text: &str) -> Vec<Range<usize>> {
        let mut by_first: Vec<Vec<&[u8]>> = vec![Vec::new(); 256];
        for form in self.0.iter().flat_map(|forms| &forms.0) {
            if let Some(forms) = form.first().and_then(|first| by_first.get_mut(usize::from(*first))) {
                forms.push(form);
            }
        }
        let mut found = Vec::new();
        let mut view = View::of(text.as_bytes());
        for _ in 0..=DECODINGS {
            view.find(&by_first, |range| {
                found.push(text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end));
            });
            let decoded = view.decoded();
            if decoded.bytes == view.bytes {
                break;
            }
            view = decoded;
        }
        found
    }
}

/// A text that was decoded so and so often, and where each byte of it comes from.
struct View {
    bytes: Zeroizing<Vec<u8>>,
    origin: Vec<Range<usize>>,
}

impl View {
    fn of(text: &[u8]) -> Self {
        Self { bytes: Zeroizing::new(text.to_vec()), origin: (0..text.len()).map(|at| at..at + 1).collect() }
    }

    fn find(&self, by_first: &[Vec<&[u8]>], mut tell: impl FnMut(Range<usize>)) {
        for (at, first) in self.bytes.iter().enumerate() {
            let rest = self.bytes.get(at..).unwrap_or_default();
            for form in by_first.get(usize::from(*first)).into_iter().flatten() {
                if rest.starts_with(form)
                    && let (Some(first), Some(last)) = (self.origin.get(at), self.origin.get(at + form.len() - 1))
                {
                    tell(first.start..last.end);
                }
            }
        }
    }

    /// The same with the escapes of URLs and of JSON undone, once. In a form a plus sign is a space: both become one.
    fn decoded(&self) -> Self {
        let mut decoded = Self { bytes: Zeroizing::default(), origin: Vec::with_capacity(self.bytes.len()) };
        decoded.bytes.reserve(self.bytes.len());
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let mut buffer = [0; 4];
            let (taken, bytes) = unescape(rest, &mut buffer);
            let origin = self.origin.get(at..at + taken).unwrap_or_default();
            let (start, end) =
                (origin.first().map_or(0, |first| first.start), origin.last().map_or(0, |last| last.end));
            for byte in bytes {
                decoded.bytes.push(*byte);
                decoded.origin.push(start..end);
            }
            at += taken;
        }
        decoded
    }
}

/// What the beginning of a text stands for: how many bytes of it, and for which ones.
fn unescape<'a>(text: &[u8], buffer: &'a mut [u8; 4]) -> (usize, &'a [u8]) {
    let (taken, ch) = match *text {
        [b'%', high, low, ..] => match hex(&[high, low]) {
            Some(code) => {
                *buffer = [u8::try_from(code).unwrap_or_default(), 0, 0, 0];
                return (3, buffer.get(..1).unwrap_or_default());
            }
            None => (1, '%'),
        },
        [b'+', ..] => (1, ' '),
        [b'\\', b'u', ref digits @ ..] => match escaped_char(digits) {
            Some((taken, ch)) => (taken + 2, ch),
            None => (1, '\\'),
        },
        [b'\\', b'b', ..] => (2, '\u{8}'),
        [b'\\', b'f', ..] => (2, '\u{c}'),
        [b'\\', b'n', ..] => (2, '\n'),
        [b'\\', b'r', ..] => (2, '\r'),
        [b'\\', b't', ..] => (2, '\t'),
        [b'\\', plain @ (b'"' | b'\\' | b'/'), ..] => (2, char::from(plain)),
        [byte, ..] => {
            *buffer = [byte, 0, 0, 0];
            return (1, buffer.get(..1).unwrap_or_default());
        }
        [] => return (0, &[]),
    };
    (taken, ch.encode_utf8(buffer).as_bytes())
}

/// The character behind a `\u`, and how many bytes that takes: four digits, or as many twice for one beyond the first plane.
fn escaped_char(digits: &[u8]) -> Option<(usize, char)> {
    let first = hex(digits.get(..4)?)?;
    if let Some(ch) = char::from_u32(first) {
        return Some((4, ch));
    }
    let second = hex(digits.get(4..)?.strip_prefix(b"\\u")?.get(..4)?)?;
    let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    Some((10, char::decode_utf16(pair).next()?.ok()?))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    const PASSWORD: &str = "p\"ä/c:n+r 𝄞y";

    fn basic(user: &str, password: &str) -> Credential {
        Credential::Basic { username: user.into(), password: password.into() }
    }

    fn given(logins: &[Credential]) -> GivenSecrets {
        let given = GivenSecrets::default();
        for login in logins {
            given.note_login(login);
        }
        given
    }

    #[test]
    fn a_login_is_blanked_in_every_form_servers_repeat_it_in() {
        let login = basic("ann", PASSWORD);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, login.basic_header().unwrap().unwrap());
        let given = GivenSecrets::default();
        given.note_headers(&headers);
        let sent = given.known();
        let encoded = STANDARD.encode(format!("ann:{PASSWORD}"));
        for (text, shown) in [
            (format!("got Basic {encoded}, sorry"), "got Basic [redacted]"),
            (format!("the password {PASSWORD} is wrong"), "the password [redacted] is wrong"),
            (r#"{"password":"p\"ä/c:n+r 𝄞y"}"#.to_owned(), r#"{"password":"[redacted]"}"#),
            (r#"{"password":"p\"\u00e4\/c:n+r \ud834\uDD1Ey"}"#.to_owned(), r#"{"password":"[redacted]"}"#),
            ("?p=p%22%C3%A4%2Fc%3An%2Br+%F0%9D%84%9Ey&x".to_owned(), "?p=[redacted]&x"),
            ("?p=p%22%c3%a4/c:n%2br%20%f0%9d%84%9ey&x".to_owned(), "?p=[redacted]&x"),
            ("twice: p%2522%25C3%25A4%252Fc%253An%252Br%2520%25F0%259D%2584%259Ey.".to_owned(), "twice: [redacted]."),
            (format!("alone {}", STANDARD.encode(PASSWORD)), "alone [redacted]"),
            (format!("alone {}!", URL_SAFE_NO_PAD.encode(PASSWORD)), "alone [redacted]!"),
        ] {
            assert!(sent.blank(&text).starts_with(shown), "{text}: {}", sent.blank(&text));
        }
        // Whatever stands before it: of the Base64 remains at most what it shares with its neighbours.
        for before in ["", "x", "xy", "xyz"] {
            let text = STANDARD.encode(format!("{before}{PASSWORD} and more"));
            let shown = sent.blank(&text);
            assert!(shown.contains(BLANK), "{text}: {shown}");
            let left = STANDARD_NO_PAD.encode(PASSWORD);
            assert!(!shown.contains(left.get(4..10).unwrap()), "{text}: {shown}");
        }
        assert!(matches!(sent.blank("nothing of ann here, 100%!"), Cow::Borrowed(_)));
        assert!(!format!("{sent:?} {given:?}").contains("ry"));
    }

    #[test]
    fn secrets_that_lie_in_each_other_leave_nothing_behind() {
        // The password is a part of its own encoded form.
        let sent = given(&[Credential::Bearer("abcdef".into()), basic("u", "cd"), Credential::Bearer("defgh".into())]);
        assert_eq!(sent.known().blank("xabcdefghx cd abcdef!"), "x[redacted]x [redacted] [redacted]!");
    }

    #[test]
    fn an_empty_password_and_an_odd_header_blank_nothing() {
        let sent = given(&[Credential::Bearer("".into()), basic("", "")]);
        assert_eq!(sent.known().blank("text"), "text");
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("odd"));
        sent.note_headers(&headers);
        assert_eq!(sent.known().blank("odd"), "odd");
    }

    #[test]
    fn tokens_of_servers_push_no_password_out() {
        let sent = given(&[basic("ann", "canary-5f1d")]);
        let mut headers = HeaderMap::new();
        for number in 0..2 * LOGINS {
            let token = HeaderValue::from_str(&format!("Bearer token-{number:04}")).unwrap();
            headers.insert(header::AUTHORIZATION, token);
            sent.note_headers(&headers);
        }
        assert_eq!(sent.known().blank("canary-5f1d token-0511 token-0000"), "[redacted] [redacted] token-0000");
        assert!(sent.known().0.len() <= LOGINS + TOKENS);
    }

    #[test]
    fn a_word_that_is_a_password_is_left_in_texts_of_our_own() {
        let sent = given(&[basic("ann", "pull"), basic("ann", "canary-5f1d")]);
        assert_eq!(sent.blank("cannot pull canary-5f1d"), "cannot pull [redacted]");
        assert_eq!(sent.known().blank("cannot pull"), "cannot [redacted]");
    }

    #[test]
    fn of_a_text_that_is_too_long_no_part_of_a_secret_is_left() {
        let sent = given(&[basic("ann", "canary-5f1d")]).known();
        let text = format!("{}canary-5f1d", "x".repeat(TEXT_BYTES - 4));
        let shown = sent.blank(&text);
        assert!(!shown.contains("can") && shown.len() == TEXT_BYTES - CUT_BYTES, "{}", shown.len());
    }

    proptest! {
        #[test]
        fn any_text_is_blanked_without_a_panic_and_without_the_secret(
            text in "(\\PC|%[0-9a-fA-F]{2}|\\\\u[0-9a-f]{4}|\\\\|%|canary-5f1d){0,60}",
        ) {
            let sent = given(&[basic("ann", "canary-5f1d"), basic("bob", "ä%25")]).known();
            prop_assert!(!sent.blank(&text).contains("canary-5f1d"));
        }

        #[test]
        fn a_secret_is_found_however_much_of_it_is_escaped(escaped in proptest::collection::vec(0..3_u8, 11)) {
            let sent = given(&[basic("ann", "can%ry+5\\/d")]).known();
            let text: String = "can%ry+5\\/d"
                .bytes()
                .zip(&escaped)
                .map(|(byte, how)| match (how, byte) {
                    (0, _) | (_, b'%' | b'\\' | b'+') => format!("%{byte:02X}"),
                    (1, _) => format!("\\u{:04x}", u32::from(byte)),
                    _ => char::from(byte).to_string(),
                })
                .collect();
            let text = format!("<{text}>");
            prop_assert_eq!(sent.blank(&text), "<[redacted]>");
        }
    }
}
