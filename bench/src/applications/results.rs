//! Results of rows, on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mooring_testkit::applications::row::{Group, Row};
use mooring_testkit::applications::run::Report;
use serde::{Deserialize, Serialize};

/// The outcome of a row, with the build that it ran with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    /// `debug` or `release`.
    pub(super) build: String,
    /// The kernel's release.
    pub(super) kernel: String,
    /// The outcome, as `outcome`.
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// The outcome of a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub(super) enum Outcome {
    /// The row ran.
    Ran { version: String, report: Report },
    /// Something that the row needs is not to be had.
    NotHere { reason: String },
    /// Mooring did not start.
    NotRun { reason: String },
}

/// The state of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Green,
    Red,
    NotHere,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Green => "green",
            Self::Red => "red",
            Self::NotHere => "not here",
        })
    }
}

impl Stored {
    pub(super) fn of(outcome: Outcome) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { build: build.to_owned(), kernel: kernel.trim().to_owned(), outcome }
    }

    pub(super) fn write(&self, state: &Path, name: &str) -> Result<()> {
        let file = path(state, name);
        let next = file.with_extension("next");
        fs::write(&next, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&next, &file).with_context(|| format!("write {}", file.display()))
    }

    pub(super) fn state(&self, row: &Row) -> State {
        match &self.outcome {
            Outcome::Ran { report, .. } if report.is_green(row) => State::Green,
            Outcome::Ran { .. } | Outcome::NotRun { .. } => State::Red,
            Outcome::NotHere { .. } => State::NotHere,
        }
    }

    /// The first thing that is wrong; empty for a green row.
    pub(super) fn trouble(&self, row: &Row) -> String {
        let report = match &self.outcome {
            Outcome::NotHere { reason } | Outcome::NotRun { reason } => return reason.clone(),
            Outcome::Ran { report, .. } => report,
        };
        if self.state(row) == State::Green {
            return String::new();
        }
        let wrong = report.steps.iter().find(|step| step.outcome != "succeeded");
        let wrong = wrong.map(|step| format!("{} {}", step.kind, step.outcome));
        let error = report.errors.first().map(|error| format!("{} errors, `{error}`", report.error_count));
        let fault = report.fault.clone().filter(|_| error.is_none());
        let all: Vec<String> = [wrong, error, fault].into_iter().flatten().collect();
        if all.is_empty() { "no last check".to_owned() } else { all.join("; ") }
    }

    pub(super) fn in_a_line(&self, row: &Row) -> String {
        format!("{} {}", self.state(row), self.trouble(row)).trim_end().to_owned()
    }
}

/// The file with a row's result.
pub(super) fn path(state: &Path, name: &str) -> PathBuf {
    state.join(format!("{name}.json"))
}

/// Reads the results that are there, by row.
pub(super) fn read(state: &Path, groups: &[Group]) -> Result<BTreeMap<String, Stored>> {
    let mut results = BTreeMap::new();
    for row in groups.iter().flat_map(|group| &group.rows) {
        let file = path(state, &row.name);
        if let Ok(text) = fs::read(&file) {
            let stored = serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
            results.insert(row.name.clone(), stored);
        }
    }
    Ok(results)
}
