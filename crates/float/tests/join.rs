//! Agents that OpCenter refuses say so and end, before they call their host ready.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mooring_testkit::world::{Plan, Ran, World};

const FLOAT: &str = env!("CARGO_BIN_EXE_float");

/// Starts an agent with a join token beside those of the world, and waits for its end.
fn agent(world: &World, name: &str, token: &str) -> Result<Ran> {
    let directory = world.files().join(name);
    fs::create_dir_all(&directory)?;
    let token_file = directory.join("token");
    fs::write(&token_file, token)?;
    let known = world.daemons(&["server", "agent"]).pop().context("an agent")?;
    let line = fs::read_to_string(format!("/proc/{}/cmdline", known.pid))?;
    let opcenter = line.split('\0').skip_while(|word| *word != "--opcenter").nth(1).context("its OpCenter")?;
    let mut command = Command::new("timeout");
    command.arg("30").arg(FLOAT).args(["server", "agent", "--opcenter", opcenter, "--name", name]);
    command.arg("--ca").arg(world.directory().join("opcenter/ca.pem"));
    command.arg("--join-token-file").arg(token_file).arg("--state-dir").arg(directory.join("state"));
    command.args(["--underlay", "198.18.0.1", "--migration-port", "7999", "--device-prefix", "strange"]);
    world.run(command)
}

#[test]
fn an_agent_with_a_wrong_join_token_ends_with_the_reason() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let outcome = world.run_inside(async || {
        for token in ["", "wrong"] {
            let ran = agent(&world, "stranger", token)?;
            let said = [ran.stdout.as_str(), &ran.stderr].concat();
            ensure!(ran.code == Some(1), "{ran:?}");
            ensure!(ran.stderr.contains("Error: OpCenter refuses the join token: "), "{ran:?}");
            ensure!(ran.stderr.contains("hint: an admin makes one with `float hosts token create`"), "{ran:?}");
            ensure!(!said.contains("is ready") && !said.contains("unreachable"), "{ran:?}");
        }
        // A name that another host has.
        let shared = fs::read_to_string(world.directory().join("opcenter/join-token"))?;
        let ran = agent(&world, "host-1", shared.trim())?;
        ensure!(ran.code == Some(1) && ran.stderr.contains("Error: OpCenter refuses this host: "), "{ran:?}");
        ensure!(ran.stderr.contains("has joined before, with another key"), "{ran:?}");
        Ok(())
    });
    outcome.unwrap();
}
