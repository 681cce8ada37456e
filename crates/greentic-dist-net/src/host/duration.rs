//! Durations as Go programs write them: `300ms`, `1m30s`, `1.16676ms`, `880µs`.

use std::time::Duration;

/// Longest text that is looked at, in bytes.
const TEXT_BYTES: usize = 64;

/// A duration in Go's notation, at most a year. `None` for anything else, negative ones included.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    const YEAR: f64 = 365.0 * 24.0 * 3_600.0;
    if text.len() > TEXT_BYTES {
        return None;
    }
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let number_end = rest.find(|ch: char| !ch.is_ascii_digit() && ch != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(number_end)?;
        let unit_end = tail.find(|ch: char| ch.is_ascii_digit() || ch == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    if text.is_empty() || seconds > YEAR { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gos_durations_are_read() {
        for (text, nanos) in [
            ("0", 0),
            ("300ms", 300_000_000),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("880µs", 880_000),
            ("880us", 880_000),
            ("1.16676ms", 1_166_760),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for wrong in ["", "5", "-1s", "s", "1x", "1 s", ".s", "1..2s", "1e9s", "99999999h", &"1s".repeat(40)] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,70}") {
            let _ = parse_duration(&text);
        }
    }
}
