//! A job that is away for long while its client keeps sending: the time from its return to the
//! first byte.

use std::time::Duration;

use anyhow::Result;
use mooring_api::Client;
use mooring_testkit::away::{self, AwayMove};
use mooring_testkit::witness::{self, Witness};
use mooring_testkit::world::World;
use serde_json::json;

use super::{Outcome, progress};
use crate::goals::Goal;

/// The limit from the restore of the job to the first byte, in seconds.
const GOAL: f64 = 0.1;

/// Migrates a witness whose transfer is held up for `seconds` each time.
pub(crate) async fn measure(world: &World, client: &Client, moves: usize, seconds: f64) -> Result<Outcome> {
    let program = world.bring(&witness::program()?)?;
    let witness = Witness::launch(client, "bench", &program).await?;
    let mut number = 0;
    let each = |made: &AwayMove| {
        number += 1;
        let [first_in, first_out] =
            [made.first_byte_in_seconds, made.first_byte_out_seconds].map(|seconds| seconds * 1000.0);
        let pause = made.pause_seconds;
        progress(&format!(
            "away: migration {number} of {moves}, away for {pause:.1} s: first byte in after {first_in:.0} ms, out after {first_out:.0} ms"
        ));
    };
    let report = away::run(world, client, &witness, moves, Duration::from_secs_f64(seconds), each).await?;
    let first = report.first_bytes();
    let figures = first.map_or_else(String::new, |first| {
        format!(
            "from its restore until bytes moved in both directions: median {:.0} ms, 99 in 100 within {:.0} ms",
            first.median * 1000.0,
            first.p99 * 1000.0
        )
    });
    Ok(Outcome {
        part: "away",
        text: format!(
            "a job that was away for {seconds} s, {} times; {} lines sent, {} answered in order\n{figures}",
            report.moves.len(),
            report.sent,
            report.answered
        ),
        goals: vec![Goal::at_most("away, first byte after the restore, 99 in 100", GOAL, first.map(|first| first.p99))],
        // A lost or repeated line ends the measurement with an error.
        clean: true,
        json: json!({ "report": report, "firstByteSeconds": first }),
    })
}
