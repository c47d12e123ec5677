//! Pseudo-random bytes at full speed in both directions of eight connections.

use anyhow::Result;
use mooring_api::Client;
use mooring_testkit::distribution::Distribution;
use mooring_testkit::world::World;
use mooring_testkit::{streaming, streams};
use serde_json::json;

use super::{Outcome, progress};

const CONNECTIONS: usize = 8;

/// Migrates a streaming job.
pub(crate) async fn measure(world: &World, client: &Client, moves: usize) -> Result<Outcome> {
    let program = world.bring(&streams::program()?)?;
    let session = streaming::launch(client, "bench", &program).await?;
    progress(&format!("streams: {moves} migrations under {CONNECTIONS} connections"));
    let report = streaming::run(client, &session, CONNECTIONS, moves).await?;
    let stalls = Distribution::of(report.moves.iter().map(|made| made.longest_stall_seconds));
    let total = |count: fn(&streams::StreamReport) -> u64| report.streams.iter().map(count).sum::<u64>() >> 20;
    let agreed = report.streams.iter().filter(|stream| stream.hash_ok).count();
    let mut text = format!(
        "{CONNECTIONS} streams over {} migrations: {} MiB in, {} MiB out; counts and hashes agree on {agreed} of {}",
        report.moves.len(),
        total(|stream| stream.sent),
        total(|stream| stream.received),
        report.streams.len(),
    );
    if let Some(stalls) = stalls {
        text += &format!(
            "\nlongest time without a byte in a move: median {:.0} ms, most {:.0} ms",
            stalls.median * 1000.0,
            stalls.max * 1000.0
        );
    }
    if let Some(fault) = &report.fault {
        text += &format!("\nended early: {fault}");
    }
    let clean = report.is_clean(CONNECTIONS, moves);
    Ok(Outcome {
        part: "streams",
        text,
        json: json!({ "report": report, "longestStallSeconds": stalls }),
        goals: Vec::new(),
        clean,
    })
}
