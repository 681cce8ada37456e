//! Text from a peer or a file, made safe to show on a terminal and in a log.

use std::fmt;

use crate::limits::SHOWN_CHARS;

/// Text without control, bidi or invisible characters, cut to a length, on one line.
///
/// Everything a registry, a header, an annotation or a file says goes through here before it meets a person: escape
/// sequences, line breaks (log forging) and right-to-left overrides are replaced by `U+FFFD`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SafeText(Box<str>);

impl SafeText {
    /// Sanitises `text`, cut to the standard length ([`SHOWN_CHARS`]).
    pub fn new(text: &str) -> Self {
        Self::excerpt(text, SHOWN_CHARS)
    }

    /// Sanitises `text`, cut to `max_chars` characters; a cut is marked with `…`.
    pub fn excerpt(text: &str, max_chars: usize) -> Self {
        let mut out = String::with_capacity(text.len().min(max_chars.saturating_mul(4)));
        for (index, ch) in text.chars().enumerate() {
            if index >= max_chars {
                out.push('…');
                break;
            }
            out.push(if is_unsafe(ch) { '\u{fffd}' } else { ch });
        }
        Self(out.into_boxed_str())
    }

    /// Sanitises bytes that may not be UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::new(&String::from_utf8_lossy(bytes))
    }

    /// The sanitised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }
}

fn is_unsafe(ch: char) -> bool {
    ch.is_control()
        || matches!(ch,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' | '\u{061c}' | '\u{00ad}')
}

impl fmt::Display for SafeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for SafeText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn row_80_escapes_line_breaks_and_bidi_overrides_do_not_survive() {
        let hostile = "ok\u{1b}]52;c;ZXZpbA==\u{7}\r\nERROR forged\u{202e}txt\u{9b}31m";
        let shown = SafeText::new(hostile).to_string();
        assert!(!shown.chars().any(is_unsafe), "{shown:?}");
        assert!(shown.starts_with("ok"));
    }

    #[test]
    fn long_text_is_cut_and_marked() {
        let shown = SafeText::excerpt(&"x".repeat(500), 10);
        assert_eq!(shown.as_str(), "xxxxxxxxxx…");
    }

    proptest! {
        #[test]
        fn row_79_output_never_holds_a_forbidden_character(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let shown = SafeText::from_bytes(&bytes);
            prop_assert!(!shown.as_str().chars().any(is_unsafe));
            prop_assert!(shown.as_str().chars().count() <= SHOWN_CHARS + 1);
        }
    }
}
