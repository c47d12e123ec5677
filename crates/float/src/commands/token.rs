//! `float token`: API tokens for scripts and services.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{ApiTokenRequest, ApiTokenView};
use mooring_types::api_token::TokenScope;
use mooring_types::duration::parse_duration;

use crate::parse::{self, one_of};
use crate::printer::{Format, Printer};
use crate::table::{Tabular, seconds};

/// The arguments of `float token`.
#[derive(Debug, Args)]
#[command(after_help = "\
A token lets a script or a service call OpCenter in your name without your password: give it with `-O`, or in the
header `Authorization: Bearer`. It is good until it expires or is deleted, never for more than your role, and never
for users, passwords, sessions and other tokens. A new password that an admin sets ends all tokens of the user.")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// make an API token, and print it this once
    Create(CreateArgs),
    /// list your API tokens; admins see those of all users
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float token list -F table")]
    List,
    /// delete an API token; it is refused at once
    #[command(after_help = "\
Examples:
  float token delete nightly
  float token delete a-4k2m9x7c1b8v5n3z6q0wd         of any user, for admins")]
    Delete {
        /// name or id of the token
        #[arg(value_name = "NAME")]
        // Not `token`: that is the global option `-O`.
        reference: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float token create dashboard                       looks, and changes nothing
  float token create nightly --scope jobs --ttl 90d > nightly.token
  float -O \"$(cat nightly.token)\" submit -i alpine:3 -- ./nightly.sh

Scopes:
  read   look at everything that you see, but not at the values of secrets
  jobs   that, and submit, change, connect and cancel jobs
  all    everything that you may, but to manage users, passwords, sessions and tokens")]
struct CreateArgs {
    /// name of the token, by which you delete it
    name: String,
    /// scope
    #[arg(long, value_parser = one_of::<TokenScope>(TokenScope::ALL.map(TokenScope::name)), default_value = "read")]
    scope: TokenScope,
    /// time for which the token is good, at most 365d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = time)]
    ttl: String,
    /// print a JSON object with the token and its record, as with `-F json`
    #[arg(long)]
    json: bool,
}

/// Checks a time. OpCenter reads the text itself.
fn time(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_: Duration| text.to_owned()).map_err(|error| error.to_string())
}

impl Tabular for ApiTokenView {
    const NONE: &'static str = "No API tokens";
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "USER", "SCOPE", "SINCE", "EXPIRES", "LAST USED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.user.clone(),
            self.scope.to_string(),
            seconds(self.create_time),
            seconds(self.expires_at),
            self.last_used.map_or_else(|| "never".to_owned(), seconds),
        ]
    }
}

/// Runs a subcommand of `float token`.
pub(crate) async fn token(args: TokenArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        TokenCommand::Create(args) => create(args, client, printer).await,
        TokenCommand::List => printer.list(&client.api_token_list().await?),
        TokenCommand::Delete { reference } => {
            client.api_token_delete(&parse::api_token(&reference)?).await?;
            printer.note(&format!("API token {reference} deleted"));
            Ok(())
        }
    }
}

async fn create(args: CreateArgs, client: &Client, printer: &Printer) -> Result<()> {
    let request = ApiTokenRequest { name: args.name, scope: args.scope.to_string(), ttl: args.ttl };
    let made = client.api_token_create(&request).await?;
    if args.json || printer.is_json() {
        return Printer::new(Some(Format::Json)).object(&made);
    }
    let view = &made.api_token;
    printer.note(&format!(
        "API token `{}` ({}) with the scope `{}` is good until {}; it is shown this once",
        view.name, view.id, view.scope, view.expires_at
    ));
    printer.line(&made.token)
}
