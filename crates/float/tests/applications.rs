//! A dozen of the quickest applications of `apps/rows`, one of each kind, with a real client each:
//! three migrations, suspend, resume, drain. `make apps` runs all of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_testkit::applications::packages::Places;
use mooring_testkit::applications::{row, run};
use mooring_testkit::world::{Plan, World};

/// The time for which each job stays suspended.
const AWAY: Duration = Duration::from_secs(1);

/// Runs a row, which has to be green.
fn is_green(name: &str) -> Result<()> {
    let row = row::named(name)?;
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")))?;
    let places = Places::new(&world.files())?;
    places.install(&row)?;
    let log = world.directory().join("client.log");
    let report = world.run_inside(async || {
        let client = world.client().await?;
        Ok(run::run(&world, &client, &places, &row, AWAY, &log).await)
    })?;
    ensure!(report.is_green(&row), "{report:#?}\n{}", std::fs::read_to_string(&log).unwrap_or_default());
    Ok(())
}

macro_rules! rows {
    ($($test:ident: $row:literal,)*) => {
        $(
            #[test]
            fn $test() {
                is_green($row).unwrap();
            }
        )*
    };
}

rows! {
    stopped_process: "stopped-process",
    followed_log: "tail-name",
    watched_file: "node-watch",
    spawned_pool: "pool-spawn",
    shared_memory: "shared-memory",
    python_server: "python-http",
    go_server: "docker-registry",
    node_events: "node-events",
    node_cluster: "node-cluster",
    jupyter_kernel: "jupyterlab",
    shiny_page: "shiny",
    shell_by_tcp: "shell",
}
