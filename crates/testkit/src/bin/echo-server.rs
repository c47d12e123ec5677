//! `echo-server <address>:<port>…`: the job's end of [`mooring_testkit::load`].

#![forbid(unsafe_code)]

use std::io::{Write, stderr};
use std::process::ExitCode;

use mooring_testkit::echo;

fn main() -> anyhow::Result<ExitCode> {
    let addresses: Result<Vec<_>, _> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let Some(addresses) = addresses.ok().filter(|addresses| !addresses.is_empty()) else {
        writeln!(stderr(), "usage: echo-server <address>:<port>…")?;
        return Ok(ExitCode::from(2));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(echo::serve(&addresses))?;
    Ok(ExitCode::SUCCESS)
}
