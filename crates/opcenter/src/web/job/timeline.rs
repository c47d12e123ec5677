//! The timeline of a migration: its phases as a bar, and below it the pause, magnified.
//!
//! ```text
//!  ┌──────┬───────────────────────┬─┬─┬─────┐
//!  │ Plan │        PreCopy        │ │ │ Ret │   all phases; each is wide enough to be seen
//!  └──────┴───────────────────────┴─┴─┴─────┘
//!                              ／       ＼
//!  ┌────────────────┬──────────────┬────────┐
//!  │     Freeze     │   Transfer   │  Rest  │   the pause alone
//!  └────────────────┴──────────────┴────────┘
//! ```
//!
//! OpCenter measures the pause from the order to freeze until the job executes again. Hosts measure
//! the phases in it. What lies between is the time of their reports.

use mooring_api::view::MigrationView;
use mooring_types::migration::{MigrationKind, Outcome, Phase};

/// The width of a bar.
const WHOLE: f64 = 1000.0;
/// The least width of a part of a bar.
const LEAST: f64 = 9.0;
/// The least part of a pause in seconds that is shown as the time of reports.
const REPORTS_LEAST: f64 = 0.001;

/// The state of the job during a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum During {
    /// It executes.
    Executes,
    /// It executes, and gateways hold what clients send.
    Held,
    /// It is frozen.
    Frozen,
    /// It is in the capsule store.
    Stored,
}

impl During {
    /// Returns what the job does during a phase of a migration.
    fn of(kind: MigrationKind, phase: Phase) -> Self {
        if kind.is_out_of_store() {
            return if phase < Phase::Commit { Self::Stored } else { Self::Executes };
        }
        match phase {
            Phase::Plan | Phase::Prepare | Phase::PreCopy | Phase::Retire => Self::Executes,
            Phase::Quiesce => Self::Held,
            Phase::Freeze => Self::Frozen,
            // The job continues while its snapshot is stored.
            _ if kind == MigrationKind::Snapshot => Self::Executes,
            Phase::Transfer | Phase::Restore | Phase::Verify | Phase::Commit => Self::Frozen,
        }
    }

    /// Returns the words for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Executes => "the job executes",
            Self::Held => "the job executes, gateways hold what clients send",
            Self::Frozen => "the job is frozen",
            Self::Stored => "the job is in the capsule store",
        }
    }
}

/// A part of a bar.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// The phase; `None` for the time of reports.
    phase: Option<Phase>,
    pub(super) seconds: f64,
    pub(super) during: During,
    pub(super) at: f64,
    pub(super) width: f64,
}

impl Part {
    /// Returns the name of the phase.
    pub(super) fn name(&self) -> String {
        self.phase.map_or_else(|| "Reports".to_owned(), |phase| phase.to_string())
    }

    /// Returns the class in the style sheet.
    pub(super) fn class(&self) -> String {
        format!("phase-{}", self.name().to_lowercase())
    }

    /// Returns the left edge, rounded.
    pub(super) fn x(&self) -> f64 {
        tenths(self.at)
    }

    /// Returns the width, rounded.
    pub(super) fn w(&self) -> f64 {
        tenths(self.width)
    }

    /// Returns the duration for people.
    pub(super) fn took(&self) -> String {
        seconds(self.seconds)
    }
}

/// The picture of a migration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timeline {
    /// All phases that have ended.
    pub(super) parts: Vec<Part>,
    /// The parts of the pause; empty without one.
    pub(super) pause: Vec<Part>,
    /// The beginning and the end of the pause on the bar of all phases.
    pub(super) lens: (f64, f64),
    pub(super) total_seconds: f64,
}

impl Timeline {
    /// Returns the picture of a migration.
    pub(super) fn of(migration: &MigrationView) -> Self {
        let mut parts: Vec<Part> = migration
            .phases
            .iter()
            .map(|phase| Part {
                phase: Some(phase.name),
                seconds: phase.seconds.max(0.0),
                during: During::of(migration.kind, phase.name),
                at: 0.0,
                width: 0.0,
            })
            .collect();
        let is_frozen = |part: &Part| part.during == During::Frozen;
        let reports = migration.pause_seconds - total(parts.iter().filter(|part| is_frozen(part)));
        if let Some(last) = parts.iter().rposition(is_frozen)
            && reports >= REPORTS_LEAST
        {
            let part = Part { phase: None, seconds: reports, during: During::Frozen, at: 0.0, width: 0.0 };
            // The commit ends the pause.
            let is_commit = parts[last].phase == Some(Phase::Commit);
            parts.insert(if is_commit { last } else { last + 1 }, part);
        }
        lay_out(&mut parts);
        let mut pause: Vec<Part> = parts.iter().filter(|part| is_frozen(part) && part.seconds > 0.0).cloned().collect();
        let lens = match (pause.first(), pause.last()) {
            (Some(first), Some(last)) => (first.at, last.at + last.width),
            _ => (0.0, 0.0),
        };
        lay_out(&mut pause);
        let total_seconds = total(parts.iter());
        Self { parts, pause, lens, total_seconds }
    }

    /// Returns the points of the shape that leads from the pause to its magnification.
    pub(super) fn lens_points(&self) -> String {
        format!("{},20 {},20 {WHOLE},34 0,34", tenths(self.lens.0), tenths(self.lens.1))
    }
}

/// Places parts beside each other, each at least [`LEAST`] wide, on a bar of [`WHOLE`].
fn lay_out(parts: &mut [Part]) {
    let sum = total(parts.iter());
    let count = parts.len() as f64;
    let shared = (WHOLE - LEAST * count).max(0.0);
    let mut at = 0.0;
    for part in parts {
        let share = if sum > 0.0 { part.seconds / sum } else { 1.0 / count };
        (part.at, part.width) = (at, LEAST + share * shared);
        at += part.width;
    }
}

fn total<'a>(parts: impl Iterator<Item = &'a Part>) -> f64 {
    parts.map(|part| part.seconds).sum()
}

/// Rounds a place on a bar.
pub(super) fn tenths(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

/// Formats a duration of seconds with three digits: `0.213 s`, `12.4 s`, `3 min 5 s`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        short if short < 0.0005 => "0 s".to_owned(),
        short if short < 1.0 => format!("{short:.3} s"),
        short if short < 9.995 => format!("{short:.2} s"),
        short if short < 60.0 => format!("{short:.1} s"),
        long => format!("{:.0} min {:.0} s", (long / 60.0).floor(), (long % 60.0).floor()),
    }
}

/// Says what clients saw of a migration, and why.
pub(super) fn cause(migration: &MigrationView) -> String {
    let line = Timeline::of(migration);
    let longest = line.pause.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let most = longest.map(|part| match part.phase {
        None => format!(", most of it ({}) until hosts and OpCenter had reported", part.took()),
        Some(phase) => format!(", most of it ({}) in {phase}", part.took()),
    });
    let most = most.filter(|_| line.pause.len() > 1).unwrap_or_default();
    let frozen = seconds(migration.pause_seconds);
    match (migration.kind, &migration.outcome) {
        (_, Outcome::Running) => String::new(),
        (MigrationKind::Resume | MigrationKind::Recover, _) => {
            format!("took {}; clients waited for the job", seconds(line.total_seconds))
        }
        (MigrationKind::Suspend, Outcome::Succeeded) => {
            format!("stored in {frozen}{most}; clients wait until it is resumed")
        }
        (_, _) if migration.pause_seconds <= 0.0 => "the job was not frozen".to_owned(),
        (_, _) => format!("clients waited {frozen}{most}"),
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::migration::PhaseTime;

    use super::*;
    use crate::web::job::sample;

    fn migration(kind: MigrationKind, pause_seconds: f64, phases: &[(Phase, f64)]) -> MigrationView {
        let phases = phases.iter().map(|(name, seconds)| PhaseTime { name: *name, seconds: *seconds }).collect();
        MigrationView { kind, pause_seconds, phases, ..sample::migration() }
    }

    fn names(parts: &[Part]) -> Vec<String> {
        parts.iter().map(Part::name).collect()
    }

    #[test]
    fn parts_fill_the_bar_in_order_and_none_is_too_small_to_see() {
        let moved = migration(
            MigrationKind::Migrate,
            0.2,
            &[
                (Phase::Plan, 0.0),
                (Phase::PreCopy, 60.0),
                (Phase::Freeze, 0.05),
                (Phase::Restore, 0.1),
                (Phase::Commit, 0.0),
            ],
        );
        let line = Timeline::of(&moved);
        assert_eq!(names(&line.parts), ["Plan", "PreCopy", "Freeze", "Restore", "Reports", "Commit"]);
        assert!(line.parts.iter().all(|part| part.width >= LEAST), "{line:?}");
        for bar in [&line.parts, &line.pause] {
            let mut at = 0.0;
            for part in bar {
                assert!((part.at - at).abs() < 1e-9, "{part:?}");
                at += part.width;
            }
            assert!((at - WHOLE).abs() < 1e-9, "{bar:?}");
        }
        assert!((line.total_seconds - 60.2).abs() < 1e-9, "{line:?}");
    }

    #[test]
    fn pause_has_the_frozen_phases_and_the_time_of_reports() {
        let phases = [(Phase::Quiesce, 0.3), (Phase::Freeze, 0.05), (Phase::Restore, 0.1), (Phase::Retire, 1.0)];
        let line = Timeline::of(&migration(MigrationKind::Migrate, 0.2, &phases));
        assert_eq!(names(&line.pause), ["Freeze", "Restore", "Reports"]);
        assert!((line.pause[2].seconds - 0.05).abs() < 1e-9);
        let (from, to) = (&line.parts[1], &line.parts[3]);
        assert!((line.lens.0 - from.at).abs() < 1e-9 && (line.lens.1 - to.at - to.width).abs() < 1e-9);
        // The store's transfer of a snapshot does not stop the job.
        let phases = [(Phase::Freeze, 0.2), (Phase::Transfer, 5.0)];
        assert_eq!(names(&Timeline::of(&migration(MigrationKind::Snapshot, 0.2, &phases)).pause), ["Freeze"]);
        let phases = [(Phase::Prepare, 1.0), (Phase::Restore, 0.4), (Phase::Commit, 0.0)];
        let resumed = Timeline::of(&migration(MigrationKind::Resume, 0.0, &phases));
        assert!(resumed.pause.is_empty() && resumed.parts[1].during == During::Stored, "{resumed:?}");
    }

    #[test]
    fn phases_that_overlap_or_are_missing_make_no_negative_part() {
        let phases = [(Phase::Freeze, 0.5), (Phase::Transfer, 0.6)];
        assert_eq!(
            names(&Timeline::of(&migration(MigrationKind::Migrate, 0.7, &phases)).pause),
            ["Freeze", "Transfer"]
        );
        let empty = Timeline::of(&migration(MigrationKind::Migrate, 0.7, &[]));
        assert!(empty.parts.is_empty() && empty.pause.is_empty() && empty.total_seconds == 0.0);
    }

    #[test]
    fn cause_names_the_longest_part() {
        let phases = [(Phase::Freeze, 0.05), (Phase::Restore, 0.15)];
        assert_eq!(
            cause(&migration(MigrationKind::Migrate, 0.213, &phases)),
            "clients waited 0.213 s, most of it (0.150 s) in Restore"
        );
        assert_eq!(cause(&migration(MigrationKind::Migrate, 0.0, &[])), "the job was not frozen");
    }

    #[test]
    fn durations_have_three_digits() {
        for (value, text) in
            [(0.0, "0 s"), (0.0214, "0.021 s"), (1.234, "1.23 s"), (12.34, "12.3 s"), (185.4, "3 min 5 s")]
        {
            assert_eq!(seconds(value), text);
        }
    }
}
