//! `float hosts`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{DrainRequest, HostRemoval, HostStatus, HostView, JoinTokenRequest};
use mooring_types::duration::{format_duration, parse_duration};
use mooring_types::host::Capability;
use mooring_types::{Clock, JoinTokenId, Name, Reference, SystemClock};

use super::wait::Follow;
use crate::parse;
use crate::printer::Printer;

/// The wait of `--wait` beyond the drain's time limit for jobs that are on their way into the
/// capsule store. It ends where a job is hindered to leave.
const DRAIN_GRACE: Duration = Duration::from_secs(60);

/// The arguments of `float hosts`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float hosts -F table
  float hosts drain host-1 --within 2m --wait
  float hosts undrain host-1
  float hosts token create host-3 --ttl 30m
  float hosts remove host-1")]
pub(crate) struct HostsArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

/// The subcommands of `float hosts`.
#[derive(Debug, Subcommand)]
enum Action {
    /// migrate all jobs off a host and place no new ones (admins)
    Drain(DrainArgs),
    /// let a host take jobs again (admins)
    Undrain(UndrainArgs),
    /// let a host that lost its state directory join again (admins)
    Rejoin(RejoinArgs),
    /// remove a host that has no jobs and gateways, or is lost (admins)
    Remove(RemoveArgs),
    /// tokens with which hosts join (admins)
    #[command(
        subcommand,
        after_help = "\
Examples:
  float hosts token create host-3 --ttl 10m
  float hosts token list -F table"
    )]
    Token(TokenCommand),
}

/// The subcommands of `float hosts token`.
#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// make a token, and print the commands that make a machine a host with it
    Create(TokenCreateArgs),
    /// list the tokens that have not been used
    #[command(after_help = "\
Example:
  float hosts token list -F table")]
    List,
    /// revoke a token
    #[command(after_help = "\
Example:
  float hosts token delete t-4k2m9x7c1b8v5n3z6q0wd")]
    Delete(TokenDeleteArgs),
}

/// The arguments of `float hosts token create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float hosts token create host-3
  float hosts token create --ttl 10m | ssh root@new-host bash

A token is good for one host. A host that has joined needs none afterwards: it has a key of its own.")]
struct TokenCreateArgs {
    /// name that the host has to have [default: any]
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// time for which the token is good, at most 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    ttl: Duration,
}

/// The arguments of `float hosts token delete`.
#[derive(Debug, Args)]
struct TokenDeleteArgs {
    /// id of the token
    #[arg(value_name = "ID")]
    id: JoinTokenId,
}

/// The arguments of `float hosts remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float hosts drain host-1 --wait && float hosts remove host-1
  float hosts remove host-1 --lost

The agent is not let in again without a new join token. Its name is free.
With --lost, jobs with a snapshot are recovered on other hosts, the other jobs end, and the gateways of the host are
destroyed. A machine that runs on nevertheless goes on with jobs that have no snapshot: shut it down before.")]
struct RemoveArgs {
    /// host, by name or id
    #[arg(value_name = "NAME")]
    host: String,
    /// the machine is gone for ever: remove the host with its jobs and gateways
    #[arg(long)]
    lost: bool,
}

/// The arguments of `float hosts drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float hosts drain host-1 --dry-run -F table
  float hosts drain host-1 --within 2m --wait

Jobs migrate to other hosts, the largest first; clients stay connected. A job is suspended when no host has room
or the time runs out. Gateways stay on the host.")]
struct DrainArgs {
    /// host, by name or id
    #[arg(value_name = "NAME")]
    host: String,
    /// time limit, for example 2m [default: none]
    #[arg(long, value_name = "TIME", value_parser = time)]
    within: Option<Duration>,
    /// wait until no job is left on the host
    #[arg(long)]
    wait: bool,
    /// only print what would hinder its jobs to leave
    #[arg(long, conflicts_with_all = ["within", "wait"])]
    dry_run: bool,
}

/// The arguments of `float hosts undrain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float hosts undrain host-1

Jobs that the drain suspended are resumed. Jobs that migrated stay where they are.")]
struct UndrainArgs {
    /// host, by name or id
    #[arg(value_name = "NAME")]
    host: String,
}

/// The arguments of `float hosts rejoin`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float hosts rejoin host-1

A host proves with a key in its state directory that it is the host of its name. Where the directory is lost, this
lets the next agent with a join token take the name, with a new key.")]
struct RejoinArgs {
    /// the host, by name or id
    #[arg(value_name = "NAME")]
    host: String,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Lists the hosts, or drains or undrains one.
pub(crate) async fn hosts(args: HostsArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.action {
        None => list(client, printer).await,
        Some(Action::Drain(args)) => drain(args, client, printer).await,
        Some(Action::Undrain(args)) => printer.object(&client.host_undrain(&parse::host(&args.host)?).await?),
        Some(Action::Remove(args)) => {
            client.host_remove(&parse::host(&args.host)?, HostRemoval { lost: args.lost }).await?;
            printer.note(&format!("host {} removed", args.host));
            Ok(())
        }
        Some(Action::Token(command)) => token(command, client, printer).await,
        Some(Action::Rejoin(args)) => printer.object(&client.host_rejoin(&parse::host(&args.host)?).await?),
    }
}

async fn token(command: TokenCommand, client: &Client, printer: &Printer) -> Result<()> {
    match command {
        TokenCommand::Create(args) => {
            let request = JoinTokenRequest {
                name: args.name.as_ref().map_or_else(String::new, Name::to_string),
                ttl: format_duration(args.ttl),
                opcenter: client.address().to_owned(),
            };
            let made = client.join_token_create(&request).await?;
            printer.note(&format!(
                "join token {} is good for one host until {}",
                made.join_token.id, made.join_token.expires_at
            ));
            printer.line(&made.command)
        }
        TokenCommand::List => printer.list(&client.join_token_list().await?),
        TokenCommand::Delete(args) => {
            client.join_token_delete(&args.id).await?;
            printer.note(&format!("join token {} revoked", args.id));
            Ok(())
        }
    }
}

async fn list(client: &Client, printer: &Printer) -> Result<()> {
    let hosts = client.host_list().await?;
    printer.list(&hosts)?;
    for (capability, names) in lacking(&hosts) {
        printer.note_below_table(&format!(
            "{capability} is lacking on {}: {}",
            names.join(", "),
            capability.prevents()
        ));
    }
    for host in &hosts {
        for problem in &host.problems {
            printer.note_below_table(&format!("{}: {problem}", host.name));
        }
        for job in jobs_left(host) {
            printer.note_below_table(&format!("{}: {job}", host.name));
        }
        if let Some(drain) = host.drain.as_ref().filter(|drain| !drain.gateways.is_empty()) {
            printer.note_below_table(&format!("{}: gateways stay: {}", host.name, drain.gateways.join(", ")));
        }
    }
    Ok(())
}

/// Returns the capabilities that agents lack, each with the names of their hosts.
fn lacking(hosts: &[HostView]) -> Vec<(Capability, Vec<&str>)> {
    let mut lacking: Vec<(Capability, Vec<&str>)> = Vec::new();
    for (capability, name) in hosts.iter().flat_map(|host| host.lacks.iter().map(|lacks| (*lacks, host.name.as_str())))
    {
        match lacking.iter_mut().find(|(known, _)| *known == capability) {
            Some((_, names)) => names.push(name),
            None => lacking.push((capability, vec![name])),
        }
    }
    lacking
}

async fn drain(args: DrainArgs, client: &Client, printer: &Printer) -> Result<()> {
    if args.dry_run {
        return printer.list(&client.host_findings(&parse::host(&args.host)?).await?);
    }
    let within = args.within.map(format_duration).unwrap_or_default();
    let answer = client.host_drain(&parse::host(&args.host)?, &DrainRequest { within }).await?;
    printer.accepted("Drain request has been submitted")?;
    if !answer.gateways.is_empty() {
        let (host, gateways) = (&answer.host.name, answer.gateways.join(", "));
        printer.note(&format!("gateways stay on {host}: {gateways}"));
    }
    let host = if args.wait { wait(args.within, answer.host, client, printer).await? } else { answer.host };
    printer.object(&host)
}

/// Tells of each job on a drained host what it does, or what hinders it to leave.
fn jobs_left(host: &HostView) -> Vec<String> {
    let (now, jobs) = (SystemClock.now(), host.drain.iter().flat_map(|drain| &drain.jobs));
    jobs.map(|job| job.told(now)).collect()
}

/// Tells of each job that something hinders to leave a drained host.
fn jobs_hindered(host: &HostView) -> Vec<String> {
    let (now, jobs) = (SystemClock.now(), host.drain.iter().flat_map(|drain| &drain.jobs));
    jobs.filter(|job| !job.leaves).map(|job| job.told(now)).collect()
}

/// Tells the number of jobs that are left on a host, and their names.
fn left(host: &HostView) -> String {
    let jobs = host.drain.iter().flat_map(|drain| &drain.jobs);
    let names: Vec<&str> = jobs.map(|job| job.job_name.as_str()).collect();
    match (host.jobs, names.as_slice()) {
        (0, _) => format!("no job is left on host {}", host.name),
        (1, names) => format!("1 job is left on host {}: {}", host.name, names.join(", ")),
        (count, names) => format!("{count} jobs are left on host {}: {}", host.name, names.join(", ")),
    }
}

/// Tells what is left at the end of a drain's time, with a line for each job.
fn left_at_the_end(host: &HostView) -> String {
    let jobs = jobs_left(host).into_iter().map(|job| format!("\n  {job}"));
    format!("the time is over, and {}{}\nthe drain goes on", left(host), jobs.collect::<String>())
}

/// The parts of a drain that are told when they change.
fn told_again(host: &HostView) -> Vec<(String, String, u32)> {
    let jobs = host.drain.iter().flat_map(|drain| &drain.jobs);
    let hindered = jobs.filter(|job| !job.leaves);
    hindered.map(|job| (job.job_id.to_string(), job.reason.clone(), job.tries)).collect()
}

/// Waits until a host is drained.
async fn wait(within: Option<Duration>, mut host: HostView, client: &Client, printer: &Printer) -> Result<HostView> {
    let id = Reference::from(host.id.clone());
    let mut follow = Follow::new(async || client.host_watch(&id).await);
    let (mut deadline, mut grace) = (within.map(|within| Instant::now() + within), within.map(|_| DRAIN_GRACE));
    let (mut shown, mut hindered) = (None, Vec::new());
    loop {
        match host.status {
            HostStatus::Drained => return Ok(host),
            _ if host.drain.is_none() => bail!("the drain of host {} was ended", host.name),
            _ => {}
        }
        if shown != Some(host.jobs) {
            shown = Some(host.jobs);
            printer.note(&left(&host));
        }
        let now_hindered = told_again(&host);
        if hindered != now_hindered {
            hindered = now_hindered;
            jobs_hindered(&host).iter().for_each(|job| printer.note(job));
        }
        if within.is_some() && grace.is_none() && !hindered.is_empty() {
            bail!("{}", left_at_the_end(&host));
        }
        let next = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), follow.next()).await,
            None => Ok(follow.next().await),
        };
        host = match next {
            Ok(view) => view?,
            // The last jobs may still be on their way.
            Err(_) => match grace.take().filter(|_| hindered.is_empty()) {
                Some(grace) => {
                    deadline = Some(Instant::now() + grace);
                    continue;
                }
                None => bail!("{}", left_at_the_end(&host)),
            },
        };
    }
}
