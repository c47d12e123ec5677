//! `float session`: the open sessions of a user.

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::OpenSessionView;
use mooring_types::SessionId;
use mooring_types::id::InvalidId;

use crate::error::invalid;
use crate::printer::Printer;
use crate::table::{Tabular, seconds};

/// The arguments of `float session`.
#[derive(Debug, Args)]
#[command(after_help = "\
A session begins with a login, at the command line or in a browser.")]
pub(crate) struct SessionArgs {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// list your open sessions; admins see those of all users
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float session list -F table")]
    List,
    /// end a session
    #[command(after_help = "\
Example:
  float session end s-uqaj8l6a407u88v0106ol")]
    End {
        /// session id
        id: String,
    },
}

impl Tabular for OpenSessionView {
    const NONE: &'static str = "No sessions";
    const COLUMNS: &'static [&'static str] = &["ID", "USER", "PRESENT", "SINCE", "LAST USED", "ADDRESS", "CLIENT"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.user.clone(),
            if self.present { "yes".into() } else { "no".into() },
            seconds(self.create_time),
            seconds(self.last_used),
            self.address.clone(),
            self.client.clone(),
        ]
    }
}

/// Runs a subcommand of `float session`.
pub(crate) async fn session(args: SessionArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        SessionCommand::List => printer.list(&client.session_list().await?),
        SessionCommand::End { id } => {
            let id: SessionId = id.parse().map_err(|error: InvalidId| {
                invalid(error.to_string(), "`float session list` shows the open sessions")
            })?;
            client.session_end(&id).await?;
            printer.note(&format!("session {id} ended"));
            Ok(())
        }
    }
}
