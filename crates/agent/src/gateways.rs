//! The gateways placed on this host: unprivileged processes, each in a control group of its size.
//!
//! Each gateway has a user of its own. So one that was taken over by what it parses has no way to
//! another's certificate, memory, state or hand-over socket. No program that it runs gets
//! privileges.
//!
//! Gateways outlive a restart of the agent, which finds them again by their record. A gateway that
//! dies is started again. A restart of a gateway starts a second process, of the agent's current
//! program, which takes over from the first: see [`processes`].

mod processes;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::{CertificateRequest, GatewayPlacement};
use mooring_linux::cgroup::Cgroup;
use mooring_linux::{process, tree};
use mooring_ops::log::chain;
use mooring_ops::log_file;
use mooring_tls::Identity;
use mooring_types::host::Resources;
use mooring_types::{Clock, GatewayId, SystemClock};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use self::processes::{Processes, Step, Successor, serving};
use crate::error::{Error, Result};
use crate::host::Host;
use mooring_linux::process::ProcessId;

/// The users of gateways, and their groups of the same number: 2^28 from this one on. Systems give
/// these to nobody.
const FIRST_USER: u32 = 0x7000_0000;
/// The log of a gateway, in its directory.
const LOG: &str = "gateway.log";
/// The interval at which processes are compared with their placements.
const RECONCILE_INTERVAL: Duration = Duration::from_millis(500);
/// The interval while a successor is about to serve.
const HAND_OVER_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The time that a gateway has to drain when it is stopped.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(25);
/// The time that a process has to stop when it failed to hand over.
const STUCK_GRACE_PERIOD: Duration = Duration::from_secs(2);
/// The limit of a gateway's open descriptors: a client connection takes three.
const OPEN_FILES_MAX: u64 = 262_144;
/// The descriptors of a gateway's program and state directory. Its user may not be able to reach
/// their paths.
const PROGRAM_FD: i32 = 200;
const STATE_FD: i32 = 201;
/// The file with a gateway's key and certificate, in the agent's directory of it and in its own.
const IDENTITY: &str = "identity.pem";
/// The time limit of a request for a gateway's certificate.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateways of this host.
#[derive(Debug)]
pub(crate) struct Gateways {
    host: Arc<Host>,
    placements: watch::Receiver<Vec<GatewayPlacement>>,
    running: BTreeMap<GatewayId, Running>,
    /// The children of this agent, which are reaped when they end.
    children: Vec<std::process::Child>,
    /// The keys and certificates of the gateways that are placed here.
    identities: BTreeMap<GatewayId, Identity>,
    /// The sizes of the control groups that this agent has set.
    sizes: BTreeMap<GatewayId, Resources>,
}

/// A gateway that has processes.
#[derive(Debug)]
struct Running {
    processes: Processes,
    /// When the successor was started.
    started: Instant,
}

impl Gateways {
    /// The gateways of a host, by their placements.
    pub(crate) fn open(host: Arc<Host>, placements: watch::Receiver<Vec<GatewayPlacement>>) -> Self {
        Self {
            host,
            placements,
            running: BTreeMap::new(),
            children: Vec::new(),
            identities: BTreeMap::new(),
            sizes: BTreeMap::new(),
        }
    }

    /// Keeps the placed gateways running, until the agent stops.
    pub(crate) async fn run(mut self) {
        // Before the first slice, running gateways are left alone.
        tokio::select! {
            changed = self.placements.changed() => if changed.is_err() { return },
            () = self.host.stop.cancelled() => return,
        }
        loop {
            if let Err(error) = self.reconcile().await {
                tracing::error!(error = %chain(&error), "could not apply the placements of gateways, retrying");
            }
            let handing_over = self.running.values().any(|running| running.processes.successor.is_some());
            tokio::select! {
                () = self.host.stop.cancelled() => break,
                _ = self.placements.changed() => {}
                () = tokio::time::sleep(if handing_over { HAND_OVER_POLL_INTERVAL } else { RECONCILE_INTERVAL }) => {}
            }
        }
        if self.host.config.park {
            let running: Vec<GatewayId> = self.running.keys().cloned().collect();
            for gateway in running {
                self.stop(&gateway).await;
            }
        }
    }

    async fn reconcile(&mut self) -> Result<()> {
        let placements = self.placements.borrow_and_update().clone();
        self.reap();
        self.remove_unplaced(&placements).await?;
        for placement in &placements {
            if let Err(error) = self.certify(&placement.gateway).await {
                tracing::warn!(gateway = %placement.gateway, error = %chain(&error), "gateway {} has no new certificate yet", placement.gateway);
            }
            self.follow(placement).await?;
        }
        for placement in &placements {
            let log = self.directory().join(placement.gateway.as_str()).join(LOG);
            if let Err(error) = log_file::rotate(&log, log_file::BYTES_MAX) {
                tracing::warn!(gateway = %placement.gateway, %error, "the log of gateway {} can't be rotated", placement.gateway);
            }
        }
        self.identities.retain(|gateway, _| placements.iter().any(|placement| placement.gateway == *gateway));
        self.sizes.retain(|gateway, _| placements.iter().any(|placement| placement.gateway == *gateway));
        placements.iter().try_for_each(|placement| self.resize(placement))
    }

    /// Ends and removes the gateways of this host that are not placed here any more.
    async fn remove_unplaced(&mut self, placements: &[GatewayPlacement]) -> Result<()> {
        let directory = self.directory();
        fs::create_dir_all(&directory).map_err(Error::system(format!("make {}", directory.display())))?;
        for entry in fs::read_dir(&directory).map_err(Error::system(format!("read {}", directory.display())))?.flatten()
        {
            let Ok(gateway) = entry.file_name().to_string_lossy().parse::<GatewayId>() else { continue };
            if !placements.iter().any(|placement| placement.gateway == gateway) {
                self.adopt(&gateway)?;
                self.stop(&gateway).await;
                self.cgroup(&gateway).kill_all()?;
                self.cgroup(&gateway).remove()?;
                tree::remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Gives a gateway its certificate, and the next one in time.
    ///
    /// The agent reads its own copy alone: what is in the gateway's directory may be a link to
    /// anything.
    async fn certify(&mut self, gateway: &GatewayId) -> Result<()> {
        let failed = |error: mooring_tls::Error| Error::Tls {
            attempt: "keep a gateway's certificate",
            reason: chain(&error).to_string(),
        };
        let directory = self.directory_of(gateway);
        let path = directory.join(IDENTITY);
        if !self.identities.contains_key(gateway) {
            fs::create_dir_all(&directory).map_err(Error::system(format!("make {}", directory.display())))?;
            self.identities.insert(gateway.clone(), Identity::open(&path).map_err(failed)?);
        }
        let Some(identity) = self.identities.get(gateway).filter(|identity| identity.is_due(SystemClock.now())) else {
            return Ok(());
        };
        let membership = self.host.membership.borrow().clone();
        let Some(membership) = membership else { return Ok(()) };
        let request = CertificateRequest { certificate_request: identity.request().map_err(failed)? };
        let answer = membership.client.gateway_certificate(&membership.id, gateway, &request);
        let answer = tokio::time::timeout(CERTIFICATE_TIMEOUT, answer)
            .await
            .map_err(|_| Error::TimedOut(format!("a certificate for gateway {gateway}")))??;
        identity.set_certificate(&answer.certificate).and_then(|()| identity.store(&path)).map_err(failed)?;
        let state = directory.join("state");
        match fs::metadata(&state) {
            Ok(found) => self.give_identity(gateway, &state, found.uid()),
            // Its first process gets it.
            Err(_) => Ok(()),
        }
    }

    /// Copies a gateway's key and certificate into the directory of its own files.
    fn give_identity(&self, gateway: &GatewayId, state: &Path, user: u32) -> Result<()> {
        let Some(identity) = self.identities.get(gateway) else { return Ok(()) };
        let copy = state.join(IDENTITY);
        identity.store(&copy).map_err(|error| Error::Tls {
            attempt: "give a gateway its certificate",
            reason: chain(&error).to_string(),
        })?;
        // Not through a link that the gateway may have put there meanwhile.
        lchown(&copy, Some(user), Some(user)).map_err(Error::system(format!("give gateway {gateway} its certificate")))
    }

    /// Gives a running gateway the size of its placement.
    fn resize(&mut self, GatewayPlacement { gateway, resources, .. }: &GatewayPlacement) -> Result<()> {
        if self.sizes.get(gateway) == Some(resources) {
            return Ok(());
        }
        self.cgroup(gateway).make_limited(resources.cpu, (resources.mem_gb * 1e9) as u64)?;
        if let Some(old) = self.sizes.insert(gateway.clone(), *resources) {
            tracing::info!(%gateway, ?old, ?resources, "gateway {gateway} was resized");
        }
        Ok(())
    }

    /// Brings a gateway's processes in line with its placement.
    async fn follow(&mut self, placement: &GatewayPlacement) -> Result<()> {
        let gateway = &placement.gateway;
        self.adopt(gateway)?;
        self.forget_ended(gateway)?;
        let serving = serving(&self.directory_of(gateway).join("state"));
        let step = self.running.get(gateway).map_or(Step::Start, |running| {
            running.processes.next(ProcessId::lives, serving, placement.restart, running.started.elapsed())
        });
        match step {
            Step::Stay => Ok(()),
            Step::Start => {
                if self.running.contains_key(gateway) {
                    tracing::warn!(%gateway, "gateway {gateway} has died: starting it again");
                }
                self.start(placement)
            }
            Step::HandOver => self.hand_over(placement),
            Step::Promote => self.promote(gateway),
            Step::GiveUp { reason } => {
                tracing::warn!(%gateway, "gateway {gateway} could not be handed over, {reason}: starting it again");
                if let Some(running) = self.running.get(gateway) {
                    let processes = &running.processes;
                    let stuck: Vec<ProcessId> =
                        processes.successor.iter().map(|new| new.init).chain([processes.current]).collect();
                    self.end(&stuck, STUCK_GRACE_PERIOD).await;
                }
                self.start(placement)
            }
        }
    }

    /// Takes up the processes that an earlier agent has started.
    fn adopt(&mut self, gateway: &GatewayId) -> Result<()> {
        if self.running.contains_key(gateway) {
            return Ok(());
        }
        let group = self.cgroup(gateway).pids();
        let Some(mut processes) = Processes::read(&self.directory_of(gateway)) else {
            // A process that was started and not recorded.
            return if group.is_empty() { Ok(()) } else { Ok(self.cgroup(gateway).kill_all()?) };
        };
        // An unrecorded successor that serves by now. Its word counts only within the gateway's
        // group.
        let recorded: Vec<i32> = processes.all().iter().map(|init| init.pid).collect();
        let unrecorded = serving(&self.directory_of(gateway).join("state"))
            .filter(|pid| group.contains(pid) && !recorded.contains(pid));
        if let Some(init) = unrecorded.and_then(ProcessId::find) {
            processes.retired.extend(processes.successor.map(|successor| successor.init));
            processes.promote(Successor { init, restart: processes.restart });
            processes.keep(&self.directory_of(gateway)).map_err(Error::system(format!("record gateway {gateway}")))?;
        }
        self.running.insert(gateway.clone(), Running { processes, started: Instant::now() });
        Ok(())
    }

    /// Removes retired processes that have ended from the record.
    fn forget_ended(&mut self, gateway: &GatewayId) -> Result<()> {
        let Some(running) = self.running.get_mut(gateway) else { return Ok(()) };
        let before = running.processes.retired.len();
        running.processes.retired.retain(ProcessId::lives);
        let ended = before - running.processes.retired.len();
        if ended == 0 {
            return Ok(());
        }
        tracing::info!(%gateway, "{ended} older processes of gateway {gateway} have ended");
        self.keep(gateway)
    }

    /// Starts a process for a gateway that none serves.
    fn start(&mut self, placement: &GatewayPlacement) -> Result<()> {
        let gateway = &placement.gateway;
        let retired = self.running.remove(gateway).map(|running| running.processes.retired).unwrap_or_default();
        let user = user_of(gateway);
        let state = self.directory_of(gateway).join("state");
        // An earlier agent had one user for all gateways. What the directory has comes again.
        if fs::metadata(&state).is_ok_and(|found| found.uid() != user) {
            tree::remove_tree(&state)?;
        }
        let init = self.spawn(placement, user, &[])?;
        let processes = Processes::new(init, placement.restart, retired);
        self.running.insert(gateway.clone(), Running { processes, started: Instant::now() });
        self.keep(gateway)?;
        tracing::info!(%gateway, pid = init.pid, "gateway {gateway} runs as process {}", init.pid);
        Ok(())
    }

    /// Starts a process that takes over from the serving one.
    fn hand_over(&mut self, placement: &GatewayPlacement) -> Result<()> {
        let gateway = &placement.gateway;
        // The two processes meet at a socket of their user.
        let state = self.directory_of(gateway).join("state");
        let user = fs::metadata(&state).map_or(user_of(gateway), |found| found.uid());
        let init = self.spawn(placement, user, &["--take-over"])?;
        if let Some(running) = self.running.get_mut(gateway) {
            running.processes.successor = Some(Successor { init, restart: placement.restart });
            running.started = Instant::now();
        }
        tracing::info!(%gateway, pid = init.pid, "process {} takes over gateway {gateway}", init.pid);
        self.keep(gateway)
    }

    fn promote(&mut self, gateway: &GatewayId) -> Result<()> {
        let Some(running) = self.running.get_mut(gateway) else { return Ok(()) };
        let Some(successor) = running.processes.successor else { return Ok(()) };
        let (new, old) = (successor.init.pid, running.processes.current.pid);
        running.processes.promote(successor);
        tracing::info!(%gateway, new, old, "gateway {gateway} is served by process {new}; {old} keeps its connections until they end");
        self.keep(gateway)
    }

    fn keep(&self, gateway: &GatewayId) -> Result<()> {
        let Some(running) = self.running.get(gateway) else { return Ok(()) };
        running.processes.keep(&self.directory_of(gateway)).map_err(Error::system(format!("record gateway {gateway}")))
    }

    fn spawn(&mut self, placement: &GatewayPlacement, user: u32, arguments: &[&str]) -> Result<ProcessId> {
        let gateway = &placement.gateway;
        let directory = self.directory_of(gateway);
        let state = directory.join("state");
        let failed = |error: io::Error| Error::system(format!("start gateway {gateway}"))(error);
        fs::create_dir_all(&state).map_err(failed)?;
        chown(&state, Some(user), Some(user)).map_err(failed)?;
        fs::set_permissions(&state, Permissions::from_mode(0o700)).map_err(failed)?;
        self.give_identity(gateway, &state, user)?;
        let cgroup = self.cgroup(gateway);
        cgroup.make_limited(placement.resources.cpu, (placement.resources.mem_gb * 1e9) as u64)?;
        let log = log_file::open(&directory.join(LOG)).map_err(failed)?;
        let mut command = Command::new(format!("/proc/self/fd/{PROGRAM_FD}"));
        command
            .arg0("float")
            .args(["server", "gateway", "--opcenter", &self.host.config.opcenter, "--gateway", gateway.as_str()])
            .args(["--state-dir", &format!("/proc/self/fd/{STATE_FD}")])
            .args(arguments)
            .env("FLOAT_CA", self.host.config.trust.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .uid(user)
            .gid(user);
        process::give(&mut command, File::open(&self.host.config.float).map_err(failed)?, PROGRAM_FD);
        process::give(&mut command, File::open(&state).map_err(failed)?, STATE_FD);
        process::new_session(&mut command);
        process::without_new_privileges(&mut command);
        let child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        self.children.push(child);
        cgroup.add(pid)?;
        if let Err(error) = process::allow_descriptors(pid, OPEN_FILES_MAX) {
            tracing::warn!(%gateway, %error, "can't raise the open-file limit of gateway {gateway}");
        }
        ProcessId::find(pid).ok_or_else(|| Error::GatewayEnded { gateway: gateway.clone() })
    }

    /// Ends every process of a gateway.
    async fn stop(&mut self, gateway: &GatewayId) {
        let Some(running) = self.running.remove(gateway) else { return };
        tracing::info!(%gateway, "stopping gateway {gateway}");
        self.end(&running.processes.all(), STOP_GRACE_PERIOD).await;
    }

    /// Ends processes: with SIGTERM, and after `grace` with SIGKILL.
    async fn end(&mut self, processes: &[ProcessId], grace: Duration) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            for init in processes {
                // One that has ended meanwhile needs no signal.
                let _ = init.signal(signal);
            }
            let started = Instant::now();
            while processes.iter().any(ProcessId::lives) && started.elapsed() < grace {
                self.reap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn reap(&mut self) {
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    fn directory(&self) -> PathBuf {
        self.host.config.state_dir.join("gateways")
    }

    fn directory_of(&self, gateway: &GatewayId) -> PathBuf {
        self.directory().join(gateway.as_str())
    }

    fn cgroup(&self, gateway: &GatewayId) -> Cgroup {
        Cgroup::open(&format!("{}/{gateway}", self.host.config.cgroup_parent.trim_matches('/')))
    }
}

/// Returns the user of a gateway, which is the same at every start and on every host.
fn user_of(gateway: &GatewayId) -> u32 {
    let hash = Sha256::digest(gateway.as_str());
    FIRST_USER + (u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gateway_has_a_user_of_its_own() {
        let ids: Vec<GatewayId> = (0..100).map(|_| GatewayId::random(&mut rand::rng())).collect();
        let mut users: Vec<u32> = ids.iter().map(user_of).collect();
        assert_eq!(users, ids.iter().map(user_of).collect::<Vec<_>>());
        users.sort_unstable();
        users.dedup();
        assert_eq!(users.len(), 100);
        assert!(users[0] >= FIRST_USER && users[99] < 0x8000_0000, "{users:?}");
    }
}
