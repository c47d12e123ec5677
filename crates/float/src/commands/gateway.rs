//! `float gateway`.

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{ConnectRequest, GatewayCreateRequest, GatewayView};

use crate::confirm::confirm;
use crate::error::invalid;
use crate::parse;
use crate::printer::Printer;

/// What `float gateway` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway create -n lab --portRange 10000:10500
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol
  float gateway info -g lab

A gateway has one address and keeps it. Each connected port of a job gets one of its ports and keeps that, whatever
host the job is on.")]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// create a gateway
    Create(CreateArgs),
    /// list gateways
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float gateway list -F table")]
    List,
    /// show a gateway with its connections and their clients
    #[command(after_help = "\
Example:
  float gateway info -g lab")]
    Info {
        /// the gateway, by id or name
        #[arg(short, long, value_name = "GATEWAY")]
        gateway: String,
    },
    /// connect published ports of a job, all of those named or none
    Connect(ConnectArgs),
    /// disconnect a job, or one port of it; its clients are cut off
    Disconnect(DisconnectArgs),
    /// destroy a gateway; its jobs go on
    Destroy(DestroyArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float gateway create -n lab -c 1 -m 1 --portRange 10000:10500")]
struct CreateArgs {
    /// its name, 1 to 63 letters, digits, `.`, `_` or `-`
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// least cores [default: 1]
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// least memory in GB [default: 1]
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
    /// the ports that it gives to connections, within 1000 and 65535 [default: 10000:10500]
    #[arg(long = "portRange", value_name = "MIN:MAX")]
    port_range: Option<String>,
    #[arg(long = "securityGroup", value_name = "GROUP", hide = true)]
    security_group: Vec<String>,
    #[arg(long = "noPublicIP", hide = true)]
    no_public_ip: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol --targetPort 8888 --targetPort 6006

Prints the new connections; `accessUrl` is what one pastes into a browser.")]
struct ConnectArgs {
    /// the gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// a port that the job publishes; repeatable [default: all that it publishes]
    #[arg(long = "targetPort", value_name = "PORT")]
    target_port: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float gateway disconnect -g lab -j uqaj8l6a407u88v0106ol --targetPort 6006")]
struct DisconnectArgs {
    /// the gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// the port to disconnect [default: all of the job]
    #[arg(long = "targetPort", value_name = "PORT")]
    target_port: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway destroy -g lab                       names the connected jobs and asks
  float gateway destroy -g lab -f")]
struct DestroyArgs {
    /// the gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    /// don't ask
    #[arg(short, long)]
    force: bool,
}

/// Runs a command about gateways.
pub(crate) async fn gateway(args: GatewayArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        GatewayCommand::Create(args) => printer.object(&client.gateway_create(&args.request()?).await?),
        GatewayCommand::List => printer.list(&client.gateway_list().await?),
        GatewayCommand::Info { gateway } => printer.object(&client.gateway_get(parse::gateway(&gateway)?).await?),
        GatewayCommand::Connect(args) => connect(args, client, printer).await,
        GatewayCommand::Disconnect(args) => disconnect(&args, client, printer).await,
        GatewayCommand::Destroy(args) => destroy(&args, client, printer).await,
    }
}

impl CreateArgs {
    fn request(self) -> Result<GatewayCreateRequest> {
        if !self.security_group.is_empty() {
            return Err(invalid("security groups are not there yet", "leave out `--securityGroup`"));
        }
        if self.no_public_ip {
            return Err(invalid("gateways without a public address are not there yet", "leave out `--noPublicIP`"));
        }
        Ok(GatewayCreateRequest {
            name: self.name,
            cpu: self.cpu.as_deref().map(parse::cores).transpose()?,
            mem_gb: self.mem.as_deref().map(parse::memory).transpose()?,
            port_range: self.port_range.unwrap_or_default(),
        })
    }
}

async fn connect(args: ConnectArgs, client: &Client, printer: &Printer) -> Result<()> {
    let (gateway, job) = (parse::gateway(&args.gateway)?, parse::job_id(&args.job)?);
    let request = ConnectRequest { job_id: job.to_string(), target_ports: parse::ports(&args.target_port)? };
    printer.list(&client.gateway_connect(gateway, &request).await?)
}

async fn disconnect(args: &DisconnectArgs, client: &Client, printer: &Printer) -> Result<()> {
    let (gateway, job) = (parse::gateway(&args.gateway)?, parse::job_id(&args.job)?);
    let port = args.target_port.as_deref().map(parse::port).transpose()?;
    client.gateway_disconnect(gateway, job.as_str(), port).await?;
    printer.note(&match port {
        Some(port) => format!("port {port} of job {job} is disconnected from gateway {gateway}"),
        None => format!("job {job} is disconnected from gateway {gateway}"),
    });
    Ok(())
}

async fn destroy(args: &DestroyArgs, client: &Client, printer: &Printer) -> Result<()> {
    let name = parse::gateway(&args.gateway)?;
    let gateway = client.gateway_get(name).await?;
    if !args.force {
        confirm(&question(&gateway))?;
    }
    client.gateway_destroy(gateway.id.as_str()).await?;
    printer.note(&format!("gateway {} is destroyed", gateway.name));
    Ok(())
}

/// Names whom it would hurt.
fn question(gateway: &GatewayView) -> String {
    let mut jobs: Vec<String> =
        gateway.connections.iter().map(|known| format!("{} ({})", known.job_name, known.job_id)).collect();
    jobs.dedup();
    let connected = match jobs.as_slice() {
        [] => "no job is connected".to_owned(),
        jobs => format!("connected: {}", jobs.join(", ")),
    };
    format!("destroy gateway {} ({}); {connected}?", gateway.name, gateway.id)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::samples;

    fn create(line: &str) -> Result<GatewayCreateRequest> {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Gateway(GatewayArgs { command: GatewayCommand::Create(args) }) => args.request(),
            _ => panic!("not gateway create"),
        }
    }

    #[test]
    fn create_passes_the_range_on_as_it_is() {
        let request = create("float gateway create -n lab -c 2 -m 4 --portRange 10000:10100").unwrap();
        assert_eq!((request.name.as_str(), request.port_range.as_str()), ("lab", "10000:10100"));
        assert_eq!((request.cpu, request.mem_gb), (Some(2), Some(4.0)));
    }

    #[test]
    fn what_is_not_there_yet_is_refused_and_not_ignored() {
        assert!(create("float gateway create -n lab --securityGroup sg-1").is_err());
        assert!(create("float gateway create -n lab --noPublicIP").is_err());
    }

    #[test]
    fn the_question_names_the_connected_jobs() {
        let mut gateway = samples::gateway();
        assert_eq!(
            question(&gateway),
            "destroy gateway lab (g-sidlpgb7oi9p48kxycpmn); connected: notebook (uqaj8l6a407u88v0106ol)?"
        );
        gateway.connections.clear();
        assert_eq!(question(&gateway), "destroy gateway lab (g-sidlpgb7oi9p48kxycpmn); no job is connected?");
    }
}
