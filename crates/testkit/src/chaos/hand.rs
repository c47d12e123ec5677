//! The hand that does deeds, and undoes those that last for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_api::view::{JobView, MigrateRequest};
use mooring_api::{Client, ClientError, ErrorCode};
use mooring_types::job::JobStatus;
use nix::sys::signal::Signal;

use super::deed::{Deed, Trouble, Victim};
use super::diary::Diary;
use super::run::Run;
use super::store::Store;

/// How many failpoints may wait to be passed.
const FAILPOINTS: usize = 4;
/// How long a job may take to be suspended, or to fail to be resumed, whatever else happens.
const WITHIN: Duration = Duration::from_secs(150);
const BETWEEN: Duration = Duration::from_millis(100);
/// How often the resume of a damaged job may fail for another reason than its damage.
const TRIES: usize = 5;

/// What is undone after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    Store(Trouble),
    Cut(u32),
}

impl Run<'_> {
    /// Does it, or notes why it is not done.
    pub(super) async fn perform(&mut self, deed: &Deed) -> Result<()> {
        match deed {
            Deed::Migrate(place) => {
                self.ask(*place, "migrate", async |client, job| {
                    client.job_migrate(&job, &MigrateRequest::default()).await
                })
                .await
            }
            Deed::Suspend(place) => {
                self.ask(*place, "suspend", async |client, job| client.job_suspend(&job).await).await
            }
            Deed::Resume(place) => self.ask(*place, "", async |client, job| client.job_resume(&job).await).await,
            Deed::Snapshot(place) => {
                self.ask(*place, "snapshot", async |client, job| client.job_snapshot(&job).await).await
            }
            Deed::Replace(place) => self.replace(*place).await,
            Deed::Damage(place) => {
                self.damage(*place);
                Ok(())
            }
            Deed::Kill(victim) => {
                self.kill(*victim);
                Ok(())
            }
            Deed::Fail(phase) => self.set_failpoint(&phase.failpoint(), "error"),
            Deed::KillIn(phase) => self.set_failpoint(&phase.failpoint(), "kill"),
            Deed::Store(trouble, time) => {
                let is_used = self.lasting.iter().any(|(_, known)| matches!(known, Lasting::Store(_)));
                if is_used || !self.damaging.is_empty() {
                    self.diary.note("  not now");
                    return Ok(());
                }
                self.store.disturb(*trouble)?;
                self.lasting.push((Instant::now() + *time, Lasting::Store(*trouble)));
                Ok(())
            }
            Deed::Cut(host, time) => {
                if self.lasting.iter().any(|(_, known)| matches!(known, Lasting::Cut(_))) {
                    self.diary.note("  not now");
                    return Ok(());
                }
                self.world.cut_off(&format!("host-{host}"))?;
                self.lasting.push((Instant::now() + *time, Lasting::Cut(*host)));
                Ok(())
            }
        }
    }

    /// Undoes what has lasted until then.
    pub(super) fn heal(&mut self, until: Instant) -> Result<()> {
        let (due, rest) = self.lasting.drain(..).partition(|(at, _)| *at <= until);
        self.lasting = rest;
        for (_, lasting) in Vec::<(Instant, Lasting)>::from_iter(due) {
            self.diary.note(format!("healed: {lasting:?}"));
            match lasting {
                Lasting::Store(trouble) => self.store.heal(trouble)?,
                Lasting::Cut(host) => self.world.join_again(&format!("host-{host}"))?,
            }
        }
        Ok(())
    }

    /// Takes back the failpoints that nobody has passed.
    pub(super) fn clear_failpoints(&self) -> Result<()> {
        Ok(std::fs::write(self.world.files().with_file_name("failpoints"), "")?)
    }

    /// Asks for an operation on a job. That it is refused is no fault.
    async fn ask(
        &mut self,
        place: usize,
        kind: &'static str,
        request: impl AsyncFnOnce(Client, String) -> Result<JobView, ClientError>,
    ) -> Result<()> {
        let Some(job) = self.subjects[place].at_hand() else {
            self.diary.note("  not now");
            return Ok(());
        };
        let answer = request(self.client.clone(), job.clone()).await;
        if answer.is_ok() && !kind.is_empty() {
            *self.subjects[place].accepted.entry(kind).or_default() += 1;
        }
        answered(&self.diary, &job, answer)
    }

    async fn replace(&mut self, place: usize) -> Result<()> {
        let subject = &self.subjects[place];
        let Some(job) = subject.at_hand() else {
            self.diary.note("  not now");
            return Ok(());
        };
        let answer = self.client.job_cancel(&job).await;
        answered(&self.diary, &job, answer)?;
        // Whether it was heard or not: it is asked for again until the job is cancelled.
        let next = subject.next();
        self.past.push(job);
        self.subjects[place] = next;
        Ok(())
    }

    fn damage(&mut self, place: usize) {
        let subject = &self.subjects[place];
        let is_store_well = !self.lasting.iter().any(|(_, known)| matches!(known, Lasting::Store(_)));
        let Some(job) = subject.at_hand().filter(|_| is_store_well) else {
            self.diary.note("  not now");
            return;
        };
        subject.is_busy.store(true, Ordering::Relaxed);
        let (client, store, diary, is_busy) =
            (self.client.clone(), self.store.clone(), self.diary.clone(), subject.is_busy.clone());
        self.damaging.spawn(async move {
            let outcome = damage(&client, &store, &diary, &job).await;
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
        self.diary.note(format!("  processes {killed:?}"));
    }

    fn set_failpoint(&self, name: &str, action: &str) -> Result<()> {
        if self.world.failpoints_left().len() >= FAILPOINTS {
            self.diary.note("  not now");
            return Ok(());
        }
        self.world.failpoint_set(name, action)
    }
}

/// Notes an answer. A refusal says why, and who was killed says nothing; anything else is a fault.
pub(super) fn answered<T>(diary: &Diary, job: &str, answer: Result<T, ClientError>) -> Result<()> {
    let Err(error) = answer else {
        diary.note(format!("  {job}: accepted"));
        return Ok(());
    };
    let is_injected = error.to_string().contains("failpoint");
    let is_fault = match error.code() {
        None | Some(ErrorCode::WrongStatus | ErrorCode::ResourceExhausted | ErrorCode::Unavailable) => false,
        Some(_) => !is_injected,
    };
    diary.note(format!("  {job}: {error}"));
    if is_fault { Err(error).with_context(|| format!("a request for job {job}")) } else { Ok(()) }
}

fn release(is_busy: &Arc<AtomicBool>) {
    is_busy.store(false, Ordering::Relaxed);
}

/// Suspends a job, damages its capsule, and sees that it stays suspended until the damage is undone.
async fn damage(client: &Client, store: &Store, diary: &Diary, job: &str) -> Result<()> {
    // Whether this is heard or refused, what counts is what the job is then.
    drop(client.job_suspend(job).await);
    let rests = |view: &JobView| {
        let rests = matches!(view.status, JobStatus::Suspended | JobStatus::Executing) || view.status.is_final();
        rests && !is_under_way(view)
    };
    let settled = once(client, job, "to be at rest", rests).await?;
    if settled.status != JobStatus::Suspended {
        diary.note(format!("  {job} is {} and is not damaged", settled.status));
        return Ok(());
    }
    // The one that the job left before may still be there for a moment.
    let only = || store.of_job(job).ok().filter(|capsules| capsules.len() == 1).and_then(|mut capsules| capsules.pop());
    once(client, job, "to have one capsule", |_| only().is_some()).await?;
    let flipped = only().context("it has no capsule any more")?.flip()?;
    diary.note(format!("  {job} is damaged at {}", flipped.place()));
    let tried = try_to_resume(client, diary, job, settled.migrations.len()).await;
    flipped.restore()?;
    tried?;
    let mut repaired = settled;
    for _ in 0..TRIES * 10 {
        // An answer may be lost, so what counts is that it is suspended no more.
        drop(client.job_resume(job).await);
        tokio::time::sleep(BETWEEN * 5).await;
        repaired = client.job_get(job).await.unwrap_or(repaired);
        ensure!(!repaired.status.is_final(), "it is {}: {}", repaired.status, repaired.status_reason);
        if repaired.status != JobStatus::Suspended {
            return Ok(());
        }
    }
    bail!("it is not resumed after it was repaired")
}

/// Has a damaged job be resumed until that fails because of its damage; whatever fails, it has to be suspended afterwards.
async fn try_to_resume(client: &Client, diary: &Diary, job: &str, mut known: usize) -> Result<()> {
    for _ in 0..TRIES {
        let asked = client.job_resume(job).await;
        if asked.is_err() {
            tokio::time::sleep(BETWEEN * 5).await;
            // It was not heard, unless only its answer was lost.
            let heard = |view: &JobView| view.status != JobStatus::Suspended || view.migrations.len() > known;
            if !client.job_get(job).await.is_ok_and(|view| heard(&view)) {
                continue;
            }
        }
        let failed = |view: &JobView| view.status.is_final() || view.migrations.len() > known && !is_under_way(view);
        let after = once(client, job, "to be resumed or not", failed).await?;
        let told = after.migrations.last().map(|made| made.outcome.as_str()).unwrap_or_default();
        diary.note(format!("  {job} is {}; its resume {told}", after.status));
        ensure!(after.status == JobStatus::Suspended, "it is {} with a damaged capsule: {told}", after.status);
        if told.contains("damaged") {
            return Ok(());
        }
        known = after.migrations.len();
    }
    diary.note(format!("  {job}: what failed was something else each time"));
    Ok(())
}

/// Waits for a job to be so. OpCenter may be away.
async fn once(client: &Client, job: &str, what: &str, is_so: impl Fn(&JobView) -> bool) -> Result<JobView> {
    let began = Instant::now();
    while began.elapsed() < WITHIN {
        if let Ok(view) = client.job_get(job).await
            && is_so(&view)
        {
            return Ok(view);
        }
        tokio::time::sleep(BETWEEN).await;
    }
    bail!("it was {what}, and is not after {} s", WITHIN.as_secs())
}

/// Whether anything is on its way.
pub(super) fn is_under_way(view: &JobView) -> bool {
    view.migrations.iter().any(|made| made.outcome == "running" || made.outcome.starts_with("undoing"))
        || matches!(
            view.status,
            JobStatus::Resuming | JobStatus::Suspending | JobStatus::Floating | JobStatus::Capturing
        )
}
