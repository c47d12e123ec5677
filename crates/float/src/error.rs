//! Error messages on stderr, and exit codes.
//!
//! ```text
//!  Error: Invalid argument, invalid job ID (code: 1003)
//!  hint: `float list` shows the jobs
//! ```
//!
//! A refusal has a class and a code, both from OpCenter and from this program's own checks. Other
//! errors are local: `Error: <attempt>: <cause>`. With `-F json` an error is one object with the
//! keys `class`, `message`, `code` and `hint`. Exit codes: 0 success, 1 failure, 2 invalid command
//! line ([`crate::command_line`]).

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use mooring_api::{ClientError, ErrorBody, ErrorCode};
use serde::Serialize;

use crate::command_line::INVALID;
use crate::printer::{PrintError, Printer};

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

/// A command line that can't be run, found after it was parsed; with the exit code of one.
#[derive(Debug)]
pub(crate) struct Usage(Local);

impl Usage {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Local::new(message, hint))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Usage {}

/// A refusal with OpCenter's error code, made before a request is sent.
pub(crate) fn refused(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    ClientError::Refused(ErrorBody::new(code, message).hint(hint)).into()
}

/// An invalid argument.
pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    refused(ErrorCode::InvalidArgument, message, hint)
}

/// Reports an error on stderr. A closed pipe at stdout counts as success.
pub(crate) fn report(error: &anyhow::Error, printer: &Printer) -> ExitCode {
    if error.downcast_ref::<PrintError>().is_some_and(PrintError::is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    let told = Told::of(error);
    write(&if printer.is_json() { told.json() } else { told.text() });
    if error.is::<Usage>() { ExitCode::from(INVALID) } else { ExitCode::FAILURE }
}

/// Returns the message of an error, without its hint.
pub(crate) fn message(error: &anyhow::Error) -> String {
    Told::of(error).message
}

/// Writes the lines of an error.
pub(crate) fn write(lines: &str) {
    // Without a stderr only the exit code remains.
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

/// The class of errors that this program finds itself.
const OWN_CLASS: &str = "Client error";

/// An error as a user reads it.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    pub(crate) class: String,
    pub(crate) message: String,
    /// The number of a refusal's class.
    pub(crate) code: Option<u16>,
    pub(crate) hint: Option<String>,
}

/// Returns the client's error that a cause is, boxed or not.
fn of_client<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a ClientError> {
    let boxed = || cause.downcast_ref::<Box<ClientError>>().map(AsRef::as_ref);
    cause.downcast_ref::<ClientError>().or_else(boxed)
}

impl Told {
    fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<ClientError>() {
            Some(ClientError::Refused(body)) => Self {
                class: body.class.clone(),
                message: one_line(&body.message),
                code: Some(body.code),
                hint: refusal_hint(body).as_deref().map(one_line),
            },
            Some(unreachable @ ClientError::Unreachable { source, .. }) => {
                let cause = in_plain_words(root(source));
                let hint = match &*cause {
                    cause if cause.contains("invalid peer certificate") => UNKNOWN_HINT,
                    WITHOUT_TLS => WITHOUT_TLS_HINT,
                    _ => UNREACHABLE_HINT,
                };
                Self::own(&format!("{unreachable}: {cause}"), Some(hint))
            }
            Some(plain @ ClientError::Plain { .. }) => Self::own(&plain.to_string(), Some(PLAIN_HINT)),
            Some(_) | None => {
                let usage = error.downcast_ref::<Usage>().map(|usage| &usage.0);
                let local = usage.or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<Local>()));
                let refusal = error.chain().find_map(|cause| match of_client(cause) {
                    Some(ClientError::Refused(body)) => Some(body),
                    _ => None,
                });
                let hint = local.map(|local| &*local.hint).or_else(|| refusal?.hint.as_deref());
                Self::own(&chain(error), hint)
            }
        }
    }

    /// An error that this program finds itself.
    pub(crate) fn own(message: &str, hint: Option<&str>) -> Self {
        Self { class: OWN_CLASS.to_owned(), message: one_line(message), code: None, hint: hint.map(one_line) }
    }

    /// The lines for people and for scripts that search for a text.
    pub(crate) fn text(&self) -> String {
        let what = match self.code {
            Some(code) => format!("Error: {}, {} (code: {code})\n", one_line(&self.class), self.message),
            None => format!("Error: {}\n", self.message),
        };
        self.hint.as_ref().map_or(what.clone(), |hint| format!("{what}hint: {hint}\n"))
    }

    /// The object for `-F json`.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

fn refusal_hint(body: &ErrorBody) -> Option<String> {
    let login = || (body.error_code() == ErrorCode::Unauthenticated).then(|| LOGIN_HINT.to_owned());
    body.hint.clone().or_else(login)
}

/// The hint for an OpCenter that can't be reached.
pub(crate) const UNREACHABLE_HINT: &str =
    "give another address with `-a`, or start OpCenter on this machine with `float up`";
/// The hint for an OpCenter that is not the one that is known of its address.
const UNKNOWN_HINT: &str = "this is not the OpCenter that is known of this address; if its authority was made anew, \
    give the fingerprint that OpCenter logs at its start: `float login --ca sha256:...`";
/// The message for a server that answers a TLS client in plain HTTP.
const WITHOUT_TLS: &str = "it speaks HTTP without TLS";
const WITHOUT_TLS_HINT: &str = "OpCenter's own port speaks TLS: give another address with `-a`";
/// The hint for plain HTTP beyond the loopback.
const PLAIN_HINT: &str = "write `https://`: OpCenter's own port speaks TLS";
/// The hint without a session.
pub(crate) const LOGIN_HINT: &str = "log in with `float login`, or give `-u` and `-p`";

fn chain(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(|cause| in_plain_words(cause.to_string())).collect();
    causes.join(": ")
}

/// Tells what TLS says of an answer that is none of TLS.
fn in_plain_words(cause: String) -> String {
    if cause.contains("InvalidContentType") { WITHOUT_TLS.to_owned() } else { cause }
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

    fn describe(error: &anyhow::Error) -> String {
        Told::of(error).text()
    }

    #[test]
    fn json_has_the_parts() {
        let error = invalid("invalid job ID", "`float list` shows the jobs");
        assert_eq!(
            Told::of(&error).json(),
            "{\"class\":\"Invalid argument\",\"message\":\"invalid job ID\",\"code\":1003,\
             \"hint\":\"`float list` shows the jobs\"}\n"
        );
        let error = Local::new("not confirmed", "`-f` skips the question").into();
        assert!(
            Told::of(&error).json().contains("\"class\":\"Client error\",\"message\":\"not confirmed\",\"code\":null")
        );
    }

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
