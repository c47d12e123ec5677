//! The source of a migration: to another host, into the capsule store, and snapshots.
//!
//! ```text
//!                executing            frozen
//!  to a host     pre-copy files       checkpoint │ images, changed files │ seal
//!  suspend       pre-copy files and   checkpoint │ images, changed files │ seal │ read back
//!                memory
//!  snapshot      pre-copy files       checkpoint │ changed files │ thaw: images │ seal
//! ```
//!
//! The checkpoint leaves the processes frozen and out of reach of packets. They are ended when
//! OpCenter knows that the job is elsewhere; until then a rollback is a thaw.
//!
//! To a host, and in a suspend, memory is sent while CRIU still writes it. Into the store, the seal
//! completes the capsule.
//!
//! A capsule store may go away while a job is frozen. The job then goes on for as long, and is
//! frozen again later; a snapshot fails, since another one follows.
//!
//! The record says that the seal is sent before it is. From then on the destination may execute the
//! job, and only OpCenter lets this host roll back. A capsule in the store is restored by nobody
//! until OpCenter knows it to be complete. So a suspend may be rolled back at any time.

use std::future::pending;
use std::time::Duration;

use mooring_api::watch::{AfterCheckpoint, Destination};
use mooring_capsule::{CapsuleStore, Facts, Manifest};
use mooring_linux::process::ProcessId;
use mooring_ops::failpoint;
use mooring_ops::log::chain;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, Clock, MigrationId, SystemClock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connections;
use super::mapped::{self, MappedFile};
use super::restore::{self, Peers};
use super::shared_locks;
use super::stream::frame::Hello;
use super::stream::from_store;
use super::stream::sender::{CapsuleSender, StoredCapsule};
use super::stream::tls::PeerHost;
use crate::error::{Error, Result};
use crate::job::directives::Directives;
use crate::job::held::HeldJob;
use crate::job::record::Release;
use crate::job::state::{AgentsPart, LocalState, Outbound, Running, exit_code};
use crate::look;
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::container::Afterwards;
use crate::runtime::fence;
use crate::runtime::inode_list;
use crate::runtime::job_dir::JobDir;
use crate::runtime::removed_names;

/// The longest time for which a job stays frozen because the capsule store is away.
const AWAY_WHILE_FROZEN_MAX: Duration = Duration::from_secs(2);
/// The number of times that a job is frozen to be suspended, while the store comes and goes. The
/// last time it waits for the store.
const SUSPEND_ATTEMPTS: usize = 4;

/// Sends the job's files, and its memory where that shortens the pause, while the job executes.
///
/// # Errors
/// The record can't be written. A pre-copy that fails is recorded.
pub(crate) async fn pre_copy(
    job: &mut HeldJob,
    directives: &Directives,
    migration: MigrationId,
    to: Destination,
) -> Result<()> {
    let started = Instant::now();
    job.journal.forget_measures();
    let sent = tokio::select! {
        sent = send_ahead(job, &migration, to) => sent,
        () = directives.superseded(&migration) => Err(Error::Superseded),
    };
    let outbound = match sent {
        Ok(sender) => {
            job.journal.measure(Phase::PreCopy, started, sender.bytes());
            Outbound::PreCopied { migration, sender: Box::new(sender) }
        }
        Err(error) => failed(migration, Phase::PreCopy, &error),
    };
    job.set_outbound(outbound)
}

async fn send_ahead(job: &HeldJob, migration: &MigrationId, to: Destination) -> Result<CapsuleSender> {
    failpoint::check(&Phase::PreCopy.failpoint()).await?;
    look::before_freeze(job).await?;
    let (host, job_dir) = (job.host(), job.job_dir());
    match to {
        Destination::Host { host: peer, address, key, token } => {
            let hello = Hello { migration: migration.clone(), job: job.id().clone(), token };
            let (own, peer) = (host.config.underlay, PeerHost { host: peer, key });
            let mut sender = CapsuleSender::open(&host.identity, own, address, &peer, hello).await?;
            sender.pre_copy_files(&job_dir).await?;
            Ok(sender)
        }
        Destination::Store { capsule, then, base: _ } => {
            let mut sender = CapsuleSender::create_capsule(&job.capsule_store()?, &capsule).await?;
            sender.pre_copy_files(&job_dir).await?;
            match then {
                // Memory is compressed and stored before the freeze. Between hosts a pre-copy would
                // not shorten the pause: CRIU writes all of memory in any case.
                AfterCheckpoint::StayFrozen => sender.pre_copy_memory(job_dir.cgroup().pids()).await?,
                AfterCheckpoint::GoOn => {}
            }
            Ok(sender)
        }
    }
}

/// A job that is checkpointed and frozen on this host, and the connection to its destination.
struct Frozen {
    /// The first process.
    process: ProcessId,
    sender: CapsuleSender,
    checkpoint: Checkpoint,
    /// The files that the job had mapped for writing: they are sent again.
    mapped: Vec<MappedFile>,
    /// The outcome of sending memory during the checkpoint.
    memory_sent: Result<()>,
}

/// Freezes the job, checkpoints it, and sends the checkpoint to the other host.
///
/// # Errors
/// The record can't be written. Everything else that fails is recorded.
pub(crate) async fn move_to_host(job: &mut HeldJob, directives: &Directives, migration: MigrationId) -> Result<()> {
    let Some(frozen) = freeze(job, &migration, None).await? else { return Ok(()) };
    let started = Instant::now();
    let process = frozen.process;
    let mut sender = match send_checkpoint(job, directives, &migration, frozen).await {
        Ok(sender) => sender,
        Err(error) => return roll_back(job, process, migration, &error).await,
    };
    // From here on the destination may execute the job: only OpCenter lets this host go on.
    enter_frozen(job, &migration, Release::Given)?;
    match sender.seal().await {
        Ok(()) => {
            job.journal.measure(Phase::Transfer, started, sender.bytes());
            enter_frozen(job, &migration, Release::Confirmed)
        }
        Err(error) => {
            let id = job.id();
            tracing::warn!(job = %id, error = %chain(&error), "the destination may have job {id} or not");
            Ok(())
        }
    }
}

/// Freezes the job, checkpoints it, stores the checkpoint, and reads it back. Where the store goes
/// away meanwhile, the job executes until it is back, and is frozen again.
///
/// # Errors
/// The record can't be written. Everything else that fails is recorded.
pub(crate) async fn suspend(
    job: &mut HeldJob,
    directives: &Directives,
    migration: MigrationId,
    to: Destination,
) -> Result<()> {
    let capsules = match job.capsule_store() {
        Ok(capsules) => capsules,
        Err(error) => return job.fail_outbound(failed(migration, Phase::Freeze, &error)),
    };
    for attempts_left in (0..SUSPEND_ATTEMPTS).rev() {
        let needed = (attempts_left > 0).then_some(&capsules);
        let Some(frozen) = freeze(job, &migration, needed).await? else { return Ok(()) };
        let started = Instant::now();
        let process = frozen.process;
        let stored = tokio::select! {
            stored = store_frozen(job, directives, &migration, frozen, &capsules) => stored,
            error = away(needed) => Err(error),
        };
        match stored {
            Ok((stored_bytes, bytes)) => {
                job.journal.measure(Phase::Transfer, started, bytes);
                return enter_frozen(job, &migration, Release::Stored { stored_bytes });
            }
            Err(error) if needed.is_some() && is_away(&error) && process.lives() => {
                if !go_on_until_store_is_back(job, directives, &migration, process, to.clone()).await? {
                    return Ok(());
                }
            }
            Err(error) => return roll_back(job, process, migration, &error).await,
        }
    }
    Ok(())
}

/// Resolves with an error when a capsule store is away for longer than a job should be frozen.
async fn away(store: Option<&CapsuleStore>) -> Error {
    match store {
        Some(store) => {
            store.away(AWAY_WHILE_FROZEN_MAX).await;
            store.unreachable().into()
        }
        None => pending().await,
    }
}

fn is_away(error: &Error) -> bool {
    matches!(error, Error::Capsule(mooring_capsule::Error::Unreachable { .. } | mooring_capsule::Error::Busy { .. }))
}

/// Stores the checkpoint of a frozen job and reads it back. Returns the bytes of the capsule and of
/// the checkpoint.
async fn store_frozen(
    job: &HeldJob,
    directives: &Directives,
    migration: &MigrationId,
    frozen: Frozen,
    capsules: &CapsuleStore,
) -> Result<(u64, u64)> {
    let stored = async {
        let sender = send_checkpoint(job, directives, migration, frozen).await?;
        let bytes = sender.bytes();
        let stored = store(job, sender).await?;
        from_store::read_back(capsules, &stored.manifest.name).await?;
        Ok((stored.manifest.stored_bytes, bytes))
    };
    tokio::select! {
        stored = stored => stored,
        () = directives.superseded(migration) => Err(Error::Superseded),
    }
}

/// Lets a frozen job go on until the capsule store answers, and makes the migration ready to freeze
/// it again. Returns whether it is; where it has failed, that is recorded.
async fn go_on_until_store_is_back(
    job: &mut HeldJob,
    directives: &Directives,
    migration: &MigrationId,
    process: ProcessId,
    to: Destination,
) -> Result<bool> {
    let id = job.id().clone();
    tracing::warn!(job = %id, "the capsule store is away: job {id} goes on and is frozen again later");
    restore::thaw(job, process, Outbound::None, Peers::Kept).await?;
    restore::clean_up(job.host(), job.job_dir().checkpoint(migration));
    let capsules = job.capsule_store()?;
    let answers = tokio::select! {
        answers = capsules.probe() => answers.map_err(Error::from),
        () = directives.superseded(migration) => Err(Error::Superseded),
    };
    if let Err(error) = answers {
        job.set_outbound(failed(migration.clone(), Phase::Transfer, &error))?;
        return Ok(false);
    }
    pre_copy(job, directives, migration.clone(), to).await?;
    Ok(matches!(&job.state, LocalState::Running(Running { outbound: Outbound::PreCopied { .. }, .. })))
}

/// Freezes and checkpoints the job, and sends its memory meanwhile. `None` when the checkpoint
/// failed, which is recorded. Memory is not sent where a needed store is away.
async fn freeze(job: &mut HeldJob, migration: &MigrationId, needed: Option<&CapsuleStore>) -> Result<Option<Frozen>> {
    let job_dir = job.job_dir();
    let checkpoint = job_dir.checkpoint(migration);
    let started = Instant::now();
    let prepared = async {
        ready_to_freeze(job).await?;
        checkpoint.make()?;
        let mapped = prepare_checkpoint(&job_dir, &checkpoint)?;
        job.begin_freeze(migration).map(|(process, sender)| (process, sender, mapped))
    };
    let (process, mut sender, mapped) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => return job.fail_outbound(failed(migration.clone(), Phase::Freeze, &error)).map(|()| None),
    };
    let afterwards = shared_locks::afterwards(&job_dir, &job.journal.spec.volumes);
    let sockets = sender.sockets();
    let (done, dumped) = watch::channel(false);
    let (dump, memory_sent) = tokio::join!(
        async {
            let dump = restore::dump(job.host(), &job_dir, &checkpoint, afterwards, sockets).await;
            done.send_replace(true);
            dump
        },
        async {
            tokio::select! {
                sent = sender.send_memory_during_dump(&checkpoint, dumped) => sent,
                error = away(needed) => Err(error),
            }
        }
    );
    if let Err(error) = dump {
        checkpoint_failed(job, process, migration, &error).await?;
        return Ok(None);
    }
    job.journal.measure(Phase::Freeze, started, sender.bytes());
    enter_frozen(job, migration, Release::Withheld)?;
    Ok(Some(Frozen { process, sender, checkpoint, mapped, memory_sent }))
}

/// Looks once more whether the job can be checkpointed: it may have changed during the pre-copy.
async fn ready_to_freeze(job: &HeldJob) -> Result<()> {
    failpoint::check(&Phase::Freeze.failpoint()).await?;
    look::before_freeze(job).await?;
    let gateways = connections::Gateways::of_host(job.host()).await;
    connections::settle(&job.job_dir(), gateways).await
}

/// Prepares a checkpoint of the job's processes: links for their memory and the inode numbers of
/// their open files. Returns the files that they have mapped for writing.
fn prepare_checkpoint(job_dir: &JobDir, checkpoint: &Checkpoint) -> Result<Vec<MappedFile>> {
    let pids = job_dir.cgroup().pids();
    checkpoint.expect_memory(pids.len())?;
    if let Some(count) = removed_names::large_without_name(&pids) {
        checkpoint.expect_removed_files(count)?;
    }
    let mapped = mapped::find(&pids);
    inode_list::record(&pids, &job_dir.root(), checkpoint.images())?;
    Ok(mapped)
}

/// Sends the rest of a frozen job's checkpoint and its changed files.
///
/// # Errors
/// The destination can't receive it, or another order came.
async fn send_checkpoint(
    job: &HeldJob,
    directives: &Directives,
    migration: &MigrationId,
    frozen: Frozen,
) -> Result<CapsuleSender> {
    let Frozen { process: _, mut sender, checkpoint, mapped, memory_sent } = frozen;
    let (host, job_dir) = (job.host(), job.job_dir());
    let routed = async { Ok(host.network.lock().await.carried_elsewhere(job_dir.address()).await?) };
    let sent = async {
        memory_sent?;
        failpoint::check(&Phase::Transfer.failpoint()).await?;
        sender.send_images(&checkpoint).await?;
        sender.send_changed_files(&job_dir, &mapped).await
    };
    tokio::select! {
        sent = async { tokio::try_join!(sent, routed) } => sent?,
        () = directives.superseded(migration) => return Err(Error::Superseded),
    };
    Ok(sender)
}

/// Checkpoints the job, lets it execute again, and stores the checkpoint.
///
/// # Errors
/// The record can't be written. Everything else that fails is recorded.
pub(crate) async fn snapshot(
    job: &mut HeldJob,
    directives: &Directives,
    migration: MigrationId,
    base: Option<CapsuleName>,
) -> Result<()> {
    let job_dir = job.job_dir();
    let checkpoint = job_dir.checkpoint(&migration);
    let (process, mut sender) = match checkpoint.make().and_then(|()| job.begin_freeze(&migration)) {
        Ok(begun) => begun,
        Err(error) => return job.fail_outbound(failed(migration, Phase::Freeze, &error)),
    };
    let started = Instant::now();
    if let Err(error) = checkpoint_and_stay(job, &job_dir, &checkpoint, &mut sender).await {
        restore::clean_up(job.host(), checkpoint);
        return checkpoint_failed(job, process, &migration, &error).await;
    }
    job.journal.measure(Phase::Freeze, started, sender.bytes());
    sender.build_on(job.state.take_base().filter(|snapshot| Some(snapshot.capsule()) == base.as_ref()));
    restore::let_run_at_last(job, &job_dir, Peers::Kept).await;
    let outbound = Outbound::SnapshotTaken(migration.clone());
    job.enter(LocalState::Running(Running { process, outbound, base: None }))?;

    let started = Instant::now();
    let stored = tokio::select! {
        stored = send_and_store(job, sender, &checkpoint) => stored,
        () = directives.superseded(&migration) => Err(Error::Superseded),
    };
    restore::clean_up(job.host(), checkpoint);
    let (outbound, base) = match stored {
        Ok((StoredCapsule { manifest, base_snapshot }, bytes)) => {
            job.journal.measure(Phase::Transfer, started, bytes);
            let Manifest { stored_bytes, base, .. } = manifest;
            (Outbound::Stored { migration, stored_bytes, base: base.map(|base| base.name) }, base_snapshot)
        }
        Err(error) => (failed(migration, Phase::Transfer, &error), None),
    };
    job.enter(LocalState::Running(Running { process, outbound, base }))
}

/// Checkpoints the job, and sends its changed files while it is still frozen.
async fn checkpoint_and_stay(
    job: &HeldJob,
    job_dir: &JobDir,
    checkpoint: &Checkpoint,
    sender: &mut CapsuleSender,
) -> Result<()> {
    ready_to_freeze(job).await?;
    let mapped = prepare_checkpoint(job_dir, checkpoint)?;
    restore::dump(job.host(), job_dir, checkpoint, Afterwards::Frozen, sender.sockets()).await?;
    let capsules = job.capsule_store()?;
    tokio::select! {
        sent = sender.send_changed_files(job_dir, &mapped) => sent,
        error = away(Some(&capsules)) => Err(error),
    }
}

/// Sends the images of a snapshot and completes its capsule; returns the bytes that were sent as
/// well.
async fn send_and_store(
    job: &HeldJob,
    mut sender: CapsuleSender,
    checkpoint: &Checkpoint,
) -> Result<(StoredCapsule, u64)> {
    failpoint::check(&Phase::Transfer.failpoint()).await?;
    sender.send_images(checkpoint).await?;
    let bytes = sender.bytes();
    // OpCenter may recover the job from this capsule as soon as it hears of it.
    fence::set(&job.job_dir(), job.host().lease.path(), true)?;
    Ok((store(job, sender).await?, bytes))
}

/// Completes a capsule.
async fn store(job: &HeldJob, sender: CapsuleSender) -> Result<StoredCapsule> {
    let (host, journal) = (job.host(), &job.journal);
    let facts = Facts {
        job: journal.job.clone(),
        generation: journal.generation,
        created: SystemClock.now(),
        base: None,
        about: serde_json::json!({ "host": host.config.name, "address": journal.address }),
    };
    sender.store(&job.capsule_store()?, facts).await
}

/// Records that a checkpoint failed, and lets the job execute on where it survived.
async fn checkpoint_failed(
    job: &mut HeldJob,
    process: ProcessId,
    migration: &MigrationId,
    error: &Error,
) -> Result<()> {
    let (id, job_dir, reason) = (job.id(), job.job_dir(), error.chain());
    tracing::warn!(job = %id, "job {id} could not be checkpointed: {reason}");
    if process.lives() {
        let outbound = Outbound::Failed { migration: migration.clone(), phase: Phase::Freeze, reason };
        return restore::thaw(job, process, outbound, Peers::Kept).await;
    }
    job_dir.cgroup().thaw()?;
    job.host().filter.release(&job_dir).await?;
    // The job may have ended at that very moment, and left nothing to checkpoint.
    if let Some(code) = exit_code(&job_dir, AgentsPart::Checkpoint).await {
        job.send_output().await;
        return job.enter(LocalState::Exited { code });
    }
    job.enter(LocalState::Lost { reason: format!("it did not survive a failed checkpoint: {reason}") })
}

fn failed(migration: MigrationId, phase: Phase, error: &Error) -> Outbound {
    Outbound::Failed { migration, phase, reason: error.chain() }
}

/// Rolls back a migration whose capsule nobody can restore. Processes that ended with the
/// checkpoint wait for OpCenter's order.
async fn roll_back(job: &mut HeldJob, process: ProcessId, migration: MigrationId, error: &Error) -> Result<()> {
    let (id, phase, reason) = (job.id(), Phase::Transfer, error.chain());
    tracing::warn!(job = %id, "the migration of job {id} is rolled back: {reason}");
    if process.lives() {
        let outbound = Outbound::Failed { migration, phase, reason };
        return restore::thaw(job, process, outbound, Peers::Kept).await;
    }
    enter_frozen(job, &migration, Release::Refused { phase, reason })
}

fn enter_frozen(job: &mut HeldJob, migration: &MigrationId, release: Release) -> Result<()> {
    let (process, base) = (job.state.frozen_process(), job.state.take_base());
    job.enter(LocalState::Frozen { process, migration: migration.clone(), release, base })
}
