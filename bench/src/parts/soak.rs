//! A gateway under every load at once, for minutes.
//!
//! Thousands of WebSockets, a steady rate of requests, a migration every few seconds, a change of
//! its configuration every second. Nothing may be lost, each answer is one of the declared ones,
//! and the gateway's memory and descriptors may not grow.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use mooring_api::view::ConnectRequest;
use mooring_api::{Client, Submission};
use mooring_testkit::distribution::Distribution;
use mooring_testkit::echo;
use mooring_testkit::load::{Load, Plan, Seen};
use mooring_testkit::session::Session;
use mooring_testkit::tour::move_once;
use mooring_testkit::world::World;
use serde::Serialize;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Outcome, progress};
use crate::plot::{self, Panel};

const SAMPLE: Duration = Duration::from_secs(5);
const CHANGE: Duration = Duration::from_secs(1);
const MOVE: Duration = Duration::from_secs(5);
/// The shortest stay of the job on a host; connections of clients that waited for it are closed by
/// then.
const REST: Duration = Duration::from_secs(3);
const SAYS_EVERY: Duration = Duration::from_secs(5);
/// The allowed growth of a figure's minimum from the second to the last fifth: a share, and an
/// absolute amount.
const GROWTH: f64 = 0.1;
const MEMORY_SLACK: f64 = 4.0;
const DESCRIPTORS_SLACK: f64 = 64.0;
/// The ports on which the job listens; the second one is connected and disconnected all the time.
const PORTS: [u16; 2] = [7000, 7001];

/// The load, and its duration.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// The duration
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The number of WebSockets
    #[arg(long, default_value_t = 2000)]
    websockets: usize,
    /// The number of requests a second
    #[arg(long, default_value_t = 200)]
    requests: u32,
    /// The file for the picture
    #[arg(long, value_name = "FILE", default_value = "target/soak.svg")]
    svg: PathBuf,
    /// The program `float`; the one built beside this program when absent
    #[arg(long, value_name = "FILE")]
    pub(crate) float: Option<PathBuf>,
}

/// A sample of the gateway's process, and the observations of a client since the last sample.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    at_seconds: f64,
    memory_mb: f64,
    descriptors: f64,
    slowest_request_seconds: f64,
}

/// The actions on the gateway and the job.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    /// The moments at which migrations began, in seconds.
    moves: Vec<f64>,
    pauses_seconds: Vec<f64>,
    /// Memory (MB) and descriptors of the gateway's process right before each migration.
    calm: Vec<(f64, f64)>,
    changes: u64,
    faults: Vec<String>,
}

/// Runs the load.
pub(crate) async fn measure(world: &World, client: &Client, soak: &Soak) -> Result<Outcome> {
    let program = world.bring(&echo::program()?)?;
    let job = Submission {
        name: Some("soak".parse()?),
        image: Some("dir:/".parse()?),
        command: [program.display().to_string()]
            .into_iter()
            .chain(PORTS.iter().map(|port| format!("0.0.0.0:{port}")))
            .collect(),
        publish: PORTS.iter().map(|port| port.to_string().parse()).collect::<Result<_, _>>()?,
        ..Submission::default()
    };
    let session = Session::launch(client, job).await?;
    let gateway = world.daemons(&["server", "gateway"]);
    ensure!(gateway.len() == 1, "{} processes are the gateway's", gateway.len());
    let plan = Plan { websockets: soak.websockets, says_every: SAYS_EVERY, requests_a_second: soak.requests };
    let load = Load::start(session.address, plan).await.context("open the WebSockets")?;
    progress(&format!("soak: {} WebSockets are open", soak.websockets));

    let (stop, began) = (CancellationToken::new(), Instant::now());
    let limit = Duration::from_secs_f64(soak.minutes * 60.0);
    let sampling = async {
        let samples = sample(gateway[0].pid, &load, began, limit).await;
        stop.cancel();
        samples
    };
    let (samples, moved, changed) = tokio::join!(
        sampling,
        keep_moving(client, &session, gateway[0].pid, began, &stop),
        keep_changing(client, &session, &stop)
    );
    let samples = samples?;
    let seen = load.finish().await;
    let done = Done { changes: changed.changes, faults: [moved.faults, changed.faults].concat(), ..moved };
    write_picture(&soak.svg, &samples, &done)?;
    Ok(outcome(soak, &samples, &seen, &done, gateway[0].runs()))
}

async fn sample(pid: i32, load: &Load, began: Instant, limit: Duration) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval(SAMPLE);
    while began.elapsed() < limit {
        ticks.tick().await;
        let (memory_mb, descriptors) = taken(pid)?;
        let (at_seconds, slowest_request_seconds) = (began.elapsed().as_secs_f64(), load.slowest().as_secs_f64());
        samples.push(Sample { at_seconds, memory_mb, descriptors, slowest_request_seconds });
        progress(&format!("soak: {at_seconds:.0} s, {memory_mb:.1} MB, {descriptors} descriptors; {}", load.seen()));
    }
    Ok(samples)
}

/// Returns the resident memory in MB and the open descriptors of a process.
fn taken(pid: i32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the gateway's process has ended")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let kilobytes: f64 = resident.context("a process without memory")?.parse()?;
    Ok((kilobytes / 1024.0, fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64))
}

async fn keep_moving(
    client: &Client,
    session: &Session,
    gateway: i32,
    began: Instant,
    stop: &CancellationToken,
) -> Done {
    let mut done = Done::default();
    let mut ticks = tokio::time::interval(MOVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return done,
            _ = ticks.tick() => {}
        }
        // The end of the process is reported elsewhere.
        done.calm.extend(taken(gateway));
        done.moves.push(began.elapsed().as_secs_f64());
        match move_once(client, &session.job).await {
            Ok(made) if made.outcome.is_success() => done.pauses_seconds.push(made.pause_seconds),
            Ok(made) => done.faults.push(format!("a migration {}", made.outcome)),
            Err(error) => done.faults.push(format!("a move: {error:#}")),
        }
        tokio::select! {
            () = stop.cancelled() => return done,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// Connects and disconnects the port without clients.
async fn keep_changing(client: &Client, session: &Session, stop: &CancellationToken) -> Done {
    let mut done = Done::default();
    let mut ticks = tokio::time::interval(CHANGE);
    let port = PORTS[1];
    let mut connected = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return done,
            _ = ticks.tick() => {}
        }
        let changed = if connected {
            client.gateway_disconnect(&session.gateway.clone().into(), &session.job, Some(port)).await
        } else {
            let request = ConnectRequest { target_ports: vec![port], ..ConnectRequest::new(session.job.clone()) };
            client.gateway_connect(&session.gateway.clone().into(), &request).await.map(drop)
        };
        match changed {
            Ok(()) => connected = !connected,
            Err(error) => done.faults.push(format!("a change: {error}")),
        }
        done.changes += 1;
    }
}

fn outcome(soak: &Soak, samples: &[Sample], seen: &Seen, done: &Done, lived: bool) -> Outcome {
    let rows = [
        Row::of("memory, MB", done.calm.iter().map(|(memory, _)| *memory), MEMORY_SLACK),
        Row::of("descriptors", done.calm.iter().map(|(_, descriptors)| *descriptors), DESCRIPTORS_SLACK),
    ];
    let flat = rows.iter().all(Row::is_flat);
    let slowest = samples.iter().map(|sample| sample.slowest_request_seconds).fold(0.0, f64::max);
    let pauses = Distribution::of(done.pauses_seconds.iter().copied());
    let (usual, longest) = pauses.map_or((0.0, 0.0), |pauses| (pauses.median, pauses.max));
    let mut text = format!(
        "{} WebSockets and {} requests a second for {} min: {seen}\n{} of {} migrations succeeded, with pauses of {usual:.2} s (median) to {longest:.2} s; {} changes; the slowest request took {slowest:.2} s\n\n{:<14}{:>14}{:>14}{:>8}",
        soak.websockets,
        soak.requests,
        soak.minutes,
        done.pauses_seconds.len(),
        done.moves.len(),
        done.changes,
        "the gateway",
        "second fifth",
        "last fifth",
        "flat",
    );
    for row in &rows {
        let (Row { what, before, after, .. }, flat) = (row, if row.is_flat() { "yes" } else { "no" });
        text += &format!("\n{what:<14}{before:>14.1}{after:>14.1}{flat:>8}");
    }
    for fault in seen.first_faults.iter().chain(&done.faults) {
        text += &format!("\nfault: {fault}");
    }
    if !lived {
        text += "\nfault: the gateway's process has ended";
    }
    Outcome {
        part: "soak",
        text,
        json: json!({ "samples": samples, "seen": seen, "done": done, "flat": flat }),
        goals: Vec::new(),
        clean: seen.is_clean() && done.faults.is_empty() && !done.pauses_seconds.is_empty() && flat && lived,
    }
}

/// A figure early and late in the run.
struct Row {
    what: &'static str,
    before: f64,
    after: f64,
    slack: f64,
}

impl Row {
    fn of(what: &'static str, figures: impl Iterator<Item = f64>, slack: f64) -> Self {
        let figures: Vec<f64> = figures.collect();
        let fifth = |number: usize| least(&figures[figures.len() * (number - 1) / 5..figures.len() * number / 5]);
        Self { what, before: fifth(2), after: fifth(5), slack }
    }

    fn is_flat(&self) -> bool {
        self.before > 0.0 && self.after <= self.before * (1.0 + GROWTH) + self.slack
    }
}

/// Returns the minimum of a fifth, or 0 without samples, which never counts as flat.
///
/// The minimum, since requests that wait while the job is away add to the others.
fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().reduce(f64::min).unwrap_or(0.0)
}

fn write_picture(file: &Path, samples: &[Sample], done: &Done) -> Result<()> {
    let panel = |title: &str, figure: fn(&Sample) -> f64| Panel {
        title: title.into(),
        points: samples.iter().map(|sample| (sample.at_seconds, figure(sample))).collect(),
    };
    let panels = [
        panel("memory of the gateway's process, MB (grey: migrations)", |sample| sample.memory_mb),
        panel("descriptors of the gateway's process", |sample| sample.descriptors),
        panel("slowest request, s", |sample| sample.slowest_request_seconds),
    ];
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    fs::write(file, plot::svg(&panels, &done.moves)).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(figures: impl Iterator<Item = f64>) -> Row {
        Row::of("memory, MB", figures, MEMORY_SLACK)
    }

    #[test]
    fn growth_is_told_from_a_start_that_takes_its_time() {
        assert!(row((0..120).map(|at| if at < 20 { f64::from(at + 1) } else { 100.0 })).is_flat());
        assert!(row((0..120).map(|at| if at % 5 == 0 { 100.0 } else { 100.0 + f64::from(at) })).is_flat());
        assert!(!row((0..120).map(|at| 100.0 + f64::from(at))).is_flat());
        assert!(!row(std::iter::empty()).is_flat());
    }
}
