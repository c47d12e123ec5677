//! `float login --sso` as a whole: the real program, a real OpenID provider and a real browser.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::browser::Browser;
use mooring_testkit::oidc::{CLIENT_ID, Claims, Provider};
use mooring_testkit::wait::wait_for;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// The time limit of one step.
const LIMIT: Duration = Duration::from_secs(60);

/// An OpCenter in a process of its own.
struct OpCenter {
    address: String,
    directory: TempDir,
    _process: Child,
}

/// Reads lines until one has a text, and returns what follows it.
async fn after(lines: &mut Lines<impl AsyncBufRead + Unpin>, text: &str) -> Result<String> {
    let mut read = String::new();
    let found = timeout(LIMIT, async {
        while let Some(line) = lines.next_line().await? {
            if let Some((_, rest)) = line.split_once(text) {
                return Ok(Some(rest.trim().to_owned()));
            }
            read += &format!("{line}\n");
        }
        anyhow::Ok(None)
    });
    found.await.with_context(|| format!("no `{text}` in time"))??.with_context(|| format!("no `{text}` in:\n{read}"))
}

impl OpCenter {
    async fn start(provider: &Provider) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(FLOAT);
        command.args(["server", "opcenter", "--listen", "127.0.0.1:0", "--oidc-issuer", provider.issuer()]);
        command.args(["--oidc-client-id", CLIENT_ID, "--oidc-name", "Harbour"]);
        command.arg("--oidc-client-secret-file").arg(provider.secret_file());
        command.arg("--state-dir").arg(directory.path().join("opcenter"));
        let log = directory.path().join("log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).kill_on_drop(true);
        let process = command.spawn()?;
        let address = wait_for("OpCenter to serve", LIMIT, async || {
            let text = fs::read_to_string(&log)?;
            let (_, rest) = text.split_once("OpCenter serves at https://").unwrap_or_default();
            Ok(rest.split_once(char::is_whitespace).map(|(address, _)| address.to_owned()))
        });
        let address = address.await?;
        Ok(Self { address, directory, _process: process })
    }

    /// Returns the program as a user with a home of its own runs it.
    fn float(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(FLOAT);
        command.args(arguments).env("HOME", self.directory.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_is_confirmed_in_a_browser() -> Result<()> {
    let mut provider = Provider::start(Claims::InToken).await?;
    let opcenter = OpCenter::start(&provider).await?;
    provider.redirect_to(&format!("http://{}/login/oidc/callback", opcenter.address)).await?;
    provider.person("7f3a", json!({"preferred_username": "ada"})).await?;

    let mut login = opcenter.float(&["login", "--sso", "--print", "-a", &opcenter.address]);
    let mut login = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(login.stderr.take().context("stderr")?).lines();
    let url = after(&mut told, "confirm the login within 5 minutes at ").await?;
    let code = after(&mut told, "the page has to show the code ").await?;

    let browser = Browser::start_alone().await?;
    browser.open(&url).await?;
    browser.click("a[href^='/login/oidc']", LIMIT).await?;
    browser.type_into("[name=login]", "7f3a", LIMIT).await?;
    browser.click("button[value=in]", LIMIT).await?;
    browser.until("the confirmation", "return location.pathname === '/login/confirm';", LIMIT).await?;
    browser.element("form[hx-post='/login/confirm']", LIMIT).await?;
    let page: String = browser.run("return document.querySelector('#page').innerText;", &[]).await?;
    let machine = fs::read_to_string("/proc/sys/kernel/hostname")?;
    ensure!(page.contains(&code) && page.contains(machine.trim()) && page.contains("127.0.0.1"), "{page}");
    ensure!(login.try_wait()?.is_none(), "the login is over before anybody has confirmed it");
    browser.click("form[hx-post='/login/confirm'] button.primary", LIMIT).await?;

    let ended = timeout(LIMIT, login.wait_with_output()).await??;
    ensure!(ended.status.success() && ended.stdout == b"Login Succeeded!\n", "{ended:?}");
    browser.until("the account", "return location.pathname === '/account';", LIMIT).await?;
    browser.until("its sessions", "return document.body.innerText.includes('float/');", LIMIT).await?;
    browser.quit().await;
    let info = opcenter.float(&["login", "--info", "-F", "json"]).output().await?;
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).with_context(|| format!("{info:?}"))?;
    ensure!(info["username"] == "ada" && info["role"] == "user", "{info}");
    let sessions = opcenter.float(&["session", "list", "-F", "json"]).output().await?;
    let sessions: serde_json::Value = serde_json::from_slice(&sessions.stdout)?;
    ensure!(sessions.as_array().is_some_and(|all| all.len() == 2), "{sessions}");
    Ok(())
}

#[tokio::test]
async fn login_says_how_it_ended() -> Result<()> {
    let provider = Provider::start(Claims::InToken).await?;
    let opcenter = OpCenter::start(&provider).await?;
    let mut login = opcenter.float(&["login", "--sso", "--print", "-a", &opcenter.address]);
    let mut login = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(login.stderr.take().context("stderr")?).lines();
    let code = after(&mut told, "the page has to show the code ").await?;
    // A user with a password refuses it.
    let password = fs::read_to_string(opcenter.directory.path().join("opcenter/admin-password"))?;
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let origin = format!("http://{}", opcenter.address);
    let body = format!("username=admin&password={}", password.trim());
    let form = "application/x-www-form-urlencoded";
    let signed_in = http.post(format!("{origin}/login")).header("content-type", form).body(body).send().await?;
    let cookie = signed_in.headers()["set-cookie"].to_str()?.split(';').next().context("a cookie")?.to_owned();
    let page = http.get(format!("{origin}/account")).header("cookie", &cookie).send().await?.text().await?;
    let (_, rest) = page.split_once("name=\"csrf-token\" content=\"").context("a token")?;
    let csrf = rest.split('"').next().context("a token")?;
    let refuse = http.post(format!("{origin}/login/confirm/refuse")).header("cookie", &cookie);
    let refuse = refuse.header("x-csrf-token", csrf).header("hx-request", "true").header("content-type", form);
    ensure!(refuse.body(format!("code={code}")).send().await?.status().is_success());
    let why = after(&mut told, "the login was refused in the browser").await;
    ensure!(timeout(LIMIT, login.wait()).await??.code() == Some(1) && why.is_ok(), "{why:?}");
    ensure!(!opcenter.directory.path().join(".float/session.yaml").exists());
    Ok(())
}
