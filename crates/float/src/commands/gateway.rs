//! `float gateway`.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use mooring_api::Client;
use mooring_api::view::{ConnectRequest, GatewayCreateRequest, GatewayModifyRequest, GatewayView};
use mooring_types::gateway::{Protocol, Widget};

use crate::confirm::confirm;
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
    /// change a gateway; no connection is touched that stays allowed
    Modify(ModifyArgs),
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
    /// replace a gateway's process, by the program that its host has now; no connection is touched
    #[command(after_help = "\
Example:
  float gateway restart -g lab

Prints the gateway. The new process takes over the ports, and the old one keeps its connections until they end.")]
    Restart {
        /// the gateway, by id or name
        #[arg(short, long, value_name = "GATEWAY")]
        gateway: String,
    },
    /// destroy a gateway; its jobs go on
    Destroy(DestroyArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float gateway create -n lab -c 1 -m 1 --portRange 10000:10500 --securityGroup campus")]
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
    /// who may connect, by id or name; repeatable [default: default]
    #[arg(long = "securityGroup", value_name = "GROUP")]
    security_group: Vec<String>,
    /// listen on its host's private address alone
    #[arg(long = "noPublicIP")]
    no_public_ip: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway modify -g lab --addSecurityGroup campus --rmSecurityGroup default
  float gateway modify -g lab --portRange 10000:10999 -m 2

All of it is done, or nothing. A gateway without a security group lets nobody in.")]
struct ModifyArgs {
    /// the gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    /// a security group that it is to have, by id or name; repeatable
    #[arg(long = "addSecurityGroup", value_name = "GROUP")]
    add_security_group: Vec<String>,
    /// a security group that it is to have no more, by id or name; repeatable
    #[arg(long = "rmSecurityGroup", value_name = "GROUP")]
    rm_security_group: Vec<String>,
    /// the ports that it gives to connections; it has to hold those in use
    #[arg(long = "portRange", value_name = "MIN:MAX")]
    port_range: Option<String>,
    /// its new name
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// least cores
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// least memory in GB
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
}

/// How the bytes of a connected port are treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    /// decided by the first bytes of each client
    #[default]
    Auto,
    /// HTTP
    Http,
    /// bytes, whatever they are
    Tcp,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol --targetPort 8888 --targetPort 6006
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol --targetPort 22 --protocol tcp

While the job is away new requests wait for it: up to the hold limit, then they are answered with
503; a browser's page load gets a waiting page sooner.

Pages get a widget at the top right: the job's status, an alert while it can't answer, and,
after login, its details with migrate, suspend, resume and cancel.

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
    /// what is spoken there
    #[arg(long, value_enum, default_value_t)]
    protocol: ProtocolName,
    /// how long a new request waits for the job [default: 600]
    #[arg(long = "holdLimit", value_name = "SECONDS")]
    hold_limit: Option<u32>,
    /// how long a browser's page load waits before it gets the waiting page [default: 5]
    #[arg(long = "pagePatience", value_name = "SECONDS")]
    page_patience: Option<u32>,
    /// how many new requests may wait at a time [default: 10000]
    #[arg(long = "heldMax", value_name = "N")]
    held_max: Option<u32>,
    /// leave pages as the job sends them, without the widget
    #[arg(long = "noWidget")]
    no_widget: bool,
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
        GatewayCommand::Modify(args) => {
            let gateway = parse::gateway(&args.gateway)?;
            printer.object(&client.gateway_modify(gateway, &args.request()?).await?)
        }
        GatewayCommand::List => printer.list(&client.gateway_list().await?),
        GatewayCommand::Info { gateway } => printer.object(&client.gateway_get(parse::gateway(&gateway)?).await?),
        GatewayCommand::Connect(args) => {
            let gateway = parse::gateway(&args.gateway)?;
            printer.list(&client.gateway_connect(gateway, &args.request()?).await?)
        }
        GatewayCommand::Disconnect(args) => disconnect(&args, client, printer).await,
        GatewayCommand::Restart { gateway } => {
            printer.object(&client.gateway_restart(parse::gateway(&gateway)?).await?)
        }
        GatewayCommand::Destroy(args) => destroy(&args, client, printer).await,
    }
}

impl CreateArgs {
    fn request(self) -> Result<GatewayCreateRequest> {
        Ok(GatewayCreateRequest {
            name: self.name,
            cpu: self.cpu.as_deref().map(parse::cores).transpose()?,
            mem_gb: self.mem.as_deref().map(parse::memory).transpose()?,
            port_range: self.port_range.unwrap_or_default(),
            security_groups: self.security_group,
            no_public_ip: self.no_public_ip,
        })
    }
}

impl ModifyArgs {
    fn request(&self) -> Result<GatewayModifyRequest> {
        Ok(GatewayModifyRequest {
            name: self.name.clone().unwrap_or_default(),
            cpu: self.cpu.as_deref().map(parse::cores).transpose()?,
            mem_gb: self.mem.as_deref().map(parse::memory).transpose()?,
            port_range: self.port_range.clone().unwrap_or_default(),
            add_security_groups: self.add_security_group.clone(),
            remove_security_groups: self.rm_security_group.clone(),
        })
    }
}

impl ConnectArgs {
    fn request(&self) -> Result<ConnectRequest> {
        Ok(ConnectRequest {
            job_id: parse::job_id(&self.job)?.to_string(),
            target_ports: parse::ports(&self.target_port)?,
            protocol: match self.protocol {
                ProtocolName::Auto => Protocol::Auto,
                ProtocolName::Http => Protocol::Http,
                ProtocolName::Tcp => Protocol::Tcp,
            },
            hold_limit: self.hold_limit,
            page_patience: self.page_patience,
            held_max: self.held_max,
            widget: if self.no_widget { Widget::Hidden } else { Widget::Shown },
        })
    }
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
    let mut jobs: Vec<String> = Vec::new();
    for known in &gateway.connections {
        let job = format!("{} ({})", known.job_name, known.job_id);
        if !jobs.contains(&job) {
            jobs.push(job);
        }
    }
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

    fn read(line: &str) -> GatewayCommand {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Gateway(GatewayArgs { command }) => command,
            _ => panic!("not gateway"),
        }
    }

    fn create(line: &str) -> Result<GatewayCreateRequest> {
        let GatewayCommand::Create(args) = read(line) else { panic!("not gateway create") };
        args.request()
    }

    #[test]
    fn create_passes_the_range_on_as_it_is() {
        let request = create("float gateway create -n lab -c 2 -m 4 --portRange 10000:10100").unwrap();
        assert_eq!((request.name.as_str(), request.port_range.as_str()), ("lab", "10000:10100"));
        assert_eq!((request.cpu, request.mem_gb), (Some(2), Some(4.0)));
    }

    #[test]
    fn create_passes_groups_and_address_on() {
        let request = create("float gateway create -n lab --securityGroup sg-1 --securityGroup campus").unwrap();
        assert_eq!((request.security_groups, request.no_public_ip), (vec!["sg-1".into(), "campus".into()], false));
        assert!(create("float gateway create -n lab --noPublicIP").unwrap().no_public_ip);
    }

    #[test]
    fn modify_asks_for_what_was_given_alone() {
        let modify = |flags: &str| match read(&format!("float gateway modify -g lab{flags}")) {
            GatewayCommand::Modify(args) => args.request().unwrap(),
            _ => panic!("not gateway modify"),
        };
        assert_eq!(modify(""), GatewayModifyRequest::default());
        let all = GatewayModifyRequest {
            name: "new".into(),
            cpu: Some(2),
            mem_gb: Some(4.0),
            port_range: "1:2".into(),
            add_security_groups: vec!["a".into(), "b".into()],
            remove_security_groups: vec!["c".into()],
        };
        let flags = " --addSecurityGroup a --addSecurityGroup b --rmSecurityGroup c --portRange 1:2 -n new -c 2 -m 4";
        assert_eq!(modify(flags), all);
    }

    #[test]
    fn connect_waits_as_told() {
        let connect = |flags: &str| match read(&format!("float gateway connect -g lab -j uqaj8l6a407u88v0106ol{flags}"))
        {
            GatewayCommand::Connect(args) => args.request().unwrap(),
            _ => panic!("not gateway connect"),
        };
        let usual = ConnectRequest { job_id: "uqaj8l6a407u88v0106ol".into(), ..ConnectRequest::default() };
        assert_eq!(connect(""), usual);
        let told = ConnectRequest {
            target_ports: vec![22, 80],
            protocol: Protocol::Tcp,
            hold_limit: Some(60),
            page_patience: Some(0),
            held_max: Some(7),
            ..usual
        };
        let flags = " --targetPort 22 --targetPort 80 --protocol tcp --holdLimit 60 --pagePatience 0 --heldMax 7";
        assert_eq!(connect(flags), told);
    }

    #[test]
    fn the_question_names_the_connected_jobs() {
        let mut gateway = samples::gateway();
        let mut other = gateway.connections[0].clone();
        (other.job_name, other.job_id) = ("web".into(), "4bzixxwu6l5iocsqemd63".parse().unwrap());
        gateway.connections = vec![gateway.connections[0].clone(), other, gateway.connections[0].clone()];
        // Each job once, however many of its ports are connected.
        assert_eq!(
            question(&gateway),
            "destroy gateway lab (g-sidlpgb7oi9p48kxycpmn); connected: notebook (uqaj8l6a407u88v0106ol), \
             web (4bzixxwu6l5iocsqemd63)?"
        );
        gateway.connections.clear();
        assert_eq!(question(&gateway), "destroy gateway lab (g-sidlpgb7oi9p48kxycpmn); no job is connected?");
    }
}
