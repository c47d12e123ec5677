//! `float job`: jobs that somebody else runs.

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{ExternalRegisterRequest, ExternalUpdateRequest};

use crate::parse;
use crate::printer::Printer;

/// Jobs that run under another scheduler.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// register a job that somebody else runs, to give it a port of a gateway
    #[command(after_help = "\
Examples:
  float job register -n notebook --endpoint node17:8888 --gateway lab
      a notebook that Slurm started on node17
  float job register -n pair --endpoint 8888=node17:40001,22=node17:40002
      two target ports, 8888 and 22, wherever the job really listens

A gateway tries the endpoints of a target port in their order. Prints the job's record.")]
    Register(RegisterArgs),
    /// say where it listens now, and how it is
    #[command(after_help = "\
Examples:
  float job update -j uqaj8l6a407u88v0106ol --status Floating
      it is being moved: clients wait
  float job update -j uqaj8l6a407u88v0106ol --endpoint node18:8888 --status Executing
      it is back elsewhere: clients go on or are told to connect again")]
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct RegisterArgs {
    /// its name [default: made up]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// where it listens, several separated by commas; repeatable
    #[arg(long, value_name = "[PORT=]HOST:PORT", required = true)]
    endpoint: Vec<String>,
    /// how it is [default: Executing]
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// the path and query of its URL, with a token say [default: /]
    #[arg(long = "accessPath", value_name = "PATH")]
    access_path: Option<String>,
    /// the gateway to connect to, by id or name
    #[arg(long, value_name = "GATEWAY")]
    gateway: Option<String>,
    /// a target port to connect; repeatable [default: all]
    #[arg(long = "targetPort", value_name = "PORT")]
    target_port: Vec<String>,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// the job
    #[arg(short, long, value_name = "JOB")]
    job: String,
    /// where it listens from now on, in place of all before
    #[arg(long, value_name = "[PORT=]HOST:PORT")]
    endpoint: Vec<String>,
    /// how it is
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
}

/// Runs `float job …`.
pub(crate) async fn run(args: JobArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        JobCommand::Register(args) => {
            let request = ExternalRegisterRequest {
                name: args.name.unwrap_or_default(),
                endpoints: args.endpoint,
                status: args.status.unwrap_or_default(),
                access_path: args.access_path.unwrap_or_default(),
                gateway: args.gateway.unwrap_or_default(),
                target_ports: parse::ports(&args.target_port)?,
            };
            printer.object(&client.external_register(&request).await?)
        }
        JobCommand::Update(args) => {
            parse::job_id(&args.job)?;
            let request = ExternalUpdateRequest { endpoints: args.endpoint, status: args.status.unwrap_or_default() };
            printer.object(&client.external_update(&args.job, &request).await?)
        }
    }
}
