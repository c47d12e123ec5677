//! The tab of migrations: the timeline of each, the plot of their pauses, and what stands in the
//! way of the next one.

use askama::Template;
use mooring_api::view::{FindingView, JobView, MigrationView};
use mooring_types::finding::Effect;
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use mooring_types::{MigrationId, Timestamp};

use super::pauses::Pauses;
use super::timeline::{Timeline, cause, seconds};
use crate::web::ui::{self, Tone};

/// A migration with its picture.
pub(super) struct Shown {
    view: MigrationView,
    line: Timeline,
    cause: String,
}

impl Shown {
    fn tone(&self) -> Tone {
        match self.view.outcome {
            Outcome::Running => Tone::Busy,
            Outcome::Succeeded => Tone::Good,
            Outcome::RollingBack { .. } | Outcome::Failed { .. } => Tone::Bad,
        }
    }

    fn outcome(&self) -> &'static str {
        match self.view.outcome {
            Outcome::Running => "running",
            Outcome::RollingBack { .. } => "rolling back",
            Outcome::Succeeded => "succeeded",
            Outcome::Failed { .. } => "failed",
        }
    }

    /// Returns the phase that failed and the reason.
    fn failure(&self) -> Option<(String, &str)> {
        match &self.view.outcome {
            Outcome::RollingBack { phase, reason } | Outcome::Failed { phase, reason } => {
                Some((phase.to_string(), reason))
            }
            Outcome::Running | Outcome::Succeeded => None,
        }
    }

    fn words(&self) -> String {
        let parts = self.line.parts.iter().map(|part| format!("{} {}", part.name(), part.took()));
        format!("timeline of the {}: {}", self.view.kind.noun(), parts.collect::<Vec<_>>().join(", "))
    }
}

/// The tab.
#[derive(Template)]
#[template(path = "job/migrations.html")]
pub(super) struct MigrationsTab {
    /// The migrations, newest first.
    shown: Vec<Shown>,
    pauses: Option<Pauses>,
    findings: Vec<FindingView>,
    /// The job executes: whether it can migrate now is known.
    is_looked_at: bool,
}

impl MigrationsTab {
    pub(super) fn new(job: &JobView, findings: Vec<FindingView>, is_looked_at: bool) -> Self {
        let shown = |view: &MigrationView| Shown { line: Timeline::of(view), cause: cause(view), view: view.clone() };
        Self {
            shown: job.migrations.iter().rev().map(shown).collect(),
            pauses: Pauses::of(&job.migrations),
            findings,
            is_looked_at,
        }
    }

    fn is_refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.effect == Effect::Refuses)
    }
}

/// Returns the tone of a finding.
pub(super) fn tone_of(effect: &Effect) -> Tone {
    match effect {
        Effect::Refuses => Tone::Bad,
        Effect::Waits => Tone::Busy,
        Effect::Mended => Tone::Rest,
    }
}

/// A phase of a migration that is under way.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    name: String,
    /// The duration; `None` before the end.
    took: Option<String>,
    is_now: bool,
}

/// A migration that is under way, as the head of the page shows it.
#[derive(Template)]
#[template(path = "job/under_way.html")]
pub(super) struct UnderWay {
    id: MigrationId,
    noun: &'static str,
    from: String,
    to: String,
    start_time: Timestamp,
    reason: String,
    /// The reason why it is rolled back; empty while it goes on.
    failure: String,
    steps: Vec<Step>,
}

impl UnderWay {
    /// Returns the last migration of a job, if it is under way.
    pub(super) fn of(job: &JobView) -> Option<Self> {
        let last = job.migrations.last().filter(|migration| !migration.outcome.is_final())?;
        let failure = match &last.outcome {
            Outcome::RollingBack { phase, reason } => format!("{phase}: {reason}"),
            _ => String::new(),
        };
        Some(Self {
            id: last.id.clone(),
            noun: last.kind.noun(),
            from: last.from.clone(),
            to: last.to.clone(),
            start_time: last.start_time,
            reason: last.reason.clone(),
            steps: steps(last, failure.is_empty()),
            failure,
        })
    }
}

/// Returns the phases of a migration, and which of them is going on.
fn steps(migration: &MigrationView, goes_on: bool) -> Vec<Step> {
    let took = |phase: Phase| migration.phases.iter().find(|ended| ended.name == phase).map(|ended| ended.seconds);
    let last = migration.phases.iter().map(|ended| ended.name).max();
    let mut steps: Vec<Step> = Phase::ALL
        .into_iter()
        .filter(|phase| belongs(migration.kind, *phase))
        // A phase that was passed over, or is not measured, is not waited for.
        .filter(|phase| took(*phase).is_some() || last.is_none_or(|last| *phase > last))
        .map(|phase| Step { name: phase.to_string(), took: took(phase).map(seconds), is_now: false })
        .collect();
    if let Some(next) = steps.iter_mut().find(|step| step.took.is_none()).filter(|_| goes_on) {
        next.is_now = true;
    }
    steps
}

/// Returns whether a kind of migration has a phase.
fn belongs(kind: MigrationKind, phase: Phase) -> bool {
    match kind {
        MigrationKind::Migrate => true,
        MigrationKind::Suspend => !matches!(phase, Phase::Plan | Phase::Prepare | Phase::Restore | Phase::Verify),
        MigrationKind::Snapshot => {
            matches!(phase, Phase::PreCopy | Phase::Quiesce | Phase::Freeze | Phase::Transfer | Phase::Commit)
        }
        MigrationKind::Resume | MigrationKind::Recover => {
            !matches!(phase, Phase::PreCopy | Phase::Quiesce | Phase::Freeze | Phase::Retire)
        }
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::migration::PhaseTime;

    use super::*;
    use crate::web::job::sample;

    #[test]
    fn templates_render() {
        let failed = MigrationView {
            reason: sample::MARKUP.into(),
            outcome: Outcome::Failed { phase: Phase::Restore, reason: sample::MARKUP.into() },
            ..sample::migration()
        };
        let mut running = MigrationView { outcome: Outcome::Running, ..sample::migration() };
        running.phases.truncate(4);
        let job = JobView { migrations: vec![sample::migration(), failed, running], ..sample::job() };
        let text = MigrationsTab::new(&job, vec![sample::finding()], true).render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
        for word in ["clients waited", "Restore", "rolled back", "Pauses over time", "phase-freeze"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let text = UnderWay::of(&job).unwrap().render().unwrap();
        assert!(text.contains("aria-current=\"step\""), "{text}");
        let none = JobView { migrations: Vec::new(), ..sample::job() };
        let text = MigrationsTab::new(&none, Vec::new(), false).render().unwrap();
        assert!(text.contains("No migrations") && UnderWay::of(&none).is_none(), "{text}");
    }

    #[test]
    fn step_after_the_last_phase_is_going_on() {
        let phases = [(Phase::Plan, 0.0), (Phase::Prepare, 0.3), (Phase::Quiesce, 0.01)];
        let phases = phases.map(|(name, seconds)| PhaseTime { name, seconds }).into();
        let migration = MigrationView { outcome: Outcome::Running, phases, ..sample::migration() };
        let found = steps(&migration, true);
        let names: Vec<_> = found.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(
            names,
            ["Plan", "Prepare", "Quiesce", "Freeze", "Transfer", "Restore", "Verify", "Commit", "Retire"]
        );
        let now: Vec<_> = found.iter().filter(|step| step.is_now).map(|step| step.name.as_str()).collect();
        assert_eq!(now, ["Freeze"]);
        assert!(!steps(&migration, false).iter().any(|step| step.is_now));
        let resume = MigrationView { kind: MigrationKind::Resume, phases: Vec::new(), ..migration };
        assert_eq!(steps(&resume, true).len(), 6);
    }
}
