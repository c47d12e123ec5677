//! `float submit` and `float rerun`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use mooring_api::{Client, Submission};

use super::accepted_flags::AcceptedFlags;
use super::submission_flags::SubmitFlags;
use super::wait::{with_addresses, with_reason};
use super::which_job::WhichJob;
use crate::printer::Printer;
use crate::{file, job_file};

/// The arguments of `float submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float submit --template jupyter --gateway lab --idle 30m --resumeOnConnect
      JupyterLab behind the gateway `lab`, suspended while it is not used
  float submit -i dir:/ -n web -c 2:4 -m 4 --publish 8080:80 -- python3 -m http.server 80
      a command on the host's own files; its port 80 is published as 8080
  float submit -i ubuntu:24.04 -j train.sh --dataVolume /data/set:/data:ro --timeLimit 2h30m
      a job script with data of the host
  float submit --file job.yaml -m 16
      the job of job.yaml, with 16 GB

A job file has the long names of these options as keys, in YAML or JSON: `image: dir:/`, `env: {A: 1}`.
Options override the job file. Prints the job's record; other commands take its `id`.

VM policy and its defaults:
  [spotFirst=true,retryLimit=3,retryInterval=600s]
      or spotOnly=true or onDemand=true; after retryLimit times retryInterval without a host the
      job is NoAvailableHost

Migrate policy and its defaults when given:
  [cpu.upperBoundRatio=90,cpu.upperBoundDuration=30s,cpu.lowerBoundRatio=5,cpu.lowerBoundDuration=300s]
      the usage in percent above or below which the job needs another size, and for how long
  [cpu.step=50,cpu.limit=8,cpu.lowerLimit=1,cpu.disable=false]
      the change in percent, the largest and smallest size (no default), and off; `mem.` has the same keys
  [stepAuto=false,evadeOOM=true,disable=false]
      the size from the usage, a migration before memory runs out, and no other migration")]
pub(crate) struct SubmitArgs {
    /// job script to run instead of a command; `-` for stdin
    #[arg(short, long, value_name = "FILE")]
    job: Option<PathBuf>,
    /// job file, YAML or JSON; `-` for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: SubmitFlags,
    #[command(flatten)]
    accepted: AcceptedFlags,
    /// accepted for scripts; this command asks nothing
    #[arg(short, long)]
    force: bool,
    /// command and its arguments, after `--` [default: from the image]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The arguments of `float rerun`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float rerun -j uqaj8l6a407u88v0106ol

The new job has a new id and starts from the image, without the files of the old job.")]
pub(crate) struct RerunArgs {
    #[command(flatten)]
    job: WhichJob,
    /// accepted for scripts; this command asks nothing
    #[arg(short, long)]
    force: bool,
}

/// Submits a job.
pub(crate) async fn submit(args: SubmitArgs, client: &Client, printer: &Printer) -> Result<()> {
    let submission = args.submission(printer)?;
    let mut job = client.job_submit(&submission).await?;
    if submission.gateway.is_some() {
        job = with_addresses(client, job).await;
    }
    let job = with_reason(client, job).await;
    if !job.status_reason.is_empty() {
        printer.note(&job.status_reason);
    }
    printer.job(&job, client.address())
}

/// Submits a job again.
pub(crate) async fn rerun(args: RerunArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    printer.job(&client.job_rerun(&id).await?, client.address())
}

impl SubmitArgs {
    /// The submission: the job file, overridden by the flags.
    fn submission(self, printer: &Printer) -> Result<Submission> {
        let file = self.file.as_deref().map(|path| job_file::read(path, printer)).transpose()?;
        let flags = Submission {
            script: self.job.as_deref().map(file::text).transpose()?,
            command: self.command,
            ..self.flags.0.submission()?
        };
        let mut submission = file.unwrap_or_default().overridden_by(flags);
        self.accepted.add_to(&mut submission, printer)?;
        Ok(submission)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::{Cli, Command};

    fn submission(line: &str) -> Result<Submission> {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Submit(args) => args.submission(&Printer::default()),
            _ => panic!("not submit"),
        }
    }

    fn json(line: &str) -> Value {
        serde_json::to_value(submission(line).unwrap()).unwrap()
    }

    #[test]
    fn submit_flags_reach_submission() {
        let line = "float submit -i dir:/ -n web -c 2:4 -m 4:8 -e A=1 -e B=2 --publish 8080:80 --publish 22 --gateway lab \
                    --targetPort 8080 --securityGroup campus --host host-1 --workDir /tmp --withRoot --dataVolume /a:/b \
                    --vmPolicy [onDemand=true] --idle 30m --resumeOnConnect --customTag a:1 --customTag b:2 -f -- ls -l";
        let expected = json!({
            "image": "dir:/", "name": "web", "cpu": 2, "cpuMax": 4, "memGB": 4.0, "memGBMax": 8.0, "env": ["A=1", "B=2"],
            "publish": ["8080:80", "22:22"], "gateway": "lab", "targetPorts": [8080], "securityGroups": ["campus"],
            "host": "host-1", "workingDir": "/tmp", "withRoot": true, "dataVolumes": ["/a:/b"],
            "vmPolicy": "[onDemand=true,retryLimit=3,retryInterval=10m0s]", "idle": "30m0s", "resumeOnConnect": true,
            "customTags": {"a": "1", "b": "2"}, "command": ["ls", "-l"],
        });
        assert_eq!(json(line), expected);
    }

    #[test]
    fn template_alone_is_enough() {
        assert_eq!(json("float sbatch --template jupyter"), json!({"template": "jupyter"}));
    }

    #[test]
    fn flags_of_the_original_are_taken() {
        let line = "float submit -i python --tag 3.12 --imageVolSize 10 --rootVolSize 20 --allowList [r5*,m*] --denyList [t*] \
                    --dirMap /data:/data -- true";
        let expected =
            json!({"image": "docker.io/library/python:3.12", "dataVolumes": ["/data:/data"], "command": ["true"]});
        assert_eq!(json(line), expected);
        for line in
            ["float submit --tag 1 -- true", "float submit -i python:3 --tag 1", "float submit -i dir:/ --tag 1"]
        {
            assert!(submission(line).is_err(), "{line}");
        }
    }

    #[test]
    fn missing_script_has_known_message() {
        let error = submission("float submit -i dir:/ -j abc.sh").unwrap_err();
        assert_eq!(error.to_string(), "open abc.sh: no such file or directory");
    }

    #[test]
    fn invalid_values_are_refused_like_by_opcenter() {
        let error = submission("float submit -i dir:/ --egress vpn").unwrap_err();
        assert_eq!(error.to_string(), "Invalid argument, invalid egress `vpn`");
    }
}
