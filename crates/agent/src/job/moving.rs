//! What both sides of a move do, and the way back: dump, restore, and having a restored job go on.
//!
//! [`leaving`](super::leaving) is the source's half, [`arriving`](super::arriving) the destination's.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use mooring_api::watch::{Connections, JobDirective, JobOrder};
use mooring_linux::connections;
use mooring_types::MigrationId;
use mooring_types::job::JobSpec;
use mooring_types::migration::Phase;
use tokio::sync::watch;
use tokio::time::Instant;

use super::driver::{Driver, RETRY};
use super::held::{Attempt, Held, Init};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::relocate::gate::Gate;
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::container::{Afterwards, Runtime};
use crate::runtime::image::Image;
use crate::runtime::inodes;
use crate::runtime::own;
use crate::runtime::place::Place;
use crate::runtime::volume;

impl Driver {
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
        match self.restore(&place, &record.spec, &image, &checkpoint, None).await {
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
        inodes::write_down(&place.cgroup().pids(), &place.root(), checkpoint.images())?;
        if let Err(error) = self.dump(place, &checkpoint, Afterwards::Ended).await {
            place.cgroup().thaw()?;
            self.host.hooks.release(place.address()).await?;
            return Err(error);
        }
        self.hold(Held::Parked)
    }

    pub(super) async fn dump(&self, place: &Place, checkpoint: &Checkpoint, afterwards: Afterwards) -> Result<()> {
        let hooks = &self.host.hooks;
        let registered = hooks.register(place.container(), place.cgroup(), place.address(), None);
        let outcome = self.host.runtime.checkpoint(place, checkpoint.images(), afterwards).await;
        registered.end(outcome)
    }

    /// Restores the job from images, whose memory is there once the gate is open. It stands still and no packet reaches it: see
    /// [`Driver::go_on`].
    pub(super) async fn restore(
        &self,
        place: &Place,
        spec: &JobSpec,
        image: &Image,
        checkpoint: &Checkpoint,
        gate: Option<Gate>,
    ) -> Result<Init> {
        let mounted = async {
            volume::attach(place, &spec.volumes, &own::user(spec, image)).await?;
            Runtime::mount_root_again(place, image, checkpoint.images()).await
        };
        let carried = async {
            self.host.hooks.quieten(place.address()).await?;
            Ok(self.host.network.lock().await.carried_here(place.address(), place.interface()).await?)
        };
        tokio::try_join!(mounted, carried)?;
        let is_gated = gate.is_some();
        let registered = self.host.hooks.register(place.container(), place.cgroup(), place.address(), gate);
        let outcome = self.host.runtime.restore(place, checkpoint.images(), is_gated).await;
        registered.end(outcome)
    }

    /// Lets a restored job of this host take its first step.
    pub(super) async fn go_on(&self, place: &Place, peers: Peers) {
        while let Err(error) = set_going(&self.host, place, peers).await {
            tracing::error!(job = %self.job, error = &error as &dyn std::error::Error, "job {} still stands still", self.job);
            tokio::time::sleep(RETRY).await;
        }
    }

    pub(super) fn running(&self) -> Option<Init> {
        match self.record.as_ref().map(|record| &record.held) {
            Some(Held::Running { init, .. }) => Some(*init),
            _ => None,
        }
    }

    pub(super) fn place_held(&self) -> Result<Place> {
        let record = self.record.as_ref().ok_or_else(|| Error::Peer("has no record of the job".into()))?;
        Ok(self.host.place(&record.job, record.generation, record.address))
    }

    pub(super) fn measured(&mut self, phase: Phase, since: Instant, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.took(phase, since.elapsed());
            record.bytes_moved = record.bytes_moved.max(bytes);
        }
    }

    /// Adds to what a phase took that was measured before.
    pub(super) fn measured_more(&mut self, phase: Phase, time: Duration) {
        if let Some(record) = &mut self.record {
            let before = record.phases.iter().find(|known| known.name == phase).map_or(0.0, |known| known.seconds);
            record.took(phase, Duration::from_secs_f64(before) + time);
        }
    }

    /// What was measured belongs to the attempt that has ended; the next time that the record is kept it is gone.
    pub(super) fn forget_measures(&mut self) {
        if let Some(record) = &mut self.record {
            record.phases.clear();
            record.bytes_moved = 0;
        }
    }

    /// A checkpoint that is of no use any more: its removal takes longer than anyone should wait.
    pub(super) fn clean_up(&self, checkpoint: Checkpoint) {
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

/// Resolves when a move is not what is wanted any more.
pub(super) async fn no_longer(wanted: &mut watch::Receiver<Option<JobDirective>>, migration: &MigrationId) {
    let other = |directive: &Option<JobDirective>| match directive.as_ref().map(|directive| &directive.order) {
        Some(JobOrder::MigrateIn { migration: now, .. } | JobOrder::MigrateOut { migration: now, .. }) => {
            now != migration
        }
        // No order at all leaves alone what is under way.
        None => false,
        Some(_) => true,
    };
    if wanted.wait_for(other).await.is_err() {
        std::future::pending().await
    }
}
