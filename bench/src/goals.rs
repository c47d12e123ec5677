//! The goals that measurements are held against.

use std::fmt;

use serde::Serialize;

/// A figure and its bound.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Goal {
    what: &'static str,
    unit: Unit,
    at_most: f64,
    seen: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
enum Unit {
    Seconds,
    /// A share of the reference: 0.1 is a tenth.
    Share,
}

impl Goal {
    /// Requires `what` to be at most this many seconds; missed if nothing was measured.
    pub(crate) fn at_most(what: &'static str, seconds: f64, seen: Option<f64>) -> Self {
        Self { what, unit: Unit::Seconds, at_most: seconds, seen }
    }

    /// Requires `what` to be at most this share; missed if nothing was measured.
    pub(crate) fn share_at_most(what: &'static str, share: f64, seen: Option<f64>) -> Self {
        Self { what, unit: Unit::Share, at_most: share, seen }
    }

    fn is_reached(&self) -> bool {
        self.seen.is_some_and(|seen| seen <= self.at_most)
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.3} s"),
            Self::Share => format!("{:.0} %", value * 100.0),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_reached() { "reached" } else { "missed" };
        let seen = self.seen.map_or_else(|| "not measured".to_owned(), |seen| self.unit.text(seen));
        write!(f, "goal {word}: {}, at most {}: {seen}", self.what, self.unit.text(self.at_most))
    }
}
