//! `float hosts`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use mooring_api::view::{DrainRequest, HostView};
use mooring_api::{Client, ClientError};
use mooring_types::duration::{format_duration, parse_duration};

use crate::printer::Printer;

/// How often a drain is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long OpCenter may be away meanwhile.
const AWAY_LIMIT: Duration = Duration::from_secs(60);
/// How long after its time a drain is still waited for: what is left then may be on its way into the capsule store.
const LATE_LIMIT: Duration = Duration::from_secs(60);

/// What `float hosts` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float hosts -F table
  float hosts drain host-1 --within 2m --wait
  float hosts undrain host-1
  float hosts rejoin host-1")]
pub(crate) struct HostsArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

/// What is done with a host.
#[derive(Debug, Subcommand)]
enum Action {
    /// have all jobs leave a host, and no new ones come (admins)
    Drain(DrainArgs),
    /// have a host take jobs again (admins)
    Undrain(UndrainArgs),
    /// let a host that lost its state directory join again (admins)
    Rejoin(RejoinArgs),
}

/// What `float hosts drain` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float hosts drain host-1 --within 2m --wait

Jobs are moved to other hosts, the largest first; their users stay connected. What no host has room for, or can't be moved in
time, is suspended. Gateways on the host stay.")]
struct DrainArgs {
    /// the host, by name or id
    #[arg(value_name = "NAME")]
    host: String,
    /// within how much time, like 2m [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = time)]
    within: Option<Duration>,
    /// wait until no job is left on it
    #[arg(long)]
    wait: bool,
}

/// What `float hosts undrain` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float hosts undrain host-1

What it drove into the capsule store for want of another host is resumed; what was moved stays where it is.")]
struct UndrainArgs {
    /// the host, by name or id
    #[arg(value_name = "NAME")]
    host: String,
}

/// The arguments of `float hosts rejoin`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float hosts rejoin host-1

A host proves with a key in its state directory that it is the host of its name. Where the directory is lost, this
lets the next agent with the join token take the name, with a new key.")]
struct RejoinArgs {
    /// the host, by name or id
    #[arg(value_name = "NAME")]
    host: String,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Lists the hosts, or does something with one.
pub(crate) async fn hosts(args: HostsArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.action {
        None => printer.list(&client.host_list().await?),
        Some(Action::Drain(args)) => drain(args, client, printer).await,
        Some(Action::Undrain(args)) => printer.object(&client.host_undrain(&args.host).await?),
        Some(Action::Rejoin(args)) => printer.object(&client.host_rejoin(&args.host).await?),
    }
}

async fn drain(args: DrainArgs, client: &Client, printer: &Printer) -> Result<()> {
    let within = args.within.map(format_duration).unwrap_or_default();
    let answer = client.host_drain(&args.host, &DrainRequest { within }).await?;
    printer.accepted("Drain request has been submitted")?;
    if !answer.gateways.is_empty() {
        let (host, gateways) = (&answer.host.name, answer.gateways.join(", "));
        printer.note(&format!("gateways are not drained; these stay on {host}: {gateways}"));
    }
    let host = if args.wait { wait(args.within, answer.host, client, printer).await? } else { answer.host };
    printer.object(&host)
}

/// Waits until a host is drained.
async fn wait(within: Option<Duration>, mut host: HostView, client: &Client, printer: &Printer) -> Result<HostView> {
    let (began, mut said) = (Instant::now(), None);
    loop {
        match host.status.as_str() {
            "drained" => return Ok(host),
            _ if host.drain.is_none() => bail!("the drain of {} was ended", host.name),
            _ => {}
        }
        if said != Some(host.jobs) {
            said = Some(host.jobs);
            printer.note(&format!("{} jobs are left on {}", host.jobs, host.name));
        }
        if within.is_some_and(|within| began.elapsed() > within + LATE_LIMIT) {
            bail!("{} jobs are left on {}, which is {}", host.jobs, host.name, host.status);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        host = look(client, &host).await?;
    }
}

/// Looks at the host, past a restart of OpCenter's.
async fn look(client: &Client, host: &HostView) -> Result<HostView> {
    let began = Instant::now();
    loop {
        match client.host_list().await {
            Ok(hosts) => match hosts.into_iter().find(|known| known.id == host.id) {
                Some(host) => return Ok(host),
                None => bail!("host {} is gone", host.name),
            },
            Err(error) if may_pass(&error) && began.elapsed() < AWAY_LIMIT => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) => return Err(error.into()),
        }
    }
}

fn may_pass(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. }) || error.code().is_some_and(|code| code.is_retryable())
}
