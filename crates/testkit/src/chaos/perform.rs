//! The execution of actions, and the healing of those that last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_api::view::{JobView, MigrateRequest};
use mooring_api::{Client, ClientError, ErrorCode};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use nix::sys::signal::Signal;

use super::action::{Action, Lasting, Victim};
use super::log::Log;
use super::run::Run;
use super::store::Store;
use super::subject::is_under_way;

/// The number of failpoints that may be set at a time.
const FAILPOINTS_MAX: usize = 4;
/// Time limit of the suspend, and of the failing resume, of a job whose capsule is damaged.
const DAMAGE_LIMIT: Duration = Duration::from_secs(150);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The number of resumes that may fail for another reason than the damaged capsule.
const RESUME_ATTEMPTS: usize = 5;

impl Run<'_> {
    /// Performs an action, or notes in the log why not.
    pub(super) async fn perform(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Migrate(place) => {
                self.ask(*place, "migrate", async |client, job| {
                    client.job_migrate(&job, &MigrateRequest::default()).await
                })
                .await
            }
            Action::Suspend(place) => {
                self.ask(*place, "suspend", async |client, job| client.job_suspend(&job).await).await
            }
            Action::Resume(place) => self.ask(*place, "", async |client, job| client.job_resume(&job).await).await,
            Action::Snapshot(place) => {
                self.ask(*place, "snapshot", async |client, job| client.job_snapshot(&job).await).await
            }
            Action::Replace(place) => self.replace(*place).await,
            Action::Damage(place) => {
                self.damage(*place);
                Ok(())
            }
            Action::Kill(victim) => {
                self.kill(*victim);
                Ok(())
            }
            Action::Fail(phase) => self.set_failpoint(&phase.failpoint(), "error"),
            Action::KillIn(phase) => self.set_failpoint(&phase.failpoint(), "kill"),
            Action::Store(trouble, time) => {
                let is_used = self.lasting.iter().any(|(_, known)| matches!(known, Lasting::Store(_)));
                if is_used || !self.damaging.is_empty() {
                    self.log.note("  not now");
                    return Ok(());
                }
                self.store.disturb(*trouble)?;
                self.lasting.push((Instant::now() + *time, Lasting::Store(*trouble)));
                Ok(())
            }
            Action::Cut(host, time) => {
                if self.lasting.iter().any(|(_, known)| matches!(known, Lasting::Cut(_))) {
                    self.log.note("  not now");
                    return Ok(());
                }
                self.world.cut_off(&format!("host-{host}"))?;
                self.lasting.push((Instant::now() + *time, Lasting::Cut(*host)));
                Ok(())
            }
        }
    }

    /// Ends the disturbances that last no longer than `until`.
    pub(super) fn heal(&mut self, until: Instant) -> Result<()> {
        let (due, rest) = self.lasting.drain(..).partition(|(at, _)| *at <= until);
        self.lasting = rest;
        for (_, lasting) in Vec::<(Instant, Lasting)>::from_iter(due) {
            self.log.note(format!("healed: {lasting:?}"));
            match lasting {
                Lasting::Store(trouble) => self.store.heal(trouble)?,
                Lasting::Cut(host) => self.world.join_again(&format!("host-{host}"))?,
            }
        }
        Ok(())
    }

    /// Removes the failpoints that have not fired.
    pub(super) fn clear_failpoints(&self) -> Result<()> {
        Ok(std::fs::write(self.world.files().with_file_name("failpoints"), "")?)
    }

    /// Requests an operation on a job. A refusal is no fault.
    async fn ask(
        &mut self,
        place: usize,
        kind: &'static str,
        request: impl AsyncFnOnce(Client, JobId) -> Result<JobView, ClientError>,
    ) -> Result<()> {
        let Some(job) = self.subjects[place].available() else {
            self.log.note("  not now");
            return Ok(());
        };
        let answer = request(self.client.clone(), job.clone()).await;
        if answer.is_ok() && !kind.is_empty() {
            *self.subjects[place].accepted.entry(kind).or_default() += 1;
        }
        answered(&self.log, &job, answer)
    }

    async fn replace(&mut self, place: usize) -> Result<()> {
        let subject = &self.subjects[place];
        let Some(job) = subject.available() else {
            self.log.note("  not now");
            return Ok(());
        };
        let answer = self.client.job_cancel(&job).await;
        answered(&self.log, &job, answer)?;
        // The request may be lost: each check repeats it until the job is cancelled.
        let next = subject.next();
        self.past.push(job);
        self.subjects[place] = next;
        Ok(())
    }

    fn damage(&mut self, place: usize) {
        let subject = &self.subjects[place];
        let is_store_well = !self.lasting.iter().any(|(_, known)| matches!(known, Lasting::Store(_)));
        let Some(job) = subject.available().filter(|_| is_store_well) else {
            self.log.note("  not now");
            return;
        };
        subject.is_busy.store(true, Ordering::Relaxed);
        let (client, store, log, is_busy) =
            (self.client.clone(), self.store.clone(), self.log.clone(), subject.is_busy.clone());
        self.damaging.spawn(async move {
            let outcome = damage(&client, &store, &log, &job).await;
            release(&is_busy);
            outcome.with_context(|| format!("job {job}, whose capsule was damaged"))
        });
    }

    fn kill(&mut self, victim: Victim) {
        let mut found = match victim {
            Victim::OpCenter => self.world.daemons(&["server", "opcenter"]),
            Victim::Agent(host) => self.world.daemons(&["server", "agent", &format!("host-{host}")]),
            Victim::GatewaysAgent => self.world.daemons(&["server", "agent", "gateways"]),
            Victim::Gateway(_) => self.world.daemons(&["server", "gateway"]),
        };
        if let Victim::Gateway(index) = victim {
            found.sort_by_key(|daemon| daemon.pid);
            found = found.into_iter().cycle().skip(index).take(1).collect();
        }
        let killed: Vec<i32> =
            found.iter().filter(|daemon| daemon.signal(Signal::SIGKILL).is_ok()).map(|daemon| daemon.pid).collect();
        self.log.note(format!("  processes {killed:?}"));
    }

    fn set_failpoint(&self, name: &str, action: &str) -> Result<()> {
        if self.world.failpoints_left().len() >= FAILPOINTS_MAX {
            self.log.note("  not now");
            return Ok(());
        }
        self.world.failpoint_set(name, action)
    }
}

/// Notes an answer. A typed refusal or no answer at all is expected, any other error a fault.
pub(super) fn answered<T>(log: &Log, job: &JobId, answer: Result<T, ClientError>) -> Result<()> {
    let Err(error) = answer else {
        log.note(format!("  {job}: accepted"));
        return Ok(());
    };
    let is_injected = error.to_string().contains("failpoint");
    let is_fault = match error.code() {
        None | Some(ErrorCode::WrongStatus | ErrorCode::ResourceExhausted | ErrorCode::Unavailable) => false,
        Some(_) => !is_injected,
    };
    log.note(format!("  {job}: {error}"));
    if is_fault { Err(error).with_context(|| format!("a request for job {job}")) } else { Ok(()) }
}

fn release(is_busy: &Arc<AtomicBool>) {
    is_busy.store(false, Ordering::Relaxed);
}

/// Suspends a job, damages its capsule, and checks that the job stays suspended until the repair.
async fn damage(client: &Client, store: &Store, log: &Log, job: &JobId) -> Result<()> {
    // The request may be lost or refused: only the status afterwards counts.
    drop(client.job_suspend(job).await);
    let rests = |view: &JobView| {
        let rests = matches!(view.status, JobStatus::Suspended | JobStatus::Executing) || view.status.is_final();
        rests && !is_under_way(view)
    };
    let settled = once(client, job, "to be at rest", rests).await?;
    if settled.status != JobStatus::Suspended {
        log.note(format!("  {job} is {} and is not damaged", settled.status));
        return Ok(());
    }
    // The capsule before it may still be there for a moment.
    let only = || {
        store.of_job(job.as_str()).ok().filter(|capsules| capsules.len() == 1).and_then(|mut capsules| capsules.pop())
    };
    once(client, job, "to have one capsule", |_| only().is_some()).await?;
    let flipped = only().context("it has no capsule any more")?.flip()?;
    log.note(format!("  {job} is damaged at {}", flipped.place()));
    let tried = try_to_resume(client, log, job, settled.migrations.len()).await;
    flipped.restore()?;
    tried?;
    let mut repaired = settled;
    for _ in 0..RESUME_ATTEMPTS * 10 {
        // The answer may be lost: only the status afterwards counts.
        drop(client.job_resume(job).await);
        tokio::time::sleep(POLL_INTERVAL * 5).await;
        repaired = client.job_get(job).await.unwrap_or(repaired);
        ensure!(!repaired.status.is_final(), "it is {}: {}", repaired.status, repaired.status_reason);
        if repaired.status != JobStatus::Suspended {
            return Ok(());
        }
    }
    bail!("it is not resumed after it was repaired")
}

/// Resumes a job until that fails because of its damaged capsule. After each failure the job has
/// to be suspended.
async fn try_to_resume(client: &Client, log: &Log, job: &JobId, mut known: usize) -> Result<()> {
    for _ in 0..RESUME_ATTEMPTS {
        let asked = client.job_resume(job).await;
        if asked.is_err() {
            tokio::time::sleep(POLL_INTERVAL * 5).await;
            // Either the request or only its answer was lost.
            let heard = |view: &JobView| view.status != JobStatus::Suspended || view.migrations.len() > known;
            if !client.job_get(job).await.is_ok_and(|view| heard(&view)) {
                continue;
            }
        }
        let failed = |view: &JobView| view.status.is_final() || view.migrations.len() > known && !is_under_way(view);
        let after = once(client, job, "to be resumed or not", failed).await?;
        let told = after.migrations.last().map(|migration| migration.outcome.to_string()).unwrap_or_default();
        log.note(format!("  {job} is {}; its resume {told}", after.status));
        ensure!(after.status == JobStatus::Suspended, "it is {} with a damaged capsule: {told}", after.status);
        if told.contains("damaged") {
            return Ok(());
        }
        known = after.migrations.len();
    }
    log.note(format!("  {job}: what failed was something else each time"));
    Ok(())
}

/// Waits until `is_so` holds for a job. OpCenter may be away meanwhile.
async fn once(client: &Client, job: &JobId, what: &str, is_so: impl Fn(&JobView) -> bool) -> Result<JobView> {
    let began = Instant::now();
    while began.elapsed() < DAMAGE_LIMIT {
        if let Ok(view) = client.job_get(job).await
            && is_so(&view)
        {
            return Ok(view);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    bail!("it was {what}, and is not after {} s", DAMAGE_LIMIT.as_secs())
}
