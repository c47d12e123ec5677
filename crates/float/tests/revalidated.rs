//! Pages that a browser loads again, in a real browser: a job answers with 304 and with its policy.
//! The widget is on each, and nothing is blocked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Submission;
use mooring_api::view::ConnectRequest;
use mooring_testkit::browser::{Browser, Program};
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::widget::Widget;
use mooring_testkit::world::{Plan, World};
use mooring_types::gateway::{Cookies, Widget as WidgetOption};

const FLOAT: &str = env!("CARGO_BIN_EXE_float");
const LIMIT: Duration = Duration::from_secs(60);
const RELOADS: usize = 3;

/// A site whose pages are revalidated, and whose policy names their one script by its hash. `/log`
/// tells the status of each page that it has sent.
const SITE: &str = r#"
import base64, hashlib, http.server

SCRIPT = "document.title = 'ran'"
HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
PAGE = f"<!doctype html><html><head><title>did not run</title></head><body><script>{SCRIPT}</script></body></html>".encode()
CHANGED = "Sat, 01 Aug 2026 12:00:00 GMT"
POLICY = f"default-src 'none'; script-src 'sha256-{HASH}'; connect-src 'self'"
LOG = []
KINDS = {
    "/dated": {"Last-Modified": CHANGED, "Cache-Control": "max-age=0, must-revalidate"},
    "/tagged": {"ETag": '"1"', "Vary": "Accept-Encoding, Cookie"},
    "/both": {"ETag": 'W/"1"', "Last-Modified": CHANGED, "Cache-Control": "max-age=600, immutable"},
    "/reports": {"Last-Modified": CHANGED},
}

class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        kind = KINDS.get(self.path)
        tags = self.headers.get("If-None-Match", "")
        tag = kind.get("ETag") if kind else None
        known = kind and (tag and tag.removeprefix("W/") in tags or self.headers.get("If-Modified-Since") == CHANGED)
        body = b"" if known else PAGE if kind else " ".join(LOG).encode()
        if kind:
            LOG.append("304" if known else "200")
        self.send_response(304 if known else 200)
        for name, value in (kind or {"Cache-Control": "no-store"}).items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy" + ("-Report-Only" if self.path == "/reports" else ""), POLICY)
        if not known:
            self.send_header("Content-Type", "text/html; charset=utf-8" if kind else "text/plain")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Site).serve_forever()
"#;

/// Records what a policy blocks, or would block, before any script of a page.
const RECORD: &str = "
    window.blocked = [];
    addEventListener('securitypolicyviolation', ({violatedDirective, blockedURI}) => {
        if (!blockedURI.endsWith('/favicon.ico')) window.blocked.push(`${violatedDirective} ${blockedURI}`);
    });";

/// The page's script has run, and nothing was blocked.
async fn is_whole(browser: &Browser) -> Result<()> {
    Widget::find(browser, "site Executing").await?;
    let (title, blocked): (String, Vec<String>) =
        browser.run("return [document.title, window.blocked ?? []]", &[]).await?;
    ensure!(title == "ran" && blocked.is_empty(), "{title}, blocked: {blocked:?}");
    Ok(())
}

async fn load_again(browser: &Browser, session: &Session) -> Result<()> {
    let url = |path: &str| format!("http://{}{path}", session.address);
    wait_for("the site", LIMIT, async || {
        browser.open(&url("/dated")).await?;
        Ok(browser.run::<bool>("return document.title === 'ran'", &[]).await?.then_some(()))
    })
    .await?;
    for path in ["/dated", "/tagged", "/both", "/reports"] {
        browser.open(&url(path)).await?;
        is_whole(browser).await.with_context(|| format!("{path}, first"))?;
        for time in 1..=RELOADS {
            browser.reload().await?;
            is_whole(browser).await.with_context(|| format!("{path}, reload {time}"))?;
        }
        browser.open(&url("/dated?another")).await?;
        browser.open(&url(path)).await?;
        is_whole(browser).await.with_context(|| format!("{path}, another time"))?;
        browser.back().await?;
        browser.forward().await?;
        is_whole(browser).await.with_context(|| format!("{path}, back and forward"))?;
    }
    // What a script asks for is the page without the widget, though the browser has it with.
    let fetched: String = browser.run("return (await fetch('/tagged')).text()", &[]).await?;
    ensure!(!fetched.contains("widget.js"), "{fetched}");
    Ok(())
}

/// A page that was cached with the widget, at a connection that has none any more.
async fn is_left_alone(browser: &Browser, session: &Session) -> Result<()> {
    for path in ["/dated", "/tagged", "/both"] {
        browser.open(&format!("http://{}{path}", session.address)).await?;
        let (title, blocked, widgets): (String, Vec<String>, usize) = browser
            .run(
                "return [document.title, window.blocked ?? [], document.querySelectorAll('[src*=mooring]').length]",
                &[],
            )
            .await?;
        ensure!(title == "ran" && blocked.is_empty() && widgets == 0, "{path}: {title}, {blocked:?}, {widgets}");
    }
    Ok(())
}

#[test]
fn widget_is_on_pages_that_are_loaded_again() {
    let arguments = ["--image-path", "/"].map(str::to_owned).into();
    let world = World::start(Plan { virtual_hosts: 1, arguments, ..Plan::new(FLOAT) }).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let site = Submission {
            name: Some("site".parse()?),
            image: Some("dir:/".parse()?),
            command: ["python3", "-c", SITE].map(str::to_owned).into(),
            publish: vec!["8000".parse()?],
            ..Submission::default()
        };
        let session = Session::launch(&client, site).await?;
        let mut browsers = Vec::new();
        for program in [Program::Chromium, Program::Firefox] {
            let browser = Browser::start_program(program, &world).await?;
            browser.preload(RECORD).await?;
            browser
                .watched(async |browser| load_again(browser, &session).await)
                .await
                .with_context(|| format!("{program:?}"))?;
            browsers.push(browser);
        }
        let gateway = session.gateway.clone().into();
        client.gateway_disconnect(&gateway, &session.job, None).await?;
        let request = ConnectRequest {
            widget: WidgetOption::Hidden,
            cookies: Cookies::Shared,
            ..ConnectRequest::new(session.job.clone())
        };
        client.gateway_connect(&gateway, &request).await?;
        for browser in browsers {
            wait_for("the port", LIMIT, async || {
                Ok(browser.open(&format!("http://{}/log", session.address)).await.ok())
            })
            .await?;
            browser.watched(async |browser| is_left_alone(browser, &session).await).await?;
            browser.quit().await;
        }
        Ok(())
    });
    outcome.unwrap();
}
