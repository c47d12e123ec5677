//! The `float` program: the command line, the daemons (`float server`) and everything on one
//! machine (`float up`).
//!
//! ```text
//!  main ──► cli (arguments) ──► access (address, token) ──► commands ──► mooring_api::Client
//!                                                                        │
//!                                              printer (stdout) ◄── table, json, yaml
//! ```
//!
//! * [`cli`] has the commands and [`global`] the global options. [`access`] finds the OpCenter and
//!   the session; [`session`] is the file that `login` writes.
//! * [`commands`] has a module for each noun. A command reads its arguments, calls OpCenter and
//!   prints the answer.
//! * Data goes to stdout through [`printer`], everything else to stderr. [`error`] has the error
//!   messages and exit codes.

#![forbid(unsafe_code)]

mod access;
mod browser;
mod cli;
mod commands;
mod confirm;
mod error;
mod file;
mod global;
mod job_file;
mod known;
mod link;
mod oidc;
mod parse;
mod printer;
mod server;
mod session;
mod start_page;
mod store;
mod table;
mod up;

#[cfg(test)]
mod samples;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::cli::{Cli, Command};
use crate::printer::Printer;

fn main() -> ExitCode {
    // Without arguments there is no command: a page of first steps helps more than an error.
    let outcome = if std::env::args_os().len() > 1 { run(Cli::parse()) } else { start_page::print() };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}

fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    let printer = Printer::new(global.format);
    match command {
        // CRIU waits for the answer while the job is frozen: no runtime, no log, nothing that takes
        // time.
        Command::CriuHook { socket, container, action } => {
            mooring_agent::ask_agent(&socket, &container, &action).context("the agent refused the CRIU hook")
        }
        Command::Monitor { directory, run } => {
            mooring_agent::watch_container(&directory, run.as_deref()).context("can't watch the container")
        }
        Command::Completion { shell } => commands::program::completion(shell, &printer),
        Command::Server(args) => block_on(server::run(args, &global)),
        Command::Up(args) => block_on(up::run(*args)),
        command => {
            mooring_ops::log::init(global.log_filter());
            block_on(commands::run(command, &global, &printer))
        }
    }
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("can't start the async runtime")?;
    let outcome = runtime.block_on(work);
    // A blocking task (a read of stdin) must not delay the exit.
    runtime.shutdown_background();
    outcome
}
