//! Attacks of jobs on the browsers of others' clients, in a real browser. It keeps cookies, storage
//! and service workers for the address of a gateway.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::browser::Browser;
use mooring_testkit::job::ended;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;

const FLOAT: &str = env!("CARGO_BIN_EXE_float");
const LIMIT: Duration = Duration::from_secs(60);

/// A program with a login, as RStudio has one: a session that scripts can't read, and a token that
/// they have to. Its pages say whose they are. `/seen` answers with the cookies of any request, and
/// `/log` with those of all requests.
const SITE: &str = r#"
import http.server, sys
WHO = sys.argv[1]
SEEN = []
WORKER = "addEventListener('fetch', event => { if (event.request.url.endsWith('/seen')) return; event.respondWith(new Response('<title>worker of %s</title>', {headers: {'content-type': 'text/html'}})); });" % WHO

class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def say(self, kind, text, *headers):
        self.send_response(200)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(text))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())
    def handle_any(self):
        SEEN.append(self.headers.get("Cookie", ""))
        if self.path == "/seen":
            self.say("text/plain", self.headers.get("Cookie", ""))
        elif self.path == "/log":
            self.say("text/plain", "\n".join(SEEN))
        elif self.path == "/worker.js":
            self.say("text/javascript", WORKER)
        elif self.path == "/login":
            self.say("text/html", "<title>login of %s</title>" % WHO,
                ("Set-Cookie", "session=secret-of-%s; HttpOnly; Path=/; SameSite=Strict" % WHO),
                ("Set-Cookie", "token=of-%s; Path=/" % WHO))
        else:
            self.say("text/html", "<title>page of %s</title>" % WHO, ("Cache-Control", "max-age=3600"))
    def log_message(self, *_):
        pass
    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Site).serve_forever()
"#;

/// A host on which users may start this machine's programs.
fn world() -> World {
    let arguments = ["--image-path", "/"].map(str::to_owned).into();
    World::start(Plan { virtual_hosts: 1, arguments, ..Plan::new(FLOAT) }).expect("a world")
}

fn site(who: &str) -> Result<Submission> {
    Ok(Submission {
        name: Some(who.parse()?),
        image: Some("dir:/".parse()?),
        command: ["python3", "-c", SITE, who].map(str::to_owned).into(),
        publish: vec!["8000".parse()?],
        ..Submission::default()
    })
}

/// Opens a page once its server answers.
async fn open(browser: &Browser, session: &Session, path: &str, title: &str) -> Result<()> {
    let url = format!("http://{}{path}", session.address);
    wait_for(&format!("`{title}` at {url}"), LIMIT, async || {
        browser.open(&url).await?;
        let shown: String = browser.run("return document.title", &[]).await?;
        Ok((shown == title).then_some(()))
    })
    .await
}

async fn ask(browser: &Browser, path: &str) -> Result<String> {
    browser.run(&format!("return (await fetch('{path}')).text()"), &[]).await
}

/// The cookies that a page reads, in the order of their names.
async fn read_cookies(browser: &Browser) -> Result<String> {
    browser.run("return document.cookie.split('; ').sort().join('; ')", &[]).await
}

async fn stay_apart(browser: &Browser, first: &Session, second: &Session) -> Result<()> {
    open(browser, first, "/login", "login of first").await?;
    ensure!(read_cookies(browser).await? == "token=of-first", "{}", read_cookies(browser).await?);
    open(browser, second, "/login", "login of second").await?;
    open(browser, first, "/", "page of first").await?;
    // The login at the second has ended none, and was sent nothing of the first.
    let seen = ask(browser, "/seen").await?;
    ensure!(seen == "session=secret-of-first; token=of-first", "the first gets `{seen}`");
    ensure!(read_cookies(browser).await? == "token=of-first", "{}", read_cookies(browser).await?);

    // What a script sets, the job gets, and no other.
    let set = "document.cookie = 'mine=1; path=/'; await cookieStore.set({name: 'theirs', value: '2', path: '/'});";
    browser.run::<()>(set, &[]).await?;
    let names = "return (await cookieStore.getAll()).map(({name, value}) => `${name}=${value}`).sort().join('; ')";
    let names: String = browser.run(names, &[]).await?;
    ensure!(names == "mine=1; theirs=2; token=of-first", "{names}");
    ensure!(ask(browser, "/seen").await?.ends_with("mine=1; theirs=2"));
    browser.run::<()>("document.cookie = 'mine=; path=/; max-age=0'; await cookieStore.delete('theirs')", &[]).await?;
    ensure!(read_cookies(browser).await? == "token=of-first");

    open(browser, second, "/", "page of second").await?;
    let seen = ask(browser, "/seen").await?;
    ensure!(seen == "session=secret-of-second; token=of-second", "the second gets `{seen}`");
    Ok(())
}

/// A request that looks like none to the gateway would be passed on as it is, with the cookies of
/// all ports.
async fn no_request_escapes(browser: &Browser, attacker: &Session) -> Result<()> {
    open(browser, attacker, "/", "page of second").await?;
    for method in ["seen", "patch", "AN-UNUSUALLY-LONG-METHOD-NAME", &"M".repeat(5000)] {
        let script = "const answer = await fetch('/seen', {method: given[0]}); return answer.text();";
        // A request that is refused gives nothing away.
        let _ = browser.run::<String>(script, &[method.into()]).await;
    }
    let log = ask(browser, "/log").await?;
    ensure!(!log.contains("first"), "the attacker was sent:\n{log}");
    Ok(())
}

#[test]
fn jobs_behind_one_address_share_no_cookies() {
    let world = world();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let first = Session::launch(&client, site("first")?).await?;
        let second = Session::launch_behind(&client, &first.gateway, site("second")?).await?;
        let browser = Browser::start(&world).await?;
        let attacks = async |browser: &Browser| {
            stay_apart(browser, &first, &second).await.context("cookies")?;
            no_request_escapes(browser, &second).await.context("requests")
        };
        browser.watched(attacks).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}

/// The attacker's job leaves a service worker that answers all requests, and data.
async fn leave_behind(browser: &Browser) -> Result<()> {
    let script = "
        localStorage.left = 'behind';
        await navigator.serviceWorker.register('/worker.js');
        await navigator.serviceWorker.ready;";
    browser.run(script, &[]).await
}

async fn gone(client: &Client, job: &JobId) -> Result<()> {
    client.job_cancel(job).await?;
    ended(client, job, LIMIT).await.map(drop)
}

#[test]
fn job_at_a_used_port_gets_nothing_of_the_one_before() {
    let world = world();
    let outcome = world.run_inside(async || {
        let admin = world.client().await?;
        let (attacker, victim) = (world.user(&admin, "mallory").await?, world.user(&admin, "victim").await?);
        // Both may use it, and its two ports are soon used up.
        let gateway = world.float(&["gateway", "create", "-n", "lab", "--portRange", "10000:10001", "-F", "json"])?;
        ensure!(gateway.code == Some(0), "{}", gateway.stderr);
        let lab =
            serde_json::from_str::<serde_json::Value>(&gateway.stdout)?["id"].as_str().context("an id")?.parse()?;
        let browser = Browser::start(&world).await?;
        let attack = async |browser: &Browser| {
            let evil = Session::launch_behind(&attacker, &lab, site("attacker")?).await?;
            open(browser, &evil, "/login", "login of attacker").await?;
            leave_behind(browser).await?;
            gone(&attacker, &evil.job).await?;
            // Another user gets the port that nobody had.
            let other = Session::launch_behind(&victim, &lab, site("other")?).await?;
            ensure!(other.address.port() == 10_001, "{other:?}");
            let good = Session::launch_behind(&victim, &lab, site("victim")?).await?;
            ensure!(good.address == evil.address, "{good:?}");
            open(browser, &good, "/", "page of victim").await?;
            let left: Option<String> = browser.run("return localStorage.left ?? null", &[]).await?;
            ensure!(left.is_none(), "the storage has {left:?}");
            let workers: usize =
                browser.run("return (await navigator.serviceWorker.getRegistrations()).length", &[]).await?;
            ensure!(workers == 0, "{workers} service workers are left");
            let seen = ask(browser, "/seen").await?;
            ensure!(seen.is_empty(), "the victim's job is sent `{seen}`");
            // It is done once: a second visit finds what the first has left.
            browser.run::<()>("localStorage.left = 'own'", &[]).await?;
            open(browser, &good, "/", "page of victim").await?;
            ensure!(browser.run::<String>("return localStorage.left", &[]).await? == "own");
            Ok(())
        };
        browser.watched(attack).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}

/// The tests of an application: each in its own way keeps who is signed in.
mod applications {
    use super::*;

    /// VS Code behind a password.
    fn code_server(name: &str) -> Result<Submission> {
        let mut job = mooring_testkit::code_server::job(name)?;
        for word in &mut job.command {
            *word = word.replace("--auth none", "--auth password");
        }
        job.env = [("PASSWORD", name)].into();
        Ok(job)
    }

    async fn sign_in(browser: &Browser, session: &Session, password: &str) -> Result<()> {
        let url = format!("http://{}/login", session.address);
        wait_for("the login", LIMIT, async || {
            browser.open(&url).await?;
            Ok((browser.count("input.password").await? == 1).then_some(()))
        })
        .await?;
        browser.type_into("input.password", password, LIMIT).await?;
        browser.click("input.submit", LIMIT).await?;
        browser.element(".monaco-workbench .statusbar", LIMIT).await.map(drop)
    }

    #[test]
    fn two_of_one_application_stay_signed_in() {
        let world = world();
        let outcome = world.run_inside(async || {
            let client = world.client().await?;
            let first = Session::launch(&client, code_server("first")?).await?;
            let second = Session::launch_behind(&client, &first.gateway, code_server("second")?).await?;
            let browser = Browser::start(&world).await?;
            let work = async |browser: &Browser| {
                sign_in(browser, &first, "first").await.context("the first")?;
                sign_in(browser, &second, "second").await.context("the second")?;
                browser.open(&first.access_url).await?;
                browser.element(".monaco-workbench .statusbar", LIMIT).await.context("the first again").map(drop)
            };
            browser.watched(work).await?;
            browser.quit().await;
            Ok(())
        });
        outcome.unwrap();
    }
}
