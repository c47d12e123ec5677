//! Failpoints: places where a test makes a process fail or die.
//!
//! They exist in the released binary, and do nothing unless `MOORING_FAILPOINTS` names a file. Its
//! lines are `<name>=<action>`, read at each passage so that a test can set them while the process
//! runs. A line fires once: it is taken out of the file before it acts.
//!
//! | action | what happens at the place |
//! |---|---|
//! | `error` | it fails |
//! | `kill` | the process is gone, by SIGKILL |
//! | `kill <pid>` | another process is gone, by SIGKILL; this one goes on |
//! | `wait <seconds>` | it goes on only after that time |

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, process};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// The environment variable that names the file.
pub const VARIABLE: &str = "MOORING_FAILPOINTS";

/// The error that a failpoint injects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failpoint `{0}` was set to fail")]
pub struct Injected(String);

/// Passes, waits, fails or ends a process, as the file says of `name`.
///
/// # Errors
/// The file says `<name>=error`.
pub async fn check(name: &str) -> Result<(), Injected> {
    let Some(path) = env::var_os(VARIABLE).map(PathBuf::from) else { return Ok(()) };
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let is_this = |line: &&str| line.split_once('=').is_some_and(|(key, _)| key.trim() == name);
    let Some(line) = text.lines().find(is_this) else { return Ok(()) };
    let rest: String = text.lines().filter(|other| *other != line).flat_map(|other| [other, "\n"]).collect();
    if let Err(error) = fs::write(&path, rest) {
        tracing::warn!(%error, "can't take failpoint {name} out of {}", path.display());
    }
    let action = line.split_once('=').map_or("", |(_, action)| action.trim());
    match action.split_once(' ').map_or((action, None), |(verb, object)| (verb, Some(object))) {
        ("kill", None) => {
            kill(&process::id().to_string());
            process::abort()
        }
        ("kill", Some(pid)) => {
            kill(pid);
            Ok(())
        }
        ("wait", Some(seconds)) => {
            tokio::time::sleep(Duration::from_secs_f64(seconds.parse().unwrap_or(0.0))).await;
            Ok(())
        }
        _ => Err(Injected(name.to_owned())),
    }
}

/// SIGKILL is what is tested, and the one signal that no handler can soften.
fn kill(pid: &str) {
    let outcome = pid.parse().map(|pid| signal::kill(Pid::from_raw(pid), Signal::SIGKILL));
    if !matches!(outcome, Ok(Ok(()))) {
        tracing::warn!(?outcome, "process {pid} was not killed");
    }
}
