//! Error messages on stderr, and exit codes.
//!
//! ```text
//!  Error: Invalid argument, invalid job ID (code: 1003)
//!  hint: `float list` shows the jobs
//! ```
//!
//! A refusal has a class and a code, both from OpCenter and from this program's own checks. Other
//! errors are local: `Error: <attempt>: <cause>`. Exit codes: 0 success, 1 failure, 2 invalid
//! command line (from clap).

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use mooring_api::{ClientError, ErrorBody, ErrorCode};

use crate::printer::PrintError;

/// A local error with a hint.
#[derive(Debug)]
pub(crate) struct Local {
    message: String,
    hint: String,
}

impl Local {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Local {}

/// A refusal with OpCenter's error code, made before a request is sent.
pub(crate) fn refused(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    ClientError::Refused(ErrorBody::new(code, message).hint(hint)).into()
}

/// An invalid argument.
pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    refused(ErrorCode::InvalidArgument, message, hint)
}

/// Reports an error on stderr. A closed pipe at stdout counts as success.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<PrintError>().is_some_and(PrintError::is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    // Without a stderr only the exit code remains.
    let _ = io::stderr().lock().write_all(describe(error).as_bytes());
    ExitCode::FAILURE
}

/// The lines to print on stderr.
fn describe(error: &anyhow::Error) -> String {
    let (what, hint) = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(body)) => {
            (format!("{}, {} (code: {})", body.class, body.message, body.code), refusal_hint(body))
        }
        Some(unreachable @ ClientError::Unreachable { source, .. }) => {
            let cause = root(source);
            let hint = if cause.contains("invalid peer certificate") { UNKNOWN_HINT } else { UNREACHABLE_HINT };
            (format!("{unreachable}: {cause}"), Some(hint.to_owned()))
        }
        Some(plain @ ClientError::Plain { .. }) => (plain.to_string(), Some(PLAIN_HINT.to_owned())),
        Some(_) | None => (
            chain(error),
            error.chain().find_map(|cause| cause.downcast_ref::<Local>()).map(|local| local.hint.clone()),
        ),
    };
    match hint {
        Some(hint) => format!("Error: {}\nhint: {}\n", one_line(&what), one_line(&hint)),
        None => format!("Error: {}\n", one_line(&what)),
    }
}

fn refusal_hint(body: &ErrorBody) -> Option<String> {
    let login = || (body.error_code() == ErrorCode::Unauthenticated).then(|| LOGIN_HINT.to_owned());
    body.hint.clone().or_else(login)
}

/// The hint for an OpCenter that can't be reached.
const UNREACHABLE_HINT: &str = "give another address with `-a`, or start OpCenter on this machine with `float up`";
/// The hint for an OpCenter that is not the one that is known of its address.
const UNKNOWN_HINT: &str = "this is not the OpCenter that is known of this address; if its authority was made anew, \
    give the fingerprint that OpCenter logs at its start: `float login --ca sha256:...`";
/// The hint for plain HTTP beyond the loopback.
const PLAIN_HINT: &str = "write `https://`: OpCenter's own port speaks TLS";
/// The hint without a session.
pub(crate) const LOGIN_HINT: &str = "log in with `float login`, or give `-u` and `-p`";

fn chain(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ")
}

fn root(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Removes control characters: text from elsewhere must not add lines or drive the terminal.
fn one_line(text: &str) -> String {
    let cleaned: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    cleaned.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn refusal_has_class_code_hint() {
        let error = invalid("invalid job ID", "`float list` shows the jobs");
        assert_eq!(
            describe(&error),
            "Error: Invalid argument, invalid job ID (code: 1003)\nhint: `float list` shows the jobs\n"
        );
    }

    #[test]
    fn refusal_ignores_context() {
        let refused = ClientError::Refused(ErrorBody::new(ErrorCode::NotFound, "no job x"));
        let error = anyhow::Error::from(refused).context("while looking");
        assert_eq!(describe(&error), "Error: Resource not found, no job x (code: 1002)\n");
    }

    #[test]
    fn unauthenticated_hint() {
        let error = ClientError::Refused(ErrorBody::new(ErrorCode::Unauthenticated, "the session has ended")).into();
        assert_eq!(
            describe(&error),
            format!("Error: Not logged in, the session has ended (code: 1004)\nhint: {LOGIN_HINT}\n")
        );
    }

    #[test]
    fn local_error_lists_causes() {
        let missing: io::Result<()> = Err(io::Error::from(io::ErrorKind::NotFound));
        let error = missing.context("can't read abc").unwrap_err();
        assert_eq!(describe(&error), "Error: can't read abc: entity not found\n");
        let error = Local::new("not confirmed", "`-f` skips the question").into();
        assert_eq!(describe(&error), "Error: not confirmed\nhint: `-f` skips the question\n");
    }

    #[test]
    fn control_characters_are_removed() {
        let error = ClientError::Refused(ErrorBody::new(ErrorCode::Internal, "a\nb\x1b[31m")).into();
        assert_eq!(describe(&error), "Error: Internal error, a b [31m (code: 1001)\n");
    }
}
