//! `witness <address>:<port> [<mark>]`: the job's end of [`mooring_testkit::witness`]. The mark
//! tells its process from those of others.

#![forbid(unsafe_code)]

use std::io::{Write, stderr};
use std::process::ExitCode;

use mooring_testkit::witness;

fn main() -> anyhow::Result<ExitCode> {
    let Some(address) = std::env::args().nth(1).and_then(|text| text.parse().ok()) else {
        writeln!(stderr(), "usage: witness <address>:<port> [<mark>]")?;
        return Ok(ExitCode::from(2));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(witness::serve(address))?;
    Ok(ExitCode::SUCCESS)
}
