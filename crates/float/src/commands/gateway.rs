//! `float gateway`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{
    ConnectRequest, GatewayCertificateRequest, GatewayCreateRequest, GatewayModifyRequest, GatewayView,
};
use mooring_types::JobId;
use mooring_types::external::IpNet;
use mooring_types::gateway::{Access, Cookies, Protocol, Tls, WakeOn, Widget};

use super::which_job::WhichJob;
use crate::confirm::confirm;
use crate::parse;
use crate::printer::Printer;

/// The text that removes a value.
const NONE: &str = "none";

/// The arguments of `float gateway`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway create -n lab --portRange 10000:10500
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol
  float gateway info -g lab

The address of a gateway never changes. Each connected port of a job gets a gateway port and keeps it while the
job migrates between hosts.")]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// create a gateway
    Create(CreateArgs),
    /// change a gateway; connections that stay allowed are not interrupted
    Modify(ModifyArgs),
    /// list gateways
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float gateway list -F table")]
    List,
    /// show a gateway, its connections and their clients
    #[command(after_help = "\
Example:
  float gateway info -g lab")]
    Info {
        /// gateway, by id or name
        #[arg(short, long, value_name = "GATEWAY")]
        gateway: String,
    },
    /// connect published ports of a job; either all given ports or none
    Connect(ConnectArgs),
    /// disconnect a job or one of its ports; closes its client connections
    Disconnect(DisconnectArgs),
    /// set or remove certificates for a gateway's ports
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// restart a gateway's process with the binary on its host; connections stay open
    #[command(after_help = "\
Example:
  float gateway restart -g lab

Prints the gateway. The new process takes over the ports; the old process serves its connections until they end.")]
    Restart {
        /// gateway, by id or name
        #[arg(short, long, value_name = "GATEWAY")]
        gateway: String,
    },
    /// destroy a gateway; its jobs keep running
    Destroy(DestroyArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway create -n lab -c 1 -m 1 --portRange 10000:10500 --securityGroup campus
  float gateway create -n lab --trustedProxies 10.0.0.7 --externalUrl 'https://lab.org:{port}'

A proxy in front of the gateway is believed once it is trusted: by X-Forwarded-For, -Proto, -Host, -Port
and -Prefix, Forwarded, X-Real-IP, and the PROXY protocol. Its clients, and not the proxy, are then what
security groups judge. The guide has recipes for nginx, Caddy, Traefik and HAProxy.

`{port}` in the external URL stands for the gateway port, and access URLs begin with it. Without
`{port}` the URL stands for one port: the first of the range, or the only one that is connected.")]
struct CreateArgs {
    /// gateway name: 1 to 63 letters, digits, `.`, `_` or `-`
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// minimum cores [default: 1]
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// minimum memory in GB [default: 1]
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
    /// ports to assign to connections, within 1000 and 65535 [default: 10000:10500]
    #[arg(long = "portRange", value_name = "MIN:MAX")]
    port_range: Option<String>,
    /// security group that allows clients, by id or name; repeatable [default: default]
    #[arg(long = "securityGroup", value_name = "GROUP")]
    security_group: Vec<String>,
    /// listen on the private address of the host only
    #[arg(long = "noPublicIP")]
    no_public_ip: bool,
    /// TLS on every port, with a certificate of OpCenter's authority or your own
    #[arg(long, value_parser = parse::tls(), default_value_t)]
    tls: Tls,
    /// proxies in front of it, whose word about clients is believed; repeatable
    #[arg(long = "trustedProxies", value_name = "CIDR,...", value_delimiter = ',', value_parser = parse::address_range)]
    trusted_proxies: Vec<IpNet>,
    /// URL by which browsers reach it through them; `{port}` stands for the gateway port
    #[arg(long = "externalUrl", value_name = "URL")]
    external_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    /// give a gateway a certificate; one for the same first name is replaced
    #[command(after_help = "\
Example:
  float gateway certificate set -g lab --cert fullchain.pem --key privkey.pem

New client connections get it at once; open ones are not interrupted. With several certificates the
host name that a client asks for (SNI) decides. Clients that ask for a name that no certificate has
get the certificate of OpCenter's authority, if that has the name. The key is kept sealed and is told
to this gateway only.

Prints the gateway.")]
    Set {
        /// gateway, by id or name
        #[arg(short, long, value_name = "GATEWAY")]
        gateway: String,
        /// file with the certificate, and those between it and its root, in PEM
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// file with its key in PEM, without a passphrase
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// remove a certificate from a gateway
    #[command(after_help = "\
Example:
  float gateway certificate remove -g lab --host lab.example.org

Prints the gateway. `float gateway info` shows its certificates.")]
    Remove {
        /// gateway, by id or name
        #[arg(short, long, value_name = "GATEWAY")]
        gateway: String,
        /// first host name or address of the certificate
        #[arg(long, value_name = "NAME")]
        host: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway modify -g lab --addSecurityGroup campus --rmSecurityGroup default
  float gateway modify -g lab --portRange 10000:10999 -m 2
  float gateway modify -g lab --tls on
  float gateway modify -g lab --trustedProxies 10.0.0.7,10.0.1.0/24 --externalUrl https://lab.org
  float gateway modify -g lab --trustedProxies none --externalUrl none

`float gateway create --help` tells of proxies in front of a gateway.

Either all changes are made or none. A gateway without a security group refuses every client.")]
struct ModifyArgs {
    /// gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    /// security group to add, by id or name; repeatable
    #[arg(long = "addSecurityGroup", value_name = "GROUP")]
    add_security_group: Vec<String>,
    /// security group to remove, by id or name; repeatable
    #[arg(long = "rmSecurityGroup", value_name = "GROUP")]
    rm_security_group: Vec<String>,
    /// ports to assign to connections; must include those in use
    #[arg(long = "portRange", value_name = "MIN:MAX")]
    port_range: Option<String>,
    /// new name
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// minimum cores
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// minimum memory in GB
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
    /// TLS on every port; open connections stay as they are
    #[arg(long, value_parser = parse::tls())]
    tls: Option<Tls>,
    /// proxies in front of it, in place of those before, or `none`; their word about clients is
    /// believed
    #[arg(long = "trustedProxies", value_name = "CIDR,...", value_delimiter = ',', value_parser = parse::trusted_proxy)]
    trusted_proxies: Vec<Option<IpNet>>,
    /// URL by which browsers reach it through them, or `none`; `{port}` is the gateway port
    #[arg(long = "externalUrl", value_name = "URL")]
    external_url: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol --targetPort 8888 --targetPort 6006
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol --targetPort 22 --protocol tcp
  float gateway connect -g lab -j uqaj8l6a407u88v0106ol --access private --share ada --share grace

While the job does not execute, new requests wait up to the hold limit and then get 503. A browser's
page load gets a waiting page earlier.

HTML pages get a widget at the top right. It shows the job's status, an alert while the job can't
answer, and after a sign-in the job's details with migrate, suspend, resume and cancel.

With an access other than `open`, a browser is sent to OpCenter's login before a byte reaches the
job, and everything else is refused. With `link`, `accessUrl` has the link, which is shown once.

Prints the new connections; open `accessUrl` in a browser.")]
struct ConnectArgs {
    /// gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    #[command(flatten)]
    job: WhichJob,
    /// published port to connect; repeatable [default: all published ports]
    #[arg(long = "targetPort", value_name = "PORT")]
    target_port: Vec<String>,
    /// protocol that clients speak
    #[arg(long, value_parser = parse::protocol(), default_value_t)]
    protocol: Protocol,
    /// clients that wake the suspended job [default: as the job says]
    #[arg(long = "wakeOn", value_parser = parse::wake_on())]
    wake_on: Option<WakeOn>,
    /// longest wait of a new request for the job [default: 600]
    #[arg(long = "holdLimit", value_name = "SECONDS")]
    hold_limit: Option<u32>,
    /// wait of a browser's page load before it gets the waiting page [default: 5]
    #[arg(long = "pagePatience", value_name = "SECONDS")]
    page_patience: Option<u32>,
    /// maximum number of waiting requests [default: 10000]
    #[arg(long = "heldMax", value_name = "N")]
    held_max: Option<u32>,
    /// don't add the widget to HTML pages
    #[arg(long = "noWidget")]
    no_widget: bool,
    /// share the job's cookies with other jobs that share theirs, instead of keeping them apart
    #[arg(long = "sharedCookies")]
    shared_cookies: bool,
    /// users whom the connection lets in
    #[arg(long, value_parser = parse::access(), default_value_t)]
    access: Access,
    /// user who is let in as well, where the access takes a login; repeatable
    #[arg(long = "share", value_name = "USER")]
    shares: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float gateway disconnect -g lab -j uqaj8l6a407u88v0106ol --targetPort 6006")]
struct DisconnectArgs {
    /// gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    #[command(flatten)]
    job: WhichJob,
    /// port to disconnect [default: all ports of the job]
    #[arg(long = "targetPort", value_name = "PORT")]
    target_port: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float gateway destroy -g lab                       lists the connected jobs and asks
  float gateway destroy -g lab -f")]
struct DestroyArgs {
    /// gateway, by id or name
    #[arg(short, long, value_name = "GATEWAY")]
    gateway: String,
    /// skip the confirmation
    #[arg(short, long)]
    force: bool,
}

/// Runs a subcommand of `float gateway`.
pub(crate) async fn gateway(args: GatewayArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        GatewayCommand::Create(args) => printer.object(&client.gateway_create(&args.request()?).await?),
        GatewayCommand::Modify(args) => {
            let gateway = parse::gateway(&args.gateway)?;
            printer.object(&client.gateway_modify(&gateway, &args.request()?).await?)
        }
        GatewayCommand::List => printer.list(&client.gateway_list().await?),
        GatewayCommand::Info { gateway } => printer.object(&client.gateway_get(&parse::gateway(&gateway)?).await?),
        GatewayCommand::Connect(args) => {
            let gateway = parse::gateway(&args.gateway)?;
            let job = args.job.find(client).await?;
            printer.list(&client.gateway_connect(&gateway, &args.request(job)?).await?)
        }
        GatewayCommand::Certificate(command) => certificate(command, client, printer).await,
        GatewayCommand::Disconnect(args) => disconnect(&args, client, printer).await,
        GatewayCommand::Restart { gateway } => {
            printer.object(&client.gateway_restart(&parse::gateway(&gateway)?).await?)
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
            security_groups: parse::security_groups(&self.security_group)?,
            no_public_ip: self.no_public_ip,
            tls: self.tls,
            trusted_proxies: self.trusted_proxies,
            external_url: self.external_url.unwrap_or_default(),
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
            add_security_groups: parse::security_groups(&self.add_security_group)?,
            remove_security_groups: parse::security_groups(&self.rm_security_group)?,
            tls: self.tls,
            trusted_proxies: match self.trusted_proxies.as_slice() {
                [] => None,
                [None] => Some(Vec::new()),
                proxies if proxies.contains(&None) => bail!("`--trustedProxies` takes `none` alone"),
                proxies => Some(proxies.iter().copied().flatten().collect()),
            },
            external_url: self.external_url.as_deref().map(|url| if url == NONE { "" } else { url }.to_owned()),
        })
    }
}

impl ConnectArgs {
    fn request(&self, job_id: JobId) -> Result<ConnectRequest> {
        Ok(ConnectRequest {
            job_id,
            target_ports: parse::ports(&self.target_port)?,
            protocol: self.protocol,
            hold_limit: self.hold_limit,
            page_patience: self.page_patience,
            held_max: self.held_max,
            wake_on: self.wake_on,
            widget: if self.no_widget { Widget::Hidden } else { Widget::Shown },
            cookies: if self.shared_cookies { Cookies::Shared } else { Cookies::Own },
            access: self.access,
            shares: self.shares.clone(),
        })
    }
}

async fn certificate(command: CertificateCommand, client: &Client, printer: &Printer) -> Result<()> {
    let changed = match command {
        CertificateCommand::Set { gateway, cert, key } => {
            let request = GatewayCertificateRequest { certificate: text(&cert)?, key: text(&key)? };
            client.gateway_certificate_set(&parse::gateway(&gateway)?, &request).await?
        }
        CertificateCommand::Remove { gateway, host } => {
            client.gateway_certificate_remove(&parse::gateway(&gateway)?, &host).await?
        }
    };
    printer.object(&changed)?;
    if changed.tls == Tls::Off {
        printer
            .note(&format!("the ports of gateway {0} are plain; `float gateway modify -g {0} --tls on`", changed.name));
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

async fn disconnect(args: &DisconnectArgs, client: &Client, printer: &Printer) -> Result<()> {
    let (gateway, job) = (parse::gateway(&args.gateway)?, args.job.find(client).await?);
    let port = args.target_port.as_deref().map(parse::port).transpose()?;
    client.gateway_disconnect(&gateway, &job, port).await?;
    printer.note(&match port {
        Some(port) => format!("port {port} of job {job} disconnected from gateway {gateway}"),
        None => format!("job {job} disconnected from gateway {gateway}"),
    });
    Ok(())
}

async fn destroy(args: &DestroyArgs, client: &Client, printer: &Printer) -> Result<()> {
    let name = parse::gateway(&args.gateway)?;
    let gateway = client.gateway_get(&name).await?;
    if !args.force {
        confirm(&question(&gateway))?;
    }
    client.gateway_destroy(&name).await?;
    printer.note(&format!("gateway {} destroyed", gateway.name));
    Ok(())
}

/// The confirmation question, with the connected jobs.
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
    fn create_takes_size_and_port_range() {
        let request = create("float gateway create -n lab -c 2 -m 4 --portRange 10000:10100").unwrap();
        assert_eq!((request.name.as_str(), request.port_range.as_str()), ("lab", "10000:10100"));
        assert_eq!((request.cpu, request.mem_gb), (Some(2), Some(4.0)));
    }

    #[test]
    fn create_takes_security_groups() {
        let request = create("float gateway create -n lab --securityGroup sg-1 --securityGroup campus").unwrap();
        assert_eq!(
            (request.security_groups, request.no_public_ip),
            (vec!["sg-1".parse().unwrap(), "campus".parse().unwrap()], false)
        );
        assert!(create("float gateway create -n lab --noPublicIP").unwrap().no_public_ip);
        assert_eq!(create("float gateway create -n lab --tls on").unwrap().tls, Tls::On);
        assert_eq!(create("float gateway create -n lab").unwrap().tls, Tls::Off);
    }

    #[test]
    fn proxies_in_front_are_given_and_taken_away() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let line = "float gateway create -n lab --trustedProxies 10.0.0.7,10.0.1.0/24 --trustedProxies fd00::/8 \
                    --externalUrl https://lab.example:{port}";
        let request = create(line).unwrap();
        assert_eq!(request.trusted_proxies, ranges(&["10.0.0.7/32", "10.0.1.0/24", "fd00::/8"]));
        assert_eq!(request.external_url, "https://lab.example:{port}");
        let modify = |flags: &str| match read(&format!("float gateway modify -g lab {flags}")) {
            GatewayCommand::Modify(args) => args.request(),
            _ => panic!("not gateway modify"),
        };
        let changed = modify("--trustedProxies 10.0.0.7 --externalUrl https://lab").unwrap();
        assert_eq!(changed.trusted_proxies, Some(ranges(&["10.0.0.7/32"])));
        assert_eq!(changed.external_url.as_deref(), Some("https://lab"));
        let removed = modify("--trustedProxies none --externalUrl none").unwrap();
        assert_eq!((removed.trusted_proxies, removed.external_url.as_deref()), (Some(Vec::new()), Some("")));
        assert!(modify("--trustedProxies none,10.0.0.7").is_err());
    }

    #[test]
    fn modify_changes_only_given_fields() {
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
            add_security_groups: ["a", "b"].map(|name| name.parse().unwrap()).into(),
            remove_security_groups: vec!["c".parse().unwrap()],
            tls: Some(Tls::On),
            ..GatewayModifyRequest::default()
        };
        let flags = " --addSecurityGroup a --addSecurityGroup b --rmSecurityGroup c --portRange 1:2 -n new -c 2 -m 4 \
                     --tls on";
        assert_eq!(modify(flags), all);
    }

    #[test]
    fn connect_takes_hold_limits() {
        let connect = |flags: &str| match read(&format!("float gateway connect -g lab -j uqaj8l6a407u88v0106ol{flags}"))
        {
            GatewayCommand::Connect(args) => args.request("uqaj8l6a407u88v0106ol".parse().unwrap()).unwrap(),
            _ => panic!("not gateway connect"),
        };
        let usual = ConnectRequest::new("uqaj8l6a407u88v0106ol".parse().unwrap());
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
    fn destroy_question_names_connected_jobs() {
        let mut gateway = samples::gateway();
        let mut other = gateway.connections[0].clone();
        (other.job_name, other.job_id) = ("web".into(), "4bzixxwu6l5iocsqemd63".parse().unwrap());
        gateway.connections = vec![gateway.connections[0].clone(), other, gateway.connections[0].clone()];
        // Each job once, for any number of connected ports.
        assert_eq!(
            question(&gateway),
            "destroy gateway lab (g-sidlpgb7oi9p48kxycpmn); connected: notebook (uqaj8l6a407u88v0106ol), \
             web (4bzixxwu6l5iocsqemd63)?"
        );
        gateway.connections.clear();
        assert_eq!(question(&gateway), "destroy gateway lab (g-sidlpgb7oi9p48kxycpmn); no job is connected?");
    }
}
