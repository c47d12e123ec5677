//! A simulated host: what it holds of each job, and how it obeys its slice.
//!
//! The table of [`mooring_api::watch`] is the contract. Each call of [`SimAgent::obey`] takes at
//! most one step per job, so that a test and OpCenter can interfere between any two steps.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use mooring_api::Client;
use mooring_api::client::Slices;
use mooring_api::watch::{
    AfterCheckpoint, AgentSlice, CertificateRequest, Destination, HostReport, JobDirective, JobObservation, JobOrder,
    JobState, JoinRequest, MigrateOutStage, Notice, Origin, UsageSample,
};
use mooring_tls::Identity;
use mooring_types::host::{HostFacts, HostRole, Purchase, Readiness, Resources};
use mooring_types::job::{Activity, OutputFile, Unserved};
use mooring_types::migration::PhaseTime;
use mooring_types::usage::Usage;
use mooring_types::{GatewayId, Generation, HostId, JobId, MigrationId, Name, Timestamp};

use crate::behaviour::{Attempt, Behaviour, Step};
use crate::{Delivery, OpCenter, Wire};

/// The time from a report until the lease of a host ends.
const LEASE: Duration = Duration::from_secs(8);
/// The bytes that every simulated capsule has.
const CAPSULE_BYTES: u64 = 1_000_000;

/// A machine, as its agent describes it to OpCenter.
#[derive(Debug, Clone)]
pub struct Machine {
    pub name: String,
    /// The objects that may be placed on it.
    pub role: HostRole,
    /// Its processors and memory.
    pub size: Resources,
    /// Spot or on-demand.
    pub purchase: Purchase,
}

impl Machine {
    /// Returns the request with which the machine's agent joins. `number` tells addresses apart.
    pub fn join_request(&self, join_token: &str, identity: &Identity, number: u8) -> Result<JoinRequest> {
        let name: Name = self.name.parse().with_context(|| format!("host name `{}`", self.name))?;
        Ok(JoinRequest {
            join_token: join_token.to_owned(),
            host_key: format!("key of {name}"),
            name,
            role: self.role,
            address: Ipv4Addr::new(192, 0, 2, number),
            public_address: Ipv4Addr::new(198, 51, 100, number).into(),
            migration_port: 7443,
            certificate_request: identity.request()?,
            wireguard_key: String::new(),
            facts: self.facts(),
            jobs: Vec::new(),
        })
    }

    /// Returns an on-demand machine for jobs with 4 cores and 16 GB.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let size = Resources { cpu: 4, mem_gb: 16.0 };
        Self { name: name.to_owned(), role: HostRole::Jobs, size, purchase: Purchase::OnDemand }
    }

    fn facts(&self) -> HostFacts {
        HostFacts {
            cores: self.size.cpu,
            mem_gb: self.size.mem_gb,
            kernel: "simulated".into(),
            criu: "simulated".into(),
            runc: "simulated".into(),
            readiness: Readiness::Ready,
            purchase: Some(self.purchase),
            mounts: Vec::new(),
            lacks: Vec::new(),
        }
    }
}

/// The part of a job that a host holds.
#[derive(Debug, Clone)]
pub(crate) struct LocalJob {
    pub(crate) generation: Generation,
    pub(crate) state: JobState,
    /// Set while the job's processes run.
    pub(crate) executes: bool,
    /// Set while OpCenter may recover the job elsewhere: it needs the lease of its host.
    is_recoverable: bool,
    /// Set while the job is frozen for lack of a lease.
    is_fenced: bool,
    /// OpCenter's proof that the job was given to the host.
    grant: String,
    phases: Vec<PhaseTime>,
    bytes_moved: u64,
    usage: Option<UsageSample>,
    unserved: Option<Unserved>,
    activity: Option<Activity>,
    /// The bytes of standard output that OpCenter has.
    written: u64,
}

impl LocalJob {
    fn new(generation: Generation, state: JobState) -> Self {
        Self {
            generation,
            state,
            executes: false,
            is_recoverable: false,
            is_fenced: false,
            grant: String::new(),
            phases: Vec::new(),
            bytes_moved: 0,
            usage: None,
            unserved: None,
            activity: None,
            written: 0,
        }
    }
}

/// A simulated host.
#[derive(Debug)]
pub struct SimAgent {
    machine: Machine,
    host: HostId,
    client: Client,
    wire: Wire,
    behaviour: Behaviour,
    pub(crate) jobs: BTreeMap<JobId, LocalJob>,
    pub(crate) slice: Option<AgentSlice>,
    is_cut_off: bool,
    is_mute: bool,
    /// The time until the lease ends.
    lease: Duration,
    /// The number of the last lapse of the lease.
    lapse: u64,
    notice: Option<Notice>,
    problems: Vec<String>,
}

impl SimAgent {
    /// Joins OpCenter.
    pub async fn join(opcenter: &OpCenter, join_token: &str, machine: Machine, number: u8, wire: Wire) -> Result<Self> {
        let identity = Arc::new(Identity::generate()?);
        let request = machine.join_request(join_token, &identity, number)?;
        let answer =
            opcenter.client(None)?.host_join(&request).await.with_context(|| format!("join as {}", machine.name))?;
        identity.set_certificate(&answer.certificate)?;
        let client = opcenter.client(Some(identity))?;
        Ok(Self {
            machine,
            host: answer.host,
            client,
            wire,
            behaviour: Behaviour::default(),
            jobs: BTreeMap::new(),
            slice: None,
            is_cut_off: false,
            is_mute: false,
            lease: LEASE,
            lapse: 0,
            notice: None,
            problems: Vec::new(),
        })
    }

    /// The host's id.
    #[must_use]
    pub fn id(&self) -> &HostId {
        &self.host
    }

    /// Gets a gateway of this host its certificate.
    pub async fn certify(&self, gateway: &GatewayId, identity: &Identity) -> Result<()> {
        let request = CertificateRequest { certificate_request: identity.request()? };
        let answer = self.client.gateway_certificate(&self.host, gateway, &request).await?;
        Ok(identity.set_certificate(&answer.certificate)?)
    }

    // The test's hand

    /// Lets the next attempt of a step fail with a reason.
    pub fn fail(&mut self, step: Step, reason: &str) {
        self.behaviour.fail(step, reason);
    }

    /// Takes a failure back that has not happened.
    pub fn forgive(&mut self, step: Step) {
        self.behaviour.forgive(step);
    }

    /// Holds a step until [`SimAgent::release`].
    pub fn hold(&mut self, step: Step) {
        self.behaviour.hold(step);
    }

    /// Lets a held step happen.
    pub fn release(&mut self, step: Step) {
        self.behaviour.release(step);
    }

    /// Sets the duration in seconds that the host reports for a step of a migration. Otherwise only
    /// OpCenter's own phases have one.
    pub fn take(&mut self, step: Step, seconds: f64) {
        self.behaviour.take(step, seconds);
    }

    /// Cuts the host off: it neither gets slices nor reports. Its jobs go on, those that may be
    /// recovered until its lease ends.
    pub fn cut_off(&mut self) {
        self.is_cut_off = true;
    }

    /// Drops the reports of the host, which goes on to obey its slices.
    pub fn mute(&mut self) {
        self.is_mute = true;
    }

    /// Ends [`SimAgent::cut_off`] and [`SimAgent::mute`].
    pub fn reconnect(&mut self) {
        // What came before the cut is no order any more.
        if std::mem::take(&mut self.is_cut_off) {
            self.slice = None;
        }
        self.is_mute = false;
    }

    /// Returns whether the host is cut off.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Restarts the machine: its jobs have ended, and the agent remembers which it had.
    pub fn reboot(&mut self) {
        for job in self.jobs.values_mut() {
            job.executes = false;
            job.state = JobState::Lost { reason: "the host was restarted".into() };
        }
    }

    /// Replaces the machine by an empty one of the same name.
    pub fn lose_jobs(&mut self) {
        self.jobs.clear();
    }

    /// Lets a job end with an exit code.
    pub fn exit(&mut self, job: &JobId, code: i32) {
        if let Some(local) = self.jobs.get_mut(job) {
            (local.state, local.executes) = (JobState::Exited { code }, false);
        }
    }

    /// Says from now on that the host executes a job, whether or not it was given to it.
    pub fn claim(&mut self, job: &JobId, generation: Generation) {
        let local = LocalJob { executes: true, ..LocalJob::new(generation, JobState::Running) };
        self.jobs.insert(job.clone(), local);
    }

    /// Sets what a job uses from now on.
    pub fn measure(&mut self, job: &JobId, time: Timestamp, usage: Usage) {
        if let Some(local) = self.jobs.get_mut(job) {
            local.usage = Some(UsageSample { time, usage });
        }
    }

    /// Sets what a job does on its own from now on.
    pub fn act(&mut self, job: &JobId, activity: Activity) {
        if let Some(local) = self.jobs.get_mut(job) {
            local.activity = Some(activity);
        }
    }

    /// Sets the published ports that a job does not serve from now on.
    pub fn leave_unserved(&mut self, job: &JobId, unserved: Option<Unserved>) {
        if let Some(local) = self.jobs.get_mut(job) {
            local.unserved = unserved;
        }
    }

    /// Writes to the standard output of a job that executes here.
    pub async fn write(&mut self, job: &JobId, piece: &[u8]) -> Result<()> {
        let Some(local) = self.jobs.get_mut(job).filter(|local| local.executes) else { return Ok(()) };
        let sent = self.client.host_job_log(&self.host, job, &OutputFile::Stdout, local.written, piece.to_vec());
        local.written = sent.await.with_context(|| format!("send output of {job}"))?;
        Ok(())
    }

    /// Sends a piece of a job's output file, as a host does while the job writes it.
    pub async fn write_file(&self, job: &JobId, file: &OutputFile, offset: u64, piece: &[u8]) -> Result<()> {
        self.client.host_job_log(&self.host, job, file, offset, piece.to_vec()).await?;
        Ok(())
    }

    /// Sets what the host's cloud says of the machine's future.
    pub fn notify(&mut self, notice: Option<Notice>) {
        self.notice = notice;
    }

    /// Sets what the agent reports as keeping it from its slice.
    pub fn complain(&mut self, problems: &[&str]) {
        self.problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
    }

    // What the test sees

    /// The host's last slice.
    #[must_use]
    pub fn slice(&self) -> Option<&AgentSlice> {
        self.slice.as_ref()
    }

    /// The directive for a job in the host's last slice.
    #[must_use]
    pub fn directive(&self, job: &JobId) -> Option<&JobDirective> {
        self.slice.as_ref()?.jobs.iter().find(|directive| directive.job == *job)
    }

    /// The order for a job in the host's last slice.
    #[must_use]
    pub fn order(&self, job: &JobId) -> Option<&JobOrder> {
        self.directive(job).map(|directive| &directive.order)
    }

    /// The state of a job on the host.
    #[must_use]
    pub fn state(&self, job: &JobId) -> Option<&JobState> {
        self.jobs.get(job).map(|local| &local.state)
    }

    /// Returns whether the job's processes run on the host.
    #[must_use]
    pub fn executes(&self, job: &JobId) -> bool {
        self.jobs.get(job).is_some_and(|local| local.executes)
    }

    // The protocol

    /// Opens a watch.
    pub async fn watch(&self) -> Result<Slices<AgentSlice>> {
        self.client.host_slices(&self.host).await.with_context(|| format!("watch as {}", self.machine.name))
    }

    /// Takes the current slice from a watch.
    pub async fn fetch(&mut self) -> Result<()> {
        let mut watch = self.watch().await?;
        let slice = watch.next().await.with_context(|| format!("the watch of {} has ended", self.machine.name))?;
        self.slice = Some(slice.context("read a slice")?);
        Ok(())
    }

    /// Lets time pass on the host's clock.
    pub(crate) fn pass_time(&mut self, time: Duration) {
        self.lease = self.lease.saturating_sub(time);
        if self.lease.is_zero() {
            self.lapse += 1;
            self.fence();
        }
    }

    /// Freezes the jobs that may be recovered, where the host has no lease.
    fn fence(&mut self) {
        let has_lease = !self.lease.is_zero();
        for local in self.jobs.values_mut().filter(|local| local.executes && !has_lease) {
            let is_undecided = matches!(
                local.state,
                JobState::Restored { .. } | JobState::SnapshotTaken { .. } | JobState::Stored { .. }
            );
            if local.is_recoverable || is_undecided {
                (local.executes, local.is_fenced) = (false, true);
            }
        }
    }

    /// Reports what the host observes.
    pub async fn report(&mut self) -> Result<()> {
        if self.is_mute {
            return Ok(());
        }
        let observe = |(job, local): (&JobId, &LocalJob)| JobObservation {
            unserved: local.unserved.clone().filter(|_| local.executes),
            activity: local.activity.clone().filter(|_| local.executes),
            out_of_memory: None,
            is_short_of_disk: false,
            findings: Vec::new(),
            unaccepted: None,
            differences: Vec::new(),
            job: job.clone(),
            generation: local.generation,
            grant: local.grant.clone(),
            state: local.state.clone(),
            phases: local.phases.clone(),
            bytes_moved: local.bytes_moved,
            progress: String::new(),
            image_digest: String::new(),
            usage: local.usage.filter(|_| local.executes),
        };
        let report = HostReport {
            sequence: self.slice.as_ref().map_or(0, |slice| slice.sequence),
            lapse: self.lapse,
            facts: self.machine.facts(),
            jobs: self.jobs.iter().map(observe).collect(),
            problems: self.problems.clone(),
            notice: self.notice,
        };
        let sent = self.client.host_report(&self.host, &report).await;
        sent.with_context(|| format!("report as {}", self.machine.name))?;
        self.lease = LEASE;
        Ok(())
    }

    /// Takes one step for each job towards the slice. Returns whether anything changed.
    pub fn obey(&mut self) -> Result<bool> {
        let Some(slice) = self.slice.clone() else { return Ok(false) };
        let states = |jobs: &BTreeMap<JobId, LocalJob>| -> Vec<(JobId, Generation, JobState)> {
            let state = |(job, local): (&JobId, &LocalJob)| (job.clone(), local.generation, local.state.clone());
            jobs.iter().map(state).collect()
        };
        let before = states(&self.jobs);
        self.jobs
            .retain(|job, local| local.state != JobState::Gone || slice.jobs.iter().any(|known| known.job == *job));
        for directive in &slice.jobs {
            self.follow(directive).with_context(|| format!("{}: {:?}", self.machine.name, directive.order))?;
        }
        if slice.lapse == self.lapse && !self.lease.is_zero() {
            self.lift_fences(&slice.jobs);
        }
        self.fence();
        Ok(states(&self.jobs) != before)
    }

    /// Lets jobs go on that are to execute here.
    fn lift_fences(&mut self, directives: &[JobDirective]) {
        for directive in directives.iter().filter(|directive| directive.order.executes()) {
            let held = self.jobs.get_mut(&directive.job).filter(|local| local.generation == directive.generation);
            if let Some(local) = held.filter(|local| local.is_fenced) {
                (local.executes, local.is_fenced) = (true, false);
            }
        }
    }

    fn follow(&mut self, directive: &JobDirective) -> Result<()> {
        let known = self.jobs.remove(&directive.job);
        let held = match known {
            Some(local) if local.generation > directive.generation && local.state != JobState::Gone => {
                bail!("the order is of generation {}, the host has {}", directive.generation, local.generation)
            }
            // A copy of an older generation ends.
            other => other.filter(|local| local.generation == directive.generation),
        };
        if held.as_ref().is_some_and(|local| local.is_fenced) && directive.order.executes() {
            // It is frozen, and follows no order before it goes on.
            self.jobs.extend(held.map(|local| (directive.job.clone(), local)));
            return Ok(());
        }
        if let Some(mut local) = self.next(directive, held) {
            local.is_recoverable = directive.recoverable;
            local.grant.clone_from(&directive.grant);
            self.jobs.insert(directive.job.clone(), local);
        }
        Ok(())
    }

    /// Takes the next step of an order. Returns what the host holds of the job then.
    fn next(&mut self, directive: &JobDirective, held: Option<LocalJob>) -> Option<LocalJob> {
        let generation = directive.generation;
        match &directive.order {
            JobOrder::Run { begun } => self.run(generation, *begun, held),
            JobOrder::MigrateIn { migration, from } => self.migrate_in(generation, migration, from, held),
            JobOrder::MigrateOut { migration, stage, to } => {
                held.map(|local| self.migrate_out(migration, *stage, to, local))
            }
            JobOrder::Abort { migration } => self.abort(generation, migration, held),
            JobOrder::Rollback { .. } => Some(self.roll_back(generation, held)),
            JobOrder::Retire { .. } => self.end(Step::Retire, generation, held),
            JobOrder::Stop => self.end(Step::Stop, generation, held),
        }
    }

    fn run(&mut self, generation: Generation, begun: bool, held: Option<LocalJob>) -> Option<LocalJob> {
        let Some(mut local) = held.filter(|local| local.state != JobState::Gone) else {
            let lost = JobState::Lost { reason: "the host does not have the job".into() };
            return Some(LocalJob::new(generation, if begun { lost } else { JobState::Starting }));
        };
        match &local.state {
            JobState::Starting => match self.behaviour.attempt(Step::Start) {
                Attempt::Held => {}
                Attempt::Fails(reason) => local.state = JobState::FailedToStart { reason },
                Attempt::Succeeds => (local.state, local.executes) = (JobState::Running, true),
            },
            JobState::Frozen { .. } | JobState::Sent { .. } | JobState::Stored { .. } => {
                (local.state, local.executes) = (JobState::Running, true);
            }
            _ if local.executes => local.state = JobState::Running,
            _ => {}
        }
        Some(local)
    }

    fn migrate_in(
        &mut self,
        generation: Generation,
        migration: &MigrationId,
        from: &Origin,
        held: Option<LocalJob>,
    ) -> Option<LocalJob> {
        let failed = |local: &mut LocalJob, step: Step, reason| {
            local.state = JobState::MigrateInFailed { migration: migration.clone(), phase: step.phase(), reason };
        };
        let Some(mut local) = held.filter(|local| local.state != JobState::Gone) else {
            let mut local = LocalJob::new(generation, JobState::Prepared { migration: migration.clone() });
            match self.behaviour.attempt(Step::Prepare) {
                Attempt::Held => return None,
                Attempt::Fails(reason) => failed(&mut local, Step::Prepare, reason),
                Attempt::Succeeds => self.note(&mut local, Step::Prepare),
            }
            return Some(local);
        };
        let has_capsule = match from {
            Origin::Host { .. } => self.wire.delivery(migration) == Some(Delivery::Sealed),
            Origin::Store { .. } => true,
        };
        if !has_capsule || !matches!(local.state, JobState::Prepared { .. }) {
            return Some(local);
        }
        for step in [Step::Restore, Step::Verify] {
            match self.behaviour.attempt(step) {
                Attempt::Held => return Some(local),
                Attempt::Fails(reason) => {
                    self.wire.close(migration);
                    failed(&mut local, step, reason);
                    return Some(local);
                }
                Attempt::Succeeds => self.note(&mut local, step),
            }
        }
        self.wire.close(migration);
        (local.state, local.executes) = (JobState::Restored { migration: migration.clone() }, true);
        Some(local)
    }

    fn migrate_out(
        &mut self,
        migration: &MigrationId,
        stage: MigrateOutStage,
        to: &Destination,
        mut local: LocalJob,
    ) -> LocalJob {
        let id = migration.clone();
        // What is left of an earlier migration says nothing of this one.
        if local.executes && migration_of(&local.state).is_some_and(|known| known != migration) {
            local.state = JobState::Running;
        }
        let step = match (&local.state, stage) {
            (JobState::Running, _) => Step::PreCopy,
            (JobState::PreCopied { .. }, MigrateOutStage::Freeze) => Step::Freeze,
            (JobState::Frozen { .. } | JobState::SnapshotTaken { .. }, MigrateOutStage::Freeze) => Step::Transfer,
            _ => return local,
        };
        match self.behaviour.attempt(step) {
            Attempt::Held => return local,
            Attempt::Fails(reason) => {
                local.state = JobState::MigrateOutFailed { migration: id, phase: step.phase(), reason };
                return local;
            }
            Attempt::Succeeds => {}
        }
        if step == Step::PreCopy {
            local.phases.clear();
        }
        self.note(&mut local, step);
        let goes_on = matches!(to, Destination::Store { then: AfterCheckpoint::GoOn, .. });
        local.state = match (step, to) {
            (Step::PreCopy, _) => JobState::PreCopied { migration: id },
            (Step::Freeze, _) if goes_on => JobState::SnapshotTaken { migration: id },
            (Step::Freeze, _) => {
                local.executes = false;
                JobState::Frozen { migration: id }
            }
            (_, Destination::Host { .. }) => {
                self.wire.seal(migration);
                JobState::Sent { migration: id }
            }
            (_, Destination::Store { base, .. }) => {
                JobState::Stored { migration: id, stored_bytes: CAPSULE_BYTES / 2, base: base.clone() }
            }
        };
        local.bytes_moved = CAPSULE_BYTES;
        local
    }

    /// Adds the duration of a step to what the host reports of the migration.
    fn note(&self, local: &mut LocalJob, step: Step) {
        let seconds = self.behaviour.duration(step);
        local.phases.extend(seconds.map(|seconds| PhaseTime { name: step.phase(), seconds }));
    }

    fn abort(&mut self, generation: Generation, migration: &MigrationId, held: Option<LocalJob>) -> Option<LocalJob> {
        // A restored job stays, and that is final.
        if held.as_ref().is_some_and(|local| matches!(local.state, JobState::Restored { .. })) {
            return held;
        }
        if self.behaviour.attempt(Step::Abort) == Attempt::Held {
            return held;
        }
        self.wire.close(migration);
        Some(LocalJob::new(generation, JobState::Gone))
    }

    fn roll_back(&mut self, generation: Generation, held: Option<LocalJob>) -> LocalJob {
        let lost = |reason: &str| LocalJob::new(generation, JobState::Lost { reason: reason.to_owned() });
        let Some(mut local) = held.filter(|local| local.state != JobState::Gone) else {
            return lost("the host does not have the job");
        };
        let has_ended = matches!(local.state, JobState::Exited { .. } | JobState::Lost { .. });
        if has_ended || local.state == JobState::Running {
            return local;
        }
        match self.behaviour.attempt(Step::Rollback) {
            Attempt::Held => {}
            Attempt::Fails(reason) => return lost(&reason),
            Attempt::Succeeds => (local.state, local.executes) = (JobState::Running, true),
        }
        local
    }

    fn end(&mut self, step: Step, generation: Generation, held: Option<LocalJob>) -> Option<LocalJob> {
        match self.behaviour.attempt(step) {
            Attempt::Held => held,
            Attempt::Fails(_) | Attempt::Succeeds => Some(LocalJob::new(generation, JobState::Gone)),
        }
    }
}

/// The migration that a state is of.
fn migration_of(state: &JobState) -> Option<&MigrationId> {
    match state {
        JobState::Prepared { migration }
        | JobState::PreCopied { migration }
        | JobState::Frozen { migration }
        | JobState::Sent { migration }
        | JobState::SnapshotTaken { migration }
        | JobState::Stored { migration, .. }
        | JobState::Restored { migration }
        | JobState::MigrateInFailed { migration, .. }
        | JobState::MigrateOutFailed { migration, .. } => Some(migration),
        JobState::Starting
        | JobState::Running
        | JobState::Exited { .. }
        | JobState::FailedToStart { .. }
        | JobState::Gone
        | JobState::Lost { .. } => None,
    }
}
