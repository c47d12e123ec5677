//! Measurements, and the demo's tour.
//!
//! `bench move` starts a Mooring of its own with two virtual hosts and measures the effect of a
//! migration on clients, part by part. `bench tour` uses a Mooring that already runs.
//!
//! Tables go to stdout, progress to stderr. The exit code is 0 only if clients noticed nothing: no
//! byte lost or repeated, no connection closed, and every migration successful.
//!
//! | part | what runs in the job | what its clients do |
//! |---|---|---|
//! | `jupyter` | an idle JupyterLab with one kernel | receive and send all the time over the kernel's WebSocket |
//! | `away` | a program that answers lines | one keeps sending while the job is away for long |
//! | `suspend` | an idle JupyterLab with one kernel, suspended and resumed | stay connected |
//! | `streams` | a program that sends and checks | eight exchange pseudo-random bytes at full speed |
//!
//! `bench drain` drains a host of idle JupyterLabs, each with a client, onto two others.
//! `bench recovery` cuts a host off from all others and measures when its job executes elsewhere.
//!
//! `bench soak` keeps thousands of clients connected for minutes while the job migrates and the
//! gateway's configuration changes. It samples the memory and descriptors of the gateway's process.
//!
//! `bench apps` runs the applications of `apps/rows` as jobs and makes `docs/applications.md`.

#![forbid(unsafe_code)]

mod applications;
mod goals;
mod parts;
mod plot;

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use mooring_api::Client;
use mooring_api::view::LoginRequest;
use mooring_testkit::world::{Plan, World, float_program};
use mooring_types::JobId;
use serde_json::{Map, json};

use crate::applications::Apps;
use crate::goals::Goal;
use crate::parts::soak::{self, Soak};
use crate::parts::{Outcome, away, drain, jupyter, recovery, streams, suspend};

/// Measures Mooring.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// Measure the effect of migrations between two virtual hosts on clients
    Move(Move),
    /// Drain a host with idle JupyterLabs onto two others
    Drain(Drain),
    /// Lose a host with an idle JupyterLab on it
    Recovery(Recovery),
    /// Migrate a JupyterLab that already runs, while a client counts
    Tour(Tour),
    /// Keep thousands of clients of a gateway connected for minutes, while their job migrates and
    /// its configuration changes
    Soak(Soak),
    /// Run applications of the field as jobs, each with a real client
    Apps(Apps),
}

#[derive(Debug, Args)]
struct Move {
    /// The number of migrations of each part
    #[arg(long, default_value_t = 20)]
    moves: usize,
    /// Measure this part alone; may be given several times
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// The seconds for which the job of the part `away` is away
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    away: f64,
    /// Write the report to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program `float`; the one built beside this program when absent
    #[arg(long, value_name = "FILE")]
    float: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Drain {
    /// The number of JupyterLabs on the host
    #[arg(long, value_name = "N", default_value_t = 8)]
    jobs: u32,
    /// The number of JupyterLabs that leave at once; may be given several times, for a comparison
    #[arg(long, value_name = "N")]
    at_once: Vec<usize>,
    /// Write the report to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program `float`; the one built beside this program when absent
    #[arg(long, value_name = "FILE")]
    float: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Recovery {
    /// The number of times that the host is lost
    #[arg(long, default_value_t = 5)]
    times: usize,
    /// Write the report to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program `float`; the one built beside this program when absent
    #[arg(long, value_name = "FILE")]
    float: Option<PathBuf>,
}

/// The measurements to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Jupyter,
    Away,
    Streams,
    Suspend,
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
    job: JobId,
    /// The job's Access URL
    #[arg(long)]
    access_url: String,
    /// The number of migrations
    #[arg(long, default_value_t = 4)]
    moves: usize,
    /// Write the report to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().measurement {
        Measurement::Apps(arguments) => applications::measure(arguments),
        Measurement::Move(arguments) => measure(arguments),
        Measurement::Soak(arguments) => {
            let world = World::start(Plan::new(arguments.float.clone().map_or_else(float_program, Ok)?))?;
            let outcome = world.run_inside(async || {
                let client = world.client().await?;
                soak::measure(&world, &client, &arguments).await
            })?;
            conclude(&[outcome], None)
        }
        Measurement::Drain(Drain { jobs, at_once, json, float }) => {
            let outcome = drain::measure(&float.map_or_else(float_program, Ok)?, jobs, &at_once)?;
            conclude(&[outcome], json.as_deref())
        }
        Measurement::Recovery(Recovery { times, json, float }) => {
            let world = World::start(Plan::new(float.map_or_else(float_program, Ok)?))?;
            let outcome = world.run_inside(async || recovery::measure(&world, &world.client().await?, times).await)?;
            conclude(&[outcome], json.as_deref())
        }
        Measurement::Tour(arguments) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let outcome = runtime.block_on(async {
                let client = log_in(&arguments).await?;
                jupyter::tour(&client, &arguments.access_url, &arguments.job, arguments.moves).await
            })?;
            // The tour shows a migration on the user's own machine; it is no measurement.
            conclude(&[Outcome { goals: Vec::new(), ..outcome }], arguments.json.as_deref())
        }
    }
}

/// Runs each part in a world of its own, so that none leaves anything to the next.
fn measure(arguments: Move) -> Result<ExitCode> {
    let float = arguments.float.map_or_else(float_program, Ok)?;
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut outcomes = Vec::new();
    for part in Part::value_variants().iter().copied().filter(|part| wanted(*part)) {
        let world = World::start(Plan::new(float.clone()))?;
        outcomes.push(world.run_inside(async || {
            let client = world.client().await?;
            match part {
                Part::Jupyter => jupyter::measure(&client, arguments.moves).await,
                Part::Away => away::measure(&world, &client, arguments.moves, arguments.away).await,
                Part::Streams => streams::measure(&world, &client, arguments.moves).await,
                Part::Suspend => suspend::measure(&client, arguments.moves).await,
            }
        })?);
    }
    conclude(&outcomes, arguments.json.as_deref())
}

async fn log_in(arguments: &Tour) -> Result<Client> {
    let file = &arguments.password_file;
    let password = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?.trim().to_owned();
    let client = Client::new(&arguments.address)?;
    let session =
        client.login(&LoginRequest { username: "admin".into(), password }).await.context("log in as admin")?;
    Ok(client.with_token(session.token))
}

/// Prints the outcomes and writes them to `file`.
fn conclude(outcomes: &[Outcome], file: Option<&Path>) -> Result<ExitCode> {
    let mut out = stdout().lock();
    for Outcome { text, .. } in outcomes {
        writeln!(out, "{text}\n")?;
    }
    let goals: Vec<&Goal> = outcomes.iter().flat_map(|outcome| &outcome.goals).collect();
    goals.iter().try_for_each(|goal| writeln!(out, "{goal}"))?;
    let clean = outcomes.iter().all(|outcome| outcome.clean);
    if let Some(file) = file {
        let parts: Map<_, _> = outcomes.iter().map(|outcome| (outcome.part.to_owned(), outcome.json.clone())).collect();
        let all = json!({ "parts": parts, "goals": goals, "clean": clean });
        fs::write(file, serde_json::to_vec_pretty(&all)?).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
