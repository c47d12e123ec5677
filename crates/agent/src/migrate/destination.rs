//! What a driver does at the destination of a move: it makes ready, takes in what comes from another host or out of the capsule store, and
//! restores the job.

use std::pin::pin;
use std::time::Duration;

use mooring_api::watch::{Connections, JobDirective, JobOrder, Origin};
use mooring_linux::process::ProcessId;
use mooring_ops::failpoint;
use mooring_types::job::JobSpec;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, MigrationId};
use tokio::time::Instant;

use super::restore::{Peers, no_longer};
use crate::error::{CriuError, Error, Result};
use crate::job::driver::Driver;
use crate::job::record::{Attempt, LocalState, Record};
use crate::migrate::criu::memory_gate;
use crate::migrate::stream::frame::Hello;
use crate::migrate::stream::from_store::{FrameReader, Unpacking};
use crate::migrate::stream::listener::{Reception, SourceConnection};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::job_dir::JobDir;
use crate::runtime::volume;

impl Driver {
    /// Makes ready to receive, and receives what comes out of the capsule store.
    pub(crate) async fn prepare(&mut self, directive: &JobDirective, migration: MigrationId) -> Result<()> {
        let JobOrder::MigrateIn { from, .. } = &directive.order else { return Ok(()) };
        let started = Instant::now();
        self.keep_quietly(Record::new(directive, LocalState::Arriving { migration: migration.clone() }))?;
        let job_dir = self.job_dir(directive);
        match from {
            Origin::Host { certificate, token } => {
                let made = async {
                    self.clear_job_dir(&job_dir, &migration).await?;
                    self.make_ready(directive, &job_dir, started).await
                };
                if let Err(error) = made.await {
                    return self.arrival_failed(migration, Phase::Prepare, &error);
                }
                let hello = Hello { migration, job: self.job.clone(), token: token.clone() };
                self.expected = Some(self.host.migrations.expect(hello, certificate.clone()));
                self.publish();
                Ok(())
            }
            Origin::Store { capsule, connections } => {
                let peers = match connections {
                    Connections::Kept => Peers::OutsideLost,
                    Connections::Reset => Peers::AllLost,
                };
                let (mut directives, name) = (self.directive.clone(), migration.clone());
                let checkpoint = job_dir.checkpoint(&migration);
                let begun = tokio::select! {
                    begun = self.begin_unpacking(directive, &job_dir, &checkpoint, &migration, capsule, started) => begun,
                    // Whatever has come is removed by the order that came instead.
                    () = no_longer(&mut directives, &name) => return Ok(()),
                };
                match begun {
                    Ok(memory) => self.arrive(&job_dir, &migration, &checkpoint, peers, Some(memory)).await,
                    Err((phase, error)) => self.arrival_failed(migration, phase, &error),
                }
            }
        }
    }

    /// Takes a capsule out of the store, as much of it as a restore begins with, while everything else is made ready, of which what comes
    /// needs nothing but the volumes that files go into.
    async fn begin_unpacking<'a>(
        &mut self,
        directive: &JobDirective,
        job_dir: &JobDir,
        checkpoint: &'a Checkpoint,
        migration: &MigrationId,
        capsule: &CapsuleName,
        started: Instant,
    ) -> Result<Unpacking<'a>, (Phase, Error)> {
        let (of_prepare, of_transfer) = (|error| (Phase::Prepare, error), |error| (Phase::Transfer, error));
        let opened = async { FrameReader::open(&self.host.capsules.store()?, capsule).await };
        let (cleared, opened) = tokio::join!(self.clear_job_dir(job_dir, migration), opened);
        cleared.map_err(of_prepare)?;
        let mut unpacking = Unpacking::new(opened.map_err(of_transfer)?, job_dir, checkpoint);
        self.host.filter.hold(job_dir.address()).await.map_err(of_prepare)?;
        let made_ready = async {
            self.make_ready(directive, job_dir, started).await.map_err(of_prepare)?;
            self.publish();
            Ok(Instant::now())
        };
        let ready = if volume::take_files(&directive.spec.volumes) {
            made_ready.await?
        } else {
            unpacking.alongside(made_ready, of_transfer).await?
        };
        unpacking.restorable().await.map_err(of_transfer)?;
        // What came while it was made ready was waited for by nobody.
        self.measured(Phase::Transfer, ready, checkpoint.size());
        Ok(unpacking)
    }

    /// Removes what an earlier attempt may have left, and makes room for what comes.
    async fn clear_job_dir(&self, job_dir: &JobDir, migration: &MigrationId) -> Result<()> {
        failpoint::check(&Phase::Prepare.failpoint()).await?;
        self.host.runtime.remove(job_dir).await?;
        job_dir.make_upper()?;
        job_dir.checkpoint(migration).make()
    }

    /// Makes image, bundle and network.
    async fn make_ready(&mut self, directive: &JobDirective, job_dir: &JobDir, started: Instant) -> Result<()> {
        let image = self.image(directive).await?;
        self.furnish(job_dir, directive, &image).await?;
        self.measured(Phase::Prepare, started, 0);
        Ok(())
    }

    fn arrival_failed(&mut self, migration: MigrationId, phase: Phase, error: &Error) -> Result<()> {
        self.hold(LocalState::ArrivalFailed { migration, phase, reason: error.chain() })
    }

    /// Takes in what comes from another host, and restores the job once all is there.
    pub(crate) async fn receive(&mut self, incoming: SourceConnection) {
        let Some(LocalState::Arriving { migration }) = self.record.as_ref().map(|record| record.state.clone()) else {
            return;
        };
        let Ok(job_dir) = self.held_job_dir() else { return };
        let checkpoint = job_dir.checkpoint(&migration);
        let mut directives = self.directive.clone();
        let filter = self.host.filter.clone();
        let received = tokio::select! {
            received = incoming.receive(&job_dir, &checkpoint, async || filter.hold(job_dir.address()).await) => received,
            // Whatever has come is removed by the order that came instead.
            () = no_longer(&mut directives, &migration) => return,
        };
        let outcome = match received {
            Reception::Complete => self.arrive(&job_dir, &migration, &checkpoint, Peers::OutsideLost, None).await,
            Reception::LostBeforeFreeze(error) => {
                tracing::info!(job = %self.job, error = &error as &dyn std::error::Error, "the source of job {} went away, and may come again", self.job);
                Ok(())
            }
            Reception::LostAfterFreeze(error) => self.arrival_failed(migration, Phase::Transfer, &error),
        };
        if let Err(error) = outcome {
            tracing::error!(job = %self.job, error = &error as &dyn std::error::Error, "job {} does not arrive", self.job);
        }
    }

    /// Restores the job, while `memory` still comes.
    async fn arrive(
        &mut self,
        job_dir: &JobDir,
        migration: &MigrationId,
        checkpoint: &Checkpoint,
        peers: Peers,
        memory: Option<Unpacking<'_>>,
    ) -> Result<()> {
        self.expected = None;
        let Some(record) = self.record.clone() else { return Ok(()) };
        let started = Instant::now();
        let restored = self.restore_beside(&record.spec, job_dir, checkpoint, memory).await;
        let verified = match restored {
            Ok((init, waited)) => {
                // What was waited for is the store's part of it.
                self.measured(Phase::Restore, started + waited, checkpoint.size());
                self.measured_more(Phase::Transfer, waited);
                let started = Instant::now();
                let verified = verify(job_dir, init).await.map_err(|error| (Phase::Verify, error));
                self.measured(Phase::Verify, started, 0);
                verified
            }
            Err(error) => Err(error),
        };
        match verified {
            Ok(init) => {
                // The point of no return: with this record the job is this host's, and it has not taken a step before.
                self.hold(LocalState::Restored { migration: migration.clone(), init })?;
                self.go_on(job_dir, peers).await;
                Ok(())
            }
            Err((phase, error)) => {
                // Nothing of it may run when OpCenter hears of it; nobody is told by its sockets that they end, as it is still quiet.
                job_dir.cgroup().kill_all()?;
                let reason = error.chain();
                tracing::warn!(job = %self.job, "job {} could not be restored: {reason}", self.job);
                self.hold(LocalState::ArrivalFailed { migration: migration.clone(), phase, reason })
            }
        }
    }

    /// Restores the job while `memory` still comes; says how long was waited for it.
    async fn restore_beside(
        &self,
        spec: &JobSpec,
        job_dir: &JobDir,
        checkpoint: &Checkpoint,
        memory: Option<Unpacking<'_>>,
    ) -> Result<(ProcessId, Duration), (Phase, Error)> {
        let of_restore = |error| (Phase::Restore, error);
        let begin = async {
            failpoint::check(&Phase::Restore.failpoint()).await?;
            self.host.images.ready(&spec.image).await
        };
        let image = begin.await.map_err(of_restore)?;
        let Some(memory) = memory else {
            let init = self.restore(job_dir, spec, &image, checkpoint, None).await.map_err(of_restore)?;
            return Ok((init, Duration::ZERO));
        };
        let (opener, gate) = memory_gate::closed();
        let restoring = self.restore(job_dir, spec, &image, checkpoint, Some(gate.clone()));
        let init = beside(restoring, memory, opener).await?;
        Ok((init, gate.waited().unwrap_or_default()))
    }

    /// Makes what was restored this host's own.
    pub(crate) fn take_over(&mut self) -> Result<()> {
        let Some(LocalState::Restored { migration, init }) = self.record.as_ref().map(|record| record.state.clone())
        else {
            return Ok(());
        };
        let checkpoint = self.held_job_dir()?.checkpoint(&migration);
        self.forget_measures();
        self.hold(LocalState::Running { init, attempt: Attempt::None })?;
        self.clean_up(checkpoint);
        Ok(())
    }
}

/// Has a restore go on beside the arrival of the memory that it will read. When the memory does not come, the restore is not left alone: it
/// ends at the gate.
async fn beside(
    restore: impl Future<Output = Result<ProcessId>>,
    memory: Unpacking<'_>,
    opener: memory_gate::Opener,
) -> Result<ProcessId, (Phase, Error)> {
    let (mut restore, mut memory) = (pin!(restore), pin!(take_in(memory, opener)));
    let of_restore = |error| (Phase::Restore, error);
    tokio::select! {
        restored = &mut restore => {
            let init = restored.map_err(of_restore)?;
            memory.await.map_err(|error| (Phase::Transfer, error))?;
            Ok(init)
        }
        arrived = &mut memory => {
            let restored = restore.await;
            arrived.map_err(|error| (Phase::Transfer, error))?;
            restored.map_err(of_restore)
        }
    }
}

async fn take_in(mut memory: Unpacking<'_>, opener: memory_gate::Opener) -> Result<()> {
    memory.complete().await?;
    opener.open();
    Ok(())
}

/// Whether a restored job lives, though it stands still.
async fn verify(job_dir: &JobDir, init: ProcessId) -> Result<ProcessId> {
    failpoint::check(&Phase::Verify.failpoint()).await?;
    let pids = job_dir.cgroup().pids();
    if init.lives() && pids.contains(&init.pid) {
        return Ok(init);
    }
    Err(CriuError::ProcessGone { pid: init.pid }.into())
}
