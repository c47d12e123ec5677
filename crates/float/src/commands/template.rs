//! `float template`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::TemplateCreateRequest;

use super::which_job;
use crate::confirm::confirm;
use crate::printer::Printer;
use crate::{job_file, parse};

/// The arguments of `float template`.
#[derive(Debug, Args)]
#[command(after_help = "\
`name:tag` is public and created by admins; `private::name:tag` is only yours. Without a tag the newest one is used.
`float submit --template <name>` submits a job with it; other options override the template.")]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// create a template from a job or a job file
    Create(CreateArgs),
    /// list the templates that you can use
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float template list -F table")]
    List,
    /// show a template and its values
    #[command(visible_alias = "info")]
    #[command(after_help = "\
Examples:
  float template show jupyter
  float template show private::training:2")]
    Show {
        /// template name
        name: String,
    },
    /// delete a template; jobs that were submitted with it stay
    #[command(after_help = "\
Examples:
  float template delete private::training:2          asks first
  float template delete lab:old -f")]
    Delete {
        /// template name with its tag
        name: String,
        /// skip the confirmation
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float template create private::training --from-job uqaj8l6a407u88v0106ol
  float template create lab:2 --file job.yaml --description 'for the lab'

A job file has the long names of the options of `float submit` as keys, in YAML or JSON:
  image: dir:/
  command: [python3, -m, http.server, \"80\"]
  publish: [\"8080:80\"]
  memGB: 2
  env: [MODE=test]
`{token}` is replaced with a new random token for each job. `--from-job` turns the token of the job's URL into `{token}`.")]
struct CreateArgs {
    /// template name: `name`, `name:tag` or `private::name:tag` [default tag: the next number]
    name: String,
    /// job to create the template from, by id or name
    #[arg(long = "from-job", value_name = "JOB", required_unless_present = "file", conflicts_with = "file")]
    from_job: Option<String>,
    /// job file to create the template from
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// description
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// path and query of the jobs' access URLs [default: the job's, else /]
    #[arg(long = "accessPath", value_name = "PATH", default_value = "", hide_default_value = true)]
    access_path: String,
}

/// Runs a subcommand of `float template`.
pub(crate) async fn template(args: TemplateArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        TemplateCommand::Create(args) => {
            printer.object(&client.template_create(&args.request(client, printer).await?).await?)
        }
        TemplateCommand::List => printer.list(&client.template_list().await?),
        TemplateCommand::Show { name } => printer.object(&client.template_get(parse::template(&name)?).await?),
        TemplateCommand::Delete { name, force } => {
            let name = parse::template(&name)?;
            if !force {
                confirm(&format!("delete template {name}?"))?;
            }
            client.template_delete(name).await?;
            printer.note(&format!("template {name} deleted"));
            Ok(())
        }
    }
}

impl CreateArgs {
    async fn request(self, client: &Client, printer: &Printer) -> Result<TemplateCreateRequest> {
        let from_job = match &self.from_job {
            Some(job) => Some(which_job::find(client, job).await?),
            None => None,
        };
        Ok(TemplateCreateRequest {
            name: self.name,
            description: self.description,
            from_job,
            job: self.file.as_deref().map(|path| job_file::read(path, printer)).transpose()?,
            access_path: self.access_path,
        })
    }
}
