//! Instants as image documents write them: RFC 3339, UTC, whole seconds.

use greentic_dist_types::SafeText;

use crate::dist::DistError;

const DAY: u64 = 86_400;
/// The last second of the year 9999, after which the text would have another shape.
const LAST: u64 = 253_402_300_799;

/// `1970-01-01T00:00:00Z` and so on.
pub(super) fn to_text(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / DAY, unix_seconds % DAY);
    let (year, month, day) = date_of(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// Reads an instant: Unix seconds, or `YYYY-MM-DDTHH:MM:SSZ`.
///
/// # Errors
/// [`DistError::InvalidInput`] for anything else, and for years before 1970 and after 9999.
pub fn parse_created(text: &str) -> Result<u64, DistError> {
    let parsed = text.parse::<u64>().ok().or_else(|| from_text(text)).filter(|seconds| *seconds <= LAST);
    parsed.ok_or_else(|| {
        DistError::InvalidInput(format!(
            "`{}` is no instant: write Unix seconds or `YYYY-MM-DDTHH:MM:SSZ`, from 1970 to 9999",
            SafeText::excerpt(text, 60)
        ))
    })
}

fn from_text(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char, widths: [usize; 3]| -> Option<[u64; 3]> {
        let mut parts = text.split(separator);
        let mut found = [0; 3];
        for (slot, width) in found.iter_mut().zip(widths) {
            let part = parts.next().filter(|part| part.len() == width && part.bytes().all(|b| b.is_ascii_digit()))?;
            *slot = part.parse().ok()?;
        }
        parts.next().is_none().then_some(found)
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_before(year, month).checked_add(day.checked_sub(1)?)?;
    // The 30th of February is another day.
    (date_of(days) == (year, month, day)).then_some(days * DAY + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970 to the first of a month.
fn days_before(year: u64, month: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = year - 1_970;
    let months = (1..month).map(|month| length(year, month)).sum::<u64>();
    years * 365 + leap_days(year - 1) - leap_days(1_969) + months
}

const fn length(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a number of days after 1970.
fn date_of(days: u64) -> (u64, u64, u64) {
    // At most one year too many: no year is longer than 366 days.
    let mut year = 1_970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let mut rest = days - days_before(year, 1);
    let mut month = 1;
    while rest >= length(year, month) {
        rest -= length(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_have_their_text() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(to_text(seconds), text);
            assert_eq!(parse_created(text).unwrap(), seconds);
            assert_eq!(parse_created(&seconds.to_string()).unwrap(), seconds);
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for wrong in [
            "",
            "now",
            "-1",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:00:00",
            "2023-1-1T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "253402300800",
            "2023-01-01T00:00:00+01:00",
            "2023-01-01-01T00:00:00Z",
        ] {
            assert!(parse_created(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_comes_back(seconds in 0..=LAST) {
            prop_assert_eq!(parse_created(&to_text(seconds)).unwrap(), seconds);
        }

        #[test]
        fn any_text_is_an_instant_or_an_error(text in "\\PC{0,40}") {
            drop(parse_created(&text));
        }
    }
}
