//! Sizes and ages as people type them.

use std::time::Duration;

/// Parses `500`, `10KB`, `3GiB`, `1.5 MiB`: bytes, with a decimal or a binary unit in any case.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let units: [(&str, u128); 14] = [
        ("", 1),
        ("B", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("TIB", 1 << 40),
    ];
    parse(text, &units).ok_or_else(|| "expected a size like 3GiB, 500MB or 1048576".to_owned())
}

/// Parses `90s`, `15m`, `12h`, `30d`, `8w`, and plain seconds.
pub(super) fn parse_age(text: &str) -> Result<Duration, String> {
    let units: [(&str, u128); 6] = [("", 1), ("S", 1), ("M", 60), ("H", 3_600), ("D", 86_400), ("W", 604_800)];
    let seconds = parse(text, &units).ok_or_else(|| "expected an age like 90s, 12h, 30d or 8w".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

/// Longest wait before the first request.
const SPLAY: Duration = Duration::from_hours(1);

/// Parses the time of `--splay`: an age of at most an hour.
pub(super) fn parse_splay(text: &str) -> Result<Duration, String> {
    let time = parse_age(text).ok().filter(|time| *time <= SPLAY);
    time.ok_or_else(|| "expected a time like 30s or 5m, at most 1h".to_owned())
}

/// A number with at most three decimals, and a unit. `None` for anything else, and for what no 64 bits hold.
fn parse(text: &str, units: &[(&str, u128)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|ch: char| !ch.is_ascii_digit() && ch != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start().to_ascii_uppercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || decimals.is_empty() || decimals.len() > 3 || decimals.contains('.') {
        return None;
    }
    let thousandths: u128 = format!("{decimals:0<3}").parse().ok()?;
    let whole: u128 = whole.parse().ok()?;
    let value = whole.checked_mul(*factor)?.checked_add(thousandths.checked_mul(*factor)? / 1000)?;
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units_in_any_case() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("3GiB", 3 << 30),
            ("3gib", 3 << 30),
            ("500MB", 500_000_000),
            ("1.5 MiB", 3 << 19),
            ("64k", 64 << 10),
            (" 7 B ", 7),
            ("0.001kb", 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "GiB", "-1", "1e9", "3 GiB x", "1.2.3", ".5G", "5.G", "1.0001M", "3XiB", "18446744073709551616", "٣"]
        {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_have_units_from_seconds_to_weeks() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("1.5w", 907_200)]
        {
            assert_eq!(parse_age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "1y", "-1d", "1d12h", "99999999999999999999w"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
    }
}
