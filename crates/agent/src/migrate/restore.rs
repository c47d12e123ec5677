//! Checkpoint and restore as both ends of a migration use them, and the rollback on a job's own
//! host.
//!
//! A restored job is frozen and no packet reaches it until [`let_run`]. Before that, its host
//! records that the job is here: the job has not taken a step then.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use mooring_api::watch::Connections;
use mooring_linux::connections;
use mooring_linux::process::ProcessId;
use mooring_ops::log::chain;
use mooring_types::job::JobSpec;

use super::connections::{self as unaccepted, Gateways};
use super::criu::memory_gate::MemoryGate;
use super::epoll_targets;
use super::listing::Listing;
use super::message_queues;
use super::record_locks;
use super::socket_files;
use super::terminals;
use super::timers;
use super::watches::{self, Watched};
use crate::error::{CriuError, Result};
use crate::host::Host;
use crate::job::held::HeldJob;
use crate::job::policy::OwnCheckpoint;
use crate::job::state::{LocalState, Outbound, Running};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::container::{Afterwards, Runtime};
use crate::runtime::image::Image;
use crate::runtime::inode_list;
use crate::runtime::job_dir::JobDir;
use crate::runtime::name_servers;
use crate::runtime::own;
use crate::runtime::removed_names;
use crate::runtime::seize;
use crate::runtime::thaw;
use crate::runtime::volume;

/// The pause before a job that could not be let run is tried again.
const LET_RUN_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The TCP peers of a restored job that still have matching connection state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peers {
    /// All of them.
    Kept,
    /// Those in the overlay. Connections to the outside had another host's address.
    OutsideLost,
    /// None: the peers have seen more of the job than the checkpoint knows of.
    AllLost,
}

/// Rolls back on the job's own host: thaws its processes, or restores them from a checkpoint that
/// the host has kept.
///
/// # Errors
/// The image or the network could not be made ready, or the record can't be written. A restore that
/// fails is recorded: the job is lost.
pub(crate) async fn restore_here(job: &mut HeldJob, from: OwnCheckpoint, connections: Connections) -> Result<()> {
    let peers = match connections {
        Connections::Kept => Peers::Kept,
        Connections::Reset => Peers::AllLost,
    };
    let (host, id, job_dir) = (job.host().clone(), job.id().clone(), job.job_dir());
    let checkpoint = match from {
        OwnCheckpoint::Migration(migration) => job_dir.checkpoint(&migration),
        OwnCheckpoint::Parked => job_dir.parked(),
    };
    if let LocalState::Frozen { process: Some(process), .. } = job.state
        && process.lives()
    {
        thaw(job, process, Outbound::None, peers).await?;
        tracing::info!(job = %id, "job {id} was thawed and goes on");
        clean_up(&host, checkpoint);
        return Ok(());
    }
    let image = host.images.ready(&job.journal.spec.image).await?;
    let mtu = host.network.lock().await.mtu();
    job_dir.net(mtu).setup().await?;
    host.filter.admit(&job_dir)?;
    match restore(&host, &job_dir, &job.journal.spec, &image, &checkpoint, None).await {
        Ok(process) => {
            if let Err(error) = complete(&job_dir, &checkpoint).await {
                tracing::error!(job = %id, error = %chain(&error), "job {id} goes on without all that it had");
            }
            job.journal.forget_measures();
            if peers == Peers::Kept {
                job.journal.unaccepted = unaccepted::lacking(checkpoint.images());
            }
            let base = job.state.take_base();
            job.enter(LocalState::Running(Running::new(process, base)))?;
            let_run_at_last(job, &job_dir, peers).await;
            tracing::info!(job = %id, "job {id} executes again");
            clean_up(&host, checkpoint);
            Ok(())
        }
        Err(error) => {
            let reason = format!("it could not be restored from its own checkpoint: {}", error.chain());
            tracing::error!(job = %id, "job {id} is lost: {reason}");
            job.enter(LocalState::Lost { reason })
        }
    }
}

/// Lets a frozen job execute again whose processes are still here. The record follows: a host that
/// can't write it lets the job run as well.
///
/// # Errors
/// The record can't be written.
pub(crate) async fn thaw(job: &mut HeldJob, process: ProcessId, outbound: Outbound, peers: Peers) -> Result<()> {
    let (id, job_dir) = (job.id(), job.job_dir());
    while let Err(error) = reach(job.host(), &job_dir, peers).await {
        tracing::error!(job = %id, error = %chain(&error), "job {id} is still frozen, retrying");
        tokio::time::sleep(LET_RUN_RETRY_DELAY).await;
    }
    let base = job.state.take_base();
    job.enter_reached(LocalState::Running(Running { process, outbound, base }))
}

/// Checkpoints the job to this host's own disk.
///
/// # Errors
/// The checkpoint failed, and the job executes on unless CRIU broke it; or the record can't be
/// written.
pub(crate) async fn park(job: &mut HeldJob) -> Result<()> {
    let job_dir = job.job_dir();
    let checkpoint = job_dir.parked();
    checkpoint.make_on_disk()?;
    inode_list::record(&job_dir.cgroup().pids(), &job_dir.root(), checkpoint.images())?;
    let sockets = Listing::read(&job_dir.upper())?.sockets().map(Path::to_owned).collect();
    if let Err(error) = dump(job.host(), &job_dir, &checkpoint, Afterwards::Ended, sockets).await {
        put_back(&job_dir).await;
        thaw::thaw(&job_dir)?;
        job.host().filter.release(&job_dir).await?;
        return Err(error);
    }
    job.enter(LocalState::Parked)
}

/// Checkpoints the job with CRIU; `sockets` are the names of its socket files.
///
/// # Errors
/// CRIU failed, or a hook refused, which is the error then.
pub(crate) async fn dump(
    host: &Host,
    job_dir: &JobDir,
    checkpoint: &Checkpoint,
    afterwards: Afterwards,
    sockets: Vec<PathBuf>,
) -> Result<()> {
    let (cgroup, images) = (job_dir.cgroup(), checkpoint.images());
    if afterwards == Afterwards::Ended {
        record_locks::write(&cgroup.pids(), images)?;
    }
    let registered = host.hooks.register(job_dir, images, None);
    registered.expect_sockets(sockets);
    registered.expect_gateways(Gateways::of_host(host).await);
    let (watching, written) = (job_dir.clone(), images.to_owned());
    let found = tokio::task::spawn_blocking(move || Watched::find(&watching, &written)).await;
    registered.expect_watches(found.map_err(|_| CriuError::FreezeAborted)??);
    let dumped = host.runtime.checkpoint(job_dir, images, afterwards);
    let outcome = seize::bounded(job_dir, images, &host.lease, || registered.is_asked(), dumped).await;
    seize::finish(job_dir);
    if outcome.is_err() {
        removed_names::sweep(job_dir);
    }
    registered.end(outcome)?;
    match afterwards {
        Afterwards::Frozen if !cgroup.is_frozen() => Err(CriuError::ThawedEarly.into()),
        Afterwards::Frozen => record_locks::write(&cgroup.pids(), images),
        Afterwards::Ended => Ok(()),
    }
}

/// Restores the job with CRIU, frozen and out of reach of packets. [`complete`] follows. With a
/// gate, the restore waits at it before it reads memory.
///
/// # Errors
/// The job could not be restored. Nothing of it executes.
pub(crate) async fn restore(
    host: &Host,
    job_dir: &JobDir,
    spec: &JobSpec,
    image: &Image,
    checkpoint: &Checkpoint,
    gate: Option<MemoryGate>,
) -> Result<ProcessId> {
    let mounted = async {
        volume::attach(job_dir, &spec.volumes, &own::user(spec, image), host.hidden()).await?;
        Runtime::mount_root_again(job_dir, image, checkpoint.images(), host.hidden()).await
    };
    let routed = async {
        host.filter.suppress_resets(job_dir).await?;
        Ok(host.network.lock().await.carried_here(job_dir.address(), job_dir.interface()).await?)
    };
    tokio::try_join!(mounted, routed)?;
    socket_files::make_directories(job_dir, checkpoint)?;
    let is_gated = gate.is_some();
    let registered = host.hooks.register(job_dir, checkpoint.images(), gate);
    let outcome = host.runtime.restore(job_dir, checkpoint.images(), is_gated).await;
    registered.end(outcome)
}

/// Gives a restored, frozen job what CRIU does not restore: names of sockets, record locks,
/// watches, timers, targets of epoll sets and message queues. Goes on after an error and returns
/// the first.
///
/// # Errors
/// The job has not all that its checkpoint has.
pub(crate) async fn complete(job_dir: &JobDir, checkpoint: &Checkpoint) -> Result<()> {
    let named = socket_files::name(job_dir, checkpoint);
    let (job, images) = (job_dir.clone(), checkpoint.images().to_owned());
    let others = tokio::task::spawn_blocking(move || {
        let locked = record_locks::take_again(&job.cgroup(), &images);
        // Names make events, which are removed with the watches.
        let targets = epoll_targets::restore(&job, &images);
        let queues = message_queues::restore(&job, &images);
        let timed = timers::restore(&job, &images);
        locked.and(targets).and(queues).and(timed).and(watches::restore(&job, &images))
    });
    let others = others.await.map_err(|_| CriuError::CompletionAborted.into()).flatten();
    name_servers::renew(job_dir);
    named.and(others)
}

/// Gives a job that goes on here what was taken from it for its checkpoint. Has to be called before
/// any thaw of a job that was checkpointed; does nothing where nothing was recorded.
pub(crate) async fn put_back(job_dir: &JobDir) {
    terminals::put_back(job_dir).await;
    epoll_targets::put_back(job_dir).await;
    message_queues::put_back(job_dir).await;
    // The others make events, which are removed with the watches.
    watches::put_back(job_dir).await;
}

/// Lets the job run, and retries until it does: it is on record as executing here.
pub(crate) async fn let_run_at_last(job: &HeldJob, job_dir: &JobDir, peers: Peers) {
    let id = job.id();
    while let Err(error) = let_run(job.host(), job_dir, peers).await {
        tracing::error!(job = %id, error = %chain(&error), "job {id} is still frozen, retrying");
        tokio::time::sleep(LET_RUN_RETRY_DELAY).await;
    }
}

/// Routes the job's address to this host, lets packets reach the job and thaws it.
///
/// # Errors
/// The network, the packet filter or the control group refuses.
pub(crate) async fn reach(host: &Host, job_dir: &JobDir, peers: Peers) -> Result<()> {
    host.network.lock().await.carried_here(job_dir.address(), job_dir.interface()).await?;
    let_run(host, job_dir, peers).await
}

/// Lets packets reach the job and thaws it. A job that runs already is left alone. One whose host
/// lacks a lease stays frozen.
///
/// # Errors
/// The packet filter or the control group refuses.
pub(crate) async fn let_run(host: &Host, job_dir: &JobDir, peers: Peers) -> Result<()> {
    socket_files::sweep(job_dir);
    removed_names::clear(job_dir)?;
    host.filter.release(job_dir).await?;
    let cgroup = job_dir.cgroup();
    if cgroup.is_frozen() {
        let network = host.network.lock().await;
        let (overlay, leads_away) = (network.overlay(), network.leads_away(job_dir.address()));
        drop(network);
        let is_outside = |peer: IpAddr| overlay.is_some_and(|overlay| !IpNet::from(overlay.range()).contains(&peer));
        let ended = match peers {
            Peers::Kept => 0,
            // Egress through a gateway's host keeps one address to the outside.
            Peers::OutsideLost if leads_away => 0,
            Peers::OutsideLost => connections::reset(&cgroup.pids(), is_outside),
            Peers::AllLost => connections::reset(&cgroup.pids(), |_| true),
        };
        let woken = connections::wake(&cgroup.pids());
        tracing::debug!(ended, woken, "ended {ended} connections of a restored job and woke {woken}");
    }
    put_back(job_dir).await;
    thaw::thaw(job_dir)
}

/// Removes a used checkpoint in the background: it takes longer than anyone should wait.
pub(crate) fn clean_up(host: &Host, checkpoint: Checkpoint) {
    let checkpoint = checkpoint.set_aside();
    host.tasks.spawn("clean up", async move {
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || checkpoint.remove()).await {
            tracing::warn!(error = %chain(&error), "a used checkpoint could not be removed");
        }
    });
}
