//! The plot of pauses: a bar for each migration that froze the job, oldest first.

use mooring_api::view::MigrationView;

use super::timeline::{seconds, tenths};

/// The most bars.
const BARS_MAX: usize = 60;
/// The least number of bars that fill the width.
const BARS_LEAST: usize = 24;
/// The height of the longest bar.
const HEIGHT: f64 = 80.0;
/// The distance of bars.
const STEP: f64 = 14.0;

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) height: f64,
    pub(super) words: String,
    pub(super) class: &'static str,
}

/// The plot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pauses {
    pub(super) bars: Vec<Bar>,
    pub(super) width: f64,
    pub(super) longest: String,
    pub(super) median: String,
}

impl Pauses {
    /// Returns the plot of the last pauses; `None` for fewer than two.
    pub(super) fn of(migrations: &[MigrationView]) -> Option<Self> {
        let froze: Vec<&MigrationView> = migrations
            .iter()
            .filter(|migration| migration.outcome.is_final() && migration.pause_seconds > 0.0)
            .collect();
        let shown = &froze[froze.len().saturating_sub(BARS_MAX)..];
        let mut sorted: Vec<f64> = shown.iter().map(|migration| migration.pause_seconds).collect();
        sorted.sort_by(f64::total_cmp);
        let longest = *sorted.last().filter(|_| sorted.len() > 1)?;
        let bar = |(index, migration): (usize, &&MigrationView)| {
            let height = tenths((migration.pause_seconds / longest * HEIGHT).max(2.0));
            Bar {
                x: index as f64 * STEP,
                y: tenths(HEIGHT - height),
                height,
                words: format!(
                    "{} from {} to {}: {}",
                    migration.kind.noun(),
                    migration.from,
                    migration.to,
                    seconds(migration.pause_seconds)
                ),
                class: if migration.outcome.is_success() { "good" } else { "bad" },
            }
        };
        Some(Self {
            bars: shown.iter().enumerate().map(bar).collect(),
            width: shown.len().max(BARS_LEAST) as f64 * STEP,
            longest: seconds(longest),
            median: seconds(sorted[sorted.len() / 2]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    #[test]
    fn longest_pause_is_the_highest_bar() {
        let pauses = [0.2, 0.0, 0.4, 0.1];
        let all = pauses.map(|pause_seconds| MigrationView { pause_seconds, ..sample::migration() });
        let plot = Pauses::of(&all).unwrap();
        assert_eq!(plot.bars.iter().map(|bar| bar.height).collect::<Vec<_>>(), [40.0, 80.0, 20.0]);
        assert!(plot.bars.iter().all(|bar| (bar.y + bar.height - HEIGHT).abs() < 0.2));
        assert_eq!((plot.longest.as_str(), plot.median.as_str()), ("0.400 s", "0.200 s"));
        assert_eq!(Pauses::of(&all[..2]), None);
    }

    #[test]
    fn plot_has_the_last_ones() {
        let all: Vec<MigrationView> = (0..200)
            .map(|index| MigrationView { pause_seconds: f64::from(index) + 1.0, ..sample::migration() })
            .collect();
        let plot = Pauses::of(&all).unwrap();
        assert_eq!((plot.bars.len(), plot.longest.as_str()), (BARS_MAX, "3 min 20 s"));
    }
}
