//! Byte-exact pseudo-random streams in both directions at full speed.
//!
//! ```text
//!   client (here)              server (the program `streamer`, in a job)
//!   ─────────────              ───────────────────────────────────────
//!   seed, 8 bytes         ───►
//!   stream of `seed` …    ───► checks every byte
//!   checks every byte     ◄─── stream of `seed + 1` …, in frames: length (4 bytes),
//!                              bytes received so far (8), data
//!   end of its half       ───►
//!                         ◄─── last frame: count and SHA-256, received and sent
//! ```
//!
//! Numbers are big-endian. The length is open: the client decides when to end. Both ends generate
//! the expected bytes, so a lost, repeated or exchanged byte is noticed at its place. At the end
//! both have to agree on counts and hashes. Memory is bounded: a block for each direction and a
//! record of recent arrivals.
//!
//! | module | what it is |
//! |---|---|
//! | [`source`] | the pseudo-random bytes, made and checked |
//! | [`frame`] | the server's frames |
//! | [`server`] | the other end |
//! | [`progress`] | when bytes arrived |

pub mod frame;
pub mod progress;
pub mod server;
pub mod source;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use frame::{Part, Parts, Summary};
use progress::{Flow, Progress};
use source::{BLOCK, Checker, Digest, Source};

/// Time limit until both ends agree once the client has ended its half.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// Streams under way.
#[derive(Debug)]
pub struct Streams {
    stop: CancellationToken,
    progress: Vec<Arc<Progress>>,
    tasks: JoinSet<(usize, StreamReport)>,
}

/// The end of one connection's streams.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReport {
    /// Bytes that the client sent.
    pub sent: u64,
    /// Bytes that the client received.
    pub received: u64,
    /// True when every byte was the expected one and both ends agree on counts and hashes.
    pub hash_ok: bool,
    /// The fault, if there was one.
    pub fault: Option<String>,
    /// The SHA-256 of what the client sent, in hex.
    pub sent_sha256: String,
    /// The SHA-256 of what it received, in hex.
    pub received_sha256: String,
    /// The longest time without a byte received.
    pub longest_stall_seconds: f64,
}

impl Streams {
    /// Opens `connections` connections to a streamer at `address` and has bytes flow in both
    /// directions of each.
    pub async fn start(address: SocketAddr, connections: usize) -> Result<Self> {
        let connect =
            async || TcpStream::connect(address).await.with_context(|| format!("connect to a streamer at {address}"));
        Self::start_over(connect, connections).await
    }

    /// As [`Streams::start`], over connections that `connect` makes.
    pub async fn start_over<S>(connect: impl AsyncFn() -> Result<S>, connections: usize) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (mut progress, mut tasks) = (Vec::new(), JoinSet::new());
        for index in 0..connections {
            let connection = connect().await?;
            let seen = Arc::new(Progress::new());
            progress.push(seen.clone());
            let stop = stop.clone();
            tasks.spawn(async move { (index, exchange(connection, rand::random(), &seen, stop).await) });
        }
        Ok(Self { stop, progress, tasks })
    }

    /// Returns the arrivals from `at` until now, for each connection.
    #[must_use]
    pub fn since(&self, at: Instant) -> Vec<Flow> {
        self.progress.iter().map(|progress| progress.since(at)).collect()
    }

    /// Returns the received bytes of each connection.
    #[must_use]
    pub fn received(&self) -> Vec<u64> {
        self.progress.iter().map(|progress| progress.received()).collect()
    }

    /// Returns the bytes of each connection that the streamer last reported as received.
    #[must_use]
    pub fn delivered(&self) -> Vec<u64> {
        self.progress.iter().map(|progress| progress.delivered()).collect()
    }

    /// Returns whether a connection ended early; its report has the reason.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.progress.iter().any(|progress| progress.ended())
    }

    /// Ends the client's halves, waits until both ends have compared, and gives back one report for
    /// each connection.
    pub async fn finish(mut self) -> Vec<StreamReport> {
        self.stop.cancel();
        let mut reports = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(report) => reports.push(report),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        reports.sort_by_key(|(index, _)| *index);
        reports.into_iter().map(|(_, report)| report).collect()
    }
}

/// The program `streamer` beside the running test or measurement.
pub fn program() -> Result<PathBuf> {
    program_named("streamer")
}

/// A program of the test kit beside the running test or measurement.
pub(crate) fn program_named(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let found = this.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("the program `{name}` is not built: run `cargo build -p mooring-testkit --bins`"))
}

/// One connection, from its first byte to its report.
async fn exchange<S: AsyncRead + AsyncWrite>(
    connection: S,
    seed: u64,
    progress: &Progress,
    stop: CancellationToken,
) -> StreamReport {
    let (input, output) = tokio::io::split(connection);
    let mut sent = Source::new(seed);
    let mut received = Checker::new(seed.wrapping_add(1));
    let receive = async {
        let summary = receive(input, &mut received, progress).await;
        progress.end();
        summary
    };
    let both = async {
        let (sending, summary) = tokio::join!(send(output, seed, &mut sent, &stop), receive);
        sending.and(summary)
    };
    let outcome = tokio::select! {
        outcome = both => outcome,
        () = async { stop.cancelled().await; tokio::time::sleep(ENDS_WITHIN).await } => {
            Err(anyhow::anyhow!("the streamer's last frame did not come within {} s", ENDS_WITHIN.as_secs()))
        }
    };
    let (sent, first_difference, received) = (sent.digest(), received.first_difference(), received.digest());
    let agreed = outcome.and_then(|summary| compare(&sent, &received, first_difference, &summary));
    StreamReport {
        sent: sent.count,
        received: received.count,
        hash_ok: agreed.is_ok(),
        fault: agreed.err().map(|error| format!("{error:#}")),
        sent_sha256: hex::encode(sent.sha256),
        received_sha256: hex::encode(received.sha256),
        longest_stall_seconds: progress.longest_stall().as_secs_f64(),
    }
}

async fn send(
    mut output: WriteHalf<impl AsyncWrite>,
    seed: u64,
    source: &mut Source,
    stop: &CancellationToken,
) -> Result<()> {
    output.write_all(&seed.to_be_bytes()).await.context("send the seed")?;
    while !stop.is_cancelled() {
        output.write_all(source.block()).await.context("send")?;
        yield_now().await;
    }
    output.shutdown().await.context("end the client's half")
}

async fn receive(mut input: ReadHalf<impl AsyncRead>, checker: &mut Checker, progress: &Progress) -> Result<Summary> {
    let mut parts = Parts::default();
    let mut buffer = vec![0; BLOCK];
    loop {
        let length = input.read(&mut buffer).await.context("receive")?;
        if length == 0 {
            bail!("the stream ended before the streamer's last frame");
        }
        progress.note(length);
        let mut rest = &buffer[..length];
        while let Some(part) = parts.next(&mut rest)? {
            match part {
                Part::Received(bytes) => progress.note_delivered(bytes),
                Part::Data(data) => checker.check(data),
                Part::Summary(summary) => return Ok(summary),
            }
        }
        yield_now().await;
    }
}

/// Compares the digests of both ends.
fn compare(sent: &Digest, received: &Digest, first_difference: Option<u64>, other: &Summary) -> Result<()> {
    if let Some(at) = first_difference {
        bail!("byte {at} that the client received is not the expected one");
    }
    if let Some(at) = other.first_difference {
        bail!("byte {at} that the server received is not the expected one");
    }
    if (sent, received) != (&other.received, &other.sent) {
        let counts = (sent.count, other.received.count, other.sent.count, received.count);
        bail!(
            "the ends disagree: client sent {}, server got {}; server sent {}, client got {}",
            counts.0,
            counts.1,
            counts.2,
            counts.3
        );
    }
    Ok(())
}
