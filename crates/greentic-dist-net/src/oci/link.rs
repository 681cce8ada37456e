//! The `Link` header (RFC 8288), as far as it tells where the next page of a list is.

use http::{HeaderMap, header};

/// Most characters of a `Link` field that are looked at.
const LINK_BYTES: usize = 16 << 10;

/// A `Link` header that cannot be understood: a list that may go on must not be taken for complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the `Link` header is malformed")]
pub(crate) struct MalformedLink;

/// The target of the first link with the relation `next`, as it was sent; `None` when there is none, or when it is empty.
pub(crate) fn next_link(headers: &HeaderMap) -> Result<Option<String>, MalformedLink> {
    for value in headers.get_all(header::LINK) {
        let text = value.to_str().map_err(|_unreadable| MalformedLink)?;
        if text.len() > LINK_BYTES {
            return Err(MalformedLink);
        }
        let mut rest = text;
        while let Some(link) = link(&mut rest)? {
            if link.is_next {
                // `<>` is the page itself: some servers say so for "there is no next one".
                return Ok(Some(link.target.to_owned()).filter(|target| !target.is_empty()));
            }
        }
    }
    Ok(None)
}

struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// Takes one link off the list; `None` at its end.
fn link<'a>(rest: &mut &'a str) -> Result<Option<Link<'a>>, MalformedLink> {
    let text = rest.trim_start_matches([' ', '\t', ',']);
    if text.is_empty() {
        *rest = text;
        return Ok(None);
    }
    let inner = text.strip_prefix('<').ok_or(MalformedLink)?;
    let (target, mut params) = inner.split_once('>').ok_or(MalformedLink)?;
    let mut relation: Option<&str> = None;
    loop {
        params = params.trim_start();
        match params.strip_prefix(';') {
            Some(after) => params = after.trim_start(),
            None if params.is_empty() || params.starts_with(',') => break,
            None => return Err(MalformedLink),
        }
        let end = params.find(['=', ';', ',']).unwrap_or(params.len());
        let (name, after) = params.split_at_checked(end).ok_or(MalformedLink)?;
        let (value, after) = match after.strip_prefix('=').map(|after| value(after.trim_start())) {
            Some(value) => value?,
            None => ("", after),
        };
        params = after;
        // Only the first `rel` of a link counts (RFC 8288, 3.3).
        if name.trim().eq_ignore_ascii_case("rel") {
            relation.get_or_insert(value);
        }
    }
    *rest = params;
    let mut relations = relation.unwrap_or_default().split_ascii_whitespace();
    Ok(Some(Link { target: target.trim(), is_next: relations.any(|one| one.eq_ignore_ascii_case("next")) }))
}

/// The value of a parameter: quoted (some servers use single quotes), or a token; and what follows it.
fn value(text: &str) -> Result<(&str, &str), MalformedLink> {
    for quote in ['"', '\''] {
        let Some(inner) = text.strip_prefix(quote) else { continue };
        let mut escaped = false;
        for (at, ch) in inner.char_indices() {
            match ch {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if ch == quote => {
                    let value = inner.get(..at).ok_or(MalformedLink)?;
                    return Ok((value, inner.get(at + ch.len_utf8()..).unwrap_or_default()));
                }
                _ => {}
            }
        }
        return Err(MalformedLink);
    }
    text.split_at_checked(text.find([';', ',', ' ', '\t']).unwrap_or(text.len())).ok_or(MalformedLink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn next(values: &[&str]) -> Result<Option<String>, MalformedLink> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::LINK, HeaderValue::from_str(value).unwrap());
        }
        next_link(&headers)
    }

    #[test]
    fn the_next_page_is_found_however_the_link_is_written() {
        for text in [
            "</v2/x?last=a%2Cb&n=1>; rel=\"next\"",
            "</v2/x?last=a%2Cb&n=1>;rel=next",
            "</v2/x?last=a%2Cb&n=1>; rel='next'",
            "</v2/x?last=a%2Cb&n=1> ; title=\"a, <b>; rel=\\\"prev\\\"\" ; REL=\"Next\"",
            "<https://x/first>; rel=\"first\", </v2/x?last=a%2Cb&n=1>; rel=\"prev next\"; foo",
            ", ,</v2/x?last=a%2Cb&n=1>;rel=\"next\",",
        ] {
            assert_eq!(next(&[text]), Ok(Some("/v2/x?last=a%2Cb&n=1".into())), "{text}");
        }
        assert_eq!(next(&["</a>; rel=prev", "</b>; rel=next"]), Ok(Some("/b".into())));
        // The target may hold commas and semicolons.
        assert_eq!(next(&["</v2/x?a=1,2;3>; rel=next"]), Ok(Some("/v2/x?a=1,2;3".into())));
    }

    #[test]
    fn no_next_page_is_no_next_page() {
        for text in
            ["", "</a>; rel=prev", "</a>", "</a>; rel=\"nextpage\"", "</a>; rel=prev; rel=next", "<>; rel=\"next\""]
        {
            assert_eq!(next(&[text]), Ok(None), "{text}");
        }
        assert_eq!(next(&[]), Ok(None));
    }

    #[test]
    fn what_is_no_link_is_not_taken_for_the_end_of_the_list() {
        for text in ["/a; rel=next", "<a; rel=next", "<a>; rel=\"next", "<a> rel=next", "<a>; rel=next <b>"] {
            assert_eq!(next(&[text]), Err(MalformedLink), "{text}");
        }
        assert_eq!(next(&[&format!("<{}>; rel=next", "x".repeat(LINK_BYTES))]), Err(MalformedLink));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in "[ -~]{0,120}") {
            drop(next(&[&text]));
        }

        #[test]
        fn a_written_link_is_read_back(target in "[!-;=?-~]{1,60}", before in prop::bool::ANY) {
            let other = if before { "</other>; rel=\"last\", " } else { "" };
            let text = format!("{other}<{target}>; rel=\"next\"");
            prop_assert_eq!(next(&[&text]), Ok(Some(target)));
        }
    }
}
