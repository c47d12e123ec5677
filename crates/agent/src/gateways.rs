//! The gateways placed on this host: each a process of its own, without privilege, in a control group of its size.
//!
//! They outlive a restart of the agent, which finds them again by their process record, and are started again when they die.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::GatewayPlacement;
use mooring_linux::cgroup::Cgroup;
use mooring_linux::{mount, process};
use mooring_types::GatewayId;
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::job::held::Init;

/// The user that gateways run as: `nobody`.
const UNPRIVILEGED: u32 = 65534;
const LOOK: Duration = Duration::from_millis(500);
const STOP_LIMIT: Duration = Duration::from_secs(25);
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
    running: BTreeMap<GatewayId, (Init, GatewayPlacement)>,
    /// Children of this agent, to be reaped when they end.
    children: BTreeMap<GatewayId, std::process::Child>,
}

impl Gateways {
    /// Finds the gateways that run already.
    pub(crate) fn open(host: Arc<Host>, wanted: watch::Receiver<Vec<GatewayPlacement>>) -> Self {
        Self { host, wanted, running: BTreeMap::new(), children: BTreeMap::new() }
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
                    error = &error as &dyn std::error::Error,
                    "the gateways of this host are not as they should be"
                );
            }
            tokio::select! {
                () = self.host.stop.cancelled() => break,
                _ = self.wanted.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
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
                self.adopt(&gateway, None);
                self.stop(&gateway).await;
                self.cgroup(&gateway).remove()?;
                mount::remove_tree(&entry.path())?;
            }
        }
        for placement in &wanted {
            self.adopt(&placement.gateway, Some(placement));
            if !self.running.contains_key(&placement.gateway) {
                self.start(placement)?;
            }
        }
        Ok(())
    }

    /// Takes up a process that an earlier agent started.
    fn adopt(&mut self, gateway: &GatewayId, placement: Option<&GatewayPlacement>) {
        if let Some((init, _)) = self.running.get(gateway) {
            if !init.lives() {
                tracing::warn!(%gateway, "gateway {gateway} has died");
                self.running.remove(gateway);
            }
            return;
        }
        let record = fs::read(self.directory().join(gateway.as_str()).join("process.json")).ok();
        let init: Option<Init> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(init) = init.filter(Init::lives) {
            let placement = placement.cloned().unwrap_or_else(|| GatewayPlacement {
                gateway: gateway.clone(),
                token: String::new(),
                resources: mooring_types::host::Resources { cpu: 1, mem_gb: 1.0 },
                restart: 0,
            });
            self.running.insert(gateway.clone(), (init, placement));
        }
    }

    fn start(&mut self, placement: &GatewayPlacement) -> Result<()> {
        let gateway = &placement.gateway;
        let directory = self.directory().join(gateway.as_str());
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
        cgroup.add(pid)?;
        let Some(init) = Init::find(pid) else { return Err(Error::Peer(format!("gateway {gateway} ended at once"))) };
        keep(&directory, &init).map_err(failed)?;
        tracing::info!(%gateway, pid, "gateway {gateway} runs as process {pid}");
        self.children.insert(gateway.clone(), child);
        self.running.insert(gateway.clone(), (init, placement.clone()));
        Ok(())
    }

    async fn stop(&mut self, gateway: &GatewayId) {
        let Some((init, _)) = self.running.remove(gateway) else { return };
        tracing::info!(%gateway, "gateway {gateway} is stopped");
        let started = Instant::now();
        // One that has ended meanwhile is what is wanted.
        let _ = process::signal(init.pid, init.started, Signal::SIGTERM);
        while init.lives() && started.elapsed() < STOP_LIMIT {
            self.reap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = process::signal(init.pid, init.started, Signal::SIGKILL);
        while init.lives() && started.elapsed() < STOP_LIMIT * 2 {
            self.reap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn reap(&mut self) {
        self.children.retain(|_, child| matches!(child.try_wait(), Ok(None)));
    }

    fn directory(&self) -> PathBuf {
        self.host.config.state_dir.join("gateways")
    }

    fn cgroup(&self, gateway: &GatewayId) -> Cgroup {
        Cgroup::open(&format!("{}/{gateway}", self.host.config.cgroup_parent.trim_matches('/')))
    }
}

fn keep(directory: &Path, init: &Init) -> io::Result<()> {
    let new = directory.join("process.new");
    File::create(&new)?.write_all(&serde_json::to_vec(init)?)?;
    fs::rename(&new, directory.join("process.json"))
}
