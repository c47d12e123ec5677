//! A virtual host that is lost: cut off from all others, while everything on it goes on.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::world::World;

/// Cuts a host off, by its name.
///
/// # Errors
/// There is none of that name.
pub fn lose(world: &World, host: &str) -> Result<()> {
    link(world, host, "down")
}

/// Joins it to the others again.
///
/// # Errors
/// There is none of that name.
pub fn find_again(world: &World, host: &str) -> Result<()> {
    link(world, host, "up")
}

fn link(world: &World, host: &str, to: &str) -> Result<()> {
    let device = host.replace("host-", "mrhost");
    let mut command = Command::new("ip");
    command.args(["link", "set", &device, to]);
    let ran = world.run(command).context("run ip")?;
    ensure!(ran.code == Some(0), "ip link set {device} {to}: {}", ran.stderr);
    Ok(())
}
