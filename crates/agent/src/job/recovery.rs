//! Finds out what became of a recorded job after the agent was killed or stopped.
//!
//! A record may lag by one step: the machine tells whether that step completed. Handles of the
//! earlier agent are gone, and with them its connections: a pre-copy starts over, a snapshot that
//! was being stored has failed.
//!
//! A frozen job whose processes are here stays frozen where the seal may have been sent, since the
//! destination may execute it. Where the seal was not sent, the job is thawed.

use std::sync::Arc;

use mooring_linux::process::ProcessId;
use mooring_ops::log::chain;
use mooring_types::MigrationId;
use mooring_types::migration::Phase;

use super::held::HeldJob;
use super::record::{Record, RecordedOutbound, RecordedState, Release};
use super::state::{AgentsPart, LocalState, Outbound, Running, end_of, exit_code};
use crate::host::Host;
use crate::migrate::restore::{self, Peers};
use crate::migrate::socket_files;
use crate::runtime::job_dir::JobDir;
use crate::runtime::removed_names;
use crate::runtime::thaw;

/// Returns a recorded job in the state in which it is found. What executes may be reached, and is
/// frozen only for lack of a lease.
pub(crate) async fn recover(host: &Arc<Host>, record: Record) -> HeldJob {
    let job_dir = host.job_dir(&record.job, record.generation, record.address);
    let recorded = record.state.clone();
    let state = find(host, &job_dir, recorded.clone()).await;
    let job = HeldJob::found(host.clone(), record, state);
    let id = job.id().clone();
    let found = job.state.recorded();
    if found != recorded {
        tracing::info!(job = %id, ?recorded, ?found, "found job {id} in another state than recorded");
    }
    match job.state {
        LocalState::Running(_) => reach(&job, &job_dir, Peers::Kept).await,
        LocalState::Frozen { process: Some(process), .. } if process.lives() => keep_frozen(&job, &job_dir).await,
        // The job may have been restored and not been let go.
        LocalState::Restored { .. } => reach(&job, &job_dir, Peers::OutsideLost).await,
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
        | LocalState::Gone => {}
    }
    if let Err(error) = job.save() {
        tracing::error!(job = %id, error = %chain(&error), "the state of job {id} could not be recorded");
    }
    job
}

/// Lets packets reach an executing job, and its processes run.
async fn reach(job: &HeldJob, job_dir: &JobDir, peers: Peers) {
    let (host, id) = (job.host(), job.id());
    let routed = host.network.lock().await.carried_here(job_dir.address(), job_dir.interface()).await;
    if let Err(error) = routed {
        tracing::error!(job = %id, error = %chain(&error), "job {id} can't be reached");
    }
    if let Err(error) = restore::let_run(host, job_dir, peers).await {
        tracing::error!(job = %id, error = %chain(&error), "job {id} may be frozen");
    }
}

/// Keeps a job frozen and out of reach of packets that may execute on another host.
async fn keep_frozen(job: &HeldJob, job_dir: &JobDir) {
    let id = job.id();
    if let Err(error) = job.host().filter.isolate(job_dir).await {
        tracing::error!(job = %id, error = %chain(&error), "packets of the frozen job {id} may pass");
    }
    let cgroup = job_dir.cgroup();
    if !cgroup.is_frozen()
        && let Err(error) = cgroup.freeze()
    {
        tracing::error!(job = %id, error = %chain(&error), "job {id} may execute here and elsewhere");
    }
}

async fn find(host: &Host, job_dir: &JobDir, recorded: RecordedState) -> LocalState {
    let running = || host.runtime.init(job_dir).map(executing);
    match recorded {
        RecordedState::Starting => match running() {
            Some(running) => running,
            None => {
                let code = exit_code(job_dir, AgentsPart::None).await;
                code.map_or(LocalState::Starting, |code| LocalState::Exited { code })
            }
        },
        RecordedState::Parked => {
            // A restore may have been under way.
            host.runtime.settled(job_dir.parked().images()).await;
            running().unwrap_or(LocalState::Parked)
        }
        RecordedState::Running { process, .. } if !process.lives() => {
            // The earlier agent may have been about to park it.
            let is_parked = job_dir.parked().images().exists();
            end_of(job_dir, if is_parked { AgentsPart::Checkpoint } else { AgentsPart::None }).await
        }
        RecordedState::Running { process, outbound } => {
            LocalState::Running(Running { process, outbound: find_outbound(outbound), base: None })
        }
        RecordedState::Restored { process, .. } if !process.lives() => end_of(job_dir, AgentsPart::None).await,
        RecordedState::Restored { migration, process } => LocalState::Restored { migration, process },
        RecordedState::Freezing { process, migration } => find_freezing(host, job_dir, process, migration).await,
        RecordedState::Frozen { process, migration, release } => {
            find_frozen(host, job_dir, process, migration, release).await
        }
        RecordedState::Receiving { migration } => {
            if let Err(error) = job_dir.cgroup().kill_all() {
                tracing::warn!(error = %chain(&error), "processes of a migration that broke off still run");
            }
            host.runtime.settled(job_dir.checkpoint(&migration).images()).await;
            let reason = "the destination's agent was restarted".to_owned();
            LocalState::ReceiveFailed { migration, phase: Phase::Restore, reason }
        }
        RecordedState::Absent => LocalState::Absent,
        RecordedState::Exited { code } => LocalState::Exited { code },
        RecordedState::FailedToStart { reason } => LocalState::FailedToStart { reason },
        RecordedState::Lost { reason } => LocalState::Lost { reason },
        RecordedState::ReceiveFailed { migration, phase, reason } => {
            LocalState::ReceiveFailed { migration, phase, reason }
        }
        RecordedState::Gone => LocalState::Gone,
    }
}

fn executing(process: ProcessId) -> LocalState {
    LocalState::Running(Running::new(process, None))
}

fn find_outbound(recorded: RecordedOutbound) -> Outbound {
    match recorded {
        RecordedOutbound::None | RecordedOutbound::PreCopied(_) => Outbound::None,
        RecordedOutbound::SnapshotTaken(migration) => {
            Outbound::Failed { migration, phase: Phase::Transfer, reason: source_restarted() }
        }
        RecordedOutbound::Stored { migration, stored_bytes, base } => {
            Outbound::Stored { migration, stored_bytes, base }
        }
        RecordedOutbound::Failed { migration, phase, reason } => Outbound::Failed { migration, phase, reason },
    }
}

async fn find_freezing(host: &Host, job_dir: &JobDir, process: ProcessId, migration: MigrationId) -> LocalState {
    let complete = host.runtime.checkpoint_outcome(job_dir.checkpoint(&migration).images()).await;
    if process.lives() {
        // The job may still be frozen for a checkpoint that was not completed.
        socket_files::sweep(job_dir);
        removed_names::sweep(job_dir);
        restore::put_back(job_dir).await;
        if let Err(error) = thaw::thaw(job_dir) {
            tracing::warn!(error = %chain(&error), "a job may still be frozen");
        }
        if let Err(error) = host.filter.release(job_dir).await {
            tracing::warn!(error = %chain(&error), "packets for a job may still be dropped");
        }
        let outbound = Outbound::Failed { migration, phase: Phase::Freeze, reason: source_restarted() };
        return LocalState::Running(Running { process, outbound, base: None });
    }
    match complete {
        Some(true) => frozen(migration, refused()),
        Some(false) | None => end_of(job_dir, AgentsPart::Checkpoint).await,
    }
}

async fn find_frozen(
    host: &Host,
    job_dir: &JobDir,
    process: Option<ProcessId>,
    migration: MigrationId,
    release: Release,
) -> LocalState {
    if let Some(process) = process.filter(ProcessId::lives) {
        let outbound = match release {
            Release::Given | Release::Confirmed | Release::Stored { .. } => {
                return LocalState::Frozen { process: Some(process), migration, release, base: None };
            }
            Release::Withheld => Outbound::Failed { migration, phase: Phase::Transfer, reason: source_restarted() },
            Release::Refused { phase, reason } => Outbound::Failed { migration, phase, reason },
        };
        return LocalState::Running(Running { process, outbound, base: None });
    }
    // A restore of the own checkpoint may have been under way.
    host.runtime.settled(job_dir.checkpoint(&migration).images()).await;
    if let Some(process) = host.runtime.init(job_dir) {
        let outbound = Outbound::Failed { migration, phase: Phase::Transfer, reason: source_restarted() };
        return LocalState::Running(Running { process, outbound, base: None });
    }
    match release {
        Release::Withheld => frozen(migration, refused()),
        Release::Refused { .. } | Release::Given | Release::Confirmed | Release::Stored { .. } => {
            frozen(migration, release)
        }
    }
}

fn frozen(migration: MigrationId, release: Release) -> LocalState {
    LocalState::Frozen { process: None, migration, release, base: None }
}

fn refused() -> Release {
    Release::Refused { phase: Phase::Transfer, reason: source_restarted() }
}

fn source_restarted() -> String {
    "the source's agent was restarted".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_an_earlier_agent_are_gone() {
        let migration = MigrationId::random(&mut rand::rng());
        let found = |recorded| find_outbound(recorded).recorded();
        assert_eq!(found(RecordedOutbound::PreCopied(migration.clone())), RecordedOutbound::None);
        assert_eq!(
            found(RecordedOutbound::SnapshotTaken(migration.clone())),
            RecordedOutbound::Failed {
                migration: migration.clone(),
                phase: Phase::Transfer,
                reason: source_restarted()
            }
        );
        for kept in [
            RecordedOutbound::None,
            RecordedOutbound::Stored { migration: migration.clone(), stored_bytes: 1, base: None },
            RecordedOutbound::Failed { migration, phase: Phase::Freeze, reason: String::new() },
        ] {
            assert_eq!(found(kept.clone()), kept);
        }
    }
}
