//! `Content-Range`: which bytes a partial answer holds (RFC 9110, 14.4).

use http::header;

use crate::transport::Reply;

/// A parsed `bytes first-last/total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// `None` for `*`.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// What an answer says of itself.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        reply.header(header::CONTENT_RANGE).and_then(Self::parse)
    }

    /// Whether these are the bytes from `offset` on, up to `bound` where there is one, of a whole of this size.
    pub(super) fn goes_on(&self, offset: u64, size: Option<u64>, bound: Option<u64>) -> bool {
        let whole = match (self.total, size) {
            (Some(total), Some(size)) => total == size,
            (None, Some(size)) => self.last < size,
            (_, None) => true,
        };
        let bounded = bound.is_none_or(|end| self.last.checked_add(1) == Some(end));
        self.first == offset && whole && bounded
    }

    /// Strict: one range of bytes, `first <= last < total`. `None` for anything else.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = match total {
            "*" => None,
            total => Some(number(total)?),
        };
        let sane = unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|total| last < total);
        sane.then_some(Self { first, last, total })
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_one_sane_range_of_bytes_is_accepted() {
        assert_eq!(ContentRange::parse("bytes 5-9/10"), Some(ContentRange { first: 5, last: 9, total: Some(10) }));
        assert_eq!(ContentRange::parse("Bytes 0-0/*"), Some(ContentRange { first: 0, last: 0, total: None }));
        for bad in [
            "",
            "bytes",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes -5-9/10",
            "bytes +5-9/10",
            "items 5-9/10",
            "bytes 5-9",
            "bytes 5-9/x",
            "bytes 5-99999999999999999999/*",
            "bytes 0-1/10, bytes 3-4/10",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,60}") {
            let _ = ContentRange::parse(&text);
        }

        #[test]
        fn well_formed_ranges_round_trip(first in any::<u32>(), length in 0_u32.., more in 1_u32..) {
            let (first, last) = (u64::from(first), u64::from(first) + u64::from(length));
            let total = last + u64::from(more);
            let parsed = ContentRange::parse(&format!("bytes {first}-{last}/{total}"));
            prop_assert_eq!(parsed, Some(ContentRange { first, last, total: Some(total) }));
        }
    }
}
