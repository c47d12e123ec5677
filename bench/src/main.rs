//! Measurements, and the demo's tour.
//!
//! `bench move` starts a Mooring of its own with two virtual hosts; `bench tour` uses one that runs already. Both move a JupyterLab
//! while a client counts, and print the same tables. Tables go to stdout, progress to stderr. The exit code is 0 only if the client
//! never noticed: nothing lost or repeated, the WebSocket never closed, every move succeeded.

mod goals;

use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use mooring_api::Client;
use mooring_api::view::LoginRequest;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::tour::{self, MoveReport, TourReport};
use mooring_testkit::world::{Plan, World, float_program};
use serde_json::json;

use crate::goals::Goals;

/// Measures Mooring.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// Move an idle JupyterLab between two virtual hosts while its client sends and receives all the time
    Move(Move),
    /// The same with a job that runs already
    Tour(Tour),
}

#[derive(Debug, Args)]
struct Move {
    /// How often the job is moved
    #[arg(long, default_value_t = 20)]
    moves: usize,
    /// Write the report to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program `float`; the one built beside this program when absent
    #[arg(long, value_name = "FILE")]
    float: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Tour {
    /// OpCenter's address
    #[arg(short, long)]
    address: String,
    /// The file with the password of `admin`
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The job, a JupyterLab
    #[arg(short, long)]
    job: String,
    /// The job's Access URL
    #[arg(long)]
    access_url: String,
    /// How often the job is moved
    #[arg(long, default_value_t = 4)]
    moves: usize,
    /// Write the report to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().measurement {
        Measurement::Move(arguments) => {
            let float = arguments.float.map_or_else(float_program, Ok)?;
            let world = World::start(Plan::new(float))?;
            let report = world.run_inside(async || {
                let client = world.client().await?;
                let notebook = Notebook::launch(&client, "bench").await?;
                tour(&client, &notebook.access_url, &notebook.job, arguments.moves).await
            })?;
            conclude(&report, arguments.json.as_deref(), Some(Goals::of(&report)))
        }
        Measurement::Tour(arguments) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let report = runtime.block_on(async {
                let client = log_in(&arguments).await?;
                tour(&client, &arguments.access_url, &arguments.job, arguments.moves).await
            })?;
            conclude(&report, arguments.json.as_deref(), None)
        }
    }
}

async fn log_in(arguments: &Tour) -> Result<Client> {
    let file = &arguments.password_file;
    let password = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?.trim().to_owned();
    let client = Client::new(&arguments.address)?;
    let session =
        client.login(&LoginRequest { username: "admin".into(), password }).await.context("log in as admin")?;
    Ok(client.with_token(session.token))
}

/// The tour, with a line on stderr for each move.
async fn tour(client: &Client, access_url: &str, job: &str, moves: usize) -> Result<TourReport> {
    let mut number = 0;
    let each = |made: &MoveReport| {
        number += 1;
        let MoveReport { from, to, outcome, seen, .. } = made;
        let gap = seen.longest_gap_seconds;
        let _ = writeln!(stderr(), "move {number} of {moves}, {from} -> {to}: {outcome}, longest gap {gap:.3} s");
    };
    tour::run(client, access_url, job, moves, each).await
}

/// Prints the report and writes it to `file`.
fn conclude(report: &TourReport, file: Option<&Path>, goals: Option<Goals>) -> Result<ExitCode> {
    let mut out = stdout().lock();
    writeln!(out, "{}\n\n{}\n\n{}", report.table(), report.distributions(), report.summary())?;
    if let Some(goals) = &goals {
        writeln!(out, "{goals}")?;
    }
    if let Some(file) = file {
        let all = json!({
            "report": report,
            "pauseSeconds": report.pauses(),
            "longestGapSeconds": report.longest_gaps(),
            "extraGapSeconds": report.extra_gaps(),
            "goals": goals,
            "clean": report.is_clean(),
        });
        fs::write(file, serde_json::to_vec_pretty(&all)?).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
