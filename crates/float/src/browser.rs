//! The user's browser.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// The programs that open a URL in the user's browser.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

/// Opens a URL; `false` if there is no program for it.
pub(crate) fn open(url: &str) -> bool {
    OPENERS.iter().any(|opener| starts(opener, url))
}

/// Starts a program with a URL; `false` if there is no such program.
fn starts(opener: &str, url: &str) -> bool {
    let started =
        Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    !matches!(started, Err(error) if error.kind() == ErrorKind::NotFound)
}
