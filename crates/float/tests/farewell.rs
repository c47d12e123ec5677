//! A job ends while its page is open in a real browser. The page tells the outcome, and so does a
//! reload, also after daemons were killed. The port goes to the next job that asks for one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::browser::Browser;
use mooring_testkit::job::ended;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::widget::Widget;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use nix::sys::signal::Signal;
use reqwest::StatusCode;

const LIMIT: Duration = Duration::from_secs(60);
/// Time limit until a page shows the end of its job; on an idle machine it takes a second.
const HEARS_WITHIN: Duration = Duration::from_secs(15);

/// A page; the job ends with exit code 3 a moment after it was asked to.
const SERVER: &str = "
import http.server, os, threading

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = b'<!doctype html><html><head><title>page</title></head><body><p id=page>a page</p></body></html>'
        self.send_response(200)
        self.send_header('Content-Type', 'text/html')
        self.send_header('Content-Length', str(len(page)))
        self.end_headers()
        self.wfile.write(page)
        if self.path == '/end':
            threading.Timer(0.2, os._exit, [3]).start()

http.server.ThreadingHTTPServer(('', 8000), Page).serve_forever()
";
const FAILED: &str = "first has failed: it ended with exit code 3.";
const OVER: &str = "This screen does not respond any more.";

fn job(name: &str) -> Result<Submission> {
    Ok(Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: ["python3", "-c", SERVER].map(str::to_owned).into(),
        publish: vec!["8000".parse()?],
        ..Submission::default()
    })
}

/// Returns the answers to a program and to a WebSocket client.
async fn answers(address: SocketAddr) -> Result<[(StatusCode, String); 2]> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let call = client.get(format!("http://{address}/api/kernels"));
    let upgrade = client
        .get(format!("http://{address}/api/events"))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    let mut answers = Vec::new();
    for request in [call, upgrade] {
        let answer = request.send().await?;
        answers.push((answer.status(), answer.text().await?));
    }
    Ok(answers.try_into().expect("two answers"))
}

async fn says_farewell(browser: &Browser, url: &str) -> Result<()> {
    browser.open(url).await?;
    let text = browser.element("[data-mooring-ended] [role=status]", LIMIT).await?.text().await?;
    ensure!(text == FAILED, "{text}");
    ensure!(browser.run::<u16>(STATUS, &[]).await? == 410 && browser.count("mooring-widget").await? == 0);
    Ok(())
}

/// The status of the answer that the page was.
const STATUS: &str = "return performance.getEntriesByType('navigation')[0].responseStatus";

async fn ends_by_itself(browser: &Browser, first: &Session) -> Result<()> {
    browser.open(&first.access_url).await?;
    let widget = Widget::find(browser, "first Executing").await?;
    browser.run::<()>("await fetch('/end')", &[]).await?;
    let asked = Instant::now();
    widget.says("first FailToComplete").await?;
    ensure!(asked.elapsed() < HEARS_WITHIN, "{:?}", asked.elapsed());
    widget.alert_is(&format!("{FAILED} {OVER}")).await?;
    says_farewell(browser, &first.access_url).await?;
    for (status, text) in answers(first.address).await? {
        ensure!(status == StatusCode::GONE && text.starts_with(FAILED), "{status}: {text}");
    }
    Ok(())
}

/// OpCenter keeps its decisions, and the gateway its last slice.
async fn is_still_said_after_a_restart(browser: &Browser, world: &World, first: &Session) -> Result<()> {
    for words in [["server", "opcenter"], ["server", "gateway"]] {
        for daemon in world.daemons(&words) {
            daemon.signal(Signal::SIGKILL)?;
            wait_for("its end", LIMIT, async || Ok((!daemon.runs()).then_some(()))).await?;
        }
    }
    world.opcenter_answers(LIMIT).await?;
    wait_for("the gateway", LIMIT, async || Ok(answers(first.address).await.ok())).await?;
    says_farewell(browser, &first.access_url).await
}

async fn gives_way(browser: &Browser, world: &World, client: &Client, first: &Session) -> Result<()> {
    let second = Session::launch_behind(client, &first.gateway, job("second")?).await?;
    ensure!(second.address == first.address, "{second:?}");
    browser.open(&second.access_url).await?;
    let widget = Widget::find(browser, "second Executing").await?;
    ensure!(browser.count("#page").await? == 1);
    client.job_cancel(&second.job).await?;
    ensure!(ended(client, &second.job, LIMIT).await?.status == JobStatus::Cancelled);
    widget.says("second Cancelled").await?;
    widget.alert_is(&format!("second was cancelled. {OVER}")).await?;

    // An open page is not led to another job.
    let third = Session::launch_behind(client, &first.gateway, job("third")?).await?;
    ensure!(third.address == first.address, "{third:?}");
    widget.says("third is another job").await?;
    let leads = "This address now leads to another job, third. Reload the page to open it.";
    widget.alert_is(&format!("second was cancelled. {leads}")).await?;

    // A port that is disconnected says nothing.
    let line = ["gateway", "disconnect", "-g", first.gateway.as_str(), "-j", third.job.as_str()];
    let ran = world.float(&line)?;
    ensure!(ran.code == Some(0), "{ran:?}");
    wait_for("the port to be closed", LIMIT, async || {
        let refused = tokio::net::TcpStream::connect(third.address).await.is_err();
        Ok(refused.then_some(()))
    })
    .await
}

#[test]
fn a_page_hears_what_became_of_its_job_and_the_port_is_free() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let first = Session::launch(&client, job("first")?).await?;
        let browser = Browser::start(&world).await?;
        browser
            .watched(async |browser| {
                ends_by_itself(browser, &first).await?;
                is_still_said_after_a_restart(browser, &world, &first).await?;
                gives_way(browser, &world, &client, &first).await
            })
            .await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
