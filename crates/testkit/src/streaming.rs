//! A streamer job behind a gateway, moved while bytes flow through all its connections at full
//! speed.
//!
//! Between two migrations every connection carries at least [`BETWEEN`] bytes in each direction,
//! counted where they arrive. A connection that hangs is found before the next migration.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mooring_api::view::MigrationView;
use mooring_api::{Client, Submission};
use mooring_types::migration::Outcome;
use serde::Serialize;

use crate::session::Session;
use crate::streams::{StreamReport, Streams};
use crate::tour::move_once;
use crate::wait::wait_for;

/// The least bytes of a connection in each direction between two migrations.
pub const BETWEEN: u64 = 4 << 20;
/// The target port of the streamer.
const PORT: u16 = 7000;
/// Time limit of [`BETWEEN`] bytes.
const FLOWS_WITHIN: Duration = Duration::from_secs(120);

/// The record of a streamer's clients over all migrations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamingReport {
    /// The moves that were made.
    pub moves: Vec<StreamingMove>,
    /// The end of each connection.
    pub streams: Vec<StreamReport>,
    /// The reason for an early end, if there was one.
    pub fault: Option<String>,
}

/// The record of a streamer's clients over one migration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamingMove {
    /// The move.
    #[serde(flatten)]
    pub migration: MigrationView,
    /// The longest time without a byte received, on the connection where it was longest.
    pub longest_stall_seconds: f64,
}

/// Starts a streamer, whose program is at `program` for the job, behind a gateway; both are called
/// `name`.
pub async fn launch(client: &Client, name: &str, program: &Path) -> Result<Session> {
    let program = program.to_str().context("the program's path is no UTF-8")?.to_owned();
    let job = Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: vec![program, format!("0.0.0.0:{PORT}")],
        publish: vec![PORT.to_string().parse()?],
        ..Submission::default()
    };
    Session::launch(client, job).await
}

/// Moves a streamer `moves` times, each time to a host that OpCenter chooses, while bytes flow
/// through `connections` connections.
pub async fn run(client: &Client, session: &Session, connections: usize, moves: usize) -> Result<StreamingReport> {
    let streams = Streams::start(session.address, connections).await?;
    let mut made = Vec::new();
    let moving = async {
        flows(&streams).await?;
        while made.len() < moves {
            let began = Instant::now();
            let migration = move_once(client, &session.job).await?;
            flows(&streams).await?;
            let stalls = streams.since(began).into_iter().map(|flow| flow.longest_stall.as_secs_f64());
            made.push(StreamingMove { migration, longest_stall_seconds: stalls.fold(0.0, f64::max) });
        }
        Ok(())
    };
    let ended: Result<()> = moving.await;
    let fault = ended.err().map(|error| format!("{error:#}"));
    Ok(StreamingReport { moves: made, streams: streams.finish().await, fault })
}

/// Waits until every connection has carried [`BETWEEN`] bytes more in each direction.
async fn flows(streams: &Streams) -> Result<()> {
    let arrived = || streams.received().into_iter().zip(streams.delivered()).collect::<Vec<_>>();
    let before = arrived();
    wait_for("bytes that flow in both directions of every connection", FLOWS_WITHIN, async || {
        if streams.broken() {
            bail!("a connection ended");
        }
        let now = arrived();
        let more = |((from, to), (from_before, to_before)): (&(u64, u64), &(u64, u64))| {
            from - from_before >= BETWEEN && to - to_before >= BETWEEN
        };
        Ok(now.iter().zip(&before).all(more).then_some(()))
    })
    .await
}

impl StreamingReport {
    /// Returns whether all `moves` migrations succeeded and every byte of all `connections`
    /// connections arrived, once and in order.
    #[must_use]
    pub fn is_clean(&self, connections: usize, moves: usize) -> bool {
        let moved =
            self.moves.len() == moves && self.moves.iter().all(|made| made.migration.outcome == Outcome::Succeeded);
        let whole = self.streams.len() == connections && self.streams.iter().all(|stream| stream.hash_ok);
        self.fault.is_none() && moved && whole
    }
}
