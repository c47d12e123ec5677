//! `float key`: the keys of OpCenter.

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::KeyView;

use crate::printer::Printer;
use crate::table::Tabular;

/// The arguments of `float key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// list the keys of OpCenter by their ids
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float key list -F table")]
    List,
    /// replace the key that seals secrets and the capsule keys of jobs
    #[command(after_help = "\
Example:
  float key rotate

All secrets and capsule keys are sealed with the new key at once; jobs and capsules stay as they are. Back up the
file `secret-key` of OpCenter's state directory again afterwards.")]
    Rotate,
}

impl Tabular for KeyView {
    const NONE: &'static str = "No keys";
    const COLUMNS: &'static [&'static str] = &["ID", "PURPOSE", "FILE", "SECRETS", "CAPSULE KEYS"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.purpose.clone(),
            self.file.clone(),
            self.secrets.to_string(),
            self.capsule_keys.to_string(),
        ]
    }
}

/// Runs `float key`.
pub(crate) async fn key(args: KeyArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        KeyCommand::List => printer.list(&client.key_list().await?),
        KeyCommand::Rotate => printer.object(&client.key_rotate().await?),
    }
}
