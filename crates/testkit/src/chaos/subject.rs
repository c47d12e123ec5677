//! A job that chaos happens to, and what has to hold for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use mooring_api::Client;
use mooring_api::view::{EventView, JobView, SubmitRequest};
use mooring_types::Timestamp;
use mooring_types::job::OutputFile;

use super::pulse::{Pulse, Setback};

/// The port inside a witness.
pub(super) const PORT: u16 = 9000;
/// How many lines a batch job writes, five a second.
const LINES: usize = 200;
/// How an event tells that connections of a job that goes on have seen more of it.
const GIVEN_UP: &str = "is given up";

/// What kind of job is in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A witness behind a gateway.
    Witness,
    /// A script that counts, and ends.
    Counter,
}

/// A job in its place.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    place: usize,
    /// How many jobs were in this place before.
    number: usize,
    /// Once it is known that it was taken.
    pub(super) id: Option<String>,
    pub(super) pulse: Option<Pulse>,
    /// Whether it is damaged just now, and to be left alone.
    pub(super) is_busy: Arc<AtomicBool>,
    /// How many operations of each kind were accepted.
    pub(super) accepted: BTreeMap<&'static str, usize>,
}

impl Subject {
    pub(super) fn new(kind: Kind, place: usize, number: usize) -> Self {
        let (is_busy, accepted) = (Arc::default(), BTreeMap::new());
        Self { kind, place, number, id: None, pulse: None, is_busy, accepted }
    }

    /// The next job in the same place.
    pub(super) fn next(&self) -> Self {
        Self::new(self.kind, self.place, self.number + 1)
    }

    /// Its id, if it has one and is not to be left alone.
    pub(super) fn at_hand(&self) -> Option<String> {
        self.id.clone().filter(|_| !self.is_busy.load(Ordering::Relaxed))
    }

    /// Its name, which no other job of its world has.
    pub(super) fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Witness => "witness",
            Kind::Counter => "counter",
        };
        format!("{kind}-{}-{}", self.place, self.number)
    }

    pub(super) fn request(&self, program: &Path, gateways: &[String]) -> SubmitRequest {
        let common = SubmitRequest {
            name: self.name(),
            image: "dir:/".into(),
            mem_gb: Some(0.5),
            // Some have capsules from which they can be recovered, and some have none.
            snapshot_interval: if self.place.is_multiple_of(3) { "15s".into() } else { String::new() },
            ..SubmitRequest::default()
        };
        match self.kind {
            Kind::Witness => SubmitRequest {
                command: vec![program.display().to_string(), format!("0.0.0.0:{PORT}"), self.name()],
                publish: vec![PORT.to_string()],
                gateway: gateways[self.place % gateways.len()].clone(),
                ..common
            },
            Kind::Counter => SubmitRequest {
                script: format!("#!/bin/bash\nfor ((i = 0; i < {LINES}; i++)); do echo \"line $i\"; sleep 0.2; done\n"),
                ..common
            },
        }
    }

    /// Whether what its record says of its operations is whole.
    pub(super) fn check_record(&self, view: &JobView) -> Result<()> {
        for made in &view.migrations {
            let told = match made.outcome.split_once(": ") {
                None => made.outcome == "running" || made.outcome == "succeeded",
                Some(("failed" | "undoing", why)) => {
                    why.split_once(": ").is_some_and(|(phase, reason)| !phase.is_empty() && !reason.trim().is_empty())
                }
                Some(_) => false,
            };
            ensure!(told, "{}: a {} ended without saying how: `{}`", self.name(), made.kind, made.outcome);
        }
        for (kind, accepted) in &self.accepted {
            let recorded = view.migrations.iter().filter(|made| made.kind == *kind).count();
            ensure!(
                recorded >= *accepted,
                "{}: {accepted} times {kind} was accepted, and {recorded} are on record",
                self.name()
            );
        }
        Ok(())
    }

    /// Whether the answers that came are possible.
    pub(super) async fn check_answers(&self, client: &Client, view: &JobView) -> Result<()> {
        let Some(seen) = self.pulse.as_ref().map(Pulse::seen) else { return Ok(()) };
        if let Some(fault) = seen.fault {
            bail!("{}: {fault}", self.name());
        }
        if seen.setbacks.is_empty() {
            return Ok(());
        }
        // What explains a setback is on record before the setback can be seen.
        let events = client.job_events(view.id.as_str()).await?;
        match unexplained(&seen.setbacks, &rewinds(view, &events)) {
            None => Ok(()),
            Some(setback) => bail!("{}: no recovery explains {setback:?}", self.name()),
        }
    }

    /// Whether a batch job's output so far is what it has to be.
    pub(super) async fn check_output(&self, client: &Client, view: &JobView) -> Result<()> {
        let text = client.job_log_file(view.id.as_str(), &OutputFile::Stdout, 0).await?.text;
        let events = client.job_events(view.id.as_str()).await?;
        let ended = view.rc == "0";
        let lines: Vec<&str> = text.lines().collect();
        let line = |number: usize| format!("line {number}");
        if rewinds(view, &events).is_empty() {
            // The last line may be on its way.
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

/// When a job may have gone back to what it was before: recoveries, and moves whose destination was given up.
fn rewinds(view: &JobView, events: &[EventView]) -> Vec<Timestamp> {
    let recovered = view.migrations.iter().filter(|made| made.kind == "recover").map(|made| made.start_time);
    let given_up = events.iter().filter(|event| event.message.contains(GIVEN_UP)).map(|event| event.time);
    let mut all: Vec<Timestamp> = recovered.chain(given_up).collect();
    all.sort();
    all
}

/// The first setback without a rewind of its own before it.
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
