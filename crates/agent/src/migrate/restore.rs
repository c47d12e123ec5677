//! What both sides of a move do, and the way back: dump, restore, and having a restored job go on.
//!
//! [`source`](super::source) is the source's half, [`destination`](super::destination) the destination's.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use mooring_api::watch::{Connections, JobDirective, JobOrder};
use mooring_linux::connections;
use mooring_linux::process::ProcessId;
use mooring_types::MigrationId;
use mooring_types::job::JobSpec;
use mooring_types::migration::Phase;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::job::driver::{Driver, RETRY};
use crate::job::record::{Attempt, LocalState};
use crate::migrate::criu::memory_gate::MemoryGate;
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::container::{Afterwards, Runtime};
use crate::runtime::image::Image;
use crate::runtime::inode_list;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own;
use crate::runtime::volume;

impl Driver {
    /// Has the job execute again from its own capsule.
    pub(crate) async fn resume(&mut self, directive: &JobDirective) -> Result<()> {
        let peers = match directive.order {
            JobOrder::Rollback { connections: Connections::Reset, .. } => Peers::AllLost,
            _ => Peers::Kept,
        };
        let job_dir = self.held_job_dir()?;
        let checkpoint = match self.record.as_ref().map(|record| &record.state) {
            Some(LocalState::Frozen { migration, .. }) => job_dir.checkpoint(migration),
            _ => job_dir.parked(),
        };
        let Some(record) = self.record.clone() else { return Ok(()) };
        let image = self.host.images.ready(&record.spec.image).await?;
        let mtu = self.host.network.lock().await.mtu();
        job_dir.net(mtu).setup().await?;
        match self.restore(&job_dir, &record.spec, &image, &checkpoint, None).await {
            Ok(init) => {
                self.forget_measures();
                self.hold(LocalState::Running { init, attempt: Attempt::None })?;
                self.go_on(&job_dir, peers).await;
                tracing::info!(job = %self.job, "job {} executes again", self.job);
                self.clean_up(checkpoint);
                Ok(())
            }
            Err(error) => {
                let reason = format!("it could not be restored from its capsule: {}", error.chain());
                tracing::error!(job = %self.job, "job {}: {reason}", self.job);
                self.hold(LocalState::Lost { reason })
            }
        }
    }

    /// Checkpoints the job to this host's own disk.
    pub(crate) async fn park(&mut self, job_dir: &JobDir) -> Result<()> {
        let checkpoint = job_dir.parked();
        checkpoint.make_on_disk()?;
        inode_list::record(&job_dir.cgroup().pids(), &job_dir.root(), checkpoint.images())?;
        if let Err(error) = self.dump(job_dir, &checkpoint, Afterwards::Ended).await {
            job_dir.cgroup().thaw()?;
            self.host.filter.release(job_dir.address()).await?;
            return Err(error);
        }
        self.hold(LocalState::Parked)
    }

    pub(crate) async fn dump(&self, job_dir: &JobDir, checkpoint: &Checkpoint, afterwards: Afterwards) -> Result<()> {
        let hooks = &self.host.hooks;
        let registered = hooks.register(job_dir.container(), job_dir.cgroup(), job_dir.address(), None);
        let outcome = self.host.runtime.checkpoint(job_dir, checkpoint.images(), afterwards).await;
        registered.end(outcome)
    }

    /// Restores the job from images, whose memory is there once the gate is open. It stands still and no packet reaches it: see
    /// [`Driver::go_on`].
    pub(crate) async fn restore(
        &self,
        job_dir: &JobDir,
        spec: &JobSpec,
        image: &Image,
        checkpoint: &Checkpoint,
        gate: Option<MemoryGate>,
    ) -> Result<ProcessId> {
        let mounted = async {
            volume::attach(job_dir, &spec.volumes, &own::user(spec, image)).await?;
            Runtime::mount_root_again(job_dir, image, checkpoint.images()).await
        };
        let carried = async {
            self.host.filter.suppress_resets(job_dir.address()).await?;
            Ok(self.host.network.lock().await.carried_here(job_dir.address(), job_dir.interface()).await?)
        };
        tokio::try_join!(mounted, carried)?;
        let is_gated = gate.is_some();
        let registered = self.host.hooks.register(job_dir.container(), job_dir.cgroup(), job_dir.address(), gate);
        let outcome = self.host.runtime.restore(job_dir, checkpoint.images(), is_gated).await;
        registered.end(outcome)
    }

    /// Lets a restored job of this host take its first step.
    pub(crate) async fn go_on(&self, job_dir: &JobDir, peers: Peers) {
        while let Err(error) = set_going(&self.host, job_dir, peers).await {
            tracing::error!(job = %self.job, error = &error as &dyn std::error::Error, "job {} still stands still", self.job);
            tokio::time::sleep(RETRY).await;
        }
    }

    pub(crate) fn running(&self) -> Option<ProcessId> {
        match self.record.as_ref().map(|record| &record.state) {
            Some(LocalState::Running { init, .. }) => Some(*init),
            _ => None,
        }
    }

    pub(crate) fn held_job_dir(&self) -> Result<JobDir> {
        let record = self.record.as_ref().ok_or_else(|| Error::Superseded)?;
        Ok(self.host.job_dir(&record.job, record.generation, record.address))
    }

    pub(crate) fn measured(&mut self, phase: Phase, since: Instant, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.took(phase, since.elapsed());
            record.bytes_moved = record.bytes_moved.max(bytes);
        }
    }

    /// Adds to what a phase took that was measured before.
    pub(crate) fn measured_more(&mut self, phase: Phase, time: Duration) {
        if let Some(record) = &mut self.record {
            let before = record.phases.iter().find(|known| known.name == phase).map_or(0.0, |known| known.seconds);
            record.took(phase, Duration::from_secs_f64(before) + time);
        }
    }

    /// What was measured belongs to the attempt that has ended; the next time that the record is kept it is gone.
    pub(crate) fn forget_measures(&mut self) {
        if let Some(record) = &mut self.record {
            record.phases.clear();
            record.bytes_moved = 0;
        }
    }

    /// A checkpoint that is of no use any more: its removal takes longer than anyone should wait.
    pub(crate) fn clean_up(&self, checkpoint: Checkpoint) {
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
pub(crate) enum Peers {
    /// All of them.
    Kept,
    /// Those in the overlay; the others were spoken to in the name of another host.
    OutsideLost,
    /// None: they have seen more of the job than it knows of.
    AllLost,
}

/// Has packets pass and the job's processes run; nothing changes where they do.
pub(crate) async fn set_going(host: &Host, job_dir: &JobDir, peers: Peers) -> Result<()> {
    host.filter.release(job_dir.address()).await?;
    let cgroup = job_dir.cgroup();
    if cgroup.is_frozen() {
        let network = host.network.lock().await;
        let (overlay, leads_away) = (network.overlay(), network.leads_away(job_dir.address()));
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
pub(crate) async fn no_longer(directive: &mut watch::Receiver<Option<JobDirective>>, migration: &MigrationId) {
    let other = |directive: &Option<JobDirective>| match directive.as_ref().map(|directive| &directive.order) {
        Some(JobOrder::MigrateIn { migration: now, .. } | JobOrder::MigrateOut { migration: now, .. }) => {
            now != migration
        }
        // No order at all leaves alone what is under way.
        None => false,
        Some(_) => true,
    };
    if directive.wait_for(other).await.is_err() {
        std::future::pending().await
    }
}
