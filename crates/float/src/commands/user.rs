//! `float user`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, Result};
use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{QuotaChange, UserAddRequest, UserUpdateRequest};
use mooring_types::Role;

use super::quota::Limits;
use crate::access;
use crate::confirm::confirm;
use crate::error::Local;
use crate::global::Global;
use crate::parse::{self, one_of};
use crate::printer::Printer;

/// The arguments of `float user`.
#[derive(Debug, Args)]
#[command(after_help = "\
Admins may do everything. Users manage their own jobs, see the jobs of members of their groups, and can use all
gateways, security groups and public templates. Viewers see what a user sees, and change nothing but their own
password, sessions and API tokens.")]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// add a user
    Add(AddArgs),
    /// list users; users see themselves, admins all
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float user list -F table")]
    List,
    /// show a user
    #[command(visible_alias = "show")]
    #[command(after_help = "\
Example:
  float user info alice")]
    Info(Named),
    /// change a user's password, role or groups
    Update(UpdateArgs),
    /// limit what a user may have at one time
    Quota(QuotaArgs),
    /// delete a user with its sessions, secrets and private templates
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct Named {
    /// user name
    name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float user add alice                               asks for the password twice
  float user add bob --group lab --passwd-stdin < bobs-password
  float user add carol --role admin
  float user add dave --role viewer --group lab      sees the jobs of the group, and changes nothing")]
struct AddArgs {
    /// user name: 1 to 63 letters, digits, `.`, `_` or `-`
    name: String,
    /// read the password from the first line of stdin instead of asking
    #[arg(long)]
    passwd_stdin: bool,
    /// role
    #[arg(long, value_parser = role(), default_value = "user")]
    role: Role,
    /// group to join; repeatable
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float user update alice --passwd                   asks for the new password twice
  float user update alice --role admin
  float user update alice --addGroup lab --rmGroup students

A new password ends all sessions of the user. To change your own password, give the current one with `-p`,
in $MOORING_PASSWORD, or when asked.")]
struct UpdateArgs {
    /// user name
    name: String,
    /// set a new password
    #[arg(long)]
    passwd: bool,
    /// set a new password from the first line of stdin
    #[arg(long, conflicts_with = "passwd")]
    passwd_stdin: bool,
    /// new role
    #[arg(long, value_parser = role())]
    role: Option<Role>,
    /// group to join; repeatable
    #[arg(long = "addGroup", value_name = "GROUP")]
    add_group: Vec<String>,
    /// group to leave; repeatable
    #[arg(long = "rmGroup", value_name = "GROUP")]
    rm_group: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float user quota alice --jobs 10 --cores 8 --memory 32 --gateways 2
  float user quota alice --memory none

A limit that is not given stays. What would exceed one is refused: a submission, a new gateway, a larger size, a
resume. A limit below what the user has stops nothing that runs. `float user info` shows quota and use.")]
struct QuotaArgs {
    /// user name
    name: String,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float user delete alice                            asks first
  float user delete alice -f --cancelJobs

The user's jobs, gateways, security groups and public templates stay, under the user's name.")]
struct DeleteArgs {
    /// user name
    name: String,
    /// cancel the user's jobs; a user with jobs that have not ended can't be deleted otherwise
    #[arg(long = "cancelJobs")]
    cancel_jobs: bool,
    /// skip the confirmation
    #[arg(short, long)]
    force: bool,
}

/// Runs a subcommand of `float user`.
pub(crate) async fn user(args: UserArgs, client: &Client, global: &Global, printer: &Printer) -> Result<()> {
    match args.command {
        UserCommand::Add(args) => {
            let request = UserAddRequest {
                password: new_password(&args.name, args.passwd_stdin)?,
                name: args.name,
                role: args.role.to_string(),
                groups: args.group,
            };
            printer.object(&client.user_add(&request).await?)
        }
        UserCommand::List => printer.list(&client.user_list().await?),
        UserCommand::Info(Named { name }) => printer.object(&client.user_get(parse::user(&name)?).await?),
        UserCommand::Update(args) => update(args, client, global, printer).await,
        UserCommand::Quota(args) => {
            let request = UserUpdateRequest { quota: args.limits.change(), ..UserUpdateRequest::default() };
            printer.object(&client.user_update(parse::user(&args.name)?, &request).await?)
        }
        UserCommand::Delete(args) => delete(&args, client, printer).await,
    }
}

async fn update(args: UpdateArgs, client: &Client, global: &Global, printer: &Printer) -> Result<()> {
    let name = parse::user(&args.name)?;
    let (mut password, mut current_password) = (String::new(), String::new());
    if args.passwd || args.passwd_stdin {
        if client.session_get().await?.username == name {
            current_password = access::password(global, name)?;
        }
        password = new_password(name, args.passwd_stdin)?;
    }
    let request = UserUpdateRequest {
        password,
        current_password,
        role: args.role.map(|role| role.to_string()).unwrap_or_default(),
        add_groups: args.add_group,
        remove_groups: args.rm_group,
        quota: QuotaChange::default(),
    };
    printer.object(&client.user_update(name, &request).await?)
}

async fn delete(args: &DeleteArgs, client: &Client, printer: &Printer) -> Result<()> {
    let name = parse::user(&args.name)?;
    if !args.force {
        let jobs = if args.cancel_jobs { " and cancel its jobs" } else { "" };
        confirm(&format!("delete user {name}{jobs}?"))?;
    }
    if args.cancel_jobs {
        client.user_delete_with_jobs(name).await?;
    } else {
        client.user_delete(name).await?;
    }
    printer.note(&format!("user {name} deleted"));
    Ok(())
}

fn role() -> impl TypedValueParser<Value = Role> {
    one_of(Role::ALL.map(Role::name))
}

/// Reads a new password from the first line of stdin, or twice from the terminal.
fn new_password(name: &str, from_stdin: bool) -> Result<String> {
    if from_stdin {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("can't read the password from stdin")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    if !io::stdin().is_terminal() {
        return Err(Local::new(
            "no terminal to ask for the password",
            "give the password on stdin with `--passwd-stdin`",
        )
        .into());
    }
    let ask = |prompt: String| rpassword::prompt_password(prompt).context("can't read the password");
    let password = ask(format!("new password of {name}: "))?;
    if ask(format!("new password of {name}, again: "))? != password {
        return Err(Local::new("the two passwords differ; nothing changed", "run the command again").into());
    }
    Ok(password)
}
