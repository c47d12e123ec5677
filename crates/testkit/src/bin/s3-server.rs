//! `s3-server <address>:<port> <directory> <access key> <secret>`: [`mooring_testkit::s3`] as a
//! program. Buckets are directories in the directory; it ends when it is killed.

#![forbid(unsafe_code)]

use std::io::{Write, stderr};
use std::path::Path;
use std::process::ExitCode;

use mooring_testkit::s3::{Keys, serve};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(address), [_, root, access, secret]) =
        (arguments.first().and_then(|text| text.parse().ok()), arguments.as_slice())
    else {
        writeln!(stderr(), "usage: s3-server <address>:<port> <directory> <access key> <secret>")?;
        return Ok(ExitCode::from(2));
    };
    let keys = Keys { access: access.clone(), secret: secret.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match runtime.block_on(serve(address, Path::new(root), &keys))? {}
}
