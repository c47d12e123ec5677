//! `float user`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use mooring_api::Client;
use mooring_api::view::{UserAddRequest, UserUpdateRequest};

use crate::access;
use crate::cli::Global;
use crate::confirm::confirm;
use crate::error::Local;
use crate::parse;
use crate::printer::Printer;

/// What `float user` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
An admin may do everything. A user sees and acts on what is its own, sees the jobs of the members of its
groups, and uses all gateways, security groups and public templates.")]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// add a user
    Add(AddArgs),
    /// list users; who is no admin sees itself
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
    /// delete a user, with its sessions, secrets and private templates
    Delete(DeleteArgs),
}

/// The roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    Admin,
    User,
}

#[derive(Debug, Args)]
struct Named {
    /// the user
    name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float user add alice                               asks for the password twice
  float user add bob --group lab --passwd-stdin < bobs-password
  float user add carol --role admin")]
struct AddArgs {
    /// its name, 1 to 63 letters, digits, `.`, `_` or `-`
    name: String,
    /// read the password from stdin's first line, in place of asking for it
    #[arg(long)]
    passwd_stdin: bool,
    /// what it may do
    #[arg(long, value_enum, default_value = "user")]
    role: RoleName,
    /// a group to be in; repeatable
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float user update alice --passwd                   asks for the new password twice
  float user update alice --role admin
  float user update alice --addGroup lab --rmGroup students

A new password ends all sessions of the user. Whoever changes one's own password gives the one in force as well,
with `-p`, in $MOORING_PASSWORD, or when asked.")]
struct UpdateArgs {
    /// the user
    name: String,
    /// change the password
    #[arg(long)]
    passwd: bool,
    /// change the password to stdin's first line
    #[arg(long, conflicts_with = "passwd")]
    passwd_stdin: bool,
    /// what it may do from now on
    #[arg(long, value_enum)]
    role: Option<RoleName>,
    /// a group to be in; repeatable
    #[arg(long = "addGroup", value_name = "GROUP")]
    add_group: Vec<String>,
    /// a group to be in no more; repeatable
    #[arg(long = "rmGroup", value_name = "GROUP")]
    rm_group: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float user delete alice                            asks first
  float user delete alice -f --cancelJobs

Its jobs stay in the list under its name; so do its gateways, security groups and public templates.")]
struct DeleteArgs {
    /// the user
    name: String,
    /// cancel its jobs; while one has not ended, it is not deleted otherwise
    #[arg(long = "cancelJobs")]
    cancel_jobs: bool,
    /// don't ask
    #[arg(short, long)]
    force: bool,
}

/// Runs a command about users.
pub(crate) async fn user(args: UserArgs, client: &Client, global: &Global, printer: &Printer) -> Result<()> {
    match args.command {
        UserCommand::Add(args) => {
            let request = UserAddRequest {
                password: new_password(&args.name, args.passwd_stdin)?,
                name: args.name,
                role: args.role.text(),
                groups: args.group,
            };
            printer.object(&client.user_add(&request).await?)
        }
        UserCommand::List => printer.list(&client.user_list().await?),
        UserCommand::Info(Named { name }) => printer.object(&client.user_get(parse::user(&name)?).await?),
        UserCommand::Update(args) => update(args, client, global, printer).await,
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
        role: args.role.map(RoleName::text).unwrap_or_default(),
        add_groups: args.add_group,
        remove_groups: args.rm_group,
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
    printer.note(&format!("user {name} is deleted"));
    Ok(())
}

impl RoleName {
    fn text(self) -> String {
        match self {
            Self::Admin => "admin".into(),
            Self::User => "user".into(),
        }
    }
}

/// A new password: stdin's first line, or what is typed twice.
fn new_password(name: &str, from_stdin: bool) -> Result<String> {
    if from_stdin {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("can't read the password from stdin")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    if !io::stdin().is_terminal() {
        return Err(Local::new("no terminal to ask for the password", "give it on stdin with `--passwd-stdin`").into());
    }
    let ask = |prompt: String| rpassword::prompt_password(prompt).context("can't read the password");
    let password = ask(format!("new password of {name}: "))?;
    if ask(format!("new password of {name}, again: "))? != password {
        return Err(Local::new("the two passwords differ, nothing was changed", "try again").into());
    }
    Ok(password)
}
