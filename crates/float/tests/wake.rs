//! A suspended job is woken by callers alone: people and programs that want it. Its gateway is not
//! on loopback, where browsers tell more.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::{ConnectRequest, GatewayCreateRequest};
use mooring_api::{Client, Submission};
use mooring_testkit::browser::{Browser, Key};
use mooring_testkit::code_server::{self, CodePage};
use mooring_testkit::job::executing;
use mooring_testkit::lab_page::LabPage;
use mooring_testkit::session::Session;
use mooring_testkit::shiny::{self, CounterPage};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::gateway::{GatewayStatus, Protocol};
use mooring_types::job::JobStatus;
use mooring_types::{Event, JobId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(60);
/// The time for which a probe stays.
const PROBED: Duration = Duration::from_secs(3);
/// The time for which an open page asks a suspended job, many times in each way.
const ASKED: Duration = Duration::from_secs(15);
/// The time for which JupyterLab does.
const LAB_ASKED: Duration = Duration::from_secs(70);

const HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03";
const HEAD: &[u8] = b"HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const OPTIONS: &[u8] = b"OPTIONS / HTTP/1.0\r\n\r\n";
const KUBELET: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.31\r\nConnection: close\r\n\r\n";
const PART: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\n";
const FETCH: &[u8] = b"GET /tick HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0\r\n\
    Accept: */*\r\nConnection: close\r\n\r\n";
const PROGRAM: &[u8] =
    b"GET /api/jobs?token=f00 HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n";

/// Serves HTTP at ports 8080 and 8081, and at port 9000 sends back each byte.
///
/// The page asks on its own in five ways, of which each has a number of its own. The server tells
/// how often each was answered.
const SERVER: &str = r#"
import collections, http.server, socketserver, threading

PAGE = b"""<!doctype html><html><head><title>asks</title></head><body><button>do</button><img id=i><script>
const again = (work, time) => setInterval(() => work().catch?.(() => {}), time);
again(() => fetch('/get'), 1000);
again(() => fetch('/post', {method: 'POST', body: '1'}), 1100);
setInterval(() => i.src = '/image?' + Date.now(), 1200);
setInterval(() => navigator.sendBeacon('/beacon', '1'), 1300);
(function events() {
    const source = new EventSource('/events');
    source.onerror = () => { source.close(); setTimeout(events, 1000); };
})();
(function socket() { new WebSocket(`ws://${location.host}/socket`).onclose = () => setTimeout(socket, 1000); })();
</script>"""
counts = collections.Counter()

class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        path = self.path.partition('?')[0]
        counts[path] += 1
        body = {'/': PAGE, '/counts': ' '.join(f'{key}={value}' for key, value in counts.items()).encode()}
        body = body.get(path, b'{}')
        self.send_response(404 if path == '/socket' else 200)
        kind = {'/': 'text/html', '/events': 'text/event-stream'}.get(path, 'application/json')
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.do_GET()
    def log_message(self, *_):
        pass

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while bytes := self.request.recv(100):
            self.request.sendall(bytes)

def serve(port, handler):
    server = socketserver.ThreadingTCPServer(('0.0.0.0', port), handler)
    threading.Thread(target=server.serve_forever).start()

serve(8080, Page)
serve(8081, Page)
serve(9000, Echo)
"#;

fn submission() -> Result<Submission> {
    Ok(Submission {
        name: Some("server".parse()?),
        image: Some("dir:/".parse()?),
        command: ["python3", "-c", SERVER].map(str::to_owned).into(),
        publish: vec!["8080".parse()?, "8081".parse()?, "9000".parse()?],
        target_ports: vec!["8080".parse()?],
        resume_on_connect: true,
        ..Submission::default()
    })
}

/// A way to look at a port, with what is sent and how it ends.
#[derive(Debug, Clone, Copy)]
enum Probe {
    Stays(&'static [u8]),
    Ends(&'static [u8]),
    Resets(&'static [u8]),
}

impl Probe {
    /// Returns what the client got while it stayed.
    async fn send(self, port: SocketAddr) -> Result<String> {
        let mut client = TcpStream::connect(port).await?;
        let (Self::Stays(bytes) | Self::Ends(bytes) | Self::Resets(bytes)) = self;
        client.write_all(bytes).await?;
        match self {
            Self::Stays(_) => {}
            Self::Ends(_) => client.shutdown().await?,
            Self::Resets(_) => {
                client.set_zero_linger()?;
                return Ok(String::new());
            }
        }
        let mut got = Vec::new();
        // A client that may wait gets nothing.
        let _ = tokio::time::timeout(PROBED, client.read_to_end(&mut got)).await;
        Ok(String::from_utf8_lossy(&got).into_owned())
    }
}

/// Starts a job behind a gateway that is not on loopback.
async fn launch(client: &Client, job: Submission) -> Result<Session> {
    let request =
        GatewayCreateRequest { name: "private".to_owned(), no_public_ip: true, ..GatewayCreateRequest::default() };
    let gateway = client.gateway_create(&request).await?.id;
    wait_for("the gateway", LIMIT, async || {
        let status = client.gateway_get(&gateway.clone().into()).await?.status;
        Ok((status == GatewayStatus::Running).then_some(()))
    })
    .await?;
    let session = Session::launch_behind(client, &gateway, job).await?;
    ensure!(!session.address.ip().is_loopback(), "{}", session.address);
    Ok(session)
}

async fn suspend(client: &Client, job: &JobId) -> Result<()> {
    client.job_suspend(job).await?;
    wait_for("the job to be suspended", LIMIT, async || {
        Ok((client.job_get(job).await?.status == JobStatus::Suspended).then_some(()))
    })
    .await
}

/// The reasons for which a job was resumed so far.
async fn resumed(client: &Client, job: &JobId) -> Result<Vec<String>> {
    let events = client.job_events(job).await?.into_iter();
    let reasons = events.filter_map(|view| match view.event {
        Event::StatusChanged { status: JobStatus::Resuming, reason } => Some(reason),
        _ => None,
    });
    Ok(reasons.collect())
}

/// Looks at the ports of a suspended job in all ways at once, and ensures that none wakes it.
async fn probe_all(client: &Client, job: &JobId, of_http: &[SocketAddr], raw: SocketAddr) -> Result<()> {
    let answered = [Probe::Stays(HEAD), Probe::Stays(OPTIONS), Probe::Stays(KUBELET), Probe::Stays(FETCH)];
    let unanswered = [
        Probe::Stays(b""),
        Probe::Stays(b"GE"),
        Probe::Stays(b"GET /hea"),
        Probe::Stays(PART),
        Probe::Ends(b""),
        Probe::Resets(b""),
        Probe::Resets(PROGRAM),
        Probe::Resets(b"SSH-2.0-client\r\n"),
    ];
    let of_raw = [Probe::Stays(b""), Probe::Ends(b""), Probe::Ends(b"hello"), Probe::Resets(b"hello")];
    let at = |ports: &[SocketAddr], probes: &[Probe], is_answered: bool| {
        let all = ports.iter().flat_map(|port| probes.iter().map(|probe| (*port, *probe, is_answered)));
        all.collect::<Vec<_>>()
    };
    let all = [at(of_http, &answered, true), at(of_http, &unanswered, false), at(&[raw], &of_raw, false)].concat();
    let mut probes = JoinSet::new();
    for (port, probe, is_answered) in all {
        probes.spawn(async move {
            let got = probe.send(port).await.with_context(|| format!("{probe:?}"))?;
            let is_told = got.starts_with("HTTP/1.")
                && got.contains(" 503 ")
                && got.to_ascii_lowercase().contains("retry-after: 5");
            ensure!(is_told == is_answered, "{probe:?} at {port}: {got}");
            anyhow::Ok(())
        });
    }
    while let Some(probe) = probes.join_next().await {
        probe??;
    }
    // At an automatic port a hello is not answered.
    let hello = tokio::time::timeout(PROBED, Probe::Stays(HELLO).send(of_http[0])).await;
    ensure!(matches!(&hello, Ok(Ok(got)) if got.is_empty()) || matches!(&hello, Ok(Err(_))), "{hello:?}");
    ensure!(client.job_get(job).await?.status == JobStatus::Suspended);
    Ok(())
}

#[test]
fn probes_wake_nothing_and_callers_do() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = launch(&client, submission()?).await?;
        let job = &session.job;
        let connect = async |target: u16, protocol: Protocol| {
            let request =
                ConnectRequest { target_ports: vec![target], protocol, ..ConnectRequest::new(session.job.clone()) };
            let made = client.gateway_connect(&session.gateway.clone().into(), &request).await?;
            let port = made.first().context("a connection")?.gateway_port;
            let port = SocketAddr::new(session.address.ip(), port);
            wait_for("the port", LIMIT, async || Ok(TcpStream::connect(port).await.ok())).await?;
            anyhow::Ok(port)
        };
        let of_http = [session.address, connect(8081, Protocol::Http).await?];
        let raw = connect(9000, Protocol::Tcp).await?;
        suspend(&client, job).await?;
        probe_all(&client, job, &of_http, raw).await?;
        ensure!(resumed(&client, job).await?.is_empty(), "{:?}", resumed(&client, job).await?);

        let mut program = TcpStream::connect(session.address).await?;
        let from = program.local_addr()?.ip();
        program.write_all(PROGRAM).await?;
        let mut answer = String::new();
        tokio::time::timeout(LIMIT, program.read_to_string(&mut answer)).await??;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        ensure!(resumed(&client, job).await? == [format!("woken by GET /api/jobs from {from}")]);

        executing(&client, job, LIMIT).await?;
        suspend(&client, job).await?;
        let mut echo = TcpStream::connect(raw).await?;
        echo.write_all(b"h").await?;
        let mut byte = [0];
        tokio::time::timeout(LIMIT, echo.read_exact(&mut byte)).await??;
        let reasons = resumed(&client, job).await?;
        ensure!(byte == *b"h" && reasons.last() == Some(&format!("woken by a connection from {from}")), "{reasons:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// Suspends a job, and ensures that it stays so for a time under an open page.
async fn sleeps(client: &Client, job: &JobId, time: Duration) -> Result<()> {
    suspend(client, job).await?;
    tokio::time::sleep(time).await;
    let view = client.job_get(job).await?;
    ensure!(view.status == JobStatus::Suspended && resumed(client, job).await?.is_empty(), "{view:?}");
    Ok(())
}

/// Waits until a job was woken, and ensures that it was by a person.
async fn is_woken_by_person(client: &Client, job: &JobId) -> Result<()> {
    executing(client, job, LIMIT).await?;
    let reasons = resumed(client, job).await?;
    let [reason] = reasons.as_slice() else { anyhow::bail!("{reasons:?}") };
    ensure!(reason.starts_with("woken by somebody at the open page from "), "{reason}");
    Ok(())
}

#[test]
fn open_page_wakes_its_job_when_somebody_uses_it() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = launch(&client, submission()?).await?;
        let browser = Browser::start(&world).await?;
        let counts = async || {
            let answer = reqwest::get(format!("http://{}/counts", session.address)).await?.text().await?;
            let pairs = answer.split(' ').filter_map(|pair| pair.split_once('='));
            let count = |wanted: &str| pairs.clone().find(|(path, _)| *path == wanted)?.1.parse::<u64>().ok();
            let paths = ["/get", "/post", "/image", "/beacon", "/events", "/socket"];
            anyhow::Ok(paths.map(|path| count(path).unwrap_or_default()))
        };
        let outcome = browser
            .watched(async |browser| {
                browser.open(&session.access_url).await?;
                browser.element("mooring-widget", LIMIT).await?;
                let before = wait_for("the page to ask in all ways", LIMIT, async || {
                    let counts = counts().await?;
                    Ok(counts.iter().all(|count| *count > 0).then_some(counts))
                })
                .await?;
                sleeps(&client, &session.job, ASKED).await?;
                browser.click("button", LIMIT).await?;
                is_woken_by_person(&client, &session.job).await?;
                wait_for("the page to go on", LIMIT, async || {
                    let after = counts().await?;
                    Ok(after.iter().zip(before).all(|(after, before)| *after > before + 1).then_some(()))
                })
                .await?;
                // Somebody who loads the page wants it too.
                suspend(&client, &session.job).await?;
                browser.open(&session.access_url).await?;
                executing(&client, &session.job, LIMIT).await?;
                let reasons = resumed(&client, &session.job).await?;
                ensure!(reasons.last().is_some_and(|reason| reason.starts_with("woken by GET / from ")), "{reasons:?}");
                Ok(())
            })
            .await;
        browser.quit().await;
        outcome
    });
    outcome.unwrap();
}

/// A job of an application with its page in a browser.
async fn with_application(
    world: &World,
    job: Submission,
    use_page: impl AsyncFnOnce(&Client, &Session, &Browser) -> Result<()>,
) -> Result<()> {
    let client = world.client().await?;
    let session = launch(&client, Submission { resume_on_connect: true, ..job }).await?;
    let browser = Browser::start(world).await?;
    let outcome = browser.watched(async |browser| use_page(&client, &session, browser).await).await;
    browser.quit().await;
    outcome
}

#[test]
fn open_jupyterlab_wakes_its_job_when_somebody_uses_it() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let job =
            Submission { name: Some("lab".parse()?), template: Some("jupyter".parse()?), ..Submission::default() };
        with_application(&world, job, async |client, session, browser| {
            let page = LabPage::open(browser, &session.access_url, 2).await?;
            page.count().await?;
            page.counted().await?;
            sleeps(client, &session.job, LAB_ASKED).await?;
            // It may tell that it will try again, which this key closes.
            browser.enter(Key::Escape).await?;
            is_woken_by_person(client, &session.job).await?;
            wait_for("no dialogue", LIMIT, async || {
                if browser.count(".jp-Dialog").await? == 0 {
                    return Ok(Some(()));
                }
                browser.enter(Key::Escape).await?;
                Ok(None)
            })
            .await?;
            let shown = page.run_next("print('goes', 'on')").await?;
            ensure!(shown.contains("goes on"), "{shown}");
            let remembered = page.remembered().await?;
            let is_known = |text: &String| text.contains("JupyterLab will continue trying to reconnect");
            ensure!(remembered.dialogs.iter().all(is_known), "{remembered:?}");
            Ok(())
        })
        .await
    });
    outcome.unwrap();
}

#[test]
fn open_shiny_page_wakes_its_job_when_somebody_uses_it() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        with_application(&world, shiny::job("shiny")?, async |client, session, browser| {
            let page = CounterPage::open(browser, &session.access_url).await?;
            page.click().await?;
            page.shows(1).await?;
            sleeps(client, &session.job, ASKED).await?;
            page.click().await?;
            page.shows(2).await?;
            is_woken_by_person(client, &session.job).await?;
            ensure!(!page.was_disconnected().await?, "the page said that it was disconnected");
            Ok(())
        })
        .await
    });
    outcome.unwrap();
}

#[test]
fn open_vs_code_wakes_its_job_when_somebody_uses_it() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        with_application(&world, code_server::job("code")?, async |client, session, browser| {
            let page = CodePage::open(browser, &session.access_url).await?;
            page.enter("x=$((6*7)); echo begun-$x").await?;
            page.line("begun-42").await?;
            sleeps(client, &session.job, ASKED).await?;
            page.enter("echo still-$x").await?;
            page.line("still-42").await?;
            is_woken_by_person(client, &session.job).await
        })
        .await
    });
    outcome.unwrap();
}
