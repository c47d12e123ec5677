//! One run: preparation, random actions, and the checks after everything was healed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_api::view::{ConnectionState, GatewayCreateRequest, GatewayView, JobView};
use mooring_api::{Client, ClientError, ErrorCode};
use mooring_types::JobId;
use mooring_types::gateway::GatewayStatus;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use nix::sys::signal::Signal;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use super::Plan;
use super::action::{Actions, Lasting};
use super::log::Log;
use super::prober::Prober;
use super::stats::Stats;
use super::store::Store;
use super::subject::{Kind, Subject, is_under_way};
use super::traces::Traces;
use crate::tour::move_once;
use crate::wait::wait_for;
use crate::witness;
use crate::world::World;

const GATEWAYS: usize = 2;
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Time limit of the final checks after everything was healed. OpCenter waits a minute for an
/// unreachable host.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// The number of further answers by which a witness counts as well.
const ANSWERS_EXPECTED: u64 = 5;

/// One run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    plan: &'a Plan,
    pub(super) world: &'a World,
    pub(super) store: Arc<Store>,
    pub(super) client: Client,
    pub(super) log: Log,
    program: PathBuf,
    gateways: Vec<String>,
    pub(super) subjects: Vec<Subject>,
    /// The jobs that have ended or are being cancelled.
    pub(super) past: Vec<JobId>,
    /// Disturbances, each with the time of its end.
    pub(super) lasting: Vec<(Instant, Lasting)>,
    pub(super) damaging: JoinSet<Result<()>>,
    stats: Stats,
    done: usize,
}

/// The state that all jobs have to reach once everything is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Each executes or is suspended.
    Anyhow,
    Executing,
    Cancelled,
}

impl<'a> Run<'a> {
    /// Creates the gateways and jobs and waits until every job executes.
    pub(super) async fn prepare(plan: &'a Plan, world: &'a World, store: &Arc<Store>) -> Result<Self> {
        let client = world.client().await?;
        let program = world.bring(&witness::program()?)?;
        let mut gateways = Vec::new();
        for number in 1..=GATEWAYS {
            // They share a host.
            let first = 10_000 + 100 * number;
            let port_range = format!("{first}:{}", first + 99);
            let name = format!("gateway-{number}");
            let request = GatewayCreateRequest { name, port_range, ..GatewayCreateRequest::default() };
            gateways.push(client.gateway_create(&request).await.context("create a gateway")?.id.to_string());
        }
        wait_for("the gateways", READY_WITHIN, async || {
            let known = client.gateway_list().await?;
            Ok(known.iter().all(|gateway| gateway.status == GatewayStatus::Running).then_some(()))
        })
        .await?;
        let numbers = [(Kind::Witness, plan.witnesses), (Kind::Counter, plan.counters), (Kind::Program, plan.programs)];
        let kinds = numbers.into_iter().flat_map(|(kind, number)| [kind].repeat(number));
        let subjects = kinds.enumerate().map(|(place, kind)| Subject::new(kind, place, 0)).collect();
        let mut run = Self {
            plan,
            world,
            store: store.clone(),
            client,
            log: Log::begin(plan.log_to_stderr),
            program,
            gateways,
            subjects,
            past: Vec::new(),
            lasting: Vec::new(),
            damaging: JoinSet::new(),
            stats: Stats::begin(),
            done: 0,
        };
        run.log.note(format!("seed {}", plan.seed));
        run.settle("all jobs to execute", Rest::Executing).await?;
        Ok(run)
    }

    /// Performs the whole run and returns its summary.
    pub(super) async fn whole(&mut self) -> Result<String> {
        self.disturb().await?;
        self.log.note("everything is healed");
        self.heal(Instant::now() + self.plan.duration + SETTLED_WITHIN)?;
        self.clear_failpoints()?;
        while let Some(damaged) = self.damaging.join_next().await {
            damaged??;
        }
        // Capsules of which no note was made are found at its start.
        for opcenter in self.world.daemons(&["server", "opcenter"]) {
            opcenter.signal(Signal::SIGKILL)?;
        }
        self.settle("all jobs to be well", Rest::Anyhow).await?;
        let suspended = self.resume_all().await?;
        self.settle("all jobs to execute", Rest::Executing).await?;
        self.await_answers().await?;
        let ended = self.past.len();
        self.migrate_programs().await?;
        let jobs: Vec<JobId> = self.subjects.iter().filter_map(|subject| subject.id.clone()).collect();
        self.past.extend(jobs);
        self.settle("nothing to be left", Rest::Cancelled).await?;
        let grown = self.stats.grown();
        ensure!(grown.is_empty(), "{}", grown.join("; "));
        Ok(format!(
            "seed {}: {} actions, {ended} jobs ended, {suspended} were suspended at the end; at most {}",
            self.plan.seed,
            self.done,
            self.stats.most()
        ))
    }

    /// Performs random actions until the plan's duration is over.
    async fn disturb(&mut self) -> Result<()> {
        let (began, mut looked, mut sampled) = (Instant::now(), Instant::now(), None::<Instant>);
        let random = StdRng::seed_from_u64(self.plan.seed);
        let mut actions = Actions { jobs: self.subjects.len(), hosts: self.plan.hosts, gateways: GATEWAYS, random };
        while began.elapsed() < self.plan.duration {
            let (pause, action) = actions.draw();
            tokio::time::sleep(pause).await;
            self.heal(Instant::now())?;
            if sampled.is_none_or(|at| at.elapsed() >= SAMPLE_INTERVAL) {
                self.stats.sample(self.world);
                sampled = Some(Instant::now());
            }
            if looked.elapsed() >= CHECK_INTERVAL {
                drop(self.check().await?);
                looked = Instant::now();
            }
            self.log.note(format!("{action:?}"));
            self.perform(&action).await?;
            self.done += 1;
        }
        Ok(())
    }

    /// Checks every job and submits the missing ones. Returns all jobs, or `None` while OpCenter is
    /// away.
    async fn check(&mut self) -> Result<Option<BTreeMap<JobId, JobView>>> {
        while let Some(damaged) = self.damaging.try_join_next() {
            damaged??;
        }
        // It may be away at any moment.
        let (Ok(jobs), Ok(gateways)) = (self.client.job_list().await, self.client.gateway_list().await) else {
            return Ok(None);
        };
        let views: BTreeMap<JobId, JobView> = jobs.into_iter().map(|view| (view.id.clone(), view)).collect();
        for job in &self.past {
            let view = views.get(job).with_context(|| format!("job {job} is not on record any more"))?;
            if !view.status.is_final() && view.status != JobStatus::Cancelling {
                // A request that was lost is repeated at the next check.
                drop(self.client.job_cancel(job).await);
            }
        }
        for place in 0..self.subjects.len() {
            let subject = &mut self.subjects[place];
            if subject.id.is_none() {
                let name = subject.name();
                subject.id = views.values().find(|view| view.name == name).map(|view| view.id.clone());
            }
            let Some(job) = subject.id.clone() else {
                let request = subject.request(&self.program, &self.gateways)?;
                if let Ok(view) = self.client.job_submit(&request).await {
                    self.log.note(format!("{} is {}", view.name, view.id));
                    self.subjects[place].id = Some(view.id.clone());
                }
                continue;
            };
            if let Some(view) = views.get(&job).filter(|_| !self.past.contains(&job)) {
                self.check_job(place, &job, view, &gateways).await?;
            }
        }
        Ok(Some(views))
    }

    /// Checks the record, the answers and the output of a job.
    async fn check_job(&mut self, place: usize, job: &JobId, view: &JobView, gateways: &[GatewayView]) -> Result<()> {
        let subject = &mut self.subjects[place];
        subject.check_record(view)?;
        if subject.kind == Kind::Witness && subject.prober.is_none() {
            let address = gateways.iter().find_map(|gateway| {
                let open = gateway
                    .connections
                    .iter()
                    .find(|known| known.job_id == *job && known.state == ConnectionState::Open)?;
                Some(SocketAddr::new(gateway.address.parse::<IpAddr>().ok()?, open.gateway_port))
            });
            subject.prober = address.map(Prober::start);
        }
        let checked = async {
            subject.check_answers(&self.client, view).await?;
            if subject.is_batch() { subject.check_output(&self.client, view).await } else { Ok(()) }
        };
        unless_away(checked.await)?;
        match view.status {
            JobStatus::Completed if subject.is_batch() => {
                self.log.note(format!("{} has ended well", subject.name()));
                self.subjects[place] = subject.next();
                self.past.push(job.clone());
            }
            status if status.is_final() => {
                // What a program says of itself tells more than its exit code.
                unless_away(self.subjects[place].check_output(&self.client, view).await)?;
                bail!("{} ({job}) is lost: it is {status}: {}", self.subjects[place].name(), view.status_reason)
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits until every job is in the state `rest` and no host has anything else.
    async fn settle(&mut self, what: &str, rest: Rest) -> Result<()> {
        let began = Instant::now();
        let mut said = Vec::new();
        loop {
            self.stats.sample(self.world);
            if let Some(views) = self.check().await? {
                let wrong = self.wrong(&views, rest)?;
                if wrong.is_empty() {
                    self.log.note(format!("{what}: after {:.1} s", began.elapsed().as_secs_f64()));
                    return Ok(());
                }
                if wrong != said {
                    self.log.note(format!("not yet: {}", wrong.join("; ")));
                    said = wrong;
                }
            }
            ensure!(
                began.elapsed() < SETTLED_WITHIN,
                "{what}: not within {} s: {}",
                SETTLED_WITHIN.as_secs(),
                said.join("; ")
            );
            tokio::time::sleep(CHECK_INTERVAL / 2).await;
        }
    }

    /// Returns a sentence for each deviation from the state `rest`.
    fn wrong(&self, views: &BTreeMap<JobId, JobView>, rest: Rest) -> Result<Vec<String>> {
        let traces = Traces::collect(self.world, self.plan.hosts)?;
        let mut wrong = Vec::new();
        let mut needed = Vec::new();
        for subject in self.subjects.iter().filter(|_| rest != Rest::Cancelled) {
            let Some(view) = subject.id.as_ref().and_then(|id| views.get(id)) else {
                wrong.push(format!("{} is not on record", subject.name()));
                continue;
            };
            let job = view.id.as_str();
            let (trace, capsules) = (traces.of(job), self.store.of_job(job)?);
            let says = |what: String| format!("{} ({job}): {what}", subject.name());
            match view.status {
                _ if is_under_way(view) => wrong.push(says(format!("is {} and on its way", view.status))),
                JobStatus::Executing if !trace.is_only_on(&view.host_name) => {
                    wrong.push(says(format!("executes on {}, and there is {trace:?}", view.host_name)));
                }
                JobStatus::Executing => {}
                JobStatus::Suspended if rest == Rest::Anyhow => {
                    if !trace.is_empty() {
                        wrong.push(says(format!("is suspended, and there is {trace:?}")));
                    }
                    if capsules.is_empty() {
                        wrong.push(says("is suspended without a capsule".into()));
                    }
                }
                status => wrong.push(says(format!("is {status}: {}", view.status_reason))),
            }
            if subject.kind == Kind::Witness && subject.prober.is_none() {
                wrong.push(says("can't be reached".into()));
            }
            // An incremental snapshot needs its base.
            if capsules.len() > 1 && !(capsules.len() == 2 && capsules.iter().any(|capsule| capsule.is_incremental())) {
                wrong.push(says(format!("has {} capsules", capsules.len())));
            }
            for damage in capsules.iter().filter_map(|capsule| capsule.verify().err()) {
                wrong.push(says(format!("{damage:#}")));
            }
            if !view.host_name.is_empty() {
                needed.push((view.host_name.clone(), view.address.parse().context("a job's address")?));
            }
        }
        for job in &self.past {
            let ended = views.get(job).is_some_and(|view| view.status.is_final() && !is_under_way(view));
            let trace = traces.of(job.as_str());
            if !ended || !trace.is_empty() {
                let status = views.get(job).map(|view| view.status);
                wrong.push(format!("{job} is {status:?}, and there is {trace:?}"));
            }
        }
        let is_alive = |job: &str| {
            rest != Rest::Cancelled
                && self.subjects.iter().any(|subject| subject.id.as_ref().is_some_and(|id| id.as_str() == job))
        };
        for capsule in self.store.capsules()? {
            if !is_alive(capsule.name.split('-').next().unwrap_or_default()) {
                wrong.push(format!("capsule {} is nobody's", capsule.name));
            }
        }
        wrong.extend(traces.interfaces_beyond(&needed).into_iter().map(|name| format!("interface {name} is nobody's")));
        Ok(wrong)
    }

    /// Resumes every suspended job and returns their number.
    async fn resume_all(&mut self) -> Result<usize> {
        let mut suspended = 0;
        for job in self.subjects.iter().filter_map(|subject| subject.id.as_ref()) {
            if self.client.job_get(job).await?.status == JobStatus::Suspended {
                self.client.job_resume(job).await.with_context(|| format!("resume {job}"))?;
                suspended += 1;
            }
        }
        Ok(suspended)
    }

    /// Waits until every witness answers.
    async fn await_answers(&mut self) -> Result<()> {
        for subject in &self.subjects {
            let Some(prober) = &subject.prober else { continue };
            let before = prober.seen();
            let what = format!("answers of {}", subject.name());
            let heard = wait_for(&what, READY_WITHIN, async || {
                Ok((prober.seen().answers >= before.answers + ANSWERS_EXPECTED).then_some(()))
            });
            heard.await.with_context(|| format!("{before:?}"))?;
        }
        drop(self.check().await?);
        Ok(())
    }

    /// Migrates each program. Once all is healed, nothing that it holds hinders that. The other
    /// jobs are cancelled, which makes room.
    async fn migrate_programs(&mut self) -> Result<()> {
        let is_program = |subject: &Subject| subject.kind == Kind::Program;
        let (programs, others): (Vec<Subject>, Vec<Subject>) = self.subjects.drain(..).partition(is_program);
        self.subjects = programs;
        self.past.extend(others.into_iter().filter_map(|subject| subject.id));
        drop(self.check().await?);
        for subject in &self.subjects {
            let Some(job) = &subject.id else { continue };
            let migrated = wait_for("room for a program", READY_WITHIN, async || {
                let migrated = move_once(&self.client, job).await;
                Ok((!migrated.as_ref().is_err_and(lacks_room)).then_some(migrated))
            })
            .await?;
            // It may have come to its end meanwhile.
            if !self.client.job_get(job).await?.status.is_final() {
                let made = migrated.with_context(|| subject.name())?;
                ensure!(made.outcome == Outcome::Succeeded, "{}: {made:?}", subject.name());
            }
        }
        drop(self.check().await?);
        Ok(())
    }

    /// Returns the log, and every job with its events, for the analysis of a failure.
    pub(super) async fn report(&self) -> String {
        let mut text = format!("seed {}\n\nwhat was done:\n{}\n", self.plan.seed, self.log);
        for job in self.subjects.iter().filter_map(|subject| subject.id.as_ref()).chain(&self.past) {
            let view = self.client.job_get(job).await.ok();
            let events = self.client.job_events(job).await.unwrap_or_default();
            let record = view.and_then(|view| serde_json::to_string_pretty(&view).ok()).unwrap_or_default();
            text += &format!("job {job}: {record}\n");
            for event in events {
                text += &format!("  {} {} {}\n", event.time, event.event.to_parts().0, event.event);
            }
        }
        text
    }
}

fn lacks_room(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().is_some_and(|error| error.code() == Some(ErrorCode::ResourceExhausted))
}

/// Ignores the failure of a check because OpCenter is away: the next check repeats it.
fn unless_away(checked: Result<()>) -> Result<()> {
    match checked {
        Err(error) if error.downcast_ref::<ClientError>().is_some_and(|why| why.code().is_none()) => Ok(()),
        other => other,
    }
}
