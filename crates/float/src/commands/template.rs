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

/// What `float template` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
`name:tag` is everybody's and made by admins, `private::name:tag` is yours alone; without a tag the newest is meant.
`float submit --template <name>` makes a job of one; what is given beside it overrides it.")]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// create a template from a job or from a job file
    Create(CreateArgs),
    /// list the templates that you may use
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float template list -F table")]
    List,
    /// show a template with what it gives
    #[command(visible_alias = "info")]
    #[command(after_help = "\
Examples:
  float template show jupyter
  float template show private::training:2")]
    Show {
        /// the template
        name: String,
    },
    /// delete a template; jobs that were made from it stay
    #[command(after_help = "\
Examples:
  float template delete private::training:2          asks first
  float template delete lab:old -f")]
    Delete {
        /// the template, with its tag
        name: String,
        /// don't ask
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float template create private::training --from-job uqaj8l6a407u88v0106ol
  float template create lab:2 --file job.yaml --description 'what the lab uses'

A job file has the keys that the API's submission has, in YAML or JSON:
  image: dir:/
  command: [python3, -m, http.server, \"80\"]
  publish: [\"8080:80\"]
  memGB: 2
  env: [MODE=test]
`{token}` in it is drawn anew for each job; the token of a job's URL becomes that.")]
struct CreateArgs {
    /// its name, `name`, `name:tag`, or with `private::` in front [default tag: the next number]
    name: String,
    /// the job to make it from
    #[arg(long = "from-job", value_name = "ID", required_unless_present = "file", conflicts_with = "file")]
    from_job: Option<String>,
    /// the job file to make it from
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// what it is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// what follows the address in its jobs' URLs [default: the job's, else /]
    #[arg(long = "accessPath", value_name = "PATH", default_value = "", hide_default_value = true)]
    access_path: String,
}

/// Runs a command about templates.
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
            printer.note(&format!("template {name} is deleted"));
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
    fn a_job_file_is_yaml_or_json_with_known_keys() {
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
