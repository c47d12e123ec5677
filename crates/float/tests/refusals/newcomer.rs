//! A host that joins a world while it runs, and loses its tools.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use mooring_api::view::HostStatus;
use mooring_linux::netns;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::World;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{FLOAT, NOTICED_WITHIN, TOOLS};

/// Another host of a world, with tools of its own, in a network namespace on the world's bridge.
pub(crate) struct Newcomer<'a> {
    world: &'a World,
    tools: PathBuf,
    agent: Child,
}

impl<'a> Newcomer<'a> {
    pub(crate) const NAME: &'static str = "newcomer";

    /// Starts its agent and waits until it is ready.
    pub(crate) fn join(world: &'a World) -> Result<Self> {
        let directory = world.directory().join("newcomer");
        let tools = directory.join("tools/bin");
        fs::create_dir_all(&tools)?;
        for tool in ["runc", "criu"] {
            symlink(tool_path(tool)?, tools.join(tool))?;
        }
        let namespace = directory.join("netns");
        netns::create(&namespace)?;
        let link = "link add newcomer type veth peer name newcomerp";
        netns::run_in(&world.namespace(), || -> Result<()> {
            ip(link)?;
            ip("link set newcomer master mooring0 up")?;
            Ok(netns::move_link("newcomerp", &namespace)?)
        })??;
        netns::run_in(&namespace, || ip("address add 198.18.0.9/24 dev newcomerp").and(ip("link set newcomerp up")))??;
        let mut command = Command::new(FLOAT);
        let port = world.url().rsplit(':').next().context("a URL has a port")?;
        command.args(["server", "agent", "--name", Self::NAME, "--role", "jobs", "--underlay", "198.18.0.9"]);
        command.args(["--opcenter", &format!("https://198.18.0.1:{port}"), "--device-prefix", "mhn", "--park"]);
        command.arg("--ca").arg(world.directory().join("opcenter/ca.pem"));
        command.arg("--cgroup-parent").arg(format!("mooring/newcomer-{}", std::process::id()));
        command.arg("--join-token-file").arg(world.directory().join("opcenter/join-token"));
        command.arg("--state-dir").arg(directory.join("state")).arg("--tools").arg(directory.join("tools"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(directory.join("agent.log"))?);
        netns::enter_command(&mut command, &namespace)?;
        let newcomer = Self { world, tools, agent: command.spawn()? };
        newcomer.becomes(&HostStatus::Ready)?;
        Ok(newcomer)
    }

    /// Takes CRIU away: what is in its place does not do.
    pub(crate) fn lose_criu(&self) -> Result<()> {
        let criu = self.tools.join("criu");
        fs::remove_file(&criu)?;
        Ok(symlink("/bin/false", criu)?)
    }

    /// Waits until OpCenter shows this status of it.
    pub(crate) fn becomes(&self, wanted: &HostStatus) -> Result<()> {
        self.world.run_inside(async || {
            let client = self.world.client().await?;
            wait_for(&format!("the newcomer to be {wanted}"), NOTICED_WITHIN, async || {
                let hosts = client.host_list().await?;
                Ok(hosts.iter().any(|host| host.name == Self::NAME && host.status == *wanted).then_some(()))
            })
            .await
        })
    }
}

impl Drop for Newcomer<'_> {
    fn drop(&mut self) {
        // It lives in a namespace below the world's directory: what does not end now is ended with
        // the world.
        if let Ok(pid) = i32::try_from(self.agent.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.agent.wait();
    }
}

/// Returns the path of a tool.
fn tool_path(tool: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories = [PathBuf::from(TOOLS)].into_iter().chain(env::split_paths(&path));
    let found = directories.find_map(|directory| fs::canonicalize(directory.join(tool)).ok());
    found.with_context(|| format!("{tool} is not installed"))
}

fn ip(arguments: &str) -> Result<()> {
    let ran = Command::new("ip").args(arguments.split(' ')).output().context("run `ip`")?;
    ensure!(ran.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}
