//! A real OpenID provider on this machine's loopback: `oidc-provider`, from npm, in a process of
//! its own. `oidc/provider.mjs` says what it does.
//!
//! Its issuer is `http://localhost:…`, another site than `127.0.0.1`: browsers treat the two as a
//! company's sign-in and OpCenter's page.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_linux::process;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The name under which the provider knows its one client.
pub const CLIENT_ID: &str = "mooring";
/// A secret with characters that have to be escaped where it is sent.
const CLIENT_SECRET: &str = "a secret: 100% + more";
/// The time limit of a start, and of an answer.
const LIMIT: Duration = Duration::from_secs(30);
/// The directory with Node if the machine had none, see `scripts/setup`.
const NODE_OF_SETUP: &str = "/opt/mooring/npm/bin";

/// The place where a provider tells the claims about a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// In ID tokens.
    InToken,
    /// At its userinfo endpoint alone.
    AtUserinfo,
}

/// A provider that runs until it is dropped.
#[derive(Debug)]
pub struct Provider {
    claims: Claims,
    issuer: String,
    process: Child,
    told: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// The lines that it was told, which a restart repeats.
    lines: Vec<Value>,
    directory: TempDir,
}

impl Provider {
    /// Starts a provider at a free port, which nobody can sign in at yet.
    ///
    /// # Errors
    /// Node or the package is missing.
    pub async fn start(claims: Claims) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("secret"), format!("{CLIENT_SECRET}\n"))?;
        let (process, told, mut answers) = run(directory.path(), 0, claims)?;
        let issuer = line(&mut answers, directory.path()).await?;
        Ok(Self { claims, issuer, process, told, answers, lines: Vec::new(), directory })
    }

    /// Its URL.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The file with the client's secret.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    /// Lets it send browsers back to a URL.
    pub async fn redirect_to(&mut self, url: &str) -> Result<()> {
        self.tell(json!({ "redirect": url })).await
    }

    /// Lets a person sign in under a name, which is the subject as well, with these claims. A later
    /// call replaces them.
    pub async fn person(&mut self, login: &str, claims: Value) -> Result<()> {
        self.tell(json!({ "login": login, "claims": claims })).await
    }

    /// Ends it, as if it were down.
    pub async fn stop(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Starts it again at the same port, with new keys and the same people.
    pub async fn start_again(&mut self) -> Result<()> {
        self.stop().await?;
        let port = self.issuer.rsplit(':').next().context("a port")?.parse()?;
        let (process, told, mut answers) = run(self.directory.path(), port, self.claims)?;
        let issuer = line(&mut answers, self.directory.path()).await?;
        ensure!(issuer == self.issuer, "{issuer} instead of {}", self.issuer);
        (self.process, self.told, self.answers) = (process, told, answers);
        for told in std::mem::take(&mut self.lines) {
            self.tell(told).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, told: Value) -> Result<()> {
        self.told.write_all(format!("{told}\n").as_bytes()).await?;
        let answer = line(&mut self.answers, self.directory.path()).await?;
        ensure!(answer == "ok", "the provider answers `{answer}` to {told}");
        self.lines.push(told);
        Ok(())
    }
}

type Running = (Child, ChildStdin, Lines<BufReader<ChildStdout>>);

fn run(directory: &Path, port: u16, claims: Claims) -> Result<Running> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc/provider.mjs");
    let package = program.with_file_name("node_modules/oidc-provider");
    ensure!(package.exists(), "{} is missing: `scripts/setup test` installs it", package.display());
    let settings = json!({
        "port": port,
        "clientId": CLIENT_ID,
        "clientSecret": CLIENT_SECRET,
        "userinfo": claims == Claims::AtUserinfo,
    });
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = std::process::Command::new("node");
    command.arg(program).arg(settings.to_string()).env("PATH", format!("{path}:{NODE_OF_SETUP}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(directory.join("log"))?);
    process::die_with_parent(&mut command);
    let mut process = Command::from(command).kill_on_drop(true).spawn().context("start node")?;
    let (told, answers) = (process.stdin.take().context("stdin")?, process.stdout.take().context("stdout")?);
    Ok((process, told, BufReader::new(answers).lines()))
}

/// Reads a line of its answers.
async fn line(answers: &mut Lines<BufReader<ChildStdout>>, directory: &Path) -> Result<String> {
    let read = timeout(LIMIT, answers.next_line()).await.context("the provider does not answer")?;
    let log = || std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    read?.with_context(|| format!("the provider has ended:\n{}", log()))
}
