//! A job moves while connections wait that its server has not accepted, and every client gets its
//! answer once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::session::Session;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// The place in the queue of the job's server; the kernel takes one more connection than this.
const BACKLOG: usize = 6;
/// A server that accepts connections at one port when it is told to at another. It connects to
/// itself when it is told to. An answer says how often its path was asked for.
const SCRIPT: &str = r#"
import collections, os, socket
listener = socket.create_server(("", 8080), backlog=6)
orders = socket.create_server(("", 8081))
local = socket.socket(socket.AF_UNIX)
local.bind("/tmp/late")
local.listen()
asked, own = collections.Counter(), []

def waiting():
    table = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
    return sum(int(line[4].split(":")[1], 16) for line in table if line[3] == "0A")

def serve():
    client, _ = listener.accept()
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    length = next((int(line[15:]) for line in data.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(data.split(b"\r\n\r\n", 1)[1]) < length:
        data += client.recv(65536)
    path = data.split()[1].decode()
    asked[path] += 1
    answer = f"{path} {asked[path]} {length}".encode()
    client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
    client.close()

print(f"pid {os.getpid()}", flush=True)
while True:
    order, _ = orders.accept()
    said = order.recv(64).split()
    if said[0] == b"own":
        own.append(socket.create_connection(("127.0.0.1", 8080)))
        own[-1].sendall(b"GET /own HTTP/1.0\r\n\r\n")
    if said[0] == b"connect":
        own.append(socket.socket(socket.AF_UNIX))
        own[-1].connect("/tmp/late")
    if said[0] == b"send":
        own[-1].sendall(b"hello")
    if said[0] == b"accept":
        accepted, _ = local.accept()
        accepted.settimeout(5)
        order.sendall(b"1" if accepted.recv(64) == b"hello" else b"0")
        order.close()
        continue
    if said[0] == b"serve":
        for _ in range(int(said[1])):
            serve()
    order.sendall(b"%d" % waiting())
    order.close()
"#;

/// A client whose request is sent.
struct Asking {
    path: String,
    body: usize,
    connection: TcpStream,
}

impl Asking {
    async fn get(address: SocketAddr, path: &str) -> Result<Self> {
        Self::send(address, path, format!("GET {path} HTTP/1.0\r\n\r\n"), 0).await
    }

    async fn post(address: SocketAddr, path: &str, body: usize) -> Result<Self> {
        let request = format!("POST {path} HTTP/1.0\r\nContent-Length: {body}\r\n\r\n{}", "b".repeat(body));
        Self::send(address, path, request, body).await
    }

    async fn send(address: SocketAddr, path: &str, request: String, body: usize) -> Result<Self> {
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(request.as_bytes()).await?;
        Ok(Self { path: path.to_owned(), body, connection })
    }

    async fn answered_once(mut self) -> Result<()> {
        let mut answer = String::new();
        timeout(LIMIT, self.connection.read_to_string(&mut answer)).await.context("no answer")??;
        let expected = format!("\r\n\r\n{} 1 {}", self.path, self.body);
        ensure!(answer.ends_with(&expected), "{}: {answer}", self.path);
        Ok(())
    }
}

/// Gives the server an order; returns how many connections wait then.
async fn order(orders: SocketAddr, text: &str) -> Result<usize> {
    let mut connection = TcpStream::connect(orders).await?;
    connection.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    timeout(LIMIT, connection.read_to_string(&mut answer)).await.context("no answer to an order")??;
    answer.parse().with_context(|| format!("the answer `{answer}`"))
}

async fn waiting(orders: SocketAddr, count: usize) -> Result<()> {
    wait_for(&format!("{count} connections to wait"), LIMIT, async || {
        Ok((order(orders, "count").await? == count).then_some(()))
    })
    .await
}

async fn launch(client: &Client) -> Result<(Session, SocketAddr, SocketAddr)> {
    let job = Submission {
        image: Some("dir:/".parse()?),
        name: Some("late".parse()?),
        publish: vec!["8080".parse()?, "8081".parse()?],
        command: [PYTHON, "-c", SCRIPT].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    let session = Session::launch(client, job).await?;
    let gateway = client.gateway_get(&session.gateway.clone().into()).await?;
    let address: IpAddr = gateway.address.parse()?;
    let port = |target: u16| {
        let connection = gateway.connections.iter().find(|connection| connection.target_port == target);
        Ok::<_, anyhow::Error>(SocketAddr::new(address, connection.context("a connection")?.gateway_port))
    };
    let (server, orders) = (port(8080)?, port(8081)?);
    Ok((session, server, orders))
}

async fn becomes(client: &Client, session: &Session, status: JobStatus) -> Result<()> {
    wait_for(&format!("the job to be {status}"), LIMIT, async || {
        let view = client.job_get(&session.job).await?;
        let done = view.migrations.iter().all(|migration| migration.outcome.is_final());
        Ok((view.status == status && done).then_some(()))
    })
    .await
}

#[test]
fn clients_that_were_not_accepted_are_answered_after_a_move() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let (session, server, orders) = launch(&client).await?;
        let mut asking = vec![
            Asking::get(server, "/a").await?,
            Asking::get(server, "/b").await?,
            Asking::post(server, "/c", 20_000).await?,
        ];
        waiting(orders, 3).await?;
        for _ in 0..2 {
            let migration = move_once(&client, &session.job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            waiting(orders, 3).await?;
        }
        client.job_snapshot(&session.job).await?;
        becomes(&client, &session, JobStatus::Executing).await?;
        waiting(orders, 3).await?;
        client.job_suspend(&session.job).await?;
        becomes(&client, &session, JobStatus::Suspended).await?;
        client.job_resume(&session.job).await?;
        becomes(&client, &session, JobStatus::Executing).await?;
        waiting(orders, 3).await?;

        // A full queue: the last connections are half-open.
        for number in 0..BACKLOG {
            asking.push(Asking::get(server, &format!("/{number}")).await?);
        }
        waiting(orders, BACKLOG + 1).await?;
        let migration = move_once(&client, &session.job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        let view = client.job_get(&session.job).await?;
        ensure!(view.migrations.iter().all(|migration| migration.outcome == Outcome::Succeeded), "{view:?}");

        ensure!(order(orders, &format!("serve {}", asking.len())).await? == 0, "one came twice");
        for asking in asking {
            asking.answered_once().await?;
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn connections_that_no_gateway_makes_again_hinder_a_move() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let (session, server, orders) = launch(&client).await?;
        let working_host = client.job_get(&session.job).await?.working_host;
        let host: IpAddr = working_host.split(' ').next().context("an address")?.parse()?;
        let through_gateway = Asking::get(server, "/gateway").await?;
        // A client of the port that the job's host publishes.
        let direct = wait_for("the published port", LIMIT, async || {
            Ok(Asking::get(SocketAddr::new(host, 8080), "/direct").await.ok())
        })
        .await?;
        waiting(orders, 2).await?;
        let refused = async |connections: &str, at: &str| {
            let migration = move_once(&client, &session.job).await?;
            let outcome = migration.outcome.to_string();
            let said = format!("(python3) has not accepted {connections} at {at}: try again once it has");
            ensure!(outcome.contains("process ") && outcome.contains(&said), "{migration:?}");
            Ok(())
        };
        refused("1 connection", "port 8080").await?;
        // One within the job as well.
        order(orders, "own").await?;
        waiting(orders, 3).await?;
        refused("2 connections", "port 8080").await?;
        ensure!(order(orders, "serve 3").await? == 0);
        through_gateway.answered_once().await?;
        direct.answered_once().await?;
        let migration = move_once(&client, &session.job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");

        // The queue of a unix socket moves, but for what was sent on its connections.
        order(orders, "connect").await?;
        let migration = move_once(&client, &session.job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        order(orders, "send").await?;
        refused("1 connection", "/tmp/late").await?;
        ensure!(order(orders, "accept").await? == 1, "what was sent is lost");
        let migration = move_once(&client, &session.job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        Ok(())
    });
    outcome.unwrap();
}
