//! `float template`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{SubmitRequest, TemplateCreateRequest};

use crate::confirm::confirm;
use crate::error::Local;
use crate::parse;
use crate::printer::Printer;

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
    /// job to create the template from
    #[arg(long = "from-job", value_name = "ID", required_unless_present = "file", conflicts_with = "file")]
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
        TemplateCommand::Create(args) => printer.object(&client.template_create(&args.request()?).await?),
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
    fn request(self) -> Result<TemplateCreateRequest> {
        Ok(TemplateCreateRequest {
            name: self.name,
            description: self.description,
            from_job: self
                .from_job
                .map(|id| parse::job_id(&id))
                .transpose()?
                .map(|id| id.to_string())
                .unwrap_or_default(),
            job: self.file.as_deref().map(job_file).transpose()?,
            access_path: self.access_path,
        })
    }
}

/// What a job file says.
fn job_file(path: &Path) -> Result<SubmitRequest> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    serde_norway::from_str(&text).map_err(|error| {
        Local::new(
            format!("{} is no job file: {error}", path.display()),
            "`float template create --help` shows one; the keys are those of the API's submission",
        )
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_reads_job_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("job");
        for text in ["image: dir:/\nmemGB: 2\nenv: [A=1]\n", r#"{"image": "dir:/", "memGB": 2, "env": ["A=1"]}"#] {
            fs::write(&file, text).unwrap();
            let job = job_file(&file).unwrap();
            assert_eq!((job.image.as_str(), job.mem_gb, job.env), ("dir:/", Some(2.0), vec!["A=1".to_owned()]));
        }
        fs::write(&file, "imgae: dir:/\n").unwrap();
        assert!(job_file(&file).unwrap_err().to_string().contains("imgae"));
    }
}
