//! The `float` program: the command line, the daemons (`float server`) and everything on one machine (`float up`).
//!
//! ```text
//!  main ──► cli (arguments) ──► access (address, session, token) ──► commands ──► mooring_api::Client
//!                                                                        │
//!                                              printer (stdout) ◄── table, json, yaml
//! ```
//!
//! * [`cli`] is everything that can be typed; [`access`] says with which OpCenter and as whom a command talks; [`session`] is the file
//!   that `login` leaves behind.
//! * [`commands`] has a module for each noun. A command reads its arguments, calls OpCenter, prints what came back.
//! * Data goes to stdout through [`printer`], everything else to stderr. [`error`] words what went wrong and has the exit code.

#![forbid(unsafe_code)]

mod access;
mod cli;
mod commands;
mod confirm;
mod error;
mod file;
mod job_file;
mod parse;
mod printer;
mod server;
mod session;
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
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}

fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    let printer = Printer::new(global.format);
    match command {
        // CRIU waits for the answer while a job stands still: no runtime, no log, nothing that takes time.
        Command::CriuHook { socket, container, action } => {
            mooring_agent::ask_agent(&socket, &container, &action).context("the agent refused CRIU's step")
        }
        Command::Completion { shell } => commands::program::completion(shell, &printer),
        Command::Server(args) => block_on(server::run(args)),
        Command::Up(args) => block_on(up::run(args)),
        command => {
            mooring_ops::log::init(global.log_filter());
            block_on(commands::run(command, &global, &printer))
        }
    }
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("can't start the async runtime")?;
    let outcome = runtime.block_on(work);
    // What still blocks (a read of stdin) must not hold the exit.
    runtime.shutdown_background();
    outcome
}
