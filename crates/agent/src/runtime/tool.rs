//! System programs that create and mount file systems.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Error, Result};

/// The time limit of a tool.
pub(super) const TOOL_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of a tool's last output lines in an error.
const ERROR_LINES_MAX: usize = 3;

/// Runs a tool.
///
/// # Errors
/// The tool can't be started, exceeds its time limit or fails; the error has its last output.
pub(super) async fn run(command: Command) -> Result<()> {
    run_with(command, "").await
}

/// Runs a tool with `input` on its stdin.
///
/// # Errors
/// The tool can't be started, exceeds its time limit or fails; the error has its last output.
pub(super) async fn run_with(mut command: Command, input: &str) -> Result<()> {
    let tool = Path::new(command.as_std().get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(Error::system(format!("run `{tool}`")))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A tool that stops reading has failed; its output has the reason.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ended = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = tokio::time::timeout(TOOL_TIMEOUT, ended)
        .await
        .map_err(|_| Error::TimedOut(format!("`{tool}`")))?
        .map_err(Error::system(format!("wait for `{tool}`")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = last_lines(&String::from_utf8_lossy(&output.stderr));
    Err(Error::tool(&tool, output.status, &said))
}

/// The last lines of a tool's output.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(ERROR_LINES_MAX)..].join("\n")
}

/// Returns whether a program is in a system directory.
pub(super) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).any(|directory| directory.join(name).is_file())
}

/// Returns whether a file of `/proc` has a line with this word.
pub(super) fn has_word(file: &str, word: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(file)?.split_whitespace().any(|known| known == word))
}
