//! `float group`.

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{GroupAddRequest, GroupUpdateRequest, QuotaChange};

use super::quota::Limits;
use crate::confirm::confirm;
use crate::parse;
use crate::printer::Printer;

/// The arguments of `float group`.
#[derive(Debug, Args)]
#[command(after_help = "\
The members of a group see each other's jobs in lists and their status, but neither their output nor the
tokens of their URLs. They can't change each other's jobs.")]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// add a group
    #[command(after_help = "\
Example:
  float group add lab --description 'the lab on floor 3' --user alice --user bob")]
    Add {
        /// group name: 1 to 63 letters, digits, `.`, `_` or `-`
        name: String,
        /// description
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
        /// user to add; repeatable
        #[arg(long, value_name = "USER")]
        user: Vec<String>,
    },
    /// list groups; users see their own, admins all
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float group list -F table")]
    List,
    /// show a group and its members
    #[command(visible_alias = "show")]
    #[command(after_help = "\
Example:
  float group info lab")]
    Info {
        /// group name
        name: String,
    },
    /// change the members or the description of a group
    #[command(after_help = "\
Example:
  float group update lab --addUser carol --rmUser bob")]
    Update {
        /// group name
        name: String,
        /// description
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// user to add; repeatable
        #[arg(long = "addUser", value_name = "USER")]
        add_user: Vec<String>,
        /// user to remove; repeatable
        #[arg(long = "rmUser", value_name = "USER")]
        rm_user: Vec<String>,
    },
    /// limit what the members of a group may have together
    #[command(after_help = "\
Examples:
  float group quota lab --jobs 40 --cores 64 --memory 256 --gateways 4
  float group quota lab --cores none

A limit that is not given stays. A member has to fit in its own quota and in that of each of its groups.
`float group info` shows quota and use.")]
    Quota {
        /// group name
        name: String,
        #[command(flatten)]
        limits: Limits,
    },
    /// delete a group; its members keep their accounts
    #[command(after_help = "\
Examples:
  float group delete lab                             asks first
  float group delete lab -f")]
    Delete {
        /// group name
        name: String,
        /// skip the confirmation
        #[arg(short, long)]
        force: bool,
    },
}

/// Runs a subcommand of `float group`.
pub(crate) async fn group(args: GroupArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        GroupCommand::Add { name, description, user } => {
            printer.object(&client.group_add(&GroupAddRequest { name, description, users: user }).await?)
        }
        GroupCommand::List => printer.list(&client.group_list().await?),
        GroupCommand::Info { name } => printer.object(&client.group_get(parse::group(&name)?).await?),
        GroupCommand::Update { name, description, add_user, rm_user } => {
            let request = GroupUpdateRequest {
                description,
                add_users: add_user,
                remove_users: rm_user,
                quota: QuotaChange::default(),
            };
            printer.object(&client.group_update(parse::group(&name)?, &request).await?)
        }
        GroupCommand::Quota { name, limits } => {
            let request = GroupUpdateRequest { quota: limits.change(), ..GroupUpdateRequest::default() };
            printer.object(&client.group_update(parse::group(&name)?, &request).await?)
        }
        GroupCommand::Delete { name, force } => {
            let name = parse::group(&name)?;
            if !force {
                confirm(&format!("delete group {name}?"))?;
            }
            client.group_delete(name).await?;
            printer.note(&format!("group {name} deleted"));
            Ok(())
        }
    }
}
