//! Bytes that a program had written before it closed its connection arrive after a migration.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
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
/// A server that writes to a client until no more goes in, and then closes the connection.
const SCRIPT: &str = r#"
import select, socket
PATTERN = bytes(i * 7 % 251 for i in range(251 * 400))
listener = socket.create_server(("", 8080))
while True:
    client, _ = listener.accept()
    client.recv(65536)
    client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")
    client.setblocking(False)
    written = 0
    while select.select([], [client], [], 0.5)[1]:
        try:
            written += client.send(PATTERN[written % 251:][:65536])
        except BlockingIOError:
            pass
    client.close()
    print("closed after", written, flush=True)
"#;

/// A client that reads nothing until [`Slow::rest`].
struct Slow {
    connection: TcpStream,
    written: usize,
}

impl Slow {
    /// Asks the server, and waits until that has closed its connection.
    async fn ask(client: &Client, session: &Session, number: usize) -> Result<Self> {
        let mut connection = TcpStream::connect(session.address).await?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let written = wait_for("the server to close", LIMIT, async || {
            let text = client.job_log(&session.job, 0).await?.text;
            let line = text.lines().filter_map(|line| line.strip_prefix("closed after ")).nth(number);
            Ok(line.map(str::parse).transpose()?)
        });
        Ok(Self { written: written.await?, connection })
    }

    /// Reads to the end, and compares.
    async fn rest(mut self) -> Result<()> {
        let mut read = Vec::new();
        let outcome = timeout(LIMIT, self.connection.read_to_end(&mut read)).await.context("the end does not come")?;
        let head = read.windows(4).position(|window| window == b"\r\n\r\n").context("no head")? + 4;
        let (body, written) = (&read[head..], self.written);
        outcome.with_context(|| format!("after {} of {written} bytes", body.len()))?;
        ensure!(body.len() == written, "{} of {written} bytes", body.len());
        let differs = body.iter().enumerate().position(|(at, byte)| usize::from(*byte) != at * 7 % 251);
        ensure!(differs.is_none(), "byte {differs:?} is another one");
        Ok(())
    }
}

#[test]
fn what_was_written_before_a_close_arrives() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = Session::launch(
            &client,
            Submission {
                image: Some("dir:/".parse()?),
                name: Some("closes".parse()?),
                publish: vec!["8080".parse()?],
                command: [PYTHON, "-c", SCRIPT].map(str::to_owned).to_vec(),
                ..Submission::default()
            },
        )
        .await?;
        let slow = Slow::ask(&client, &session, 0).await?;
        let migration = move_once(&client, &session.job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        slow.rest().await.context("over a migration")?;
        let slow = Slow::ask(&client, &session, 1).await?;
        client.job_suspend(&session.job).await?;
        wait_for("the job to be suspended", LIMIT, async || {
            let view = client.job_get(&session.job).await?;
            ensure!(view.status != JobStatus::Executing || view.migrations.len() < 2, "{:?}", view.migrations);
            Ok((view.status == JobStatus::Suspended).then_some(()))
        })
        .await?;
        client.job_resume(&session.job).await?;
        executing(&client, &session.job, LIMIT).await?;
        slow.rest().await.context("over a suspend")
    });
    outcome.unwrap();
}
