//! `float version`, `float status` and `float completion`.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell as Completer, generate};
use mooring_api::Client;
use mooring_api::view::StatusView;
use serde::Serialize;

use crate::access;
use crate::cli::{Cli, Shell};
use crate::global::Global;
use crate::printer::Printer;

/// The versions of this program and of OpCenter.
#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
}

/// Prints the versions; without the server's when OpCenter is unreachable.
pub(crate) async fn version(global: &Global, printer: &Printer) -> Result<()> {
    let client = access::stranger(global).await?;
    let server = match client.version_get().await {
        Ok(answer) => Some(answer.version),
        Err(error) => {
            printer.note(&format!("no server version: {error}"));
            None
        }
    };
    printer.object(&Versions { client: env!("CARGO_PKG_VERSION"), server })
}

/// Tells scripts that there is a license: none is needed.
pub(crate) fn license(printer: &Printer) -> Result<()> {
    printer.line("License Status: valid")?;
    printer.note("Mooring needs no license");
    Ok(())
}

/// The status of OpCenter. Mooring needs no license; scripts that check for one find it valid.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(rename = "License Status")]
    license_status: &'static str,
    address: &'a str,
    #[serde(flatten)]
    status: StatusView,
}

/// Prints the status of OpCenter.
pub(crate) async fn status(client: &Client, printer: &Printer) -> Result<()> {
    let view = client.status_get().await?;
    printer.object(&Status { license_status: "valid", address: access::short_address(client.address()), status: view })
}

/// Prints a shell's completion script.
pub(crate) fn completion(shell: Shell, printer: &Printer) -> Result<()> {
    let completer = match shell {
        Shell::Bash => Completer::Bash,
        Shell::Fish => Completer::Fish,
        Shell::Zsh => Completer::Zsh,
        Shell::Powershell => Completer::PowerShell,
    };
    let mut script = Vec::new();
    generate(completer, &mut Cli::command(), "float", &mut script);
    printer.raw(&String::from_utf8_lossy(&script))
}
