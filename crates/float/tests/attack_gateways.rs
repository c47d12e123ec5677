//! An attack by a gateway that was taken over, against another one of its host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};

const LIMIT: Duration = Duration::from_secs(60);
/// The user `nobody`, which other services of a host may be as well.
const NOBODY: u32 = 65534;

/// Returns a value of a process's status.
fn of_status(pid: i32, key: &str) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).context("the line")?;
    Ok(line.split_whitespace().next().context("a number")?.parse()?)
}

/// Says whether a user reads a file or a directory.
fn reads(user: u32, path: &Path) -> Result<bool> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "if [ -d \"$0\" ]; then ls \"$0\"; else cat \"$0\"; fi"]).arg(path).uid(user).gid(user);
    Ok(command.output()?.status.success())
}

/// S28: gateways of one host don't read each other's tokens, memory or state.
#[test]
fn gateway_reads_nothing_of_another() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let outcome = world.run_inside(async || {
        for (name, range) in [("one", "10000:10009"), ("two", "10010:10019")] {
            let made = world.float(&["gateway", "create", "-n", name, "--portRange", range])?;
            ensure!(made.code == Some(0), "{made:?}");
        }
        let gateways = wait_for("both gateways", LIMIT, async || {
            let running = world.daemons(&["server", "gateway"]);
            let serve = running.len() == 2 && running.iter().all(|gateway| of_status(gateway.pid, "Uid:").is_ok());
            Ok(serve.then_some(running))
        })
        .await?;
        let users = gateways.iter().map(|gateway| of_status(gateway.pid, "Uid:")).collect::<Result<BTreeSet<_>>>()?;
        ensure!(users.len() == 2 && !users.contains(&NOBODY) && !users.contains(&0), "{users:?}");
        for gateway in &gateways {
            let user = of_status(gateway.pid, "Uid:")?;
            ensure!(of_status(gateway.pid, "Gid:")? == user && of_status(gateway.pid, "NoNewPrivs:")? == 1, "{user}");
            let own = format!("/proc/{}/environ", gateway.pid);
            ensure!(reads(user, Path::new(&own))?, "it reads its own");
            let state = format!("/proc/{}/fd/201/", gateway.pid);
            for (secret, who) in users.iter().filter(|other| **other != user).flat_map(|other| {
                [own.as_str(), &format!("/proc/{}/maps", gateway.pid), &state].map(|path| (path.to_owned(), *other))
            }) {
                ensure!(!reads(who, Path::new(&secret))?, "{who} reads {secret} of {user}");
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
