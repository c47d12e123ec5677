//! The destination of a migration: it makes ready, receives the job from another host or reads it
//! from the capsule store, and restores it.
//!
//! ```text
//!  from a host     make ready │ expect the source │ receive everything
//!  from the store  make ready, read everything but memory meanwhile
//!
//!  then            restore (from the store, read memory meanwhile) │ verify │ Restored
//! ```
//!
//! The record `Restored` is the point of no return: the job has not taken a step before it is
//! written.

use std::pin::pin;
use std::time::Duration;

use mooring_api::watch::{Connections, Origin};
use mooring_linux::process::ProcessId;
use mooring_ops::failpoint;
use mooring_ops::log::chain;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, MigrationId};
use tokio::time::Instant;

use super::connections;
use super::criu::memory_gate::{self, Opener};
use super::datagrams;
use super::failure::{Failure, InPhase};
use super::restore::{self, Peers};
use super::stream::frame::Hello;
use super::stream::from_store::{FrameReader, Unpacking};
use super::stream::listener::{Reception, SourceConnection};
use super::stream::tls::PeerHost;
use crate::error::{CriuError, Error, Result};
use crate::job::directives::Directives;
use crate::job::furnish;
use crate::job::held::HeldJob;
use crate::job::state::{Inbound, LocalState, Running};
use crate::look::{self, Differences};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::fence;
use crate::runtime::image::Image;
use crate::runtime::job_dir::JobDir;
use crate::runtime::volume;

/// Makes ready for the job. From another host it is expected then; from the store it is restored.
///
/// # Errors
/// The record can't be written. Everything else that fails is recorded.
pub(crate) async fn prepare(
    job: &mut HeldJob,
    directives: &Directives,
    migration: MigrationId,
    from: Origin,
) -> Result<()> {
    let started = Instant::now();
    // A report would call the job prepared.
    job.enter_quietly(receiving(&migration, Inbound::Preparing))?;
    match from {
        Origin::Host { host, key, token } => {
            if let Err(failure) = make_ready_for_host(job, directives, &migration, started).await {
                return receive_failed(job, migration, failure);
            }
            let hello = Hello { migration: migration.clone(), job: job.id().clone(), token };
            let expected = job.host().migrations.expect(hello, PeerHost { host, key });
            job.enter(receiving(&migration, Inbound::Expected(expected)))
        }
        Origin::Store { capsule, connections } => {
            let peers = match connections {
                Connections::Kept => Peers::OutsideLost,
                Connections::Reset => Peers::AllLost,
            };
            restore_from_store(job, directives, migration, &capsule, peers, started).await
        }
    }
}

async fn make_ready_for_host(
    job: &mut HeldJob,
    directives: &Directives,
    migration: &MigrationId,
    started: Instant,
) -> Result<(), Failure> {
    clear_job_dir(job, migration).await.in_phase(Phase::Prepare)?;
    make_ready(job, directives, started).await.in_phase(Phase::Prepare)
}

async fn restore_from_store(
    job: &mut HeldJob,
    directives: &Directives,
    migration: MigrationId,
    capsule: &CapsuleName,
    peers: Peers,
    started: Instant,
) -> Result<()> {
    let checkpoint = job.job_dir().checkpoint(&migration);
    let unpacking = tokio::select! {
        unpacking = begin_unpacking(job, directives, &checkpoint, &migration, capsule, started) => unpacking,
        // The order that came instead removes what is here.
        () = directives.superseded(&migration) => return Ok(()),
    };
    match unpacking {
        Ok(unpacking) => finish(job, directives, migration, &checkpoint, peers, Some(unpacking)).await,
        Err(failure) => receive_failed(job, migration, failure),
    }
}

/// Reads all of a capsule that a restore begins with, while everything else is made ready. What is
/// read needs nothing but the volumes that files go into.
async fn begin_unpacking<'a>(
    job: &mut HeldJob,
    directives: &Directives,
    checkpoint: &'a Checkpoint,
    migration: &MigrationId,
    capsule: &CapsuleName,
    started: Instant,
) -> Result<Unpacking<'a>, Failure> {
    let (host, job_dir) = (job.host().clone(), job.job_dir());
    let store = job.capsule_store();
    let opened = async { FrameReader::open(&store?, capsule).await };
    let (cleared, opened) = tokio::join!(clear_job_dir(job, migration), opened);
    cleared.in_phase(Phase::Prepare)?;
    let mut unpacking = Unpacking::new(opened.in_phase(Phase::Transfer)?, &job_dir, checkpoint);
    host.filter.hold(job_dir.address()).in_phase(Phase::Prepare)?;
    let waits_for_volumes = volume::take_files(&job.journal.spec.volumes);
    let made_ready = async {
        make_ready(job, directives, started).await.in_phase(Phase::Prepare)?;
        job.publish();
        Ok(Instant::now())
    };
    let ready = if waits_for_volumes {
        made_ready.await?
    } else {
        let lost = |error| Failure { phase: Phase::Transfer, error };
        unpacking.alongside(made_ready, lost).await?
    };
    unpacking.restorable().await.in_phase(Phase::Transfer)?;
    // What was read before that moment took nobody's time.
    job.journal.measure(Phase::Transfer, ready, checkpoint.size());
    Ok(unpacking)
}

/// Removes what an earlier migration may have left, and makes the directories that the stream
/// fills.
async fn clear_job_dir(job: &HeldJob, migration: &MigrationId) -> Result<()> {
    failpoint::check(&Phase::Prepare.failpoint()).await?;
    let job_dir = job.job_dir();
    job.host().runtime.remove(&job_dir).await?;
    job_dir.make_upper()?;
    job_dir.checkpoint(migration).make()
}

/// Makes image, bundle and network.
async fn make_ready(job: &mut HeldJob, directives: &Directives, started: Instant) -> Result<()> {
    furnish::check_disk(job)?;
    let image = furnish::ready_image(job, directives).await?;
    furnish::make_bundle(job, &image).await?;
    job.image = Some(image.without_lease());
    job.journal.measure(Phase::Prepare, started, 0);
    Ok(())
}

/// Receives the job from another host, and restores it once all of it is here.
///
/// # Errors
/// The record can't be written. Everything else that fails is recorded.
pub(crate) async fn receive(job: &mut HeldJob, directives: &Directives, connection: SourceConnection) -> Result<()> {
    let LocalState::Receiving { migration, inbound: _ } = &job.state else { return Err(job.wrong_state("receive")) };
    let (migration, job_dir, filter) = (migration.clone(), job.job_dir(), job.host().filter.clone());
    let checkpoint = job_dir.checkpoint(&migration);
    let hold = async || Ok(filter.hold(job_dir.address())?);
    let reception = tokio::select! {
        reception = connection.receive(&job_dir, &checkpoint, hold) => reception,
        // The order that came instead removes what is here.
        () = directives.superseded(&migration) => return Ok(()),
    };
    match reception {
        Reception::Complete => finish(job, directives, migration, &checkpoint, Peers::OutsideLost, None).await,
        Reception::LostBeforeFreeze(error) => {
            let id = job.id();
            tracing::info!(job = %id, error = %chain(&error), "lost the source of job {id} before the freeze; it may connect again");
            Ok(())
        }
        Reception::LostAfterFreeze(error) => receive_failed(job, migration, Failure { phase: Phase::Transfer, error }),
    }
}

/// Restores and verifies the job, and records that it is here; `memory` may still be read.
async fn finish(
    job: &mut HeldJob,
    directives: &Directives,
    migration: MigrationId,
    checkpoint: &Checkpoint,
    peers: Peers,
    memory: Option<Unpacking<'_>>,
) -> Result<()> {
    // No other connection of the source is taken from here on.
    job.state = receiving(&migration, Inbound::Restoring);
    let job_dir = job.job_dir();
    // OpCenter may give this host up before it hears that the job is here.
    if let Err(error) = fence::set(&job_dir, job.host().lease.path(), true) {
        return receive_failed(job, migration, Failure { phase: Phase::Restore, error });
    }
    let restored = tokio::select! {
        restored = restore_and_verify(job, &job_dir, checkpoint, memory) => restored,
        // The order that came instead removes what is here. Nothing of it has executed.
        () = directives.superseded(&migration) => return Ok(job_dir.cgroup().kill_all()?),
    };
    match restored {
        Ok(process) => {
            job.journal.unaccepted = match peers {
                Peers::Kept | Peers::OutsideLost => connections::lacking(checkpoint.images()),
                Peers::AllLost => None,
            };
            // The point of no return: with this record the job is this host's, and it has not taken
            // a step before.
            job.enter(LocalState::Restored { migration, process })?;
            restore::let_run_at_last(job, &job_dir, peers).await;
            Ok(())
        }
        Err(failure) => {
            // Nothing of the job may execute when OpCenter learns of the failure. Its sockets tell
            // nobody that they end, as packets from it are still dropped.
            job_dir.cgroup().kill_all()?;
            receive_failed(job, migration, failure)
        }
    }
}

async fn restore_and_verify(
    job: &mut HeldJob,
    job_dir: &JobDir,
    checkpoint: &Checkpoint,
    memory: Option<Unpacking<'_>>,
) -> Result<ProcessId, Failure> {
    let source = if memory.is_some() { Source::Store } else { Source::Host };
    let started = Instant::now();
    // A restarted agent has forgotten what it made ready.
    let image = match job.image.take() {
        Some(image) => image,
        None => job.host().images.ready(&job.journal.spec.image).await.in_phase(Phase::Restore)?,
    };
    let (process, waited) = restore_with_memory(job, job_dir, &image, checkpoint, memory).await?;
    // The time that the restore waited for memory belongs to the transfer.
    // Another host knows how much it has sent: images may be larger.
    let bytes = match source {
        Source::Store => checkpoint.size(),
        Source::Host => 0,
    };
    job.journal.measure(Phase::Restore, started + waited, bytes);
    job.journal.measure_more(Phase::Transfer, waited);
    let started = Instant::now();
    let verified = verify(job, job_dir, checkpoint, process, source).await.in_phase(Phase::Verify);
    job.journal.measure(Phase::Verify, started, 0);
    verified.map(|()| process)
}

/// Restores the job while memory is read; returns how long the restore waited for memory as well.
async fn restore_with_memory(
    job: &HeldJob,
    job_dir: &JobDir,
    image: &Image,
    checkpoint: &Checkpoint,
    memory: Option<Unpacking<'_>>,
) -> Result<(ProcessId, Duration), Failure> {
    let (host, spec) = (job.host(), &job.journal.spec);
    failpoint::check(&Phase::Restore.failpoint()).await.in_phase(Phase::Restore)?;
    let Some(memory) = memory else {
        let restored = restore::restore(host, job_dir, spec, image, checkpoint, None).await;
        return Ok((restored.in_phase(Phase::Restore)?, Duration::ZERO));
    };
    let (opener, gate) = memory_gate::closed();
    let restoring = restore::restore(host, job_dir, spec, image, checkpoint, Some(gate.clone()));
    let process = join_restore(restoring, memory, opener).await?;
    Ok((process, gate.waited().unwrap_or_default()))
}

/// Awaits a restore and the memory that it reads. Where memory fails, the restore is awaited too:
/// it ends at the gate.
async fn join_restore(
    restore: impl Future<Output = Result<ProcessId>>,
    memory: Unpacking<'_>,
    opener: Opener,
) -> Result<ProcessId, Failure> {
    let (mut restore, mut memory) = (pin!(restore), pin!(read_memory(memory, opener)));
    tokio::select! {
        restored = &mut restore => {
            let process = restored.in_phase(Phase::Restore)?;
            memory.await.in_phase(Phase::Transfer)?;
            Ok(process)
        }
        read = &mut memory => {
            let restored = restore.await;
            read.in_phase(Phase::Transfer)?;
            restored.in_phase(Phase::Restore)
        }
    }
}

async fn read_memory(mut memory: Unpacking<'_>, opener: Opener) -> Result<()> {
    memory.complete().await?;
    opener.open();
    Ok(())
}

/// The origin of a job that is restored here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Another host, which goes on with the job if this one can't.
    Host,
    /// The capsule store.
    Store,
}

/// Checks that the first process of a restored job lives, frozen, in the job's control group. Gives
/// the job all that CRIU has not restored, and compares it with what it was. Something that it has
/// lost is an error; any other difference is told.
async fn verify(
    job: &mut HeldJob,
    job_dir: &JobDir,
    checkpoint: &Checkpoint,
    process: ProcessId,
    source: Source,
) -> Result<()> {
    failpoint::check(&Phase::Verify.failpoint()).await?;
    if !process.lives() || !job_dir.cgroup().pids().contains(&process.pid) {
        return Err(CriuError::ProcessGone { pid: process.pid }.into());
    }
    match restore::complete(job_dir, checkpoint).await {
        // Nobody else has the job: it goes on without the rest.
        Err(error) if source == Source::Store => {
            let id = job.id();
            tracing::error!(job = %id, error = %chain(&error), "job {id} goes on without all that it had");
        }
        completed => completed?,
    }
    let Differences { lost, mut changed } = compare(job, job_dir, checkpoint).await?;
    match source {
        _ if lost.is_empty() => {}
        Source::Host => return Err(CriuError::NotWhole { what: Differences::told(&lost) }.into()),
        // Nobody else has the job: it goes on without what it has lost.
        Source::Store => changed.extend(lost),
    }
    if !changed.is_empty() {
        let id = job.id();
        tracing::warn!(job = %id, "job {id} is restored with differences: {}", Differences::told(&changed));
    }
    job.journal.differences = changed;
    Ok(())
}

async fn compare(job: &HeldJob, job_dir: &JobDir, checkpoint: &Checkpoint) -> Result<Differences> {
    let (host, job_dir, images) = (job.host().config.name.clone(), job_dir.clone(), checkpoint.images().to_owned());
    let compared = tokio::task::spawn_blocking(move || {
        let mut found = look::at_restored(host.as_str(), &job_dir, &images)?;
        found.changed.extend(datagrams::dropped(&images)?);
        Ok(found)
    });
    let compared = compared.await;
    compared.map_err(|error| Error::system("compare the restored job with what it was")(error.into()))?
}

/// Makes a job that was received this host's own: the migration is over.
///
/// # Errors
/// The record can't be written.
pub(crate) fn take_over(job: &mut HeldJob, migration: &MigrationId, process: ProcessId) -> Result<()> {
    job.journal.forget_measures();
    job.enter(LocalState::Running(Running::new(process, None)))?;
    restore::clean_up(job.host(), job.job_dir().checkpoint(migration));
    Ok(())
}

fn receiving(migration: &MigrationId, inbound: Inbound) -> LocalState {
    LocalState::Receiving { migration: migration.clone(), inbound }
}

fn receive_failed(job: &mut HeldJob, migration: MigrationId, failure: Failure) -> Result<()> {
    let Failure { phase, error } = failure;
    let (id, reason) = (job.id(), error.chain());
    tracing::warn!(job = %id, "job {id} could not be received, in phase {phase}: {reason}");
    job.enter(LocalState::ReceiveFailed { migration, phase, reason })
}
