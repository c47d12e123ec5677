//! The driver of one job: the only task that touches the job.
//!
//! It wakes, reads the directive and the state of its job, performs one action, and starts over.
//! [`policy`](super::policy) decides on the action; its steps are here and in
//! [`migrate`](crate::migrate). Each step is in the job's record before it is taken.

use std::time::Duration;

use mooring_linux::process::ProcessId;
use mooring_linux::{mount, tree};
use mooring_ops::failpoint;
use mooring_ops::log::chain;
use mooring_types::migration::Phase;

use super::directives::Directives;
use super::disk_guard;
use super::furnish;
use super::held::HeldJob;
use super::log::Results;
use super::policy::{Action, Removal, UnderLease, decide, under_lease};
use super::state::{AgentsPart, Inbound, LocalState, Outbound, Running, end_of};
use crate::error::{Error, Result};
use crate::migrate::stream::listener::SourceConnection;
use crate::migrate::{destination, restore, source};
use crate::runtime::container::Runtime;
use crate::runtime::job_dir::JobDir;
use crate::runtime::{bundle, fence, thaw, volume};

/// The interval at which the end of a job is looked for.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The interval at which a job that needs a confirmed lease looks at it.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The pause before a failed action is repeated.
const ACTION_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The driver of one job.
#[derive(Debug)]
pub(crate) struct Driver {
    job: HeldJob,
    directives: Directives,
}

/// The reason for which a driver woke.
enum Wake {
    /// The agent stops.
    Stop,
    /// The directive may have changed.
    Directive,
    /// The job's first process has ended.
    Ended,
    /// The job may be let go on that was frozen for lack of a lease.
    Lease,
    /// The job may be let go on that was frozen for lack of disk.
    DiskFreed,
    /// The source of a migration has connected.
    Connected(SourceConnection),
}

/// The progress of a driver.
enum Progress {
    Continue,
    /// Nothing of the job is left to drive.
    Finished,
    /// The agent stops.
    Stopped,
}

impl Driver {
    pub(crate) fn new(job: HeldJob, directives: Directives) -> Self {
        Self { job, directives }
    }

    /// Drives the job until nothing of it is left, or the agent stops.
    ///
    /// # Errors
    /// The job should have been parked, and could not be.
    pub(crate) async fn run(mut self) -> Result<()> {
        loop {
            match self.step().await {
                Ok(Progress::Continue) => {}
                Ok(Progress::Finished) => return Ok(()),
                Ok(Progress::Stopped) => return self.close().await,
                Err(error) => {
                    let job = self.job.id();
                    tracing::error!(%job, error = %chain(&error), "could not carry out the order for job {job}, retrying");
                    tokio::select! {
                        () = tokio::time::sleep(ACTION_RETRY_DELAY) => {}
                        () = self.job.host().stop.cancelled() => return self.close().await,
                    }
                }
            }
        }
    }

    /// Performs the next action. An error means that it is repeated; permanent failures are
    /// recorded.
    async fn step(&mut self) -> Result<Progress> {
        self.job.publish();
        // A lease that is confirmed is confirmed by this directive or an earlier one.
        let is_confirmed = self.job.host().lease.is_confirmed();
        let directive = self.directives.follow();
        if let Some(directive) = &directive {
            self.job.adopt(directive)?;
            self.job.set_fence(directive)?;
        }
        let (job, directives) = (&mut self.job, &self.directives);
        let (generation, lease) = (job.journal.generation, job.under_lease(is_confirmed));
        let action = decide(generation, &job.state.recorded(), directive.as_ref());
        match under_lease(action, lease, generation, directive.as_ref()) {
            Action::Nothing | Action::AwaitLease => return self.rest(lease).await,
            Action::LiftFence => lift_fence(job)?,
            Action::Start => start(job, directives).await?,
            Action::ReportLost => {
                job.enter(LocalState::Lost { reason: "it is no longer on its host".to_owned() })?;
            }
            Action::Receive { migration, from } => destination::prepare(job, directives, migration, from).await?,
            Action::PreCopy { migration, to } => source::pre_copy(job, directives, migration, to).await?,
            Action::MoveToHost { migration } => source::move_to_host(job, directives, migration).await?,
            Action::Suspend { migration, to } => source::suspend(job, directives, migration, to).await?,
            Action::Snapshot { migration, base } => source::snapshot(job, directives, migration, base).await?,
            Action::ForgetMigration => {
                job.journal.forget_measures();
                job.set_outbound(Outbound::None)?;
            }
            Action::RestoreHere { from, connections } => restore::restore_here(job, from, connections).await?,
            Action::TakeOver { migration, process } => destination::take_over(job, &migration, process)?,
            Action::Stop { process } => {
                job.host().runtime.stop(&job.job_dir(), process).await;
                remove(job, Removal::Ended).await?;
            }
            Action::Remove(removal) => remove(job, removal).await?,
            Action::Forget => {
                tree::remove_tree(&job.journal.directory())?;
                job.state = LocalState::Absent;
                job.publish();
                return Ok(if directive.is_none() { Progress::Finished } else { Progress::Continue });
            }
            Action::End => return Ok(Progress::Finished),
        }
        Ok(Progress::Continue)
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self, lease: UnderLease) -> Result<Progress> {
        match self.wake(lease).await {
            Wake::Stop => return Ok(Progress::Stopped),
            Wake::Directive | Wake::Lease => {}
            Wake::DiskFreed => go_on(&self.job)?,
            Wake::Ended => record_end(&mut self.job).await?,
            Wake::Connected(connection) => {
                destination::receive(&mut self.job, &self.directives, connection).await?;
            }
        }
        Ok(Progress::Continue)
    }

    async fn wake(&mut self, lease: UnderLease) -> Wake {
        let process = match &self.job.state {
            LocalState::Running(Running { process, .. }) | LocalState::Restored { process, .. } => Some(*process),
            LocalState::Absent
            | LocalState::Starting
            | LocalState::Exited { .. }
            | LocalState::FailedToStart { .. }
            | LocalState::Lost { .. }
            | LocalState::Freezing { .. }
            | LocalState::Frozen { .. }
            | LocalState::Receiving { .. }
            | LocalState::ReceiveFailed { .. }
            | LocalState::Parked
            | LocalState::Gone => None,
        };
        let ended = async {
            let Some(process) = process else { return std::future::pending().await };
            while process.lives() {
                tokio::time::sleep(EXIT_POLL_INTERVAL).await;
            }
        };
        let (host, job_dir) = (self.job.host().clone(), self.job.job_dir());
        let confirmed = async {
            if !lease.is_fenced && !lease.is_frozen {
                return std::future::pending().await;
            }
            let is_news = || !lease.is_confirmed || (!lease.is_frozen && fence::is_closed(&job_dir));
            while !(host.lease.is_confirmed() && is_news()) {
                tokio::time::sleep(LEASE_POLL_INTERVAL).await;
            }
        };
        let host = self.job.host().clone();
        let freed = disk_guard::freed(&host, &job_dir);
        let stop = host.stop.clone();
        let connected = async {
            match &mut self.job.state {
                LocalState::Receiving { inbound: Inbound::Expected(expected), .. } => expected.connected().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Wake::Stop,
            changed = self.directives.changed() => if changed.is_err() { Wake::Stop } else { Wake::Directive },
            () = ended => Wake::Ended,
            () = confirmed => Wake::Lease,
            () = freed => Wake::DiskFreed,
            connection = connected => Wake::Connected(connection),
        }
    }

    /// Ends the driver. Where a stop of the agent is one of the host, the job is parked; elsewhere
    /// it executes on.
    async fn close(mut self) -> Result<()> {
        if !self.job.host().config.park || matches!(self.job.state, LocalState::Absent) {
            return Ok(());
        }
        let mut parking = Ok(());
        if let LocalState::Running(Running { process, .. }) = self.job.state {
            parking = restore::park(&mut self.job).await;
            if let Err(error) = &parking {
                let fate = if process.lives() { "executes on without an agent" } else { "is lost" };
                let job = self.job.id();
                tracing::error!(%job, error = %chain(error), "job {job} could not be parked and {fate}");
            }
        }
        let job_dir = self.job.job_dir();
        let parked = match &self.job.state {
            LocalState::Frozen { migration, .. } => {
                job_dir.checkpoint(migration).put_on_disk()?;
                // The checkpoint takes the place of the frozen processes.
                job_dir.cgroup().kill_all()?;
                true
            }
            LocalState::Parked => true,
            LocalState::Absent
            | LocalState::Starting
            | LocalState::Running(_)
            | LocalState::Exited { .. }
            | LocalState::FailedToStart { .. }
            | LocalState::Lost { .. }
            | LocalState::Freezing { .. }
            | LocalState::Receiving { .. }
            | LocalState::ReceiveFailed { .. }
            | LocalState::Restored { .. }
            | LocalState::Gone => false,
        };
        if parked || job_dir.cgroup().pids().is_empty() {
            self.detach(&job_dir).await;
        }
        parking
    }

    /// Removes the mounts and the interface of a job without processes.
    async fn detach(&self, job_dir: &JobDir) {
        let net = job_dir.net(0).teardown().await.map_err(Error::from);
        let volumes = volume::detach(job_dir).await;
        let mounts = volumes.and(mount::unmount_below(job_dir.directory()).map_err(Error::from));
        if let Err(error) = net.and(mounts) {
            let job = self.job.id();
            tracing::warn!(%job, error = %chain(&error), "some mounts of job {job} stay");
        }
    }
}

/// Lets a job go on that was frozen for lack of disk. What a migration has frozen stays frozen.
fn go_on(job: &HeldJob) -> Result<()> {
    let (id, job_dir) = (job.id(), job.job_dir());
    disk_guard::forget(&job_dir.short_of_disk())?;
    if matches!(job.state, LocalState::Running(_) | LocalState::Restored { .. }) {
        thaw::thaw(&job_dir)?;
        tracing::info!(job = %id, "the disk has room again, and job {id} goes on");
    }
    job.host().observed.notify_one();
    Ok(())
}

/// Lets a job go on that was frozen for lack of a lease. What a migration has frozen stays frozen.
fn lift_fence(job: &HeldJob) -> Result<()> {
    let (id, job_dir) = (job.id(), job.job_dir());
    fence::lift(&job_dir)?;
    if matches!(job.state, LocalState::Running(_) | LocalState::Restored { .. }) {
        thaw::thaw(&job_dir)?;
        tracing::warn!(job = %id, "job {id} was frozen while OpCenter could not be reached, and goes on");
    }
    Ok(())
}

/// Makes the job's container and starts it.
async fn start(job: &mut HeldJob, directives: &Directives) -> Result<()> {
    job.enter(LocalState::Starting)?;
    let (host, id, job_dir) = (job.host().clone(), job.id().clone(), job.job_dir());
    host.runtime.remove(&job_dir).await?;
    let state = match make_and_run(job, directives, &job_dir).await {
        Ok(Some(process)) => {
            tracing::info!(job = %id, pid = process.pid, "job {id} runs as process {}", process.pid);
            LocalState::Running(Running::new(process, None))
        }
        Ok(None) => {
            job.send_output().await;
            end_of(&job_dir, AgentsPart::None).await
        }
        // The next agent of this host starts it.
        Err(error) if host.stop.is_cancelled() => return Err(error),
        Err(error) => {
            let reason = error.chain();
            tracing::warn!(job = %id, "job {id} could not be started: {reason}");
            host.runtime.remove(&job_dir).await?;
            LocalState::FailedToStart { reason }
        }
    };
    job.enter(state)
}

async fn make_and_run(job: &mut HeldJob, directives: &Directives, job_dir: &JobDir) -> Result<Option<ProcessId>> {
    furnish::check_disk(job)?;
    let image = furnish::ready_image(job, directives).await?;
    let host = job.host();
    bundle::furnish(job_dir, &job.journal.spec, &image)?;
    furnish::make_bundle(job, &image).await?;
    Runtime::mount_root(job_dir, &image, host.hidden())?;
    host.network.lock().await.carried_here(job_dir.address(), job_dir.interface()).await?;
    host.filter.release(job_dir).await?;
    host.runtime.run(job_dir).await
}

/// Records that the job has ended.
async fn record_end(job: &mut HeldJob) -> Result<()> {
    let state = end_of(&job.job_dir(), AgentsPart::None).await;
    tracing::info!(job = %job.id(), ?state, "job {} has ended", job.id());
    job.send_output().await;
    job.enter(state)
}

/// Removes everything of the job but the record that it is gone.
async fn remove(job: &mut HeldJob, removal: Removal) -> Result<()> {
    let (host, id, job_dir) = (job.host().clone(), job.id().clone(), job.job_dir());
    if removal == Removal::Retired {
        release_packets(job, &job_dir).await?;
        failpoint::check(&Phase::Retire.failpoint()).await?;
    }
    job.close_handles();
    let results = if matches!(job.state, LocalState::Exited { .. }) { Results::Included } else { Results::Left };
    job.journal.log.flush(results).await;
    job.journal.log.follow(None);
    host.network.lock().await.carried_elsewhere(job_dir.address()).await?;
    host.runtime.remove(&job_dir).await?;
    host.filter.release(&job_dir).await?;
    tracing::info!(job = %id, "nothing of job {id} is left on this host");
    job.enter(LocalState::Gone)
}

/// Lets packets pass to a frozen job that now executes elsewhere.
///
/// Gateways on this host and clients of its published ports reach the job by way of this host, and
/// would wait until everything is removed. The frozen processes still have their sockets. Without
/// an interface these tell nobody that they end.
async fn release_packets(job: &HeldJob, job_dir: &JobDir) -> Result<()> {
    if matches!(job.state, LocalState::Frozen { .. }) {
        let host = job.host();
        job_dir.net(0).teardown().await?;
        host.network.lock().await.carried_elsewhere(job_dir.address()).await?;
        host.filter.release(job_dir).await?;
    }
    Ok(())
}
