//! Amounts for people, and parts of a whole.

use std::fmt;

use askama::Template;

use super::component;

/// A bar with the part of a whole, and its text.
#[derive(Template)]
#[template(
    source = r#"<span class="meter"><meter min="0" max="{{ whole }}" value="{{ part }}" high="{{ high }}" optimum="0" aria-label="{{ label }}"></meter><span>{{ part }} of {{ whole }}{{ unit }}</span></span>"#,
    ext = "html"
)]
pub(crate) struct Meter<'a> {
    part: f64,
    whole: f64,
    /// The part from which the bar warns.
    high: f64,
    unit: &'a str,
    label: &'a str,
}
component!(Meter<'a>);

/// Returns a bar, like `3 of 8 GB`. The unit begins with a blank, or is empty.
pub(crate) fn meter<'a>(part: impl Into<f64>, whole: impl Into<f64>, unit: &'a str, label: &'a str) -> Meter<'a> {
    let (part, whole) = (tenths(part.into()), tenths(whole.into()));
    Meter { part, whole, high: whole * 0.9, unit, label }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A number of bytes.
pub(crate) struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let mut value = self.0 as f64 / 1000.0;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        write!(f, "{value:.digits$} {}", UNITS[unit])
    }
}

/// Returns a number of bytes with a decimal unit and three digits: `1.53 MB`.
pub(crate) fn bytes(count: &u64) -> Bytes {
    Bytes(*count)
}

/// Returns a number with its noun: `1 job`, `2 jobs`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (15_340, "15.3 kB"),
            (999_499, "999 kB"),
            (1_534_000, "1.53 MB"),
        ] {
            assert_eq!(bytes(&number).to_string(), text);
        }
        assert_eq!((count(1, "job"), count(0, "job")), ("1 job".into(), "0 jobs".into()));
    }

    #[test]
    fn meter_tells_its_amount_in_words() {
        let text = meter(1.25, 8.0, " GB", "memory").render().unwrap();
        assert!(text.contains("1.3 of 8 GB") && text.contains("aria-label=\"memory\""), "{text}");
    }
}
