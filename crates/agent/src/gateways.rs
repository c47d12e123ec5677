//! The gateways placed on this host: each a process of its own, without privilege, in a control group of its size.
//!
//! They outlive a restart of the agent, which finds them again by their record, and are started again when they die. A gateway that is to
//! be restarted gets a second process, of the program that the agent has now, which takes over from the first; see [`processes`].

mod processes;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::GatewayPlacement;
use mooring_linux::cgroup::Cgroup;
use mooring_linux::{mount, process};
use mooring_ops::log::chain;
use mooring_types::GatewayId;
use mooring_types::host::Resources;
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use self::processes::{Processes, Step, Successor, serving};
use crate::error::{Error, Result};
use crate::host::Host;
use mooring_linux::process::ProcessId;

/// The user that gateways run as: `nobody`.
const UNPRIVILEGED: u32 = 65534;
const LOOK: Duration = Duration::from_millis(500);
/// The same while a successor is waited for.
const LOOK_SOON: Duration = Duration::from_millis(50);
const STOP_LIMIT: Duration = Duration::from_secs(25);
/// How long a process that does not hand over may take to stop.
const STUCK_LIMIT: Duration = Duration::from_secs(2);
/// How many descriptors a gateway may have open: a client takes three.
const DESCRIPTORS: u64 = 262_144;
/// Where a gateway finds its program and its directory, whoever may look into the directories above them.
const PROGRAM_FD: i32 = 200;
const STATE_FD: i32 = 201;
/// The environment variable with a gateway's token.
pub const TOKEN_VARIABLE: &str = "MOORING_GATEWAY_TOKEN";

/// The gateways of this host.
#[derive(Debug)]
pub(crate) struct Gateways {
    host: Arc<Host>,
    wanted: watch::Receiver<Vec<GatewayPlacement>>,
    running: BTreeMap<GatewayId, Running>,
    /// Children of this agent, to be reaped when they end.
    children: Vec<std::process::Child>,
    /// The sizes of the control groups; one that an earlier agent made may have another.
    bounds: BTreeMap<GatewayId, Resources>,
}

/// A gateway that has processes.
#[derive(Debug)]
struct Running {
    processes: Processes,
    /// Since when the successor is waited for.
    since: Instant,
}

impl Gateways {
    /// Finds the gateways that run already.
    pub(crate) fn open(host: Arc<Host>, wanted: watch::Receiver<Vec<GatewayPlacement>>) -> Self {
        Self { host, wanted, running: BTreeMap::new(), children: Vec::new(), bounds: BTreeMap::new() }
    }

    /// Keeps what is wanted running, until the agent stops.
    pub(crate) async fn run(mut self) {
        // Until the first slice has come, what runs is left alone.
        tokio::select! {
            changed = self.wanted.changed() => if changed.is_err() { return },
            () = self.host.stop.cancelled() => return,
        }
        loop {
            if let Err(error) = self.reconcile().await {
                tracing::error!(
                    error = %chain(&error),
                    "the gateways of this host are not as they should be"
                );
            }
            let handing_over = self.running.values().any(|running| running.processes.successor.is_some());
            tokio::select! {
                () = self.host.stop.cancelled() => break,
                _ = self.wanted.changed() => {}
                () = tokio::time::sleep(if handing_over { LOOK_SOON } else { LOOK }) => {}
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
        let wanted = self.wanted.borrow_and_update().clone();
        self.reap();
        let directory = self.directory();
        fs::create_dir_all(&directory).map_err(Error::system(format!("make {}", directory.display())))?;
        for entry in fs::read_dir(&directory).map_err(Error::system(format!("read {}", directory.display())))?.flatten()
        {
            let Ok(gateway) = entry.file_name().to_string_lossy().parse::<GatewayId>() else { continue };
            if !wanted.iter().any(|placement| placement.gateway == gateway) {
                self.adopt(&gateway)?;
                self.stop(&gateway).await;
                self.cgroup(&gateway).kill_all()?;
                self.cgroup(&gateway).remove()?;
                mount::remove_tree(&entry.path())?;
            }
        }
        for placement in &wanted {
            self.follow(placement).await?;
        }
        self.bounds.retain(|gateway, _| wanted.iter().any(|placement| placement.gateway == *gateway));
        wanted.iter().try_for_each(|placement| self.bound(placement))
    }

    /// Gives a gateway that runs the size that it should have now.
    fn bound(&mut self, GatewayPlacement { gateway, resources, .. }: &GatewayPlacement) -> Result<()> {
        if self.bounds.get(gateway) == Some(resources) {
            return Ok(());
        }
        self.cgroup(gateway).make_limited(resources.cpu, (resources.mem_gb * 1e9) as u64)?;
        if let Some(old) = self.bounds.insert(gateway.clone(), *resources) {
            tracing::info!(%gateway, ?old, ?resources, "gateway {gateway} has another size");
        }
        Ok(())
    }

    /// Has a gateway's processes follow its placement.
    async fn follow(&mut self, placement: &GatewayPlacement) -> Result<()> {
        let gateway = &placement.gateway;
        self.adopt(gateway)?;
        self.forget_ended(gateway)?;
        let serving = serving(&self.of(gateway).join("state"));
        let step = self.running.get(gateway).map_or(Step::Start, |running| {
            running.processes.next(ProcessId::lives, serving, placement.restart, running.since.elapsed())
        });
        match step {
            Step::Stay => Ok(()),
            Step::Start => {
                if self.running.contains_key(gateway) {
                    tracing::warn!(%gateway, "gateway {gateway} has died");
                }
                self.start(placement)
            }
            Step::HandOver => self.hand_over(placement),
            Step::Promote => self.promote(gateway),
            Step::GiveUp { reason } => {
                tracing::warn!(%gateway, "gateway {gateway} is not handed over, {reason}: it is started anew");
                if let Some(running) = self.running.get(gateway) {
                    let processes = &running.processes;
                    let stuck: Vec<ProcessId> =
                        processes.successor.iter().map(|new| new.init).chain([processes.current]).collect();
                    self.end(&stuck, STUCK_LIMIT).await;
                }
                self.start(placement)
            }
        }
    }

    /// Takes up the processes that an earlier agent started.
    fn adopt(&mut self, gateway: &GatewayId) -> Result<()> {
        if self.running.contains_key(gateway) {
            return Ok(());
        }
        let group = self.cgroup(gateway).pids();
        let Some(mut processes) = Processes::read(&self.of(gateway)) else {
            // One that was started and could not be put on record any more.
            return if group.is_empty() { Ok(()) } else { Ok(self.cgroup(gateway).kill_all()?) };
        };
        // The same of a successor that serves by now. What it says counts only within the gateway's own group.
        let known: Vec<i32> = processes.all().iter().map(|init| init.pid).collect();
        let unknown =
            serving(&self.of(gateway).join("state")).filter(|pid| group.contains(pid) && !known.contains(pid));
        if let Some(init) = unknown.and_then(ProcessId::find) {
            processes.retired.extend(processes.successor.map(|successor| successor.init));
            processes.promote(Successor { init, restart: processes.restart });
            processes.keep(&self.of(gateway)).map_err(Error::system(format!("put gateway {gateway} on record")))?;
        }
        self.running.insert(gateway.clone(), Running { processes, since: Instant::now() });
        Ok(())
    }

    /// Takes retired processes that have ended off the record.
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

    /// Starts the process that serves; it finds nobody who does.
    fn start(&mut self, placement: &GatewayPlacement) -> Result<()> {
        let gateway = &placement.gateway;
        let retired = self.running.remove(gateway).map(|running| running.processes.retired).unwrap_or_default();
        let init = self.spawn(placement, &[])?;
        let processes = Processes::new(init, placement.restart, retired);
        self.running.insert(gateway.clone(), Running { processes, since: Instant::now() });
        self.keep(gateway)?;
        tracing::info!(%gateway, pid = init.pid, "gateway {gateway} runs as process {}", init.pid);
        Ok(())
    }

    /// Starts a process that takes over from the one that serves.
    fn hand_over(&mut self, placement: &GatewayPlacement) -> Result<()> {
        let gateway = &placement.gateway;
        let init = self.spawn(placement, &["--take-over"])?;
        if let Some(running) = self.running.get_mut(gateway) {
            running.processes.successor = Some(Successor { init, restart: placement.restart });
            running.since = Instant::now();
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
        running.processes.keep(&self.of(gateway)).map_err(Error::system(format!("put gateway {gateway} on record")))
    }

    fn spawn(&mut self, placement: &GatewayPlacement, arguments: &[&str]) -> Result<ProcessId> {
        let gateway = &placement.gateway;
        let directory = self.of(gateway);
        let state = directory.join("state");
        let failed = |error: io::Error| Error::system(format!("start gateway {gateway}"))(error);
        fs::create_dir_all(&state).map_err(failed)?;
        chown(&state, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).map_err(failed)?;
        let cgroup = self.cgroup(gateway);
        cgroup.make_limited(placement.resources.cpu, (placement.resources.mem_gb * 1e9) as u64)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(directory.join("gateway.log"))
            .map_err(failed)?;
        let mut command = Command::new(format!("/proc/self/fd/{PROGRAM_FD}"));
        command
            .arg0("float")
            .args(["server", "gateway", "--opcenter", &self.host.config.opcenter, "--gateway", gateway.as_str()])
            .args(["--state-dir", &format!("/proc/self/fd/{STATE_FD}")])
            .args(arguments)
            .env(TOKEN_VARIABLE, &placement.token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .uid(UNPRIVILEGED)
            .gid(UNPRIVILEGED);
        process::give(&mut command, File::open(&self.host.config.float).map_err(failed)?, PROGRAM_FD);
        process::give(&mut command, File::open(&state).map_err(failed)?, STATE_FD);
        process::new_session(&mut command);
        let child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        self.children.push(child);
        cgroup.add(pid)?;
        if let Err(error) = process::allow_descriptors(pid, DESCRIPTORS) {
            tracing::warn!(%gateway, %error, "gateway {gateway} may have few descriptors only");
        }
        ProcessId::find(pid).ok_or_else(|| Error::GatewayEnded { gateway: gateway.clone() })
    }

    /// Ends every process of a gateway.
    async fn stop(&mut self, gateway: &GatewayId) {
        let Some(running) = self.running.remove(gateway) else { return };
        tracing::info!(%gateway, "gateway {gateway} is stopped");
        self.end(&running.processes.all(), STOP_LIMIT).await;
    }

    /// Ends processes, politely first.
    async fn end(&mut self, processes: &[ProcessId], limit: Duration) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            for init in processes {
                // One that has ended meanwhile needs no signal.
                let _ = init.signal(signal);
            }
            let started = Instant::now();
            while processes.iter().any(ProcessId::lives) && started.elapsed() < limit {
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

    fn of(&self, gateway: &GatewayId) -> PathBuf {
        self.directory().join(gateway.as_str())
    }

    fn cgroup(&self, gateway: &GatewayId) -> Cgroup {
        Cgroup::open(&format!("{}/{gateway}", self.host.config.cgroup_parent.trim_matches('/')))
    }
}
