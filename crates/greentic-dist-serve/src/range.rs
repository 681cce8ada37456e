//! Byte ranges and entity tags of requests (RFC 9110, sections 13 and 14).

/// What a `Range` header asks of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The whole body: no range, another unit, several ranges, or not understood.
    Whole,
    /// These bytes, both ends inclusive.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// Nothing that exists.
    Nothing,
}

/// Reads one `bytes=` range against a body of `total` bytes.
pub(crate) fn asked(header: Option<&str>, total: u64) -> Asked {
    let Some((first, last)) = header.and_then(|text| text.trim().strip_prefix("bytes=")?.split_once('-')) else {
        return Asked::Whole;
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true if text.is_empty() => Some(None),
        // More digits than fit are past every end.
        true => Some(Some(text.parse::<u64>().unwrap_or(u64::MAX))),
        false => None,
    };
    let (Some(first), Some(last)) = (number(first.trim()), number(last.trim())) else { return Asked::Whole };
    match (first, last) {
        (None, None) => Asked::Whole,
        (None, Some(0)) => Asked::Nothing,
        (None, Some(_)) if total == 0 => Asked::Nothing,
        (None, Some(suffix)) => Asked::Part { first: total.saturating_sub(suffix), last: total - 1 },
        (Some(first), last) => {
            let last = last.unwrap_or(u64::MAX);
            if first >= total || last < first {
                Asked::Nothing
            } else {
                Asked::Part { first, last: last.min(total - 1) }
            }
        }
    }
}

/// Whether an `If-None-Match` list names `etag`, compared weakly; `*` names everything.
pub(crate) fn none_match_names(header: Option<&str>, etag: &str) -> bool {
    header.is_some_and(|list| {
        list.split(',').map(str::trim).any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == etag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let part = |first, last| Asked::Part { first, last };
        for (header, total, wanted) in [
            ("bytes=0-", 2000, part(0, 1999)),
            ("bytes=500-1499", 2000, part(500, 1499)),
            ("bytes=500-", 2000, part(500, 1999)),
            ("bytes=-500", 2000, part(1500, 1999)),
            ("bytes=-5000", 2000, part(0, 1999)),
            ("bytes=500-99999999999999999999999", 2000, part(500, 1999)),
            ("bytes=0-0", 2000, part(0, 0)),
            ("bytes=2000-", 2000, Asked::Nothing),
            ("bytes=5000-10000", 2000, Asked::Nothing),
            ("bytes=500-0", 2000, Asked::Nothing),
            ("bytes=-0", 2000, Asked::Nothing),
            ("bytes=0-", 0, Asked::Nothing),
            ("bytes=-1", 0, Asked::Nothing),
            ("bytes=-", 2000, Asked::Whole),
            ("bytes=0-1,5-6", 2000, Asked::Whole),
            ("bytes=a-b", 2000, Asked::Whole),
            ("bytes=+1-2", 2000, Asked::Whole),
            ("lines=0-1", 2000, Asked::Whole),
            ("", 2000, Asked::Whole),
        ] {
            assert_eq!(asked(Some(header), total), wanted, "{header}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
    }

    #[test]
    fn entity_tags_are_compared_weakly_in_lists() {
        for yes in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(none_match_names(Some(yes), "\"a\""), "{yes}");
        }
        for no in ["\"b\"", "a", ""] {
            assert!(!none_match_names(Some(no), "\"a\""), "{no}");
        }
        assert!(!none_match_names(None, "\"a\""));
    }
}
