//! A job that listens on loopback alone, and on a port that it does not publish. Clients and users
//! are told until it listens for others.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::Submission;
use mooring_api::view::{ConnectionState, ConnectionView};
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use reqwest::StatusCode;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Less than the 30 s for which a job without any listener is waited for.
const TOLD_WITHIN: Duration = Duration::from_secs(20);
const PROBLEM: &str = "nothing listens on port 8080 for others; the job listens on 127.0.0.1:8080 and 0.0.0.0:9090: \
                       have it listen on 0.0.0.0:8080, or publish 9090";

/// Listens for others on port 8080 once a request has come to port 9000.
const SERVER: &str = "
import http.server, socketserver, threading

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '6')
        self.end_headers()
        self.wfile.write(b'served')

class Mend(Page):
    def do_GET(self):
        alone.shutdown()
        alone.server_close()
        serve('0.0.0.0', 8080, Page)
        super().do_GET()

def serve(address, port, handler):
    server = Server((address, port), handler)
    threading.Thread(target=server.serve_forever).start()
    return server

serve('0.0.0.0', 9090, Page)
alone = serve('127.0.0.1', 8080, Page)
serve('0.0.0.0', 9000, Mend)
";

#[test]
fn port_that_nobody_serves_is_told_until_it_is_served() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let request = Submission {
            name: Some("app".parse()?),
            image: Some("dir:/".parse()?),
            command: ["python3", "-c", SERVER].map(str::to_owned).into(),
            publish: vec!["8080".parse()?, "9000".parse()?],
            ..Submission::default()
        };
        let session = Session::launch(&client, request).await?;
        let connection = async |target: u16| -> Result<ConnectionView> {
            let gateway = client.gateway_get(&session.gateway.clone().into()).await?;
            gateway.connections.into_iter().find(|connection| connection.target_port == target).context("a connection")
        };
        let url = connection(8080).await?.access_url;
        let http = reqwest::Client::builder().no_proxy().build()?;

        let asked = Instant::now();
        let answer = http.get(&url).send().await?;
        let took = asked.elapsed();
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains(PROBLEM), "{status}: {text}");
        ensure!(took < TOLD_WITHIN, "{took:?}");
        let page = http.get(&url).header("Accept", "text/html").header("Sec-Fetch-Mode", "navigate").send().await?;
        let page = page.text().await?;
        ensure!(page.contains("data-mooring-waiting") && page.contains(PROBLEM), "{page}");

        let shown = float(&world, &["show", "-j", session.job.as_str()])?;
        ensure!(shown["unservedPorts"] == serde_json::json!([PROBLEM]), "{shown}");
        let shown = float(&world, &["gateway", "info", "-g", session.gateway.as_str()])?;
        let states = shown["connections"].as_array().context("connections")?;
        let of_8080 = states.iter().find(|state| state["targetPort"] == 8080).context("a connection")?;
        ensure!(of_8080["state"] == "unserved" && of_8080["problem"] == PROBLEM, "{shown}");
        ensure!(connection(9000).await?.state == ConnectionState::Open, "{shown}");

        let mended = http.get(connection(9000).await?.access_url).send().await?;
        ensure!(mended.status() == StatusCode::OK, "{mended:?}");
        let answer = http.get(&url).send().await?;
        ensure!(answer.status() == StatusCode::OK && answer.text().await? == "served");
        wait_for("the port to be served", LIMIT, async || {
            let is_open = connection(8080).await?.state == ConnectionState::Open;
            Ok((is_open && client.job_get(&session.job).await?.unserved_ports.is_empty()).then_some(()))
        })
        .await
    });
    outcome.unwrap();
}

fn float(world: &World, arguments: &[&str]) -> Result<Value> {
    let ran = world.float(&[arguments, &["-F", "json"]].concat())?;
    ensure!(ran.code == Some(0), "{arguments:?}: {}", ran.stderr);
    Ok(serde_json::from_str(&ran.stdout)?)
}
