//! `float key rotate`, with OpCenter killed at each step: a real process, its real files, SIGKILL.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::wait::wait_for;
use serde_json::Value;

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// The time limit of a start.
const LIMIT: Duration = Duration::from_secs(60);

/// The steps after which OpCenter is killed, and whether the next start has the new key.
const STEPS: [(&str, bool); 4] =
    [("key-written", false), ("key-sealed", false), ("key-committed", true), ("key-finished", true)];

/// An OpCenter in a process of its own.
struct OpCenter<'a> {
    directory: &'a Path,
    address: String,
    process: Child,
}

impl<'a> OpCenter<'a> {
    async fn start(directory: &'a Path) -> Result<Self> {
        let log = directory.join("log");
        let mut command = Command::new(FLOAT);
        command.args(["server", "opcenter", "--listen", "127.0.0.1:0", "--state-dir"]).arg(directory.join("opcenter"));
        command.env("MOORING_FAILPOINTS", directory.join("failpoints"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let process = command.spawn()?;
        let address = wait_for("OpCenter to serve", LIMIT, async || {
            let text = fs::read_to_string(&log)?;
            let (_, rest) = text.split_once("OpCenter serves at https://").unwrap_or_default();
            Ok(rest.split_once(char::is_whitespace).map(|(address, _)| address.to_owned()))
        });
        Ok(Self { directory, address: address.await?, process })
    }

    /// Runs a command as the admin.
    fn float(&self, arguments: &[&str]) -> Result<Output> {
        let password = fs::read_to_string(self.directory.join("opcenter/admin-password"))?;
        let mut command = Command::new(FLOAT);
        command.args(["-a", &self.address, "-u", "admin", "-p", password.trim(), "-F", "json"]).args(arguments);
        Ok(command.env("HOME", self.directory).stdin(Stdio::null()).output()?)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let ran = self.float(arguments)?;
        ensure!(ran.status.success(), "{arguments:?}: {ran:?}");
        serde_json::from_slice(&ran.stdout).with_context(|| format!("{arguments:?}: {ran:?}"))
    }

    fn key(&self) -> Result<String> {
        Ok(self.json(&["key", "list"])?[0]["id"].as_str().context("an id")?.to_owned())
    }
}

impl Drop for OpCenter<'_> {
    fn drop(&mut self) {
        // What has ended can't be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn rotation_survives_a_kill_at_each_step() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut opcenter = OpCenter::start(directory.path()).await?;
    let ran = opcenter.float(&["secret", "set", "token", "open sesame"])?;
    ensure!(ran.status.success(), "{ran:?}");
    for (step, is_new) in STEPS {
        let old = opcenter.key()?;
        fs::write(directory.path().join("failpoints"), format!("{step}=kill\n"))?;
        let ran = opcenter.float(&["key", "rotate"])?;
        ensure!(!ran.status.success(), "{step}: {ran:?}");
        ensure!(!opcenter.process.wait()?.success(), "{step}: OpCenter was not killed");
        opcenter = OpCenter::start(directory.path()).await?;
        let value = opcenter.float(&["secret", "get", "token"])?;
        ensure!(value.stdout.trim_ascii() == b"open sesame", "{step}: {value:?}");
        ensure!((opcenter.key()? != old) == is_new, "{step}");
        ensure!(!directory.path().join("opcenter/secret-key.next").exists(), "{step}: the next key is left");
    }
    // And the next one goes through.
    let old = opcenter.key()?;
    let new = opcenter.json(&["key", "rotate"])?;
    ensure!(new["id"] != old.as_str() && new["secrets"] == 1, "{new}");
    ensure!(opcenter.key()? == new["id"]);
    Ok(())
}
