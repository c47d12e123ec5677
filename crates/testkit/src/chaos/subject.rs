//! A job under test, and its invariants.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mooring_api::view::{EventView, JobView};
use mooring_api::{Client, Submission};
use mooring_types::job::{JobStatus, OutputFile};
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::{Event, JobId, Timestamp};

use super::prober::{Prober, Setback};

/// The target port of a witness.
pub(super) const PORT: u16 = 9000;
/// The number of lines of a batch job's output, five per second.
const LINES: usize = 200;
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
const PROGRAM: &str = include_str!("program.py");

/// The kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A witness behind a gateway.
    Witness,
    /// A script that counts, and ends.
    Counter,
    /// A program that counts as long as what it holds in the kernel is as it was, and ends.
    Program,
}

/// A job in its place; a cancelled job is replaced by another one.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    place: usize,
    /// The number of earlier jobs in this place.
    number: usize,
    /// The job's id, once OpCenter is known to have accepted it.
    pub(super) id: Option<JobId>,
    pub(super) prober: Option<Prober>,
    /// Set while the job's capsule is damaged and no action may touch the job.
    pub(super) is_busy: Arc<AtomicBool>,
    /// The number of accepted operations of each kind.
    pub(super) accepted: BTreeMap<&'static str, usize>,
}

impl Subject {
    pub(super) fn new(kind: Kind, place: usize, number: usize) -> Self {
        let (is_busy, accepted) = (Arc::default(), BTreeMap::new());
        Self { kind, place, number, id: None, prober: None, is_busy, accepted }
    }

    /// Makes the next job in the same place.
    pub(super) fn next(&self) -> Self {
        Self::new(self.kind, self.place, self.number + 1)
    }

    /// Returns the job's id if actions may touch the job.
    pub(super) fn available(&self) -> Option<JobId> {
        self.id.clone().filter(|_| !self.is_busy.load(Ordering::Relaxed))
    }

    /// Returns whether the job is a batch job, which prints its lines and ends.
    pub(super) fn is_batch(&self) -> bool {
        matches!(self.kind, Kind::Counter | Kind::Program)
    }

    /// Returns the job's name, unique in its world.
    pub(super) fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Witness => "witness",
            Kind::Counter => "counter",
            Kind::Program => "program",
        };
        format!("{kind}-{}-{}", self.place, self.number)
    }

    pub(super) fn request(&self, program: &Path, gateways: &[String]) -> Result<Submission> {
        let common = Submission {
            name: Some(self.name().parse()?),
            image: Some("dir:/".parse()?),
            mem_gb: Some(0.5),
            // One in three can be recovered from a snapshot.
            snapshot_interval: self.place.is_multiple_of(3).then_some(Duration::from_secs(15)),
            ..Submission::default()
        };
        Ok(match self.kind {
            Kind::Witness => Submission {
                command: vec![program.display().to_string(), format!("0.0.0.0:{PORT}"), self.name()],
                publish: vec![PORT.to_string().parse()?],
                gateway: Some(gateways[self.place % gateways.len()].parse()?),
                ..common
            },
            Kind::Counter => Submission {
                script: Some(format!(
                    "#!/bin/bash\nfor ((i = 0; i < {LINES}; i++)); do echo \"line $i\"; sleep 0.2; done\n"
                )),
                ..common
            },
            Kind::Program => Submission {
                command: [PYTHON, "-u", "-c", PROGRAM, &LINES.to_string()].map(str::to_owned).to_vec(),
                ..common
            },
        })
    }

    /// Checks that the record has every accepted operation and its outcome.
    pub(super) fn check_record(&self, view: &JobView) -> Result<()> {
        for made in &view.migrations {
            let told = match &made.outcome {
                Outcome::Running | Outcome::Succeeded => true,
                Outcome::RollingBack { reason, .. } | Outcome::Failed { reason, .. } => !reason.trim().is_empty(),
            };
            ensure!(told, "{}: a {} ended without saying how: `{}`", self.name(), made.kind, made.outcome);
        }
        for (kind, accepted) in &self.accepted {
            let recorded = view.migrations.iter().filter(|made| made.kind.to_string() == *kind).count();
            ensure!(
                recorded >= *accepted,
                "{}: {accepted} times {kind} was accepted, and {recorded} are on record",
                self.name()
            );
        }
        Ok(())
    }

    /// Checks the answers of a witness.
    pub(super) async fn check_answers(&self, client: &Client, view: &JobView) -> Result<()> {
        let Some(seen) = self.prober.as_ref().map(Prober::seen) else { return Ok(()) };
        if let Some(fault) = seen.fault {
            bail!("{}: {fault}", self.name());
        }
        if seen.setbacks.is_empty() {
            return Ok(());
        }
        // A recovery is on record before a client can observe its setback.
        let events = client.job_events(&view.id).await?;
        match unexplained(&seen.setbacks, &rewinds(view, &events)) {
            None => Ok(()),
            Some(setback) => bail!("{}: no recovery explains {setback:?}", self.name()),
        }
    }

    /// Checks the output of a batch job so far.
    pub(super) async fn check_output(&self, client: &Client, view: &JobView) -> Result<()> {
        let text = client.job_log_file(&view.id, &OutputFile::Stdout, 0).await?.text;
        let events = client.job_events(&view.id).await?;
        let ended = view.rc == "0";
        let lines: Vec<&str> = text.lines().collect();
        let line = |number: usize| format!("line {number}");
        let bad = lines.iter().find(|line| line.starts_with("BAD"));
        ensure!(bad.is_none(), "{}: {}", self.name(), bad.copied().unwrap_or_default());
        if rewinds(view, &events).is_empty() {
            // The last line may be incomplete.
            let whole = if text.ends_with('\n') { lines.len() } else { lines.len().saturating_sub(1) };
            let wrong = (0..whole).find(|number| lines[*number] != line(*number));
            ensure!(
                wrong.is_none(),
                "{}: its output is wrong at line {wrong:?} of {}:\n{text}",
                self.name(),
                lines.len()
            );
            ensure!(!ended || whole == LINES, "{}: it has ended after {whole} lines", self.name());
        } else if ended {
            let missing = (0..LINES).find(|number| !lines.contains(&line(*number).as_str()));
            ensure!(missing.is_none(), "{}: its output lacks line {missing:?}:\n{text}", self.name());
        }
        Ok(())
    }
}

/// Returns whether a migration of the job is under way.
pub(super) fn is_under_way(view: &JobView) -> bool {
    view.migrations.iter().any(|migration| !migration.outcome.is_final())
        || matches!(
            view.status,
            JobStatus::Resuming | JobStatus::Suspending | JobStatus::Floating | JobStatus::Capturing
        )
}

/// Returns the times of recoveries and of given-up destinations: a setback may follow each.
fn rewinds(view: &JobView, events: &[EventView]) -> Vec<Timestamp> {
    let recovered =
        view.migrations.iter().filter(|made| made.kind == MigrationKind::Recover).map(|made| made.start_time);
    let given_up =
        events.iter().filter(|view| matches!(view.event, Event::DestinationLost { .. })).map(|event| event.time);
    let mut all: Vec<Timestamp> = recovered.chain(given_up).collect();
    all.sort();
    all
}

/// Returns the first setback without a rewind of its own before it.
fn unexplained<'a>(setbacks: &'a [Setback], rewinds: &[Timestamp]) -> Option<&'a Setback> {
    let mut since = Timestamp::MIN;
    setbacks.iter().find(|setback| {
        let explained = rewinds.iter().any(|rewind| (since..=setback.at).contains(rewind));
        since = setback.at;
        !explained
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setback_needs_a_recovery_of_its_own() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let setbacks: Vec<Setback> = [10, 20].map(|second| Setback { at: at(second), before: 5, after: 3 }).into();
        assert_eq!(unexplained(&setbacks, &[at(5), at(15)]), None);
        assert_eq!(unexplained(&setbacks, &[at(5), at(6)]), Some(&setbacks[1]));
        assert_eq!(unexplained(&setbacks, &[at(12)]), Some(&setbacks[0]));
    }
}
