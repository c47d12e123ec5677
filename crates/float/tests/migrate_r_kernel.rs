//! A kernel of R in the real JupyterLab, moved while it computes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_testkit::channels::{Channels, Messages};
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::tour::move_once;
use mooring_testkit::world::{Plan, World};
use mooring_types::migration::Outcome;

const LIMIT: Duration = Duration::from_secs(60);
/// Numbers, ten a second, each printed when it is computed.
const CELL: &str = "for (i in 1:60) { cat(i, ''); flush.console(); Sys.sleep(0.1) }; kept <- sum(1:60)";
const LAST: &str = "60";

/// Reads what the request prints until it has printed `word`.
async fn printed_until(messages: &mut Messages, request: u64, word: &str, printed: &mut Vec<String>) -> Result<()> {
    let read = async {
        while !printed.iter().any(|known| known == word) {
            let message = messages.next().await?;
            match message.kind.as_str() {
                "error" => bail!("{}", message.content),
                "stream" if message.request == Some(request) => {
                    printed.extend(message.text().split_whitespace().map(str::to_owned));
                }
                _ => {}
            }
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, read).await.with_context(|| format!("no `{word}` in time"))?
}

#[test]
fn a_kernel_of_r_computes_on_while_its_job_moves() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let notebook = Notebook::launch(&client, "r").await?;
        let jupyter = Jupyter::connect(&notebook.access_url).await?;
        let kernel = jupyter.kernel_start_of("ir").await?;
        let Channels { mut requests, mut messages } = jupyter.kernel_channels(&kernel).await?;
        let cell = requests.execute(CELL).await?;
        let mut printed = Vec::new();
        printed_until(&mut messages, cell, "5", &mut printed).await?;
        let rest = async {
            printed_until(&mut messages, cell, LAST, &mut printed).await?;
            anyhow::Ok(Instant::now())
        };
        let moved = async {
            let migration = move_once(&client, &notebook.job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            Ok(Instant::now())
        };
        let (ended, moved) = tokio::try_join!(rest, moved)?;
        ensure!(moved < ended, "the cell had ended before the move did");
        let expected: Vec<String> = (1..=60).map(|number| number.to_string()).collect();
        ensure!(printed == expected, "it printed {printed:?}");
        let sum = requests.execute("cat(kept)").await?;
        printed_until(&mut messages, sum, "1830", &mut Vec::new()).await?;
        jupyter.kernel_shutdown(&kernel).await
    });
    outcome.unwrap();
}
