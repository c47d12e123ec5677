//! One run: making ready, deeds, calming down.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_api::Client;
use mooring_api::view::{GatewayCreateRequest, JobView};
use mooring_types::gateway::GatewayStatus;
use mooring_types::job::JobStatus;
use nix::sys::signal::Signal;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use super::Plan;
use super::deed::Deeds;
use super::diary::Diary;
use super::hand::{Lasting, is_under_way};
use super::pulse::Pulse;
use super::store::Store;
use super::subject::{Kind, Subject};
use super::toll::Toll;
use super::traces::Traces;
use crate::wait::wait_for;
use crate::witness;
use crate::world::World;

const GATEWAYS: usize = 2;
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long it may take until all is as it should be after everything was healed. A host that was not heard from is waited for for a
/// minute.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_secs(1);
const SAMPLE: Duration = Duration::from_secs(5);
/// How many more answers show that a witness is well.
const ANSWERS: u64 = 5;

/// One run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    plan: &'a Plan,
    pub(super) world: &'a World,
    pub(super) store: Arc<Store>,
    pub(super) client: Client,
    pub(super) diary: Diary,
    program: PathBuf,
    gateways: Vec<String>,
    pub(super) subjects: Vec<Subject>,
    /// The jobs that have ended or are to end.
    pub(super) past: Vec<String>,
    /// What is undone later.
    pub(super) lasting: Vec<(Instant, Lasting)>,
    pub(super) damaging: JoinSet<Result<()>>,
    toll: Toll,
    done: usize,
}

/// What is wanted of the jobs once all is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Each executes or is suspended.
    Anyhow,
    Executing,
    Cancelled,
}

impl<'a> Run<'a> {
    /// Makes gateways, and has all jobs execute.
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
        let kinds = [Kind::Witness].repeat(plan.witnesses).into_iter().chain([Kind::Counter].repeat(plan.counters));
        let subjects = kinds.enumerate().map(|(place, kind)| Subject::new(kind, place, 0)).collect();
        let mut run = Self {
            plan,
            world,
            store: store.clone(),
            client,
            diary: Diary::begin(plan.is_read),
            program,
            gateways,
            subjects,
            past: Vec::new(),
            lasting: Vec::new(),
            damaging: JoinSet::new(),
            toll: Toll::begin(),
            done: 0,
        };
        run.diary.note(format!("seed {}", plan.seed));
        run.settle("all jobs to execute", Rest::Executing).await?;
        Ok(run)
    }

    /// Everything from the first deed to the last look. Says what was done.
    pub(super) async fn whole(&mut self) -> Result<String> {
        self.rage().await?;
        self.diary.note("everything is healed and left alone");
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
        self.hear_all().await?;
        let ended = self.past.len();
        let jobs: Vec<String> = self.subjects.iter().filter_map(|subject| subject.id.clone()).collect();
        self.past.extend(jobs);
        self.settle("nothing to be left", Rest::Cancelled).await?;
        let grown = self.toll.grown();
        ensure!(grown.is_empty(), "{}", grown.join("; "));
        Ok(format!(
            "seed {}: {} deeds, {ended} jobs ended, {suspended} were suspended at the end; at most {}",
            self.plan.seed,
            self.done,
            self.toll.most()
        ))
    }

    /// Does deeds until the time is over.
    async fn rage(&mut self) -> Result<()> {
        let (began, mut looked, mut sampled) = (Instant::now(), Instant::now(), None::<Instant>);
        let random = StdRng::seed_from_u64(self.plan.seed);
        let mut deeds = Deeds { jobs: self.subjects.len(), hosts: self.plan.hosts, gateways: GATEWAYS, random };
        while began.elapsed() < self.plan.duration {
            let (pause, deed) = deeds.draw();
            tokio::time::sleep(pause).await;
            self.heal(Instant::now())?;
            if sampled.is_none_or(|at| at.elapsed() >= SAMPLE) {
                self.toll.sample(self.world);
                sampled = Some(Instant::now());
            }
            if looked.elapsed() >= LOOK {
                drop(self.look().await?);
                looked = Instant::now();
            }
            self.diary.note(format!("{deed:?}"));
            self.perform(&deed).await?;
            self.done += 1;
        }
        Ok(())
    }

    /// Looks at every job, submits what is missing, and finds what must not be. Gives all records; nothing while OpCenter is away.
    async fn look(&mut self) -> Result<Option<BTreeMap<String, JobView>>> {
        while let Some(damaged) = self.damaging.try_join_next() {
            damaged??;
        }
        // It may be away at any moment.
        let (Ok(jobs), Ok(gateways)) = (self.client.job_list().await, self.client.gateway_list().await) else {
            return Ok(None);
        };
        let views: BTreeMap<String, JobView> = jobs.into_iter().map(|view| (view.id.to_string(), view)).collect();
        for job in &self.past {
            let view = views.get(job).with_context(|| format!("job {job} is not on record any more"))?;
            if !view.status.is_final() && view.status != JobStatus::Cancelling {
                // Who does not hear it is asked again.
                drop(self.client.job_cancel(job).await);
            }
        }
        for place in 0..self.subjects.len() {
            let subject = &mut self.subjects[place];
            if subject.id.is_none() {
                let name = subject.name();
                subject.id = views.values().find(|view| view.name == name).map(|view| view.id.to_string());
            }
            let Some(job) = subject.id.clone() else {
                let request = subject.request(&self.program, &self.gateways);
                if let Ok(view) = self.client.job_submit(&request).await {
                    self.diary.note(format!("{} is {}", view.name, view.id));
                    self.subjects[place].id = Some(view.id.to_string());
                }
                continue;
            };
            let Some(view) = views.get(&job).filter(|_| !self.past.contains(&job)) else { continue };
            subject.check_record(view)?;
            if subject.kind == Kind::Witness && subject.pulse.is_none() {
                let address = gateways.iter().find_map(|gateway| {
                    let open = gateway
                        .connections
                        .iter()
                        .find(|known| known.job_id.as_str() == job && known.state == "open")?;
                    Some(SocketAddr::new(gateway.address.parse::<IpAddr>().ok()?, open.gateway_port))
                });
                subject.pulse = address.map(Pulse::start);
            }
            let checked = async {
                subject.check_answers(&self.client, view).await?;
                match subject.kind {
                    Kind::Counter => subject.check_output(&self.client, view).await,
                    Kind::Witness => Ok(()),
                }
            };
            unless_away(checked.await)?;
            match view.status {
                JobStatus::Completed if subject.kind == Kind::Counter => {
                    self.diary.note(format!("{} has ended well", subject.name()));
                    self.subjects[place] = subject.next();
                    self.past.push(job);
                }
                status if status.is_final() => {
                    bail!("{} ({job}) is lost: it is {status}: {}", subject.name(), view.status_reason)
                }
                _ => {}
            }
        }
        Ok(Some(views))
    }

    /// Waits until every job is as it should be, and nothing is anywhere else.
    async fn settle(&mut self, what: &str, rest: Rest) -> Result<()> {
        let began = Instant::now();
        let mut said = Vec::new();
        loop {
            self.toll.sample(self.world);
            if let Some(views) = self.look().await? {
                let wrong = self.wrong(&views, rest)?;
                if wrong.is_empty() {
                    self.diary.note(format!("{what}: after {:.1} s", began.elapsed().as_secs_f64()));
                    return Ok(());
                }
                if wrong != said {
                    self.diary.note(format!("not yet: {}", wrong.join("; ")));
                    said = wrong;
                }
            }
            ensure!(
                began.elapsed() < SETTLED_WITHIN,
                "{what}: not within {} s: {}",
                SETTLED_WITHIN.as_secs(),
                said.join("; ")
            );
            tokio::time::sleep(LOOK / 2).await;
        }
    }

    /// What is not as it should be once nothing happens any more.
    fn wrong(&self, views: &BTreeMap<String, JobView>, rest: Rest) -> Result<Vec<String>> {
        let traces = Traces::look(self.world, self.plan.hosts)?;
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
            if subject.kind == Kind::Witness && subject.pulse.is_none() {
                wrong.push(says("can't be reached".into()));
            }
            if capsules.len() > 1 {
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
            let trace = traces.of(job);
            if !ended || !trace.is_empty() {
                let status = views.get(job).map(|view| view.status);
                wrong.push(format!("{job} is {status:?}, and there is {trace:?}"));
            }
        }
        let is_alive = |job: &str| {
            rest != Rest::Cancelled && self.subjects.iter().any(|subject| subject.id.as_deref() == Some(job))
        };
        for capsule in self.store.capsules()? {
            if !is_alive(capsule.name.split('-').next().unwrap_or_default()) {
                wrong.push(format!("capsule {} is nobody's", capsule.name));
            }
        }
        wrong.extend(traces.interfaces_beyond(&needed).into_iter().map(|name| format!("interface {name} is nobody's")));
        Ok(wrong)
    }

    /// Has every suspended job execute again, and says how many there were.
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

    /// Waits until every witness answers, over whatever connections it has.
    async fn hear_all(&mut self) -> Result<()> {
        for subject in &self.subjects {
            let Some(pulse) = &subject.pulse else { continue };
            let before = pulse.seen();
            let what = format!("answers of {}", subject.name());
            let heard = wait_for(&what, READY_WITHIN, async || {
                Ok((pulse.seen().answers >= before.answers + ANSWERS).then_some(()))
            });
            heard.await.with_context(|| format!("{before:?}"))?;
        }
        drop(self.look().await?);
        Ok(())
    }

    /// All that is known, for whoever has to find out what went wrong.
    pub(super) async fn report(&self) -> String {
        let mut text = format!("seed {}\n\nwhat was done:\n{}\n", self.plan.seed, self.diary);
        for job in self.subjects.iter().filter_map(|subject| subject.id.as_ref()).chain(&self.past) {
            let view = self.client.job_get(job).await.ok();
            let events = self.client.job_events(job).await.unwrap_or_default();
            let record = view.and_then(|view| serde_json::to_string_pretty(&view).ok()).unwrap_or_default();
            text += &format!("job {job}: {record}\n");
            for event in events {
                text += &format!("  {} {} {}\n", event.time, event.kind, event.message);
            }
        }
        text
    }
}

/// What could not be found out because OpCenter is away is found out later.
fn unless_away(checked: Result<()>) -> Result<()> {
    match checked {
        Err(error) if error.downcast_ref::<mooring_api::ClientError>().is_some_and(|why| why.code().is_none()) => {
            Ok(())
        }
        other => other,
    }
}
