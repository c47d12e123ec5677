//! The driver of one job: wakes, looks at what is wanted and what is held, does one thing, and looks again.
//!
//! It is the only one that touches the job. What it is about to do it writes into the record first; [`recover`] finds out, after this
//! process was killed, whether it came to be.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mooring_api::watch::{JobDirective, JobOrder, JobState};
use mooring_linux::mount;
use mooring_linux::process::ProcessId;
use mooring_ops::failpoint;
use mooring_types::JobId;
use mooring_types::migration::Phase;
use tokio::sync::watch;

use super::Observation;
use super::log::{LogPump, Results};
use super::policy::{Action, decide};
use super::record::{Attempt, LocalState, Record, Release};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::migrate::memory::encoder::BaseSnapshot;
use crate::migrate::restore::{self, Peers};
use crate::migrate::stream::listener::ExpectedConnection;
use crate::migrate::stream::sender::CapsuleSender;
use crate::runtime::bundle::{self, HostPart};
use crate::runtime::container::Runtime;
use crate::runtime::image::Image;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own;
use crate::runtime::volume;

/// How often a job is looked at for whether it has ended.
const LOOK: Duration = Duration::from_millis(200);
/// How long something that failed is left before it is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// The driver of one job.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) host: Arc<Host>,
    pub(crate) job: JobId,
    pub(crate) record: Option<Record>,
    pub(crate) directive: watch::Receiver<Option<JobDirective>>,
    observation: Observation,
    pub(crate) log: LogPump,
    /// Source: the connection to the destination.
    pub(crate) outgoing: Option<CapsuleSender>,
    /// What the next capsule of the job may build on, as long as it executes here.
    pub(crate) base_snapshot: Option<BaseSnapshot>,
    /// Destination: the door for the source.
    pub(crate) expected: Option<ExpectedConnection>,
}

impl Driver {
    pub(crate) fn new(
        host: Arc<Host>,
        job: JobId,
        record: Option<Record>,
        directive: watch::Receiver<Option<JobDirective>>,
        observation: Observation,
    ) -> Self {
        let log = LogPump::start(host.clone(), job.clone());
        Self { host, job, record, directive, observation, log, outgoing: None, base_snapshot: None, expected: None }
    }

    /// Drives the job until nothing of it is left, or the agent stops.
    ///
    /// # Errors
    /// The job should have been parked, and could not be.
    pub(crate) async fn run(mut self) -> Result<()> {
        loop {
            self.publish();
            let directive = self.directive.borrow_and_update().clone();
            let act = decide(self.record.as_ref(), directive.as_ref());
            let outcome = match (act, directive) {
                (Action::Forget, directive) => {
                    let outcome = self.forget();
                    if outcome.is_ok() && directive.is_none() {
                        self.publish();
                        return Ok(());
                    }
                    outcome
                }
                (Action::Nothing, _) | (_, None) => {
                    if self.rest().await {
                        return self.close().await;
                    }
                    Ok(())
                }
                (act, Some(directive)) => self.act(act, &directive).await,
            };
            if let Err(error) = outcome {
                tracing::error!(job = %self.job, error = &error as &dyn std::error::Error, "job {} does not follow: it is tried again", self.job);
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.host.stop.cancelled() => return self.close().await,
                }
            }
        }
    }

    /// Does one thing. An error means that it is done again; what fails for good is in the record.
    async fn act(&mut self, act: Action, directive: &JobDirective) -> Result<()> {
        match act {
            Action::Nothing | Action::Forget => Ok(()),
            Action::Start => self.start(directive).await,
            Action::CallLost => {
                let reason = "it is not on its host any more".to_owned();
                self.keep(Record::new(directive, LocalState::Lost { reason }))
            }
            Action::Prepare(migration) => self.prepare(directive, migration).await,
            Action::PreCopy(migration) => self.pre_copy(directive, migration).await,
            Action::Freeze(migration) => self.freeze(directive, migration).await,
            Action::Clear => self.clear(),
            Action::Resume => self.resume(directive).await,
            Action::Keep => self.take_over(),
            Action::Stop => {
                if let Some(LocalState::Running { init, .. }) = self.record.as_ref().map(|record| &record.state) {
                    self.host.runtime.stop(&self.job_dir(directive), *init).await;
                }
                self.remove(directive).await
            }
            Action::Remove => self.remove(directive).await,
        }
    }

    /// Waits until there may be something to do; true when the agent stops.
    async fn rest(&mut self) -> bool {
        let init = match self.record.as_ref().map(|record| &record.state) {
            Some(LocalState::Running { init, .. } | LocalState::Restored { init, .. }) => Some(*init),
            _ => None,
        };
        let ended = async move {
            let Some(init) = init else { return std::future::pending().await };
            while init.lives() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let arrived = async {
            match &mut self.expected {
                Some(expected) => expected.connected().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.host.stop.cancelled() => return true,
            changed = self.directive.changed() => return changed.is_err(),
            () = ended => {}
            incoming = arrived => {
                self.receive(incoming).await;
                return false;
            }
        }
        if let Err(error) = self.ended().await {
            tracing::error!(job = %self.job, error = &error as &dyn std::error::Error, "the end of job {} is not kept", self.job);
        }
        false
    }

    // Starting and ending

    async fn start(&mut self, directive: &JobDirective) -> Result<()> {
        self.keep(Record::new(directive, LocalState::Starting))?;
        let job_dir = self.job_dir(directive);
        self.host.runtime.remove(&job_dir).await?;
        let held = match self.try_start(directive, &job_dir).await {
            Ok(Some(init)) => {
                tracing::info!(job = %self.job, pid = init.pid, "job {} runs as process {}", self.job, init.pid);
                LocalState::Running { init, attempt: Attempt::None }
            }
            Ok(None) => {
                self.send_output(&job_dir).await;
                end_of(&job_dir)
            }
            // The next agent of this host starts it.
            Err(error) if self.host.stop.is_cancelled() => return Err(error),
            Err(error) => {
                let reason = error.chain();
                tracing::warn!(job = %self.job, "job {} could not be started: {reason}", self.job);
                self.host.runtime.remove(&job_dir).await?;
                LocalState::FailedToStart { reason }
            }
        };
        self.hold(held)
    }

    async fn try_start(&mut self, directive: &JobDirective, job_dir: &JobDir) -> Result<Option<ProcessId>> {
        let image = self.image(directive).await?;
        bundle::furnish(job_dir, &directive.spec, &image, &self.host.config.hidden)?;
        self.furnish(job_dir, directive, &image).await?;
        Runtime::mount_root(job_dir, &image)?;
        self.host.network.lock().await.carried_here(job_dir.address(), job_dir.interface()).await?;
        self.host.filter.release(job_dir.address()).await?;
        self.host.runtime.run(job_dir).await
    }

    /// Makes the job's image ready, for as long as nothing else is ordered; reports say how far it is. From then on the record names this
    /// very image, whatever its tag comes to mean.
    pub(crate) async fn image(&mut self, directive: &JobDirective) -> Result<Image> {
        let mut directives = self.directive.clone();
        let is_other = |now: &JobDirective| now.generation != directive.generation || now.order != directive.order;
        let image = tokio::select! {
            image = self.host.images.ready_with(&directive.spec.image, |progress| self.tell(progress)) => image,
            () = self.host.stop.cancelled() => Err(Error::Superseded),
            _ = directives.wait_for(|now| now.as_ref().is_some_and(is_other)) => Err(Error::Superseded),
        };
        self.tell(String::new());
        let image = image?;
        if let (Some(digest), Some(mut record)) = (&image.digest, self.record.clone()) {
            record.spec.image = record.spec.image.pinned(digest);
            self.keep_quietly(record)?;
        }
        Ok(image)
    }

    /// Has the next report say how far something is that takes long.
    fn tell(&self, progress: String) {
        let Some(mut now) = self.record.as_ref().map(Record::observe) else { return };
        let mut seen = self.observation.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().map_or("", |seen| &seen.progress) != progress {
            // What is kept already may say more than is done yet.
            now.state = JobState::Starting;
            now.progress = progress;
            *seen = Some(now);
            self.host.observed.notify_one();
        }
    }

    /// Writes the bundle and makes the network.
    pub(crate) async fn furnish(&self, job_dir: &JobDir, directive: &JobDirective, image: &Image) -> Result<()> {
        let part = HostPart {
            job: &directive.job,
            opcenter: &self.host.config.opcenter,
            clock_offset_seconds: self.host.config.clock_offset_seconds,
            float: &self.host.config.float,
            hook_socket: &self.host.hook_socket(),
        };
        volume::check(&directive.spec.volumes, &self.host.config.hidden)?;
        bundle::write(job_dir, &directive.spec, image, &part)?;
        volume::make(job_dir, &directive.spec.volumes, &own::user(&directive.spec, image)).await?;
        let mtu = self.host.network.lock().await.mtu();
        Ok(job_dir.net(mtu).setup().await?)
    }

    /// Has the record say that the job has ended, if it has.
    async fn ended(&mut self) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let job_dir = self.host.job_dir(&record.job, record.generation, record.address);
        let held = match &record.state {
            LocalState::Running { init, .. } | LocalState::Restored { init, .. } if !init.lives() => end_of(&job_dir),
            _ => return Ok(()),
        };
        tracing::info!(job = %self.job, ?held, "job {} has ended", self.job);
        self.send_output(&job_dir).await;
        self.hold(held)
    }

    /// Who hears that a job has ended looks at its output: it goes first.
    pub(crate) async fn send_output(&self, job_dir: &JobDir) {
        self.log.follow(Some(job_dir.upper()));
        self.log.flush(Results::Included).await;
    }

    /// Removes everything of the job but the record that it is gone.
    async fn remove(&mut self, directive: &JobDirective) -> Result<()> {
        // A stale generation lies elsewhere than the one that the directive speaks of.
        let job_dir = match &self.record {
            Some(record) => self.host.job_dir(&record.job, record.generation, record.address),
            None => self.job_dir(directive),
        };
        if matches!(directive.order, JobOrder::Retire { .. }) {
            self.release_packets(&job_dir).await?;
            failpoint::check(&Phase::Retire.failpoint()).await?;
        }
        (self.outgoing, self.base_snapshot, self.expected) = (None, None, None);
        let ended = matches!(self.record.as_ref().map(|record| &record.state), Some(LocalState::Exited { .. }));
        self.log.flush(if ended { Results::Included } else { Results::Left }).await;
        self.log.follow(None);
        self.host.network.lock().await.carried_elsewhere(job_dir.address()).await?;
        self.host.runtime.remove(&job_dir).await?;
        self.host.filter.release(job_dir.address()).await?;
        tracing::info!(job = %self.job, "nothing of job {} is left here", self.job);
        let mut record = self.record.take().unwrap_or_else(|| Record::new(directive, LocalState::Gone));
        record.state = LocalState::Gone;
        self.keep(record)
    }

    /// Has packets for a job that has gone on elsewhere pass: gateways on this machine and clients of its published ports reach the job by
    /// way of this host, and would wait for as long as the removal takes. No socket of the job is left here that would answer them.
    async fn release_packets(&self, job_dir: &JobDir) -> Result<()> {
        if !matches!(self.record.as_ref().map(|record| &record.state), Some(LocalState::Frozen { .. })) {
            return Ok(());
        }
        self.host.network.lock().await.carried_elsewhere(job_dir.address()).await?;
        self.host.filter.release(job_dir.address()).await
    }

    fn forget(&mut self) -> Result<()> {
        self.record = None;
        Ok(mount::remove_tree(&self.host.jobs().join(self.job.as_str()))?)
    }

    /// Leaves the job as it should be when the agent is gone: as it is, or checkpointed where a stop of the agent is one of the host.
    async fn close(&mut self) -> Result<()> {
        let Some(record) = self.record.as_ref().filter(|_| self.host.config.park) else { return Ok(()) };
        let job_dir = self.host.job_dir(&record.job, record.generation, record.address);
        let mut parking = Ok(());
        if let LocalState::Running { init, .. } = record.state {
            parking = self.park(&job_dir).await;
            if let Err(error) = &parking {
                let lives = if init.lives() { "goes on without an agent" } else { "is lost" };
                tracing::error!(job = %self.job, error = error as &dyn std::error::Error, "job {} could not be parked and {lives}", self.job);
            }
        }
        let Some(record) = &self.record else { return parking };
        let parked = matches!(record.state, LocalState::Parked | LocalState::Frozen { .. });
        if let LocalState::Frozen { migration, .. } = &record.state {
            job_dir.checkpoint(migration).put_on_disk()?;
        }
        let still = job_dir.cgroup().pids().is_empty();
        if parked || still {
            // What stands still needs neither a mount nor an interface.
            let net = job_dir.net(0).teardown().await.map_err(Error::from);
            let volumes = volume::detach(&job_dir).await;
            let mounts = volumes.and(mount::unmount_below(job_dir.directory()).map_err(Error::from));
            if let Err(error) = net.and(mounts) {
                tracing::warn!(job = %self.job, error = &error as &dyn std::error::Error, "something of job {} stays mounted", self.job);
            }
        }
        parking
    }

    // What is held

    pub(crate) fn job_dir(&self, directive: &JobDirective) -> JobDir {
        self.host.job_dir(&directive.job, directive.generation, directive.address)
    }

    /// Keeps a record, on disk first.
    pub(crate) fn keep(&mut self, record: Record) -> Result<()> {
        record.save(&self.host.jobs().join(self.job.as_str()))?;
        self.record = Some(record);
        self.publish();
        Ok(())
    }

    /// Changes what is held.
    pub(crate) fn hold(&mut self, state: LocalState) -> Result<()> {
        let Some(mut record) = self.record.clone() else { return Ok(()) };
        record.state = state;
        self.keep(record)
    }

    /// Keeps a record that is not to be reported yet.
    pub(crate) fn keep_quietly(&mut self, record: Record) -> Result<()> {
        record.save(&self.host.jobs().join(self.job.as_str()))?;
        self.record = Some(record);
        Ok(())
    }

    /// Has the next report say what is held.
    pub(crate) fn publish(&self) {
        let now = self.record.as_ref().map(Record::observe);
        let mut seen = self.observation.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen != now {
            *seen = now;
            self.host.observed.notify_one();
        }
        drop(seen);
        let lies =
            self.record.as_ref().filter(|record| !matches!(record.state, LocalState::Gone | LocalState::Starting));
        let upper = lies.map(|record| self.host.job_dir(&record.job, record.generation, record.address).upper());
        self.log.follow(upper);
    }
}

/// How a job whose first process is gone has ended.
pub(crate) fn end_of(job_dir: &JobDir) -> LocalState {
    match own::exit_code(job_dir) {
        Some(code) => LocalState::Exited { code },
        None => LocalState::Lost {
            reason: "its first process is gone and left no exit code: it was killed, or its host was restarted".into(),
        },
    }
}

/// Finds out what came of what a record says, after the agent was killed or stopped.
pub(crate) async fn recover(host: &Host, mut record: Record) -> Record {
    let job_dir = host.job_dir(&record.job, record.generation, record.address);
    let runs = || host.runtime.init(&job_dir);
    let found = match record.state.clone() {
        LocalState::Starting => runs()
            .map(|init| LocalState::Running { init, attempt: Attempt::None })
            .or_else(|| own::exit_code(&job_dir).map(|code| LocalState::Exited { code })),
        LocalState::Parked => {
            host.runtime.settled(job_dir.parked().images()).await;
            runs().map(|init| LocalState::Running { init, attempt: Attempt::None })
        }
        LocalState::Running { init, attempt } => {
            let attempt = match attempt {
                // The connection that the files went over is gone: they go again.
                Attempt::PreCopied(_) => Attempt::None,
                Attempt::SnapshotTaken(migration) => {
                    let reason = "the source's agent was restarted".to_owned();
                    Attempt::Failed { migration, phase: Phase::Transfer, reason }
                }
                other => other,
            };
            Some(if init.lives() { LocalState::Running { init, attempt } } else { end_of(&job_dir) })
        }
        LocalState::Restored { init, .. } => (!init.lives()).then(|| end_of(&job_dir)),
        LocalState::Freezing { init, migration } => Some(recover_freezing(host, &job_dir, init, migration).await),
        LocalState::Frozen { migration, release } => Some(recover_frozen(host, &job_dir, migration, release).await),
        LocalState::Arriving { migration } => {
            if let Err(error) = job_dir.cgroup().kill_all() {
                tracing::warn!(job = %record.job, error = &error as &dyn std::error::Error, "what was arriving still runs");
            }
            host.runtime.settled(job_dir.checkpoint(&migration).images()).await;
            let reason = "the destination's agent was restarted".to_owned();
            Some(LocalState::ArrivalFailed { migration, phase: Phase::Restore, reason })
        }
        _ => None,
    };
    if let Some(found) = found {
        tracing::info!(job = %record.job, was = ?record.state, is = ?found, "found job {} again", record.job);
        record.state = found;
    }
    if let LocalState::Running { .. } | LocalState::Restored { .. } = record.state {
        let carried = host.network.lock().await.carried_here(job_dir.address(), job_dir.interface()).await;
        if let Err(error) = carried {
            tracing::error!(job = %record.job, error = &error as &dyn std::error::Error, "job {} can't be reached", record.job);
        }
        // It may have been restored and not been let go.
        let peers = match record.state {
            LocalState::Restored { .. } => Peers::OutsideLost,
            _ => Peers::Kept,
        };
        if let Err(error) = restore::set_going(host, &job_dir, peers).await {
            tracing::error!(job = %record.job, error = &error as &dyn std::error::Error, "job {} may stand still", record.job);
        }
    }
    if let Err(error) = record.save(&host.jobs().join(record.job.as_str())) {
        tracing::error!(job = %record.job, error = &error as &dyn std::error::Error, "what was found of job {} is not kept", record.job);
    }
    record
}

async fn recover_freezing(
    host: &Host,
    job_dir: &JobDir,
    init: ProcessId,
    migration: mooring_types::MigrationId,
) -> LocalState {
    use mooring_types::migration::Phase;
    let dumped = host.runtime.checkpoint_outcome(job_dir.checkpoint(&migration).images()).await;
    let reason = "the source's agent was restarted".to_owned();
    if init.lives() {
        // It may stand still, frozen for a dump that did not come to be.
        if let Err(error) = job_dir.cgroup().thaw() {
            tracing::warn!(error = &error as &dyn std::error::Error, "a job may still be frozen");
        }
        if let Err(error) = host.filter.release(job_dir.address()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "packets for a job may still be held");
        }
        return LocalState::Running { init, attempt: Attempt::Failed { migration, phase: Phase::Freeze, reason } };
    }
    match dumped {
        Some(true) => LocalState::Frozen { migration, release: Release::Refused { phase: Phase::Transfer, reason } },
        _ => end_of(job_dir),
    }
}

async fn recover_frozen(
    host: &Host,
    job_dir: &JobDir,
    migration: mooring_types::MigrationId,
    release: Release,
) -> LocalState {
    use mooring_types::migration::Phase;
    // A restore of one's own may have been under way.
    host.runtime.settled(job_dir.checkpoint(&migration).images()).await;
    let reason = "the source's agent was restarted".to_owned();
    match (host.runtime.init(job_dir), release) {
        (Some(init), _) => {
            LocalState::Running { init, attempt: Attempt::Failed { migration, phase: Phase::Transfer, reason } }
        }
        (None, Release::Withheld) => {
            LocalState::Frozen { migration, release: Release::Refused { phase: Phase::Transfer, reason } }
        }
        (None, release) => LocalState::Frozen { migration, release },
    }
}
