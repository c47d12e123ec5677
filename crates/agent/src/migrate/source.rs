//! What a driver does at the source of a move: its files ahead, the freeze, and its images to another host or into the capsule store; and a
//! capsule of a job that goes on.

use std::path::PathBuf;

use mooring_api::watch::{AfterCheckpoint, Destination, JobDirective, JobOrder};
use mooring_capsule::{Facts, Manifest};
use mooring_linux::process::ProcessId;
use mooring_ops::failpoint;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, Clock, MigrationId, SystemClock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::restore::{Peers, no_longer, set_going};
use crate::error::{CriuError, Error, Result, StreamError};
use crate::job::driver::{Driver, end_of};
use crate::job::record::{Attempt, LocalState, Release};
use crate::migrate::files;
use crate::migrate::stream::frame::Hello;
use crate::migrate::stream::sender::{CapsuleSender, StoredCapsule};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::container::Afterwards;
use crate::runtime::inode_list;
use crate::runtime::job_dir::JobDir;

impl Driver {
    /// Sends files and memory ahead while the job executes.
    pub(crate) async fn pre_copy(&mut self, directive: &JobDirective, migration: MigrationId) -> Result<()> {
        let started = Instant::now();
        self.forget_measures();
        let mut directives = self.directive.clone();
        let outcome = tokio::select! {
            outcome = self.send_ahead(directive) => outcome,
            () = no_longer(&mut directives, &migration) => Err(Error::Superseded),
        };
        let Some(init) = self.running() else { return Ok(()) };
        let attempt = match outcome {
            Ok(bytes) => {
                self.measured(Phase::PreCopy, started, bytes);
                Attempt::PreCopied(migration)
            }
            Err(error) => {
                self.outgoing = None;
                Attempt::Failed { migration, phase: Phase::PreCopy, reason: error.chain() }
            }
        };
        self.hold(LocalState::Running { init, attempt })
    }

    async fn send_ahead(&mut self, directive: &JobDirective) -> Result<u64> {
        failpoint::check(&Phase::PreCopy.failpoint()).await?;
        let mut outgoing = self.connect(directive).await?;
        let job_dir = self.held_job_dir()?;
        outgoing.pre_copy_files(&job_dir).await?;
        if stands_until_stored(&directive.order) {
            outgoing.pre_copy_memory(job_dir.cgroup().pids()).await?;
        }
        let bytes = outgoing.bytes();
        self.outgoing = Some(outgoing);
        Ok(bytes)
    }

    async fn connect(&self, directive: &JobDirective) -> Result<CapsuleSender> {
        let JobOrder::MigrateOut { migration, to, .. } = &directive.order else {
            return Err(StreamError::NotIntoStore.into());
        };
        match to {
            Destination::Host { address, certificate, token } => {
                let hello = Hello { migration: migration.clone(), job: self.job.clone(), token: token.clone() };
                CapsuleSender::open(&self.host.identity, *address, certificate.clone(), hello).await
            }
            Destination::Store { capsule, .. } => {
                CapsuleSender::create_capsule(&self.host.capsules.store()?, capsule).await
            }
        }
    }

    /// Checkpoints the job and sends it.
    pub(crate) async fn freeze(&mut self, directive: &JobDirective, migration: MigrationId) -> Result<()> {
        match &directive.order {
            JobOrder::MigrateOut { to: Destination::Store { then: AfterCheckpoint::GoOn, base, .. }, .. } => {
                self.snapshot(migration, base.as_ref()).await
            }
            JobOrder::MigrateOut { to, .. } => self.send_away(migration, matches!(to, Destination::Store { .. })).await,
            _ => Ok(()),
        }
    }

    async fn send_away(&mut self, migration: MigrationId, into_store: bool) -> Result<()> {
        let (Some(init), Some(mut outgoing)) = (self.running(), self.outgoing.take()) else {
            // The files went over a connection that is gone: they go again.
            return self.clear();
        };
        if let Err(error) = failpoint::check(&Phase::Freeze.failpoint()).await {
            let attempt = Attempt::Failed { migration, phase: Phase::Freeze, reason: error.to_string() };
            return self.hold(LocalState::Running { init, attempt });
        }
        let job_dir = self.held_job_dir()?;
        let checkpoint = job_dir.checkpoint(&migration);
        checkpoint.make()?;
        let pids = job_dir.cgroup().pids();
        checkpoint.expect_memory(pids.len())?;
        let mapped: Vec<PathBuf> = files::mapped(&pids).into_iter().collect();
        let started = Instant::now();
        inode_list::record(&pids, &job_dir.root(), checkpoint.images())?;
        // Whatever fails before this is tried again; from here on a failure is one of the checkpoint.
        self.hold(LocalState::Freezing { init, migration: migration.clone() })?;
        let (done, dumped) = watch::channel(false);
        let (dump, followed) = tokio::join!(
            async {
                let outcome = self.dump(&job_dir, &checkpoint, Afterwards::Ended).await;
                done.send_replace(true);
                outcome
            },
            outgoing.send_memory_during_dump(&checkpoint, dumped)
        );
        if let Err(error) = dump {
            return self.dump_failed(&job_dir, init, migration, &error).await;
        }
        self.measured(Phase::Freeze, started, outgoing.bytes());
        self.hold(LocalState::Frozen { migration: migration.clone(), release: Release::Withheld })?;
        let started = Instant::now();
        let mut directives = self.directive.clone();
        let routed = async { Ok(self.host.network.lock().await.carried_elsewhere(job_dir.address()).await?) };
        let sent = async {
            followed?;
            failpoint::check(&Phase::Transfer.failpoint()).await?;
            outgoing.send_images(&checkpoint).await?;
            outgoing.send_changed_files(&job_dir, &mapped).await
        };
        let sent = tokio::select! {
            sent = async { tokio::try_join!(sent, routed) } => sent,
            () = no_longer(&mut directives, &migration) => Err(Error::Superseded),
        };
        if let Err(error) = sent {
            let release = Release::Refused { phase: Phase::Transfer, reason: error.chain() };
            return self.hold(LocalState::Frozen { migration, release });
        }
        if into_store {
            return self.keep_in_store(outgoing, migration, started).await;
        }
        // From here on the destination may execute the job: only its own word, through OpCenter, lets this host go on.
        self.hold(LocalState::Frozen { migration: migration.clone(), release: Release::Given })?;
        match outgoing.seal().await {
            Ok(()) => {
                self.measured(Phase::Transfer, started, outgoing.bytes());
                self.hold(LocalState::Frozen { migration, release: Release::Confirmed })
            }
            Err(error) => {
                tracing::warn!(job = %self.job, error = &error as &dyn std::error::Error, "whether job {} has arrived is not known", self.job);
                Ok(())
            }
        }
    }

    /// Ends the capsule of a job that stands still. Whatever comes of it, the job may be rolled back: the store executes nothing.
    async fn keep_in_store(&mut self, outgoing: CapsuleSender, migration: MigrationId, started: Instant) -> Result<()> {
        let bytes = outgoing.bytes();
        let mut directives = self.directive.clone();
        let stored = tokio::select! {
            stored = self.store(outgoing) => stored,
            () = no_longer(&mut directives, &migration) => Err(Error::Superseded),
        };
        let release = match stored {
            Ok(stored) => {
                self.measured(Phase::Transfer, started, bytes);
                Release::Stored { stored_bytes: stored.manifest.stored_bytes }
            }
            Err(error) => Release::Refused { phase: Phase::Transfer, reason: error.chain() },
        };
        self.hold(LocalState::Frozen { migration, release })
    }

    async fn store(&self, outgoing: CapsuleSender) -> Result<StoredCapsule> {
        let Some(record) = &self.record else { return Err(Error::Superseded) };
        let facts = Facts {
            job: self.job.clone(),
            generation: record.generation,
            created: SystemClock.now(),
            base: None,
            about: serde_json::json!({ "host": self.host.config.name, "address": record.address }),
        };
        outgoing.store(&self.host.capsules.store()?, facts).await
    }

    /// Takes the job's state and has it go on, then stores what was taken.
    async fn snapshot(&mut self, migration: MigrationId, base: Option<&CapsuleName>) -> Result<()> {
        let (Some(init), Some(mut outgoing)) = (self.running(), self.outgoing.take()) else {
            // What went ahead went into a capsule that is gone: it goes again.
            return self.clear();
        };
        let job_dir = self.held_job_dir()?;
        let checkpoint = job_dir.checkpoint(&migration);
        checkpoint.make()?;
        self.hold(LocalState::Freezing { init, migration: migration.clone() })?;
        let started = Instant::now();
        let taken = self.take_state(&job_dir, &checkpoint, &mut outgoing).await;
        if let Err(error) = taken {
            self.clean_up(checkpoint);
            return self.dump_failed(&job_dir, init, migration, &error).await;
        }
        self.measured(Phase::Freeze, started, outgoing.bytes());
        outgoing.build_on(self.base_snapshot.take().filter(|base_snapshot| Some(base_snapshot.capsule()) == base));
        set_going(&self.host, &job_dir, Peers::Kept).await?;
        self.hold(LocalState::Running { init, attempt: Attempt::SnapshotTaken(migration.clone()) })?;
        let started = Instant::now();
        let mut directives = self.directive.clone();
        let stored = tokio::select! {
            stored = async {
                failpoint::check(&Phase::Transfer.failpoint()).await?;
                outgoing.send_images(&checkpoint).await?;
                let bytes = outgoing.bytes();
                Ok((self.store(outgoing).await?, bytes))
            } => stored,
            () = no_longer(&mut directives, &migration) => Err(Error::Superseded),
        };
        self.clean_up(checkpoint);
        let attempt = match stored {
            Ok((stored, bytes)) => {
                self.measured(Phase::Transfer, started, bytes);
                let Manifest { stored_bytes, base, .. } = stored.manifest;
                self.base_snapshot = stored.base_snapshot;
                Attempt::Stored { migration, stored_bytes, base: base.map(|base| base.name) }
            }
            Err(error) => Attempt::Failed { migration, phase: Phase::Transfer, reason: error.chain() },
        };
        self.hold(LocalState::Running { init, attempt })
    }

    /// Dumps the job, and sends the files that go with the dump while it still stands.
    async fn take_state(&self, job_dir: &JobDir, checkpoint: &Checkpoint, outgoing: &mut CapsuleSender) -> Result<()> {
        failpoint::check(&Phase::Freeze.failpoint()).await?;
        let pids = job_dir.cgroup().pids();
        checkpoint.expect_memory(pids.len())?;
        let mapped: Vec<PathBuf> = files::mapped(&pids).into_iter().collect();
        inode_list::record(&pids, &job_dir.root(), checkpoint.images())?;
        self.dump(job_dir, checkpoint, Afterwards::Frozen).await?;
        if !job_dir.cgroup().is_frozen() {
            return Err(CriuError::ThawedEarly.into());
        }
        outgoing.send_changed_files(job_dir, &mapped).await
    }

    async fn dump_failed(
        &mut self,
        job_dir: &JobDir,
        init: ProcessId,
        migration: MigrationId,
        error: &Error,
    ) -> Result<()> {
        let reason = error.chain();
        tracing::warn!(job = %self.job, "job {} could not be checkpointed: {reason}", self.job);
        job_dir.cgroup().thaw()?;
        self.host.filter.release(job_dir.address()).await?;
        if init.lives() {
            let attempt = Attempt::Failed { migration, phase: Phase::Freeze, reason };
            return self.hold(LocalState::Running { init, attempt });
        }
        // It may have ended by itself at that very moment, and left nothing that could be checkpointed.
        if let ended @ LocalState::Exited { .. } = end_of(job_dir) {
            self.send_output(job_dir).await;
            return self.hold(ended);
        }
        self.hold(LocalState::Lost { reason: format!("it did not survive a failed checkpoint: {reason}") })
    }

    /// Forgets an attempt that came to nothing.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.outgoing = None;
        self.forget_measures();
        match self.running() {
            Some(init) => self.hold(LocalState::Running { init, attempt: Attempt::None }),
            None => Ok(()),
        }
    }
}

/// Whether the job stands still until the store has it. On the way to another host there is not more to do with memory than to write it, which
/// has to be done while the job stands still in any case.
fn stands_until_stored(order: &JobOrder) -> bool {
    match order {
        JobOrder::MigrateOut { to: Destination::Store { then, .. }, .. } => *then != AfterCheckpoint::GoOn,
        _ => false,
    }
}
