//! `streamer <address>:<port>`: the job's end of the byte-exact streams of
//! [`mooring_testkit::streams`].
//!
//! It prints `listening <address>`, then a line for each connection that ends. One thread serves
//! all connections.

#![forbid(unsafe_code)]

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use mooring_testkit::streams::server;

fn main() -> anyhow::Result<ExitCode> {
    let Some(address) = std::env::args().nth(1).and_then(|text| text.parse().ok()) else {
        writeln!(stderr(), "usage: streamer <address>:<port>")?;
        return Ok(ExitCode::from(2));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A reader of the output that is gone must not end the streams.
    runtime.block_on(server::run(address, |line| drop(writeln!(stdout(), "{line}"))))?;
    Ok(ExitCode::SUCCESS)
}
