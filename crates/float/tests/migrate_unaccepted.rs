//! Connections that a server has not accepted yet hinder a migration, and lose nothing by it.

use std::time::Duration;

use anyhow::{Context, ensure};
use mooring_api::Submission;
use mooring_testkit::session::Session;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::migration::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// A server that accepts nothing until two connections have waited for longer than a migration
/// does.
const SCRIPT: &str = r#"
import socket, time
listener = socket.create_server(("", 8080), backlog=64)
waiting = 0
while waiting < 2:
    time.sleep(0.05)
    table = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
    waiting = sum(int(line[4].split(":")[1], 16) for line in table if line[3] == "0A")
print("two wait", flush=True)
time.sleep(10)
while True:
    client, _ = listener.accept()
    path = client.recv(65536).split()[1]
    client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
    client.close()
"#;

#[test]
fn job_with_unaccepted_connections_stays_until_they_are_accepted() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = Session::launch(
            &client,
            Submission {
                image: Some("dir:/".parse()?),
                name: Some("late".parse()?),
                publish: vec!["8080".parse()?],
                command: [PYTHON, "-c", SCRIPT].map(str::to_owned).to_vec(),
                ..Submission::default()
            },
        )
        .await?;
        let mut clients = Vec::new();
        for path in ["/a", "/b"] {
            let mut connection = TcpStream::connect(session.address).await?;
            connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            clients.push((path, connection));
        }
        wait_for("two connections to wait", LIMIT, async || {
            Ok(client.job_log(&session.job, 0).await?.text.lines().any(|line| line == "two wait").then_some(()))
        })
        .await?;
        let migration = move_once(&client, &session.job).await?;
        let outcome = migration.outcome.to_string();
        let said = "(python3) has not accepted 2 connections at port 8080";
        ensure!(outcome.contains("process ") && outcome.contains(said), "{migration:?}");
        for (path, connection) in &mut clients {
            let mut answer = String::new();
            timeout(LIMIT, connection.read_to_string(&mut answer)).await.context("no answer")??;
            ensure!(answer.ends_with(&*path), "{path}: {answer}");
        }
        let migration = move_once(&client, &session.job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        Ok(())
    });
    outcome.unwrap();
}
