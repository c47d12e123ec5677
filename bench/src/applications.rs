//! Applications of the field: each row's run, its result on disk, and what is made of the results.
//!
//! A result is `<state>/<row>.json`, beside the messages of the row's client. A row that has a
//! result is not run again unless it is named, so that a run goes on where it was stopped. Tables
//! and `docs/applications.md` are made from the results alone.

mod document;
mod results;

use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use mooring_testkit::applications::packages::Places;
use mooring_testkit::applications::row::{self, Group, Row};
use mooring_testkit::applications::run;
use mooring_testkit::world::{Plan, World, float_program};

use results::{Outcome, Stored};

/// The parameters of a run.
#[derive(Debug, Args)]
pub(crate) struct Apps {
    /// Run these rows, also those that have a result; all that have none when absent
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// The number of rows that run at once, each in a world of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    at_once: usize,
    /// Run nothing: print the table of the results and write it to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The directory of the results
    #[arg(long, value_name = "DIRECTORY", default_value = "target/apps")]
    state: PathBuf,
    /// The program `float`; the one built beside this program when absent
    #[arg(long, value_name = "FILE")]
    float: Option<PathBuf>,
}

pub(crate) fn measure(arguments: Apps) -> Result<ExitCode> {
    let groups = row::all()?;
    fs::create_dir_all(&arguments.state)?;
    if let Some(file) = &arguments.report {
        let results = results::read(&arguments.state, &groups)?;
        fs::write(file, document::markdown(&groups, &results)).with_context(|| format!("write {}", file.display()))?;
        return conclude(&groups, &arguments.state, &[]);
    }
    let rows = wanted(&groups, &arguments)?;
    let float = arguments.float.clone().map_or_else(float_program, Ok)?;
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..arguments.at_once.max(1) {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = Stored::of(one(&float, row, &arguments.state));
                    say(&format!("{}: {}", row.name, result.in_a_line(row)));
                    if let Err(error) = result.write(&arguments.state, &row.name) {
                        say(&format!("{}: {error:#}", row.name));
                    }
                }
            });
        }
    });
    conclude(&groups, &arguments.state, &rows)
}

/// The rows to run, in order.
fn wanted(groups: &[Group], arguments: &Apps) -> Result<Vec<Row>> {
    if !arguments.only.is_empty() {
        return row::of_names(&arguments.only);
    }
    let has_none = |row: &&Row| !results::path(&arguments.state, &row.name).exists();
    Ok(groups.iter().flat_map(|group| &group.rows).filter(has_none).cloned().collect())
}

/// Runs a row in a world of its own.
fn one(float: &Path, row: &Row, state: &Path) -> Outcome {
    let run = || {
        let files = state.join("files");
        let version = match Places::new(&files)?.install(row) {
            Ok(version) => version,
            Err(error) => return Ok(Outcome::NotHere { reason: format!("{error:#}") }),
        };
        say(&format!("{}: {version}", row.name));
        let world = World::start(Plan::new(float))?;
        let places = Places::new(&world.files())?;
        let log = state.join(format!("{}.log", row.name));
        let report = world.run_inside(async || {
            let client = world.client().await?;
            Ok(run::run(&world, &client, &places, row, run::AWAY, &log).await)
        })?;
        Ok(Outcome::Ran { version, report })
    };
    run().unwrap_or_else(|error: anyhow::Error| Outcome::NotRun { reason: format!("{error:#}") })
}

/// Prints the table. The exit code tells whether every row that ran is green, of these or of all.
fn conclude(groups: &[Group], state: &Path, rows: &[Row]) -> Result<ExitCode> {
    let results = results::read(state, groups)?;
    writeln!(stdout(), "{}", document::table(groups, &results))?;
    let ran = |row: &&Row| rows.is_empty() || rows.iter().any(|ran| ran.name == row.name);
    let mut asked = groups.iter().flat_map(|group| &group.rows).filter(ran);
    let is_fine = |row: &Row| results.get(&row.name).is_none_or(|result| result.state(row) != results::State::Red);
    Ok(if asked.all(is_fine) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(text: &str) {
    // Progress without a reader is lost on purpose.
    let _ = writeln!(stderr(), "{text}");
}
