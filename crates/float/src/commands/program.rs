//! The program itself and what it talks with: `float version`, `float status` and `float completion`.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell as Completer, generate};
use mooring_api::Client;
use mooring_api::view::StatusView;
use serde::Serialize;

use crate::access;
use crate::cli::{Cli, Global, Shell};
use crate::printer::Printer;

/// The versions.
#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
}

/// Prints the versions; an OpCenter that can't be reached has none.
pub(crate) async fn version(global: &Global, printer: &Printer) -> Result<()> {
    let client = access::stranger(global)?;
    let server = match client.version_get().await {
        Ok(answer) => Some(answer.version),
        Err(error) => {
            printer.note(&format!("the server's version is not known: {error}"));
            None
        }
    };
    printer.object(&Versions { client: env!("CARGO_PKG_VERSION"), server })
}

/// How OpCenter is. No license is needed, and scripts that ask for one find that it is valid.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(rename = "License Status")]
    license_status: &'static str,
    address: &'a str,
    #[serde(flatten)]
    seen: StatusView,
}

/// Prints how OpCenter is.
pub(crate) async fn status(client: &Client, printer: &Printer) -> Result<()> {
    let seen = client.status_get().await?;
    printer.object(&Status { license_status: "valid", address: access::short_address(client.address()), seen })
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
