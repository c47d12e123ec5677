//! The access log of a gateway on its host: requests, clients and answers, and no path that may
//! hold a token.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::Submission;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn requests_and_connections_are_logged_without_their_paths() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let request = Submission {
            name: Some("files".parse()?),
            image: Some("dir:/".parse()?),
            command: ["python3", "-m", "http.server", "8000", "--directory", "/usr/share/common-licenses"]
                .map(str::to_owned)
                .into(),
            publish: vec!["8000".parse()?],
            ..Submission::default()
        };
        let session = Session::launch(&client, request).await?;
        let mut connection = TcpStream::connect(session.address).await?;
        let asked = "GET /none?token=c0ffee HTTP/1.1\r\nHost: files\r\nConnection: close\r\n\r\n";
        connection.write_all(asked.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        let from = connection.local_addr()?.to_string();
        drop(connection);
        let log = world.directory().join("hosts/gateways/gateways").join(session.gateway.as_str()).join("gateway.log");
        let lines = wait_for("the events of the access log", WITHIN, async || {
            let log = fs::read_to_string(&log)?;
            let of_client: Vec<String> =
                log.lines().filter(|line| line.contains(&format!("client={from}"))).map(str::to_owned).collect();
            Ok((of_client.len() >= 2).then_some(of_client))
        })
        .await?;
        let (requests, connections): (Vec<&String>, Vec<&String>) =
            lines.iter().partition(|line| line.contains("status=404"));
        ensure!(requests.len() == 1 && connections.len() == 1, "{lines:?}");
        ensure!(lines.iter().all(|line| line.contains(session.job.as_str())), "{lines:?}");
        // More than was sent: the job is told for whom the gateway asks.
        let counted = connections[0].split_whitespace().find_map(|word| word.strip_prefix("bytes_in=")?.parse().ok());
        ensure!(counted.is_some_and(|bytes: usize| bytes > asked.len()), "{}", connections[0]);
        ensure!(!fs::read_to_string(&log)?.contains("c0ffee"), "the token is in the log");
        Ok::<(), anyhow::Error>(())
    });
    let outcome: Result<()> = outcome;
    outcome.unwrap();
}
