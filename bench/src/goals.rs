//! What has to be reached.

use std::fmt;

use serde::Serialize;

/// A figure and its bound, in seconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Goal {
    what: &'static str,
    at_most_seconds: f64,
    seconds: Option<f64>,
}

impl Goal {
    /// That `what` is at most so many seconds; missed where nothing was measured.
    pub(crate) fn at_most(what: &'static str, at_most_seconds: f64, seconds: Option<f64>) -> Self {
        Self { what, at_most_seconds, seconds }
    }

    fn is_reached(&self) -> bool {
        self.seconds.is_some_and(|seconds| seconds <= self.at_most_seconds)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_reached() { "reached" } else { "missed" };
        write!(f, "goal {word}: {}, at most {} s: ", self.what, self.at_most_seconds)?;
        match self.seconds {
            Some(seconds) => write!(f, "{seconds:.3} s"),
            None => write!(f, "not measured"),
        }
    }
}
