//! `WWW-Authenticate`: what a registry wants to see before it answers (RFC 9110, 11.6.1).

use http::{HeaderMap, header};

/// Most challenges read from one answer.
const CHALLENGES: usize = 16;
/// Most parameters of one challenge.
const PARAMETERS: usize = 32;
/// Longest header value that is looked at, in bytes.
const VALUE_BYTES: usize = 8 << 10;

/// One challenge: a scheme with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case.
    pub(crate) scheme: String,
    /// Names in lower case, values unquoted, in order.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first value of a parameter; `name` in lower case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Every challenge of an answer, over all its `WWW-Authenticate` fields, in order.
///
/// A field is read up to its first syntax error; a challenge with an error in it is left out.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        if let Ok(text) = value.to_str() {
            parse(text, &mut found);
        }
    }
    found
}

fn parse(text: &str, found: &mut Vec<Challenge>) {
    if text.len() > VALUE_BYTES {
        return;
    }
    let mut input = Cursor { rest: text };
    while found.len() < CHALLENGES {
        input.skip_list_separators();
        match input.challenge() {
            Some(challenge) => found.push(challenge),
            None => return,
        }
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(|byte| !wanted(byte)).unwrap_or(self.rest.len());
        let (head, tail) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = tail;
        head
    }

    fn skip_space(&mut self) -> bool {
        !self.take_while(|byte| matches!(byte, b' ' | b'\t')).is_empty()
    }

    fn skip_list_separators(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b','));
    }

    fn eat(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn at_end_of_item(&self) -> bool {
        self.rest.is_empty() || self.rest.starts_with(',')
    }

    fn token(&mut self) -> &'a str {
        self.take_while(is_token)
    }

    /// `scheme [ 1*SP ( token68 / #auth-param ) ]`
    fn challenge(&mut self) -> Option<Challenge> {
        let scheme = self.token();
        if scheme.is_empty() {
            return None;
        }
        let mut challenge = Challenge { scheme: scheme.to_ascii_lowercase(), parameters: Vec::new() };
        let spaced = self.skip_space();
        if self.at_end_of_item() {
            return Some(challenge);
        }
        if !spaced {
            return None;
        }
        if self.token68() {
            return Some(challenge);
        }
        loop {
            let parameter = self.parameter()?;
            if challenge.parameters.len() >= PARAMETERS {
                return None;
            }
            challenge.parameters.push(parameter);
            self.skip_space();
            if self.rest.is_empty() {
                return Some(challenge);
            }
            if !self.rest.starts_with(',') {
                return None;
            }
            self.skip_list_separators();
            if self.rest.is_empty() || !self.is_at_parameter() {
                return Some(challenge);
            }
        }
    }

    /// Eats a token68 (`abc==`) that is followed by the end of the item. Its value is of no use here.
    fn token68(&mut self) -> bool {
        let mut ahead = Cursor { rest: self.rest };
        let is_token68 =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        if ahead.take_while(is_token68).is_empty() {
            return false;
        }
        ahead.take_while(|byte| byte == b'=');
        ahead.skip_space();
        if !ahead.at_end_of_item() {
            return false;
        }
        self.rest = ahead.rest;
        true
    }

    /// Whether `name =` comes next, rather than another scheme.
    fn is_at_parameter(&self) -> bool {
        let mut ahead = Cursor { rest: self.rest };
        let name = ahead.token();
        ahead.skip_space();
        !name.is_empty() && ahead.rest.starts_with('=')
    }

    /// `token BWS "=" BWS ( token / quoted-string )`. Unquoted values may hold what a URL holds: some servers forget the quotes.
    fn parameter(&mut self) -> Option<(String, String)> {
        let name = self.token();
        self.skip_space();
        if name.is_empty() || !self.eat('=') {
            return None;
        }
        self.skip_space();
        let value = if self.eat('"') {
            self.quoted()?
        } else {
            let value = self.take_while(|byte| !matches!(byte, b' ' | b'\t' | b',' | b'"' | b'\\'));
            if value.is_empty() {
                return None;
            }
            value.to_owned()
        };
        Some((name.to_ascii_lowercase(), value))
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut chars = self.rest.chars();
        while let Some(next) = chars.next() {
            match next {
                '"' => {
                    self.rest = chars.as_str();
                    return Some(value);
                }
                '\\' => value.push(chars.next()?),
                other => value.push(other),
            }
        }
        None
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(values: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        challenges(&headers)
    }

    fn schemes(values: &[&str]) -> Vec<String> {
        read(values).into_iter().map(|challenge| challenge.scheme).collect()
    }

    #[test]
    fn a_bearer_challenge_with_a_comma_in_its_scope_is_one_challenge() {
        let found = read(&[
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].parameter("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(found[0].parameter("scope"), Some("repository:a/b:pull,push"));
    }

    #[test]
    fn case_spaces_missing_quotes_and_escapes_do_not_matter() {
        let found = read(&[r#"bEaReR  REALM = "https://a.example/\"t\"" , Service=reg.example ,scope=x"#]);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].parameter("realm"), Some("https://a.example/\"t\""));
        assert_eq!(found[0].parameter("service"), Some("reg.example"));
        let unquoted = read(&["Bearer realm=https://a.example/token?x=1,service=s"]);
        assert_eq!(unquoted[0].parameter("realm"), Some("https://a.example/token?x=1"));
    }

    #[test]
    fn several_challenges_are_told_apart_in_one_header_and_in_many() {
        let all = ["negotiate", "basic", "bearer"];
        assert_eq!(schemes(&[r#"Negotiate, Basic realm="x", Bearer realm="https://a/t",service="s""#]), all);
        assert_eq!(schemes(&["Negotiate", r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#]), all);
        assert_eq!(schemes(&[r#"Negotiate YWJj==, Basic realm="x",, Bearer realm="https://a/t","#]), all);
        assert_eq!(schemes(&["Basic, Bearer realm=\"https://a/t\""]), ["basic", "bearer"]);
    }

    #[test]
    fn row_45_broken_challenges_are_left_out_and_keep_what_stood_before() {
        assert_eq!(schemes(&[r#"Basic realm="x", Bearer realm="unterminated"#]), ["basic"]);
        for nothing in ["", ",,,", "=", "\"x\"", "Bearer realm", "Bearer realm=", "Bearer =x", "Bearer \\"] {
            let found = read(&[nothing]);
            assert!(found.iter().all(|challenge| challenge.parameters.is_empty()), "{nothing}: {found:?}");
        }
        let many = format!("Bearer {}", (0..10_000).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join(","));
        assert!(schemes(&[&many]).is_empty());
        assert_eq!(schemes(&[&"Basic,".repeat(500)]).len(), CHALLENGES);
    }

    proptest! {
        #[test]
        fn row_45_any_text_is_read_without_a_panic(text in "[ -~]{0,200}") {
            drop(read(&[&text]));
        }

        #[test]
        fn quoted_values_round_trip(value in "[ -~]{0,60}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let found = read(&[&format!(r#"Basic, Bearer realm="{quoted}",service=s"#)]);
            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(found[1].parameter("realm"), Some(value.as_str()));
        }
    }
}
