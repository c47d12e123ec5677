//! The `float` program: the command line, the daemons (`float server`) and everything on one
//! machine (`float up`).
//!
//! ```text
//!  main ──► cli (arguments) ──► access (address, token) ──► commands ──► mooring_api::Client
//!                                                                        │
//!                                              printer (stdout) ◄── table, json, yaml
//! ```
//!
//! * [`cli`] has the commands, [`global`] the global options, and [`original`] what the original
//!   has besides. [`command_line`] parses or refuses them. [`access`] finds the OpCenter and
//!   the session; [`session`] is the file that `login` writes.
//! * [`commands`] has a module for each noun. A command reads its arguments, calls OpCenter and
//!   prints the answer.
//! * Data goes to stdout through [`printer`], everything else to stderr. [`error`] has the error
//!   messages and exit codes.

#![forbid(unsafe_code)]

mod access;
mod browser;
mod certificate;
mod cli;
mod command_line;
mod commands;
mod confirm;
mod error;
mod file;
mod global;
mod help;
mod job_file;
mod known;
mod link;
mod oidc;
mod original;
mod parse;
mod printer;
mod server;
mod session;
mod start_page;
mod store;
mod table;
mod up;
mod yaml;

#[cfg(test)]
mod samples;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{Cli, Command};
use crate::global::Global;
use crate::printer::Printer;

fn main() -> ExitCode {
    // Without arguments there is no command: a page of first steps helps more than an error.
    if std::env::args_os().len() <= 1 {
        return ended(start_page::print(), &Printer::default());
    }
    match command_line::parse() {
        Ok(Cli { global, command }) => {
            let printer = Printer::of(&global);
            ended(run(command, &global, &printer), &printer)
        }
        Err(refused) => refused,
    }
}

fn ended(outcome: Result<()>, printer: &Printer) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error, printer),
    }
}

fn run(command: Command, global: &Global, printer: &Printer) -> Result<()> {
    match command {
        // CRIU waits for the answer while the job is frozen: no runtime, no log, nothing that takes
        // time.
        Command::CriuHook { socket, container, action } => {
            mooring_agent::ask_agent(&socket, &container, &action).context("the agent refused the CRIU hook")
        }
        Command::Monitor { directory, run } => {
            mooring_agent::watch_container(&directory, run.as_deref()).context("can't watch the container")
        }
        Command::Completion { shell } => commands::program::completion(shell, printer),
        Command::Server(args) => block_on(server::run(args, global)),
        Command::Up(args) => block_on(up::run(*args)),
        command => {
            mooring_ops::log::init(global.log_filter());
            block_on(commands::run(command, global, printer))
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
