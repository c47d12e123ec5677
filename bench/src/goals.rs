//! What a move has to reach: the extra gap that the client of an idle JupyterLab sees.

use std::fmt;

use mooring_testkit::tour::TourReport;
use serde::Serialize;

/// The median of the extra gap, in seconds, at most.
const MEDIAN: f64 = 0.5;
/// Every extra gap, in seconds, at most.
const MAX: f64 = 1.2;

/// Which goals were reached; none where nothing was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Goals {
    median_reached: bool,
    max_reached: bool,
}

impl Goals {
    pub(crate) fn of(report: &TourReport) -> Self {
        let gaps = report.extra_gaps();
        Self {
            median_reached: gaps.is_some_and(|gaps| gaps.median <= MEDIAN),
            max_reached: gaps.is_some_and(|gaps| gaps.max <= MAX),
        }
    }
}

impl fmt::Display for Goals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |reached| if reached { "reached" } else { "missed" };
        let (median, max) = (word(self.median_reached), word(self.max_reached));
        write!(f, "goals: median of the extra gap at most {MEDIAN} s: {median}; never above {MAX} s: {max}")
    }
}
