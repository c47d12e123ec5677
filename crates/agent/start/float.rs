//! The program `/opt/memverge/bin/float` inside a job: it becomes the `float` of the job's host.
//!
//! An image may have another C library than the host, or none. So `float` lies in `../lib` with the
//! libraries and the dynamic loader of the host, and this static program starts it with those.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let Some(libraries) = libraries() else {
        eprintln!("float: /proc is not mounted, so its libraries can't be found");
        return ExitCode::from(NOT_EXECUTABLE);
    };
    let (loader, program) = (libraries.join("loader"), libraries.join("float"));
    if !program.exists() {
        eprintln!("float: the job's host could not provide it: the log of its agent has the reason");
        return ExitCode::from(NOT_FOUND);
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "float".into());
    let mut command = if loader.exists() {
        let mut command = Command::new(loader);
        command.arg("--library-path").arg(&libraries).arg("--argv0").arg(&name).arg(program);
        command
    } else {
        Command::new(program)
    };
    let error = command.args(arguments).exec();
    eprintln!("float: {error}");
    ExitCode::from(NOT_EXECUTABLE)
}

/// Returns the directory of the libraries.
fn libraries() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.parent()?.join("lib"))
}
