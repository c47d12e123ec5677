//! The program that a container starts with: it opens the job's output and becomes the command.
//!
//! `start STDOUT STDERR COMMAND [ARGUMENT …]`
//!
//! A descriptor from outside of the container can't be checkpointed, so the files are opened
//! inside. The program is static: an image needs no shell and no library for it. It removes itself,
//! since all that is in the container migrates with the job.
//!
//! As with a shell, the exit code is 127 where the command is not found, and 126 where it can't be
//! executed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    if let Some(program) = arguments.next() {
        let _ = fs::remove_file(program);
    }
    let (Some(stdout), Some(stderr), Some(command)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::from(NOT_EXECUTABLE);
    };
    let error = become_command(&stdout, &stderr, &command, arguments);
    // This goes to the job's own file of errors.
    eprintln!("{}: {}", command.display(), reason(&command, &error));
    ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}

/// Returns only when the command can't be executed.
fn become_command(
    stdout: &OsStr,
    stderr: &OsStr,
    command: &OsStr,
    arguments: impl Iterator<Item = OsString>,
) -> io::Error {
    let opened = || Ok((File::open("/dev/null")?, open(stdout)?, open(stderr)?));
    match opened() {
        Ok((stdin, stdout, stderr)) => {
            Command::new(command).args(arguments).stdin(stdin).stdout(stdout).stderr(stderr).exec()
        }
        Err(error) => error,
    }
}

fn open(file: &OsStr) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(file)
}

fn reason(command: &OsStr, error: &io::Error) -> String {
    if error.kind() != ErrorKind::NotFound {
        return error.to_string();
    }
    if command.as_encoded_bytes().contains(&b'/') {
        let exists = Path::new(command).exists();
        return if exists { "its interpreter is not in the image" } else { "not found" }.to_owned();
    }
    format!("not found in PATH, which is {}", env::var_os("PATH").unwrap_or_default().display())
}
