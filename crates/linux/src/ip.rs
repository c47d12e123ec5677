//! Batches of iproute2 commands: links, addresses, routes, neighbours and forwarding entries, in
//! this network namespace or another.

use std::path::Path;
use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt;

use crate::{Error, Result, netns};

/// Runs `ip` commands in one process, and stops at the first that fails. Commands have no leading
/// `ip`.
pub async fn batch(namespace: Option<&Path>, commands: &[String]) -> Result<()> {
    run(namespace, "ip", &["-force", "-batch", "-"][1..], commands).await
}

/// Runs `bridge` commands like [`batch`].
pub async fn bridge_batch(namespace: Option<&Path>, commands: &[String]) -> Result<()> {
    run(namespace, "bridge", &["-batch", "-"], commands).await
}

/// Runs `ip` commands like [`batch`], but continues after those that fail.
pub async fn batch_all(namespace: Option<&Path>, commands: &[String]) -> Result<()> {
    run(namespace, "ip", &["-force", "-batch", "-"], commands).await
}

/// Runs `bridge` commands like [`batch_all`].
pub async fn bridge_batch_all(namespace: Option<&Path>, commands: &[String]) -> Result<()> {
    run(namespace, "bridge", &["-force", "-batch", "-"], commands).await
}

/// Returns the output of one `ip` command.
pub async fn query(namespace: Option<&Path>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null());
    if let Some(path) = namespace {
        netns::enter_command(&mut command, path)?;
    }
    let output = tokio::process::Command::from(command).output().await.map_err(Error::system("run `ip`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Tool { tool: format!("ip {}", arguments.join(" ")), said: tail(&output.stderr) })
}

/// Says whether a link exists.
pub async fn link_exists(namespace: Option<&Path>, name: &str) -> bool {
    query(namespace, &["link", "show", "dev", name]).await.is_ok()
}

/// Removes a link, if it exists.
pub async fn link_delete(namespace: Option<&Path>, name: &str) -> Result<()> {
    if !link_exists(namespace, name).await {
        return Ok(());
    }
    let deleted = batch(namespace, &[format!("link delete dev {name}")]).await;
    // The end of the peer's namespace may have removed it meanwhile.
    if deleted.is_err() && !link_exists(namespace, name).await { Ok(()) } else { deleted }
}

pub(crate) async fn run(namespace: Option<&Path>, tool: &str, arguments: &[&str], lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(path) = namespace {
        netns::enter_command(&mut command, path)?;
    }
    let attempt = || format!("run `{tool}`");
    let mut child =
        tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(Error::system(attempt()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let mut text = lines.join("\n");
        text.push('\n');
        stdin.write_all(text.as_bytes()).await.map_err(Error::system(attempt()))?;
    }
    let output = child.wait_with_output().await.map_err(Error::system(attempt()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Tool { tool: format!("{tool} {}", lines.join("; ")), said: tail(&output.stderr) })
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}
