//! `float login` and `float logout`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::access::{self, Access};
use crate::cli::Global;
use crate::printer::Printer;
use crate::session::{Session, SessionFile};

/// What `float login` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float login -a 10.0.0.5:8443 -u admin              asks for the password
  MOORING_PASSWORD=... float login -u admin          does not ask
  float login --info                                 who is logged in, and where

A session lasts 168 h, and 1 h without a call.")]
pub(crate) struct LoginArgs {
    /// show the session in place of starting one; fails when there is none
    #[arg(long)]
    info: bool,
}

/// A session as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionInfo {
    address: String,
    username: String,
    role: String,
    expires_at: String,
}

/// Starts a session and keeps it.
pub(crate) async fn login(args: LoginArgs, global: &Global, printer: &Printer) -> Result<()> {
    if args.info {
        return info(global, printer).await;
    }
    let file = SessionFile::of_user()?;
    let client = access::stranger(global)?;
    let answer = client.login(&access::credentials(global)?).await?;
    file.store(&Session {
        address: access::short_address(client.address()).to_owned(),
        username: answer.username,
        token: answer.token,
    })?;
    printer.line("Login Succeeded!")
}

async fn info(global: &Global, printer: &Printer) -> Result<()> {
    let access = Access::open(global).await?;
    let answer = access.client().session_get().await;
    let address = access::short_address(access.client().address()).to_owned();
    access.close().await;
    let session = answer?;
    printer.object(&SessionInfo {
        address,
        username: session.username,
        role: session.role,
        expires_at: session.expires_at.to_string(),
    })
}

/// Ends the session and forgets it. It is forgotten even if OpCenter can't be told.
pub(crate) async fn logout(global: &Global, printer: &Printer) -> Result<()> {
    let file = SessionFile::of_user()?;
    let told = match Access::open(global).await {
        Ok(access) => access.client().logout().await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    file.remove()?;
    told?;
    printer.line("Logout Succeeded!")
}
