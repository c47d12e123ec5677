//! What a driver does at the destination of a move: it makes ready, takes in what comes from another host or out of the capsule store, and
//! restores the job.

use std::pin::pin;
use std::time::Duration;

use mooring_api::watch::{Connections, JobDirective, JobOrder, Origin};
use mooring_ops::failpoint;
use mooring_types::job::JobSpec;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, MigrationId};
use tokio::time::Instant;

use super::driver::Driver;
use super::held::{Attempt, Held, Init, Record};
use super::moving::{Peers, no_longer};
use crate::error::{Error, Result};
use crate::relocate::destination::{Incoming, Received};
use crate::relocate::frame::Hello;
use crate::relocate::gate;
use crate::relocate::stored::{Frames, Unpacking};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::place::Place;
use crate::runtime::volume;

impl Driver {
    /// Makes ready to receive, and receives what comes out of the capsule store.
    pub(super) async fn prepare(&mut self, directive: &JobDirective, migration: MigrationId) -> Result<()> {
        let JobOrder::MigrateIn { from, .. } = &directive.order else { return Ok(()) };
        let started = Instant::now();
        self.keep_quietly(Record::new(directive, Held::Arriving { migration: migration.clone() }))?;
        let place = self.place(directive);
        match from {
            Origin::Host { certificate, token } => {
                let made = async {
                    self.clear_place(&place, &migration).await?;
                    self.make_ready(directive, &place, started).await
                };
                if let Err(error) = made.await {
                    return self.arrival_failed(migration, Phase::Prepare, &error);
                }
                let hello = Hello { migration, job: self.job.clone(), token: token.clone() };
                self.expected = Some(self.host.arrivals.expect(hello, certificate.clone()));
                self.publish();
                Ok(())
            }
            Origin::Store { capsule, connections } => {
                let peers = match connections {
                    Connections::Kept => Peers::OutsideLost,
                    Connections::Reset => Peers::AllLost,
                };
                let (mut wanted, name) = (self.wanted.clone(), migration.clone());
                let checkpoint = place.checkpoint(&migration);
                let begun = tokio::select! {
                    begun = self.begin_unpacking(directive, &place, &checkpoint, &migration, capsule, started) => begun,
                    // Whatever has come is removed by the order that came instead.
                    () = no_longer(&mut wanted, &name) => return Ok(()),
                };
                match begun {
                    Ok(memory) => self.arrive(&place, &migration, &checkpoint, peers, Some(memory)).await,
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
        place: &Place,
        checkpoint: &'a Checkpoint,
        migration: &MigrationId,
        capsule: &CapsuleName,
        started: Instant,
    ) -> std::result::Result<Unpacking<'a>, (Phase, Error)> {
        let (of_prepare, of_transfer) = (|error| (Phase::Prepare, error), |error| (Phase::Transfer, error));
        let opened = async { Frames::of(&self.host.capsules.store()?, capsule).await };
        let (cleared, opened) = tokio::join!(self.clear_place(place, migration), opened);
        cleared.map_err(of_prepare)?;
        let mut unpacking = Unpacking::new(opened.map_err(of_transfer)?, place, checkpoint);
        self.host.hooks.hold(place.address()).await.map_err(of_prepare)?;
        let made_ready = async {
            self.make_ready(directive, place, started).await.map_err(of_prepare)?;
            self.publish();
            Ok(Instant::now())
        };
        let ready = if volume::take_files(&directive.spec.volumes) {
            made_ready.await?
        } else {
            unpacking.beside(made_ready, of_transfer).await?
        };
        unpacking.skeleton().await.map_err(of_transfer)?;
        // What came while it was made ready was waited for by nobody.
        self.measured(Phase::Transfer, ready, checkpoint.size());
        Ok(unpacking)
    }

    /// Removes what an earlier attempt may have left, and makes room for what comes.
    async fn clear_place(&self, place: &Place, migration: &MigrationId) -> Result<()> {
        failpoint::check(&Phase::Prepare.failpoint()).await?;
        self.host.runtime.remove(place).await?;
        place.make_upper()?;
        place.checkpoint(migration).make()
    }

    /// Makes image, bundle and network.
    async fn make_ready(&mut self, directive: &JobDirective, place: &Place, started: Instant) -> Result<()> {
        let image = self.image(directive).await?;
        self.furnish(place, directive, &image).await?;
        self.measured(Phase::Prepare, started, 0);
        Ok(())
    }

    fn arrival_failed(&mut self, migration: MigrationId, phase: Phase, error: &Error) -> Result<()> {
        self.hold(Held::ArrivalFailed { migration, phase, reason: error.told() })
    }

    /// Takes in what comes from another host, and restores the job once all is there.
    pub(super) async fn receive(&mut self, incoming: Incoming) {
        let Some(Held::Arriving { migration }) = self.record.as_ref().map(|record| record.held.clone()) else { return };
        let Ok(place) = self.place_held() else { return };
        let checkpoint = place.checkpoint(&migration);
        let mut wanted = self.wanted.clone();
        let hooks = self.host.hooks.clone();
        let received = tokio::select! {
            received = incoming.receive(&place, &checkpoint, async || hooks.hold(place.address()).await) => received,
            // Whatever has come is removed by the order that came instead.
            () = no_longer(&mut wanted, &migration) => return,
        };
        let outcome = match received {
            Received::Whole => self.arrive(&place, &migration, &checkpoint, Peers::OutsideLost, None).await,
            Received::Ahead(error) => {
                tracing::info!(job = %self.job, error = &error as &dyn std::error::Error, "the source of job {} went away, and may come again", self.job);
                Ok(())
            }
            Received::Broken(error) => self.arrival_failed(migration, Phase::Transfer, &error),
        };
        if let Err(error) = outcome {
            tracing::error!(job = %self.job, error = &error as &dyn std::error::Error, "job {} does not arrive", self.job);
        }
    }

    /// Restores the job, while `memory` still comes.
    async fn arrive(
        &mut self,
        place: &Place,
        migration: &MigrationId,
        checkpoint: &Checkpoint,
        peers: Peers,
        memory: Option<Unpacking<'_>>,
    ) -> Result<()> {
        self.expected = None;
        let Some(record) = self.record.clone() else { return Ok(()) };
        let started = Instant::now();
        let restored = self.restore_beside(&record.spec, place, checkpoint, memory).await;
        let verified = match restored {
            Ok((init, waited)) => {
                // What was waited for is the store's part of it.
                self.measured(Phase::Restore, started + waited, checkpoint.size());
                self.measured_more(Phase::Transfer, waited);
                let started = Instant::now();
                let verified = verify(place, init).await.map_err(|error| (Phase::Verify, error));
                self.measured(Phase::Verify, started, 0);
                verified
            }
            Err(error) => Err(error),
        };
        match verified {
            Ok(init) => {
                // The point of no return: with this record the job is this host's, and it has not taken a step before.
                self.hold(Held::Restored { migration: migration.clone(), init })?;
                self.go_on(place, peers).await;
                Ok(())
            }
            Err((phase, error)) => {
                // Nothing of it may run when OpCenter hears of it; nobody is told by its sockets that they end, as it is still quiet.
                place.cgroup().kill_all()?;
                let reason = error.told();
                tracing::warn!(job = %self.job, "job {} could not be restored: {reason}", self.job);
                self.hold(Held::ArrivalFailed { migration: migration.clone(), phase, reason })
            }
        }
    }

    /// Restores the job while `memory` still comes; says how long was waited for it.
    async fn restore_beside(
        &self,
        spec: &JobSpec,
        place: &Place,
        checkpoint: &Checkpoint,
        memory: Option<Unpacking<'_>>,
    ) -> std::result::Result<(Init, Duration), (Phase, Error)> {
        let of_restore = |error| (Phase::Restore, error);
        let begin = async {
            failpoint::check(&Phase::Restore.failpoint()).await?;
            self.host.images.ready(&spec.image).await
        };
        let image = begin.await.map_err(of_restore)?;
        let Some(memory) = memory else {
            let init = self.restore(place, spec, &image, checkpoint, None).await.map_err(of_restore)?;
            return Ok((init, Duration::ZERO));
        };
        let (opener, gate) = gate::closed();
        let restoring = self.restore(place, spec, &image, checkpoint, Some(gate.clone()));
        let init = beside(restoring, memory, opener).await?;
        Ok((init, gate.waited().unwrap_or_default()))
    }

    /// Makes what was restored this host's own.
    pub(super) fn take_over(&mut self) -> Result<()> {
        let Some(Held::Restored { migration, init }) = self.record.as_ref().map(|record| record.held.clone()) else {
            return Ok(());
        };
        let checkpoint = self.place_held()?.checkpoint(&migration);
        self.forget_measures();
        self.hold(Held::Running { init, attempt: Attempt::None })?;
        self.clean_up(checkpoint);
        Ok(())
    }
}

/// Has a restore go on beside the arrival of the memory that it will read. When the memory does not come, the restore is not left alone: it
/// ends at the gate.
async fn beside(
    restore: impl Future<Output = Result<Init>>,
    memory: Unpacking<'_>,
    opener: gate::Opener,
) -> std::result::Result<Init, (Phase, Error)> {
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

async fn take_in(mut memory: Unpacking<'_>, opener: gate::Opener) -> Result<()> {
    memory.whole().await?;
    opener.open();
    Ok(())
}

/// Whether a restored job lives, though it stands still.
async fn verify(place: &Place, init: Init) -> Result<Init> {
    failpoint::check(&Phase::Verify.failpoint()).await?;
    let pids = place.cgroup().pids();
    if init.lives() && pids.contains(&init.pid) {
        return Ok(init);
    }
    Err(Error::Peer(format!("restored a job whose first process {} is gone", init.pid)))
}
