//! What a user reads when something went wrong, and the exit code.
//!
//! ```text
//!  Error: Invalid argument, invalid job ID (code: 1003)
//!  hint: `float list` shows the jobs
//! ```
//!
//! What OpCenter refused has a class and a code; so has what this program refuses in OpCenter's place. Everything else is local:
//! `Error: <what>: <why>`. Exit codes: 0 done, 1 failed, 2 the command line makes no sense (clap's).

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use mooring_api::{ClientError, ErrorBody, ErrorCode};

use crate::printer::PrintError;

/// A failure on this side, with the next step.
#[derive(Debug)]
pub(crate) struct Local {
    message: String,
    hint: String,
}

impl Local {
    /// Words a failure and what to do about it.
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

/// What OpCenter would refuse, refused without asking it.
pub(crate) fn refused(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    ClientError::Refused(ErrorBody::new(code, message).hint(hint)).into()
}

/// An argument that makes no sense.
pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    refused(ErrorCode::InvalidArgument, message, hint)
}

/// Tells the user on stderr; a reader of stdout that has gone away is no failure.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<PrintError>().is_some_and(PrintError::is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    // Where stderr is gone too, the exit code alone tells.
    let _ = io::stderr().lock().write_all(describe(error).as_bytes());
    ExitCode::FAILURE
}

/// The lines on stderr.
fn describe(error: &anyhow::Error) -> String {
    let (what, hint) = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(body)) => {
            (format!("{}, {} (code: {})", body.class, body.message, body.code), refusal_hint(body))
        }
        Some(unreachable @ ClientError::Unreachable { source, .. }) => (
            format!("{unreachable}: {}", root(source)),
            Some("`-a` names another address; `float up` starts OpCenter on this machine".to_owned()),
        ),
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

/// What to do without a session.
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

/// Text from elsewhere must neither break the form nor drive the terminal.
fn one_line(text: &str) -> String {
    let cleaned: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    cleaned.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_refusal_has_class_code_and_hint() {
        let error = invalid("invalid job ID", "`float list` shows the jobs");
        assert_eq!(
            describe(&error),
            "Error: Invalid argument, invalid job ID (code: 1003)\nhint: `float list` shows the jobs\n"
        );
    }

    #[test]
    fn a_refusal_keeps_its_form_under_a_context() {
        let refused = ClientError::Refused(ErrorBody::new(ErrorCode::NotFound, "no job x"));
        let error = anyhow::Error::from(refused).context("while looking");
        assert_eq!(describe(&error), "Error: Resource not found, no job x (code: 1002)\n");
    }

    #[test]
    fn without_a_session_the_hint_says_how_to_get_one() {
        let error = ClientError::Refused(ErrorBody::new(ErrorCode::Unauthenticated, "the session has ended")).into();
        assert_eq!(
            describe(&error),
            format!("Error: Not logged in, the session has ended (code: 1004)\nhint: {LOGIN_HINT}\n")
        );
    }

    #[test]
    fn a_local_failure_tells_its_causes() {
        let missing: io::Result<()> = Err(io::Error::from(io::ErrorKind::NotFound));
        let error = missing.context("can't read abc").unwrap_err();
        assert_eq!(describe(&error), "Error: can't read abc: entity not found\n");
        let error = Local::new("not confirmed", "`-f` skips the question").into();
        assert_eq!(describe(&error), "Error: not confirmed\nhint: `-f` skips the question\n");
    }

    #[test]
    fn text_from_elsewhere_stays_on_its_line() {
        let error = ClientError::Refused(ErrorBody::new(ErrorCode::Internal, "a\nb\x1b[31m")).into();
        assert_eq!(describe(&error), "Error: Internal error, a b [31m (code: 1001)\n");
    }
}
