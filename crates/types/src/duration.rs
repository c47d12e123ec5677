//! Durations as users write and read them: `90s`, `1h30m`, `10m0s`, `2d`.
//!
//! A duration is one or more numbers with units, the largest first: `w`, `d`, `h`, `m`, `s`, `ms`.
//! The printed form is the one that users' scripts know, with hours at most and always with
//! seconds: 3600 s is `1h0m0s`. The resolution is one millisecond.

use std::time::Duration;

/// Units by name, in milliseconds, the largest first.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration `{text}`: write it like 90s, 10m or 2h30m; the units are w, d, h, m, s and ms")]
pub struct InvalidDuration {
    text: String,
}

/// Parses a duration.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    read(text).map(Duration::from_millis).ok_or_else(|| InvalidDuration { text: text.chars().take(80).collect() })
}

fn read(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.as_slice());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let index = units.iter().position(|(name, _)| *name == unit)?;
        let millis = number.parse::<u64>().ok()?.checked_mul(units[index].1)?;
        total = total.checked_add(millis)?;
        (rest, units) = (after, &units[index + 1..]);
    }
    Some(total)
}

/// Formats a duration like `3m5s`, without fractions of a millisecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let whole = match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) if millis > 0 => String::new(),
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    };
    if millis == 0 { whole } else { format!("{whole}{millis}ms") }
}

/// A duration as text, for `#[serde(with = …)]`.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// An optional duration as text, for `#[serde(with = …)]`.
pub mod optional_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(super::format_duration).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse_duration(&text)).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_and_written_as_scripts_know_them() {
        for (text, seconds, printed) in [
            ("0s", 0, "0s"),
            ("59s", 59, "59s"),
            ("3m5s", 185, "3m5s"),
            ("3600s", 3600, "1h0m0s"),
            ("1h", 3600, "1h0m0s"),
            ("2h30m", 9000, "2h30m0s"),
            ("2d", 172_800, "48h0m0s"),
            ("12w", 7_257_600, "2016h0m0s"),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
            assert_eq!(format_duration(Duration::from_secs(seconds)), printed);
        }
        assert_eq!(format_duration(Duration::from_millis(1500)), "1s500ms");
        assert_eq!(format_duration(Duration::from_millis(5)), "5ms");
        for bad in ["", "5", "s", "-5s", "1.5h", "5 s", "1m1h", "1s1s", "5x", "99999999999999999w", "5mm"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back(millis in 0_u64..1 << 50) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9wdhms ]{0,12}|.{0,12}") {
            let _ = parse_duration(&text);
        }
    }
}
