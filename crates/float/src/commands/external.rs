//! `float job`: jobs of another scheduler.

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{ExternalRegisterRequest, ExternalUpdateRequest};

use super::wait::with_addresses;
use super::which_job::WhichJob;
use crate::parse;
use crate::printer::Printer;

/// The arguments of `float job`.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// register a job of another scheduler and connect it to a gateway
    #[command(after_help = "\
Examples:
  float job register -n notebook --endpoint node17:8888 --gateway lab
      a notebook that Slurm started on node17
  float job register -n pair --endpoint 8888=node17:40001,22=node17:40002
      two target ports, 8888 and 22, at other ports of the node

A gateway tries the endpoints of a target port in the given order. Prints the job's record.")]
    Register(RegisterArgs),
    /// update the endpoints or the status of a registered job
    #[command(after_help = "\
Examples:
  float job update -j uqaj8l6a407u88v0106ol --status Floating
      the job migrates: clients wait
  float job update -j uqaj8l6a407u88v0106ol --endpoint node18:8888 --status Executing
      the job runs again: clients continue, or have to reconnect if the endpoint changed")]
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct RegisterArgs {
    /// job name [default: generated]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// where the job listens; several separated by commas; repeatable
    #[arg(long, value_name = "[PORT=]HOST:PORT", required = true)]
    endpoint: Vec<String>,
    /// job status [default: Executing]
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// path and query of the access URL, for example with a token [default: /]
    #[arg(long = "accessPath", value_name = "PATH")]
    access_path: Option<String>,
    /// gateway to connect to, by id or name
    #[arg(long, value_name = "GATEWAY")]
    gateway: Option<String>,
    /// target port to connect; repeatable [default: all]
    #[arg(long = "targetPort", value_name = "PORT")]
    target_port: Vec<String>,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    #[command(flatten)]
    job: WhichJob,
    /// where the job listens now; replaces all endpoints
    #[arg(long, value_name = "[PORT=]HOST:PORT")]
    endpoint: Vec<String>,
    /// job status
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
}

/// Registers or updates an external job.
pub(crate) async fn run(args: JobArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        JobCommand::Register(args) => {
            let request = ExternalRegisterRequest {
                name: args.name.unwrap_or_default(),
                endpoints: args.endpoint,
                status: args.status.unwrap_or_default(),
                access_path: args.access_path.unwrap_or_default(),
                gateway: args.gateway.as_deref().map(parse::gateway).transpose()?,
                target_ports: parse::ports(&args.target_port)?,
            };
            let mut job = client.external_register(&request).await?;
            if request.gateway.is_some() {
                job = with_addresses(client, job).await;
            }
            printer.object(&job)
        }
        JobCommand::Update(args) => {
            let id = args.job.find(client).await?;
            let request = ExternalUpdateRequest { endpoints: args.endpoint, status: args.status.unwrap_or_default() };
            printer.object(&client.external_update(&id, &request).await?)
        }
    }
}
