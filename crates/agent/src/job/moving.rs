//! What a driver does for a move: the source's half, the destination's half, and the way back.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use mooring_api::watch::{Connections, Destination, JobDirective, JobOrder, Origin, Then};
use mooring_capsule::Facts;
use mooring_linux::connections;
use mooring_ops::failpoint;
use mooring_types::job::JobSpec;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, Clock, MigrationId, SystemClock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::driver::{Driver, RETRY, end_of};
use super::held::{Attempt, Held, Init, Record, Release};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::relocate::destination::{Incoming, Received};
use crate::relocate::files;
use crate::relocate::frame::Hello;
use crate::relocate::source::Outgoing;
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::container::{Afterwards, Runtime};
use crate::runtime::image::Image;
use crate::runtime::own;
use crate::runtime::place::Place;
use crate::runtime::volume;

impl Driver {
    // The source

    /// Sends the files ahead while the job executes.
    pub(super) async fn pre_copy(&mut self, directive: &JobDirective, migration: MigrationId) -> Result<()> {
        let started = Instant::now();
        self.forget_measures();
        let mut wanted = self.wanted.clone();
        let outcome = tokio::select! {
            outcome = self.send_ahead(directive) => outcome,
            () = no_longer(&mut wanted, &migration) => Err(Error::Peer("is no longer wanted".into())),
        };
        let Some(init) = self.running() else { return Ok(()) };
        let attempt = match outcome {
            Ok(bytes) => {
                self.measured(Phase::PreCopy, started, bytes);
                Attempt::PreCopied(migration)
            }
            Err(error) => {
                self.outgoing = None;
                Attempt::Failed { migration, phase: Phase::PreCopy, reason: error.told() }
            }
        };
        self.hold(Held::Running { init, attempt })
    }

    async fn send_ahead(&mut self, directive: &JobDirective) -> Result<u64> {
        failpoint::check(&Phase::PreCopy.failpoint()).await?;
        let mut outgoing = self.connect(directive).await?;
        outgoing.send_ahead(&self.place_held()?).await?;
        let bytes = outgoing.bytes();
        self.outgoing = Some(outgoing);
        Ok(bytes)
    }

    async fn connect(&self, directive: &JobDirective) -> Result<Outgoing> {
        let JobOrder::MoveOut { migration, to, .. } = &directive.order else {
            return Err(Error::Peer("is not named".into()));
        };
        match to {
            Destination::Host { address, certificate, token } => {
                let hello = Hello { migration: migration.clone(), job: self.job.clone(), token: token.clone() };
                Outgoing::open(&self.host.identity, *address, certificate.clone(), hello).await
            }
            Destination::Store { capsule, .. } => Outgoing::into_store(&self.host.capsules.store()?, capsule).await,
        }
    }

    /// Checkpoints the job and sends it.
    pub(super) async fn freeze(&mut self, directive: &JobDirective, migration: MigrationId) -> Result<()> {
        match &directive.order {
            JobOrder::MoveOut { to: Destination::Store { then: Then::GoesOn, .. }, .. } => {
                self.capture(migration).await
            }
            JobOrder::MoveOut { to, .. } => self.send_away(migration, matches!(to, Destination::Store { .. })).await,
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
            return self.hold(Held::Running { init, attempt });
        }
        let place = self.place_held()?;
        let checkpoint = place.checkpoint(&migration);
        checkpoint.make()?;
        self.hold(Held::Freezing { init, migration: migration.clone() })?;
        let pids = place.cgroup().pids();
        checkpoint.expect_memory(pids.len())?;
        let mapped: Vec<PathBuf> = files::mapped(&pids).into_iter().collect();
        let started = Instant::now();
        let (done, dumped) = watch::channel(false);
        let (dump, followed) = tokio::join!(
            async {
                let outcome = self.dump(&place, &checkpoint, Afterwards::Ended).await;
                done.send_replace(true);
                outcome
            },
            outgoing.follow(&checkpoint, dumped)
        );
        if let Err(error) = dump {
            return self.dump_failed(&place, init, migration, &error).await;
        }
        self.measured(Phase::Freeze, started, outgoing.bytes());
        self.hold(Held::Frozen { migration: migration.clone(), release: Release::Withheld })?;
        self.host.network.lock().await.carried_elsewhere(place.address()).await?;
        let started = Instant::now();
        let mut wanted = self.wanted.clone();
        let sent = tokio::select! {
            sent = async {
                followed?;
                failpoint::check(&Phase::Transfer.failpoint()).await?;
                outgoing.send_images(&checkpoint).await?;
                outgoing.send_changes(&place, &mapped).await
            } => sent,
            () = no_longer(&mut wanted, &migration) => Err(Error::Peer("is no longer wanted".into())),
        };
        if let Err(error) = sent {
            let release = Release::Refused { phase: Phase::Transfer, reason: error.told() };
            return self.hold(Held::Frozen { migration, release });
        }
        if into_store {
            return self.keep_in_store(outgoing, migration, started).await;
        }
        // From here on the destination may execute the job: only its own word, through OpCenter, lets this host go on.
        self.hold(Held::Frozen { migration: migration.clone(), release: Release::Given })?;
        match outgoing.seal().await {
            Ok(()) => {
                self.measured(Phase::Transfer, started, outgoing.bytes());
                self.hold(Held::Frozen { migration, release: Release::Confirmed })
            }
            Err(error) => {
                tracing::warn!(job = %self.job, error = &error as &dyn std::error::Error, "whether job {} has arrived is not known", self.job);
                Ok(())
            }
        }
    }

    /// Ends the capsule of a job that stands still. Whatever comes of it, the job may be rolled back: the store executes nothing.
    async fn keep_in_store(&mut self, outgoing: Outgoing, migration: MigrationId, started: Instant) -> Result<()> {
        let bytes = outgoing.bytes();
        let mut wanted = self.wanted.clone();
        let stored = tokio::select! {
            stored = self.store(outgoing) => stored,
            () = no_longer(&mut wanted, &migration) => Err(Error::Peer("is no longer wanted".into())),
        };
        let release = match stored {
            Ok(stored_bytes) => {
                self.measured(Phase::Transfer, started, bytes);
                Release::Stored { stored_bytes }
            }
            Err(error) => Release::Refused { phase: Phase::Transfer, reason: error.told() },
        };
        self.hold(Held::Frozen { migration, release })
    }

    async fn store(&self, outgoing: Outgoing) -> Result<u64> {
        let Some(record) = &self.record else { return Err(Error::Peer("has no record of the job".into())) };
        let facts = Facts {
            job: self.job.clone(),
            generation: record.generation,
            created: SystemClock.now(),
            about: serde_json::json!({ "host": self.host.config.name, "address": record.address }),
        };
        Ok(outgoing.store(&self.host.capsules.store()?, facts).await?.stored_bytes)
    }

    /// Takes the job's state and has it go on, then stores what was taken.
    async fn capture(&mut self, migration: MigrationId) -> Result<()> {
        let (Some(init), Some(mut outgoing)) = (self.running(), self.outgoing.take()) else {
            // What went ahead went into a capsule that is gone: it goes again.
            return self.clear();
        };
        let place = self.place_held()?;
        let checkpoint = place.checkpoint(&migration);
        checkpoint.make()?;
        self.hold(Held::Freezing { init, migration: migration.clone() })?;
        let started = Instant::now();
        let taken = self.take_state(&place, &checkpoint, &mut outgoing).await;
        if let Err(error) = taken {
            self.clean_up(checkpoint);
            return self.dump_failed(&place, init, migration, &error).await;
        }
        self.measured(Phase::Freeze, started, outgoing.bytes());
        set_going(&self.host, &place, Peers::Kept).await?;
        self.hold(Held::Running { init, attempt: Attempt::Captured(migration.clone()) })?;
        let started = Instant::now();
        let mut wanted = self.wanted.clone();
        let stored = tokio::select! {
            stored = async {
                failpoint::check(&Phase::Transfer.failpoint()).await?;
                outgoing.send_images(&checkpoint).await?;
                let bytes = outgoing.bytes();
                Ok((self.store(outgoing).await?, bytes))
            } => stored,
            () = no_longer(&mut wanted, &migration) => Err(Error::Peer("is no longer wanted".into())),
        };
        self.clean_up(checkpoint);
        let attempt = match stored {
            Ok((stored_bytes, bytes)) => {
                self.measured(Phase::Transfer, started, bytes);
                Attempt::Stored { migration, stored_bytes }
            }
            Err(error) => Attempt::Failed { migration, phase: Phase::Transfer, reason: error.told() },
        };
        self.hold(Held::Running { init, attempt })
    }

    /// Dumps the job, and sends the files that go with the dump while it still stands.
    async fn take_state(&self, place: &Place, checkpoint: &Checkpoint, outgoing: &mut Outgoing) -> Result<()> {
        failpoint::check(&Phase::Freeze.failpoint()).await?;
        let pids = place.cgroup().pids();
        checkpoint.expect_memory(pids.len())?;
        let mapped: Vec<PathBuf> = files::mapped(&pids).into_iter().collect();
        self.dump(place, checkpoint, Afterwards::Frozen).await?;
        if !place.cgroup().is_frozen() {
            return Err(Error::Peer("has let the job go on before its files were taken".into()));
        }
        outgoing.send_changes(place, &mapped).await
    }

    async fn dump(&self, place: &Place, checkpoint: &Checkpoint, afterwards: Afterwards) -> Result<()> {
        let hooks = &self.host.hooks;
        let registered = hooks.register(place.container(), place.cgroup(), place.address());
        let outcome = self.host.runtime.checkpoint(place, checkpoint.images(), afterwards).await;
        drop(registered);
        outcome
    }

    async fn dump_failed(&mut self, place: &Place, init: Init, migration: MigrationId, error: &Error) -> Result<()> {
        let reason = error.told();
        tracing::warn!(job = %self.job, "job {} could not be checkpointed: {reason}", self.job);
        place.cgroup().thaw()?;
        self.host.hooks.release(place.address()).await?;
        if init.lives() {
            let attempt = Attempt::Failed { migration, phase: Phase::Freeze, reason };
            return self.hold(Held::Running { init, attempt });
        }
        // It may have ended by itself at that very moment, and left nothing that could be checkpointed.
        if let ended @ Held::Exited { .. } = end_of(place) {
            self.send_output(place).await;
            return self.hold(ended);
        }
        self.hold(Held::Lost { reason: format!("it did not survive a failed checkpoint: {reason}") })
    }

    /// Forgets an attempt that came to nothing.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.outgoing = None;
        self.forget_measures();
        match self.running() {
            Some(init) => self.hold(Held::Running { init, attempt: Attempt::None }),
            None => Ok(()),
        }
    }

    /// Has the job execute again from its own capsule.
    pub(super) async fn resume(&mut self, directive: &JobDirective) -> Result<()> {
        let peers = match directive.order {
            JobOrder::Rollback { connections: Connections::Reset, .. } => Peers::AllLost,
            _ => Peers::Kept,
        };
        let place = self.place_held()?;
        let checkpoint = match self.record.as_ref().map(|record| &record.held) {
            Some(Held::Frozen { migration, .. }) => place.checkpoint(migration),
            _ => place.parked(),
        };
        let Some(record) = self.record.clone() else { return Ok(()) };
        let image = self.host.images.ready(&record.spec.image).await?;
        let mtu = self.host.network.lock().await.mtu();
        place.net(mtu).setup().await?;
        match self.restore(&place, &record.spec, &image, &checkpoint).await {
            Ok(init) => {
                self.forget_measures();
                self.hold(Held::Running { init, attempt: Attempt::None })?;
                self.go_on(&place, peers).await;
                tracing::info!(job = %self.job, "job {} executes again", self.job);
                self.clean_up(checkpoint);
                Ok(())
            }
            Err(error) => {
                let reason = format!("it could not be restored from its capsule: {}", error.told());
                tracing::error!(job = %self.job, "job {}: {reason}", self.job);
                self.hold(Held::Lost { reason })
            }
        }
    }

    /// Checkpoints the job to this host's own disk.
    pub(super) async fn park(&mut self, place: &Place) -> Result<()> {
        let checkpoint = place.parked();
        checkpoint.make_on_disk()?;
        if let Err(error) = self.dump(place, &checkpoint, Afterwards::Ended).await {
            place.cgroup().thaw()?;
            self.host.hooks.release(place.address()).await?;
            return Err(error);
        }
        self.hold(Held::Parked)
    }

    // The destination

    /// Makes ready to receive, and receives what comes out of the capsule store.
    pub(super) async fn prepare(&mut self, directive: &JobDirective, migration: MigrationId) -> Result<()> {
        let JobOrder::MoveIn { from, .. } = &directive.order else { return Ok(()) };
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
                let arrived = tokio::select! {
                    arrived = self.take_out(directive, &place, &migration, capsule, started) => arrived,
                    // Whatever has come is removed by the order that came instead.
                    () = no_longer(&mut wanted, &name) => return Ok(()),
                };
                match arrived {
                    Ok(()) => self.arrive(&place, &migration, &place.checkpoint(&migration), peers).await,
                    Err((phase, error)) => self.arrival_failed(migration, phase, &error),
                }
            }
        }
    }

    /// Takes a capsule out of the store, checked to its end, while everything else is made ready, of which what comes needs nothing.
    async fn take_out(
        &mut self,
        directive: &JobDirective,
        place: &Place,
        migration: &MigrationId,
        capsule: &CapsuleName,
        started: Instant,
    ) -> std::result::Result<(), (Phase, Error)> {
        let (of_prepare, of_transfer) = (|error| (Phase::Prepare, error), |error| (Phase::Transfer, error));
        let opened = async { Incoming::out_of_store(&self.host.capsules.store()?, capsule).await };
        let (cleared, opened) = tokio::join!(self.clear_place(place, migration), opened);
        cleared.map_err(of_prepare)?;
        let (incoming, hooks) = (opened.map_err(of_transfer)?, self.host.hooks.clone());
        let checkpoint = place.checkpoint(migration);
        let made_ready = async {
            self.make_ready(directive, place, started).await.map_err(of_prepare)?;
            self.publish();
            Ok(Instant::now())
        };
        let received = async {
            match incoming.receive(place, &checkpoint, async || hooks.hold(place.address()).await).await {
                Received::Whole => Ok(()),
                Received::Ahead(error) | Received::Broken(error) => Err(of_transfer(error)),
            }
        };
        let (ready, ()) = tokio::try_join!(made_ready, received)?;
        // What came while it was made ready was waited for by nobody.
        self.measured(Phase::Transfer, ready, checkpoint.size());
        Ok(())
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
            Received::Whole => self.arrive(&place, &migration, &checkpoint, Peers::OutsideLost).await,
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

    async fn arrive(
        &mut self,
        place: &Place,
        migration: &MigrationId,
        checkpoint: &Checkpoint,
        peers: Peers,
    ) -> Result<()> {
        self.expected = None;
        let Some(record) = self.record.clone() else { return Ok(()) };
        let started = Instant::now();
        let restored = async {
            failpoint::check(&Phase::Restore.failpoint()).await?;
            let image = self.host.images.ready(&record.spec.image).await?;
            self.restore(place, &record.spec, &image, checkpoint).await
        };
        let restored = restored.await;
        let verified = match restored {
            Ok(init) => {
                self.measured(Phase::Restore, started, checkpoint.size());
                let started = Instant::now();
                let verified = verify(place, init).await.map_err(|error| (Phase::Verify, error));
                self.measured(Phase::Verify, started, 0);
                verified
            }
            Err(error) => Err((Phase::Restore, error)),
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

    /// Restores the job from images. It stands still and no packet reaches it: see [`Driver::go_on`].
    async fn restore(&self, place: &Place, spec: &JobSpec, image: &Image, checkpoint: &Checkpoint) -> Result<Init> {
        volume::attach(place, &spec.volumes, &own::user(spec, image)).await?;
        Runtime::mount_root_again(place, image, checkpoint.images()).await?;
        self.host.hooks.quieten(place.address()).await?;
        self.host.network.lock().await.carried_here(place.address(), place.interface()).await?;
        let registered = self.host.hooks.register(place.container(), place.cgroup(), place.address());
        let outcome = self.host.runtime.restore(place, checkpoint.images()).await;
        drop(registered);
        outcome
    }

    /// Lets a restored job of this host take its first step.
    async fn go_on(&self, place: &Place, peers: Peers) {
        while let Err(error) = set_going(&self.host, place, peers).await {
            tracing::error!(job = %self.job, error = &error as &dyn std::error::Error, "job {} still stands still", self.job);
            tokio::time::sleep(RETRY).await;
        }
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

    // Both

    fn running(&self) -> Option<Init> {
        match self.record.as_ref().map(|record| &record.held) {
            Some(Held::Running { init, .. }) => Some(*init),
            _ => None,
        }
    }

    fn place_held(&self) -> Result<Place> {
        let record = self.record.as_ref().ok_or_else(|| Error::Peer("has no record of the job".into()))?;
        Ok(self.host.place(&record.job, record.generation, record.address))
    }

    fn measured(&mut self, phase: Phase, since: Instant, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.took(phase, since.elapsed());
            record.bytes_moved = record.bytes_moved.max(bytes);
        }
    }

    /// What was measured belongs to the attempt that has ended; the next time that the record is kept it is gone.
    fn forget_measures(&mut self) {
        if let Some(record) = &mut self.record {
            record.phases.clear();
            record.bytes_moved = 0;
        }
    }

    /// A checkpoint that is of no use any more: its removal takes longer than anyone should wait.
    fn clean_up(&self, checkpoint: Checkpoint) {
        let checkpoint = checkpoint.set_aside();
        self.host.tasks.spawn("clean up", async move {
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || checkpoint.remove()).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a used checkpoint stays");
            }
        });
    }
}

/// Which of the other ends of a restored job's connections are where they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peers {
    /// All of them.
    Kept,
    /// Those in the overlay; the others were spoken to in the name of another host.
    OutsideLost,
    /// None: they have seen more of the job than it knows of.
    AllLost,
}

/// Has packets pass and the job's processes run; nothing changes where they do.
pub(super) async fn set_going(host: &Host, place: &Place, peers: Peers) -> Result<()> {
    host.hooks.release(place.address()).await?;
    let cgroup = place.cgroup();
    if cgroup.is_frozen() {
        let network = host.network.lock().await;
        let (overlay, leads_away) = (network.overlay(), network.leads_away(place.address()));
        drop(network);
        let outside = |peer: IpAddr| overlay.is_some_and(|overlay| !IpNet::from(overlay.range()).contains(&peer));
        let ended = match peers {
            Peers::Kept => 0,
            // Outside of it they speak with a host that stays the same.
            Peers::OutsideLost if leads_away => 0,
            Peers::OutsideLost => connections::reset(&cgroup.pids(), outside),
            Peers::AllLost => connections::reset(&cgroup.pids(), |_| true),
        };
        let asked = connections::probe_peers(&cgroup.pids());
        tracing::debug!(ended, asked, "{ended} connections end, {asked} ask their peers how much has arrived");
    }
    Ok(cgroup.thaw()?)
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

/// Resolves when a move is not what is wanted any more.
async fn no_longer(wanted: &mut watch::Receiver<Option<JobDirective>>, migration: &MigrationId) {
    let other = |directive: &Option<JobDirective>| match directive.as_ref().map(|directive| &directive.order) {
        Some(JobOrder::MoveIn { migration: now, .. } | JobOrder::MoveOut { migration: now, .. }) => now != migration,
        // No order at all leaves alone what is under way.
        None => false,
        Some(_) => true,
    };
    if wanted.wait_for(other).await.is_err() {
        std::future::pending().await
    }
}
