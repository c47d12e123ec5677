//! The byte-exact streams over loopback, against the real program, undisturbed and disturbed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use mooring_testkit::streams::Streams;
use mooring_testkit::wait::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

struct Streamer {
    process: Child,
    address: SocketAddr,
}

impl Streamer {
    fn start() -> anyhow::Result<Self> {
        let mut process =
            Command::new(env!("CARGO_BIN_EXE_streamer")).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening ").context("no address")?.parse()?;
        Ok(Self { process, address })
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.process.id())?), signal)?)
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn flows(streams: &Streams, beyond: &[u64]) -> anyhow::Result<()> {
    let more = |streams: &Streams| streams.received().iter().zip(beyond).all(|(now, before)| *now > before + 8 * MIB);
    wait_for("streams that flow", LIMIT, async || Ok(more(streams).then_some(()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_connections_agree_at_both_ends_and_a_stop_is_measured() {
    let streamer = Streamer::start().unwrap();
    let streams = Streams::start(streamer.address, 8).await.unwrap();
    flows(&streams, &[0; 8]).await.unwrap();

    let stopped = Instant::now();
    streamer.signal(Signal::SIGSTOP).unwrap();
    let stall = Duration::from_millis(700);
    let all_stalled = async || Ok(streams.since(stopped).iter().all(|flow| flow.longest_stall > stall).then_some(()));
    wait_for("a stall", LIMIT, all_stalled).await.unwrap();
    let resumed = Instant::now();
    assert!(streams.since(resumed).iter().all(|flow| flow.first_byte.is_none()));
    let before = streams.received();
    streamer.signal(Signal::SIGCONT).unwrap();
    flows(&streams, &before).await.unwrap();
    for flow in streams.since(resumed) {
        assert!(flow.first_byte.unwrap() < Duration::from_secs(3), "{flow:?}");
        assert!(flow.longest_stall > stall, "{flow:?}");
    }

    let reports = streams.finish().await;
    assert_eq!(reports.len(), 8);
    for report in reports {
        assert!(report.hash_ok, "{report:?}");
        assert!(report.received > 16 * MIB && report.sent > MIB, "{report:?}");
        assert!(report.longest_stall_seconds > 0.7, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamer_that_dies_is_a_fault() {
    let mut streamer = Streamer::start().unwrap();
    let streams = Streams::start(streamer.address, 2).await.unwrap();
    flows(&streams, &[0; 2]).await.unwrap();
    streamer.process.kill().unwrap();
    streamer.process.wait().unwrap();
    for report in streams.finish().await {
        assert!(!report.hash_ok && report.fault.is_some(), "{report:?}");
    }
}

/// A proxy's change to the bytes of one direction, once, at some place.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip,
    Drop,
    Repeat,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_are_noticed_in_both_directions() {
    let streamer = Streamer::start().unwrap();
    for harm in [Harm::Flip, Harm::Drop, Harm::Repeat] {
        for towards_server in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, target) = (listener.local_addr().unwrap(), streamer.address);
            let mut proxy = JoinSet::new();
            proxy.spawn(async move {
                let (client, _) = listener.accept().await?;
                let (client_in, client_out) = client.into_split();
                let (server_in, server_out) = TcpStream::connect(target).await?.into_split();
                let (up, down) = if towards_server { (Some(harm), None) } else { (None, Some(harm)) };
                let _ = tokio::join!(copy(client_in, server_out, up), copy(server_in, client_out, down));
                std::io::Result::Ok(())
            });
            let streams = Streams::start(address, 1).await.unwrap();
            let harmed = async || Ok((streams.broken() || streams.received()[0] > 4 * MIB).then_some(()));
            wait_for("harm", LIMIT, harmed).await.unwrap();
            let report = streams.finish().await.remove(0);
            assert!(!report.hash_ok, "{harm:?} towards server: {towards_server}: {report:?}");
            proxy.shutdown().await;
        }
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut harm: Option<Harm>,
) -> std::io::Result<()> {
    let mut passed = 0;
    let mut buffer = vec![0; 10_000];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let mut piece = buffer[..length].to_vec();
        passed += piece.len();
        if passed > 1_000_000 && piece.len() > 500 {
            match harm.take() {
                Some(Harm::Flip) => piece[250] ^= 1,
                Some(Harm::Drop) => drop(piece.remove(250)),
                Some(Harm::Repeat) => piece.insert(250, piece[250]),
                None => {}
            }
        }
        to.write_all(&piece).await?;
    }
}
