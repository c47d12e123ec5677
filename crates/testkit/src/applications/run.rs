//! One row from its start to its last check.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use mooring_api::view::{DrainRequest, HostStatus, MigrationView};
use mooring_api::{Client, Submission};
use mooring_types::JobId;
use mooring_types::gateway::Protocol;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use serde::{Deserialize, Serialize};

use super::packages::Places;
use super::row::Row;
use super::watching::Watching;
use crate::job::{self, executing};
use crate::session::Session;
use crate::tour::move_once;
use crate::wait::wait_for;
use crate::world::World;

/// The port at which every application serves.
const PORT: u16 = 8080;
/// The number of migrations by request.
pub const MIGRATIONS: usize = 3;
/// The time for which a job stays suspended in a measurement.
pub const AWAY: Duration = Duration::from_secs(5);
/// Time limit of a suspend, a resume and a drain, each.
const LIMIT: Duration = Duration::from_secs(180);

/// The result of a row's run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The migrations, in order.
    pub steps: Vec<Step>,
    /// Operations that the client made.
    pub operations: usize,
    /// Errors that the client saw.
    pub error_count: usize,
    /// The first of them.
    pub errors: Vec<String>,
    /// The words of the client's last check.
    pub last_check: Option<String>,
    /// The reason for an early end.
    pub fault: Option<String>,
}

/// A migration, and what the client noticed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `migrate`, `suspend`, `resume` or `drain`.
    pub kind: String,
    /// `succeeded` or `failed: …`.
    pub outcome: String,
    pub pause_seconds: f64,
    pub bytes_moved: u64,
    /// The client's longest wait. That of a suspend ends with the resume.
    pub longest_wait_seconds: f64,
    /// Operations of the client from the begin of this step until it advanced again.
    pub operations: usize,
}

impl Step {
    fn new(kind: &str, made: &MigrationView) -> Self {
        Self {
            kind: kind.to_owned(),
            outcome: made.outcome.to_string(),
            pause_seconds: made.pause_seconds,
            bytes_moved: made.bytes_moved,
            longest_wait_seconds: 0.0,
            operations: 0,
        }
    }

    fn is_success(&self) -> bool {
        self.outcome == Outcome::Succeeded.to_string()
    }
}

impl Report {
    /// Returns whether every step ended as the row says, and the client saw no error.
    #[must_use]
    pub fn is_green(&self, row: &Row) -> bool {
        let kinds: Vec<&str> = self.steps.iter().map(|step| step.kind.as_str()).collect();
        let as_said = match &row.refused {
            None => {
                let wanted = [["migrate"; MIGRATIONS].as_slice(), &["suspend", "resume", "drain"]].concat();
                kinds == wanted && self.steps.iter().all(Step::is_success)
            }
            Some(words) => {
                let refused = |step: &Step| step.outcome.contains(words.as_str()) && step.pause_seconds == 0.0;
                kinds == ["migrate", "suspend"] && self.steps.iter().all(refused)
            }
        };
        as_said && self.fault.is_none() && self.error_count == 0 && self.last_check.is_some()
    }
}

/// Runs a row whose packages are installed, in a world of two hosts; inside of its namespace.
///
/// The job stays suspended for `away`. The messages of its client go to `log`.
pub async fn run(world: &World, client: &Client, places: &Places, row: &Row, away: Duration, log: &Path) -> Report {
    let mut report = Report::default();
    let run = async {
        let session = launch(client, places, row).await?;
        let watching = Watching::start(world, places, row, session.address, log)?;
        steps(client, &session.job, watching, row, away, &mut report).await?;
        client.job_cancel(&session.job).await?;
        Ok(())
    };
    let ended: Result<()> = run.await;
    report.fault = ended.err().map(|error| format!("{error:#}"));
    report
}

async fn steps(
    client: &Client,
    job: &JobId,
    watching: Watching,
    row: &Row,
    away: Duration,
    report: &mut Report,
) -> Result<()> {
    let outcome = async {
        // A server that does not start is noticed before its client gives up.
        let begins = tokio::select! {
            begins = watching.advances() => begins,
            Ok(ended) = job::ended(client, job, LIMIT) => Err(anyhow!("it is {}: {}", ended.status, ended.status_reason)),
        };
        if let Err(error) = begins {
            return Err(error.context(output(client, job).await));
        }
        match row.refused {
            None => moves(client, job, &watching, away, report).await,
            Some(_) => refused(client, job, &watching, report).await,
        }
    };
    let outcome = outcome.await;
    let total = watching.finish().await?;
    report.operations = total.operations;
    report.error_count = total.error_count;
    report.errors = total.errors;
    report.last_check = total.end;
    outcome
}

async fn launch(client: &Client, places: &Places, row: &Row) -> Result<Session> {
    let job = Submission {
        name: Some(row.name.parse()?),
        image: Some(format!("dir:{}", places.root(row).display()).parse()?),
        command: vec!["/bin/sh".into(), "-c".into(), places.script(row, &row.command)],
        mem_gb: Some(row.memory),
        publish: vec![PORT.to_string().parse()?],
        ..Submission::default()
    };
    match row.protocol {
        Protocol::Auto => Session::launch(client, job).await,
        protocol => Session::launch_speaking(client, job, protocol).await,
    }
}

/// The last lines of a job's output.
async fn output(client: &Client, job: &JobId) -> String {
    let text = client.job_log(job, 0).await.map(|log| log.text).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    format!("the job printed `{}`", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
}

/// Three migrations, a suspend, a resume and a drain.
async fn moves(client: &Client, job: &JobId, watching: &Watching, away: Duration, report: &mut Report) -> Result<()> {
    for _ in 0..MIGRATIONS {
        let began = Instant::now();
        let made = move_once(client, job).await?;
        advanced(watching, began, Step::new("migrate", &made), report).await?;
    }
    suspend_and_resume(client, job, watching, away, report).await?;
    let began = Instant::now();
    let made = drain(client, job).await?;
    advanced(watching, began, Step::new("drain", &made), report).await
}

/// A migration and a suspend that are refused.
async fn refused(client: &Client, job: &JobId, watching: &Watching, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let made = move_once(client, job).await?;
    advanced(watching, began, Step::new("migrate", &made), report).await?;
    let began = Instant::now();
    client.job_suspend(job).await?;
    let made = newest(client, job, MigrationKind::Suspend).await?;
    advanced(watching, began, Step::new("suspend", &made), report).await
}

async fn suspend_and_resume(
    client: &Client,
    job: &JobId,
    watching: &Watching,
    away: Duration,
    report: &mut Report,
) -> Result<()> {
    let began = Instant::now();
    client.job_suspend(job).await?;
    let made = newest(client, job, MigrationKind::Suspend).await?;
    let suspended = Step::new("suspend", &made);
    if !suspended.is_success() {
        return advanced(watching, began, suspended, report).await;
    }
    wait_for("the job in the capsule store", LIMIT, async || {
        Ok((client.job_get(job).await?.status == JobStatus::Suspended).then_some(()))
    })
    .await?;
    tokio::time::sleep(away).await;
    report.steps.push(suspended);
    client.job_resume(job).await?;
    let made = newest(client, job, MigrationKind::Resume).await?;
    executing(client, job, LIMIT).await?;
    advanced(watching, began, Step::new("resume", &made), report).await
}

/// Drains the host of the job.
async fn drain(client: &Client, job: &JobId) -> Result<MigrationView> {
    let host = client.job_get(job).await?.host_name;
    client.host_drain(&host.parse()?, &DrainRequest { within: String::new() }).await?;
    let drained = wait_for("the host to be drained", LIMIT, async || {
        let hosts = client.host_list().await?;
        Ok(hosts.iter().any(|known| known.name == host && known.status == HostStatus::Drained).then_some(()))
    });
    let outcome = drained.await;
    let made = client.job_get(job).await?.migrations.last().cloned().context("a record of the drain")?;
    client.host_undrain(&host.parse()?).await?;
    match made.outcome {
        Outcome::Succeeded => outcome.map(|()| made),
        _ => Ok(made),
    }
}

/// Waits for the end of the newest migration, which is of this kind.
async fn newest(client: &Client, job: &JobId, kind: MigrationKind) -> Result<MigrationView> {
    wait_for(&format!("the end of the {kind}"), LIMIT, async || {
        let view = client.job_get(job).await?;
        ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
        let ended = |made: &MigrationView| !matches!(made.outcome, Outcome::Running | Outcome::RollingBack { .. });
        Ok(view.migrations.last().filter(|made| made.kind == kind && ended(made)).cloned())
    })
    .await
}

/// Waits until the client has advanced after a step, and notes the step.
async fn advanced(watching: &Watching, began: Instant, mut step: Step, report: &mut Report) -> Result<()> {
    let advances = watching.advances().await;
    let since = watching.since(began);
    step.longest_wait_seconds = since.longest_wait.as_secs_f64();
    step.operations = since.operations;
    let kind = step.kind.clone();
    report.steps.push(step);
    advances.with_context(|| format!("after the {kind}"))
}
