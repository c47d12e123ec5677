//! `float gateway restart`: one process takes over from another under load. Clients that come are
//! never refused or reset, connections end in the process that they began in, and moves go on as
//! ever.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::session::Session;
use mooring_testkit::streams::{self, Streams};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness;
use mooring_testkit::world::{Daemon, Plan, World};
use mooring_types::migration::Outcome;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

/// Time limit of a restart, a migration or an end.
const LIMIT: Duration = Duration::from_secs(60);
/// The pause between two clients.
const COMES: Duration = Duration::from_millis(20);
/// The bytes that show that a stream flows.
const FLOWS: u64 = 1 << 20;
/// The job's script: it answers lines and serves streams.
const JOB: &str = "\"$1\" 0.0.0.0:7001 & exec \"$0\" 0.0.0.0:7000 mark";

/// A job with two ports behind a gateway.
struct Served {
    session: Session,
    /// The address of the streams.
    streams: SocketAddr,
}

impl Served {
    async fn launch(world: &World, client: &Client) -> Result<Self> {
        let [witness, streamer] = [witness::program()?, streams::program()?].map(|program| world.bring(&program));
        let request = Submission {
            name: Some("restarted".parse()?),
            image: Some("dir:/".parse()?),
            command: vec![
                "/bin/sh".into(),
                "-c".into(),
                JOB.into(),
                witness?.display().to_string(),
                streamer?.display().to_string(),
            ],
            publish: vec!["7000".parse()?, "7001".parse()?],
            ..Submission::default()
        };
        let session = Session::launch(client, request).await?;
        let gateway = client.gateway_get(&session.gateway.clone().into()).await?;
        let port = |target| gateway.connections.iter().find(|known| known.target_port == target);
        let [lines, streams] = [7000, 7001].map(|target| {
            let port = port(target).map(|known| known.gateway_port);
            port.map(|port| SocketAddr::new(session.address.ip(), port)).context("both ports are connected")
        });
        let served = Self { session: Session { address: lines?, ..session }, streams: streams? };
        wait_for("the job behind its gateway", LIMIT, async || {
            Ok(come(served.session.address).await.is_ok().then_some(()))
        })
        .await?;
        Ok(served)
    }

    /// The gateway's directory at its host's agent.
    fn directory(&self, world: &World) -> Result<PathBuf> {
        let hosts = fs::read_dir(world.directory().join("hosts"))?.flatten();
        let mut directories = hosts.map(|host| host.path().join("gateways").join(self.session.gateway.as_str()));
        directories.find(|directory| directory.is_dir()).context("no host has the gateway")
    }

    /// The agent's record of the gateway's processes.
    fn record(&self, world: &World) -> Result<Record> {
        let record: Value = serde_json::from_slice(&fs::read(self.directory(world)?.join("process.json"))?)?;
        let pid = |value: &Value| value["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Ok(Record {
            current: pid(&record).context("the record has a process")?,
            successor: pid(&record["successor"]),
            retired: record["retired"].as_array().into_iter().flatten().filter_map(pid).collect(),
        })
    }

    /// Returns the address of the serving process's admin endpoint.
    fn admin(&self, world: &World) -> Result<SocketAddr> {
        let file = self.directory(world)?.join("state/admin-address");
        Ok(fs::read_to_string(file)?.trim().parse()?)
    }

    /// Restarts the gateway and waits until another process serves; gives back that one.
    async fn restart(&self, world: &World) -> Result<Daemon> {
        let before = processes(world);
        let ran = world.float(&["-F", "json", "gateway", "restart", "-g", "restarted"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        let shown: Value = serde_json::from_str(&ran.stdout)?;
        ensure!(shown["id"] == self.session.gateway.as_str(), "it prints {shown}");
        wait_for("another process to serve", LIMIT, async || {
            let Ok(record) = self.record(world) else { return Ok(None) };
            let new = processes(world).into_iter().find(|process| process.pid == record.current);
            Ok(new.filter(|new| record.successor.is_none() && before.iter().all(|old| old.pid != new.pid)))
        })
        .await
    }

    /// Returns the number of clients that OpCenter shows for the streams' port.
    async fn clients(&self, client: &Client) -> Result<usize> {
        let gateway = client.gateway_get(&self.session.gateway.clone().into()).await?;
        let streams = gateway.connections.iter().find(|known| known.gateway_port == self.streams.port());
        Ok(streams.map_or(0, |known| known.clients.len()))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Record {
    current: i32,
    successor: Option<i32>,
    retired: BTreeSet<i32>,
}

/// A client that comes every [`COMES`], asks, and goes with its answer.
struct Coming {
    stop: CancellationToken,
    tasks: JoinSet<Result<usize>>,
}

impl Coming {
    fn start(address: SocketAddr) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(keep_coming(address, stop.clone()));
        Self { stop, tasks }
    }

    /// Returns the number of clients, each of which was answered.
    async fn finish(mut self) -> Result<usize> {
        self.stop.cancel();
        self.tasks.join_next().await.context("they came")??
    }
}

async fn keep_coming(address: SocketAddr, stop: CancellationToken) -> Result<usize> {
    let mut ticks = tokio::time::interval(COMES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut clients, mut answered) = (JoinSet::new(), 0);
    while !stop.is_cancelled() {
        ticks.tick().await;
        clients.spawn(come(address));
        while let Some(client) = clients.try_join_next() {
            client??;
            answered += 1;
        }
    }
    while let Some(client) = clients.join_next().await {
        client??;
        answered += 1;
    }
    Ok(answered)
}

/// One question and its answer, over a connection of its own that ends as it should.
async fn come(address: SocketAddr) -> Result<()> {
    let asked = async {
        let mut tcp = BufReader::new(TcpStream::connect(address).await.context("connect")?);
        tcp.write_all(b"?\n").await.context("ask")?;
        let mut line = String::new();
        ensure!(tcp.read_line(&mut line).await.context("read the answer")? > 0, "closed without an answer");
        tcp.shutdown().await.context("end")?;
        ensure!(tcp.read_line(&mut line).await.context("read the end")? == 0, "more than an answer");
        Ok(())
    };
    timeout(LIMIT, asked).await.context("no answer in time")?
}

/// Waits until a line is among the metrics at an address.
async fn says(address: SocketAddr, line: &str) -> Result<()> {
    wait_for(line, LIMIT, async || {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        tcp.read_to_string(&mut text).await?;
        Ok(text.lines().any(|known| known == line).then_some(()))
    })
    .await
}

fn processes(world: &World) -> Vec<Daemon> {
    world.daemons(&["server", "gateway"])
}

async fn flow(streams: &Streams) -> Result<()> {
    let seen = || streams.received().into_iter().zip(streams.delivered()).collect::<Vec<_>>();
    let before = seen();
    wait_for("the streams to flow", LIMIT, async || {
        ensure!(!streams.broken(), "a stream broke");
        let more = |((from, to), (old_from, old_to)): (&(u64, u64), &(u64, u64))| {
            *from >= old_from + FLOWS && *to >= old_to + FLOWS
        };
        Ok(seen().iter().zip(&before).all(more).then_some(()))
    })
    .await
}

async fn agree(streams: Streams) -> Result<()> {
    for report in streams.finish().await {
        ensure!(report.hash_ok, "{report:?}");
    }
    Ok(())
}

async fn ended(process: &Daemon) -> Result<()> {
    wait_for("an old process to end", LIMIT, async || Ok((!process.runs()).then_some(()))).await
}

fn inside(work: impl AsyncFnOnce(&World, &Client, &Served) -> Result<()> + Send) {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).expect("a world");
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let served = Served::launch(&world, &client).await?;
        work(&world, &client, &served).await
    });
    // While the world is still there, so that its logs stay.
    outcome.expect("the gateway is restarted");
}

#[test]
fn a_gateway_is_replaced_under_load_and_nobody_notices() {
    inside(async |world, client, served| {
        let first = processes(world).pop().context("a gateway runs")?;
        let coming = Coming::start(served.session.address);
        let old = Streams::start(served.streams, 2).await?;
        flow(&old).await?;

        let second = served.restart(world).await?;
        ensure!(first.runs(), "the first process left its connections");
        flow(&old).await.context("the first process keeps its connections")?;
        let new = Streams::start(served.streams, 2).await?;
        flow(&new).await.context("the second process serves")?;
        wait_for("the clients of both processes to be shown", LIMIT, async || {
            Ok((served.clients(client).await? == 4).then_some(()))
        })
        .await?;

        let moved = move_once(client, &served.session.job).await?;
        ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
        flow(&old).await.context("the job has moved")?;
        flow(&new).await.context("the job has moved")?;
        let opcenter = world.url().trim_start_matches("http://").parse()?;
        says(opcenter, "mooring_migrations_total{kind=\"migrate\",outcome=\"succeeded\"} 1").await?;
        let job = &served.session.job;
        let paused = format!("mooring_pauses_seconds_count{{gateway=\"{}\",job=\"{job}\"}} 1", served.session.gateway);
        says(served.admin(world)?, &paused).await?;

        let agents = world.daemons(&["server", "agent"]);
        for agent in &agents {
            agent.signal(Signal::SIGKILL)?;
            ended(agent).await?;
        }
        wait_for("the agents to be started again", LIMIT, async || {
            Ok((world.daemons(&["server", "agent"]).len() == agents.len()).then_some(()))
        })
        .await?;
        let third = served.restart(world).await?;
        let expected =
            Record { current: third.pid, successor: None, retired: [first.pid, second.pid].into_iter().collect() };
        ensure!(served.record(world)? == expected, "{:?} is not {expected:?}", served.record(world)?);
        flow(&old).await.context("the agent was killed")?;
        flow(&new).await.context("the agent was killed")?;

        // Each ends with its last connection, and not before.
        ensure!(first.runs() && second.runs(), "a process left its connections");
        agree(old).await.context("the connections of the first process")?;
        ended(&first).await?;
        ensure!(second.runs(), "the second process left its connections");
        agree(new).await.context("the connections of the second process")?;
        ended(&second).await?;
        wait_for("the record to be of one process", LIMIT, async || {
            Ok(served.record(world)?.retired.is_empty().then_some(()))
        })
        .await?;
        ensure!(processes(world) == [third], "{:?}", processes(world));
        let came = coming.finish().await.context("a client that came")?;
        ensure!(came >= 100, "only {came} clients came");
        wait_for("nobody to be shown", LIMIT, async || Ok((served.clients(client).await? == 0).then_some(()))).await
    });
}

#[test]
fn process_that_does_not_hand_over_is_replaced() {
    inside(async |world, _, served| {
        let stuck = processes(world).pop().context("a gateway runs")?;
        stuck.signal(Signal::SIGSTOP)?;
        let next = served.restart(world).await?;
        ensure!(!stuck.runs(), "the process that did not hand over still runs");
        come_eventually(served).await?;
        ensure!(processes(world) == [next], "{:?}", processes(world));
        let logs = fs::read_dir(world.directory().join("log"))?.flatten();
        let said = logs.filter_map(|log| fs::read_to_string(log.path()).ok()).any(|log| {
            let words = ["could not be handed over", served.session.gateway.as_str()];
            log.lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
        ensure!(said, "the agent does not say so");
        Ok(())
    });
}

#[test]
fn destroying_a_gateway_ends_its_old_processes_as_well() {
    inside(async |world, _, served| {
        let old = Streams::start(served.streams, 1).await?;
        flow(&old).await?;
        served.restart(world).await?;
        ensure!(processes(world).len() == 2, "{:?}", processes(world));
        let ran = world.float(&["gateway", "destroy", "-f", "-g", "restarted"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        wait_for("the gateway's processes to end", LIMIT, async || Ok(processes(world).is_empty().then_some(())))
            .await?;
        wait_for("the stream to break", LIMIT, async || Ok(old.broken().then_some(()))).await
    });
}

async fn come_eventually(served: &Served) -> Result<()> {
    wait_for("the new process to serve", LIMIT, async || Ok(come(served.session.address).await.ok())).await
}
