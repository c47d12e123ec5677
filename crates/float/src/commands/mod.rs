//! The commands, a module for each noun.
//!
//! A command gets an authenticated client and a [`Printer`]. It parses all arguments before it
//! sends a request. Records that it prints are OpCenter's answers.

mod accepted_flags;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod check;
pub(crate) mod external;
pub(crate) mod gateway;
pub(crate) mod group;
pub(crate) mod host;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod migrate;
pub(crate) mod program;
mod quota;
pub(crate) mod release;
pub(crate) mod secret;
pub(crate) mod security_group;
pub(crate) mod session;
pub(crate) mod setting;
mod submission_flags;
pub(crate) mod submit;
pub(crate) mod suspend;
pub(crate) mod template;
pub(crate) mod token;
pub(crate) mod user;
mod wait;
pub(crate) mod web;
pub(crate) mod which_job;

use anyhow::Result;
use mooring_api::Client;

pub(crate) use submission_flags::refused;

use crate::access::Access;
use crate::cli::Command;
use crate::global::Global;
use crate::printer::Printer;

/// Runs a command that calls OpCenter.
pub(crate) async fn run(command: Command, global: &Global, printer: &Printer) -> Result<()> {
    match command {
        Command::Login(args) => auth::login(args, global, printer).await,
        Command::Logout => auth::logout(global, printer).await,
        Command::Version => program::version(global, printer).await,
        Command::License { .. } => program::license(printer),
        Command::Release(args) => release::release(args, global, printer).await,
        Command::Web(args) => web::web(args, global, printer).await,
        command => {
            let access = Access::open(global).await?;
            let outcome = run_logged_in(command, global, access.client(), printer).await;
            access.close().await;
            outcome
        }
    }
}

async fn run_logged_in(command: Command, global: &Global, client: &Client, printer: &Printer) -> Result<()> {
    match command {
        Command::Submit(args) => submit::submit(*args, client, printer).await,
        Command::List(args) => job::list(&args, client, printer).await,
        Command::Show(args) => job::show(&args, client, printer).await,
        Command::Check(args) => check::check(&args, client, printer).await,
        Command::Modify(args) => job::modify(args, client, printer).await,
        Command::Rerun(args) => submit::rerun(args, client, printer).await,
        Command::Migrate(args) => migrate::migrate(args, client, printer).await,
        Command::Suspend(args) => suspend::suspend(args, client, printer).await,
        Command::Resume(args) => suspend::resume(args, client, printer).await,
        Command::Snapshot(args) => suspend::snapshot(args, client, printer).await,
        Command::Cancel(args) => job::cancel(&args, client, printer).await,
        Command::Log(args) => log::log(args, client, printer).await,
        Command::Metrics(args) => metrics::metrics(&args, client, printer).await,
        Command::Top(args) => metrics::top(&args, client, printer).await,
        Command::Df(args) => metrics::df(&args, client, printer).await,
        Command::Status => program::status(client, printer).await,
        Command::Hosts(args) => host::hosts(args, client, printer).await,
        Command::Job(args) => external::run(args, client, printer).await,
        Command::Gateway(args) => gateway::gateway(args, client, printer).await,
        Command::SecurityGroup(args) => security_group::security_group(args, client, printer).await,
        Command::Template(args) => template::template(args, client, printer).await,
        Command::Secret(args) => secret::secret(args, client, printer).await,
        Command::User(args) => user::user(args, client, global, printer).await,
        Command::Group(args) => group::group(args, client, printer).await,
        Command::Session(args) => session::session(args, client, printer).await,
        Command::Token(args) => token::token(args, client, printer).await,
        Command::Key(args) => key::key(args, client, printer).await,
        Command::Audit(args) => audit::audit(args, client, printer).await,
        Command::Settings => setting::settings(client, printer).await,
        Command::Login(_)
        | Command::Logout
        | Command::Version
        | Command::License { .. }
        | Command::Release(_)
        | Command::Web(_)
        | Command::Server(_)
        | Command::Up(_)
        | Command::Completion { .. }
        | Command::Monitor { .. }
        | Command::CriuHook { .. } => unreachable!("handled by `main` and `run`"),
    }
}
