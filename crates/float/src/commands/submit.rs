//! `float submit` and `float rerun`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use mooring_api::Client;
use mooring_api::view::SubmitRequest;

use crate::printer::Printer;
use crate::{file, job_file, parse};

/// What `float submit` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float submit --template jupyter --gateway lab --idle 30m --resumeOnConnect
      JupyterLab, reachable through the gateway `lab`, suspended while nobody uses it
  float submit -i dir:/ -n web -c 2:4 -m 4 --publish 8080:80 -- python3 -m http.server 80
      a command on this machine's own tree; other jobs and gateways reach its port 80 as 8080
  float submit -i ubuntu:24.04 -j train.sh --dataVolume /data/set:/data:ro --timeLimit 2h30m
      a job script, with data of the host
  float submit --file job.yaml -m 16
      what job.yaml says, with 16 GB

A job file has the long names of these flags as its keys, in YAML or JSON: `image: dir:/`, `env: {A: 1}`.
What is given beside it counts more. Prints the job's record; `id` is what the other commands take.

VM policy, with its defaults:
  [spotFirst=true,retryLimit=3,retryInterval=600s]
      also spotOnly=true or onDemand=true; a job that waited for retryLimit times retryInterval is
      NoAvailableHost

Migrate policy, with its defaults once it is given:
  [cpu.upperBoundRatio=90,cpu.upperBoundDuration=30s,cpu.lowerBoundRatio=5,cpu.lowerBoundDuration=300s]
      use in percent, above or below which it needs more or less when that lasts
  [cpu.step=50,cpu.limit=8,cpu.lowerLimit=1,cpu.disable=false]
      by how many percent more or less, at most, at least (no default), and not at all; `mem.` has the same keys
  [stepAuto=false,evadeOOM=true,disable=false]
      sizes by its use, a move as soon as memory lacks, and no move but that")]
pub(crate) struct SubmitArgs {
    /// where its root file system comes from: name:tag or host:port/name:tag (a registry), dir:/path, oci:/path (an
    /// image layout) or oci-archive:/path.tar
    #[arg(short, long, value_name = "IMAGE")]
    image: Option<String>,
    /// a job script to run, in place of a command; `-` for stdin
    #[arg(short, long, value_name = "FILE")]
    job: Option<PathBuf>,
    /// a job file, YAML or JSON; `-` for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// a template, `name`, `name:tag` or `private::name:tag`; what is given beside it overrides it
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// its name, 1 to 63 letters, digits, `.`, `_` or `-` [default: made up]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// cores, `min` or `min:max`: it starts with the least, a move may give it the most [default: the template's, else 1]
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// memory in GB, `min` or `min:max`: it starts with the least, a move may give it the most [default: the
    /// template's, else 2]
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
    /// an environment variable; `{secret:NAME}` in its value stands for a secret; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// a port that others may reach, `published:container` or one number for both; repeatable
    #[arg(long, value_name = "PORT[:PORT]")]
    publish: Vec<String>,
    /// who may connect to its published ports on its host, by id or name; repeatable [default: default]
    #[arg(long = "securityGroup", value_name = "GROUP")]
    security_group: Vec<String>,
    /// the gateway to connect to, by id or name
    #[arg(long, value_name = "GATEWAY")]
    gateway: Option<String>,
    /// a published port to connect; repeatable [default: all that are published]
    #[arg(long = "targetPort", value_name = "PORT")]
    target_port: Vec<String>,
    /// data: `/path:/mount` or `/path:/mount:ro` of the host (every host that may carry it has to have the path),
    /// `[size=10]:/mount` for 10 GB of its own, `[accessKey=KEY,secret=SECRET]s3://bucket/prefix:/mount`,
    /// `nfs://server/export:/mount`; repeatable
    #[arg(long = "dataVolume", value_name = "SOURCE:MOUNT")]
    data_volume: Vec<String>,
    /// the host to start on, by name [default: chosen]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// working directory inside the container [default: the image's]
    #[arg(long = "workDir", value_name = "DIR")]
    work_dir: Option<String>,
    /// run as root, whatever user its image names
    #[arg(long = "withRoot")]
    with_root: bool,
    /// accepted for compatibility; has no effect
    #[arg(short, long)]
    force: bool,
    /// the command and its arguments, after `--` [default: the image's]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    options: OptionArgs,
}

/// What is to happen to the job by itself.
#[derive(Debug, Args)]
#[command(next_help_heading = "What happens by itself")]
struct OptionArgs {
    /// what kind of host it wants, and for how long it waits for one [default: see below]
    #[arg(long = "vmPolicy", value_name = "POLICY")]
    vm_policy: Option<String>,
    /// when it moves to another size because of its use of CPU and memory [default: never]
    #[arg(short = 'M', long = "migratePolicy", value_name = "POLICY")]
    migrate_policy: Option<String>,
    /// end it when it has executed for so long, like 3600s or 2h30m; times in which it waits, is moved or is suspended
    /// don't count
    #[arg(long = "timeLimit", value_name = "TIME")]
    time_limit: Option<String>,
    /// suspend it when for so long no client sent or received anything and it used no CPU to speak of
    #[arg(long, value_name = "TIME")]
    idle: Option<String>,
    /// resume it when a client connects while it is suspended
    #[arg(long = "resumeOnConnect")]
    resume_on_connect: bool,
    /// take a capsule of it so often while it runs, to recover it from when its host is lost
    #[arg(long = "snapshotInterval", value_name = "TIME")]
    snapshot_interval: Option<String>,
    /// what capsules of it hold while it runs: what has changed since an earlier one, or everything
    /// [default: incremental]
    #[arg(long = "dumpMode", value_name = "incremental|full")]
    dump_mode: Option<String>,
    /// how it reaches the outside: through its `host`, or through a `gateway`'s, where its connections survive a move
    /// [default: host]
    #[arg(long, value_name = "host|gateway")]
    egress: Option<String>,
    /// a tag, each side 1 to 63 letters, digits or `-`; repeatable
    #[arg(long = "customTag", value_name = "KEY:VALUE")]
    custom_tag: Vec<String>,
    /// refuse `float rerun`
    #[arg(long = "disableRerun")]
    disable_rerun: bool,
    /// never move it, also not by hand
    #[arg(long = "disableMigrate")]
    disable_migrate: bool,
}

/// What `float rerun` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float rerun -j uqaj8l6a407u88v0106ol

The new job has an id of its own and starts from its image: nothing of what the old one has done is in it.")]
pub(crate) struct RerunArgs {
    /// the job, ended or not
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// accepted for compatibility; has no effect
    #[arg(short, long)]
    force: bool,
}

/// Submits a job.
pub(crate) async fn submit(args: SubmitArgs, client: &Client, printer: &Printer) -> Result<()> {
    printer.object(&client.job_submit(&args.request()?).await?)
}

/// Submits a job anew.
pub(crate) async fn rerun(args: RerunArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    printer.object(&client.job_rerun(id.as_str()).await?)
}

impl SubmitArgs {
    fn request(self) -> Result<SubmitRequest> {
        let file = self.file.as_deref().map(job_file::read).transpose()?;
        let (cpu, mem) = (self.cpu.as_deref().map(parse::core_range), self.mem.as_deref().map(parse::memory_range));
        let (cpu, mem, options) = (cpu.transpose()?, mem.transpose()?, self.options);
        let flags = SubmitRequest {
            name: self.name.unwrap_or_default(),
            template: self.template.unwrap_or_default(),
            image: self.image.unwrap_or_default(),
            command: self.command,
            script: self.job.as_deref().map(file::text).transpose()?.unwrap_or_default(),
            env: self.env,
            working_dir: self.work_dir.unwrap_or_default(),
            cpu: cpu.map(|size| size.min),
            cpu_max: cpu.and_then(|size| size.max),
            mem_gb: mem.map(|size| size.min),
            mem_gb_max: mem.and_then(|size| size.max),
            with_root: self.with_root,
            data_volumes: self.data_volume,
            publish: self.publish,
            gateway: self.gateway.unwrap_or_default(),
            target_ports: parse::ports(&self.target_port)?,
            host: self.host.unwrap_or_default(),
            security_groups: self.security_group,
            vm_policy: options.vm_policy.unwrap_or_default(),
            migrate_policy: options.migrate_policy.unwrap_or_default(),
            time_limit: options.time_limit.unwrap_or_default(),
            idle: options.idle.unwrap_or_default(),
            resume_on_connect: options.resume_on_connect,
            snapshot_interval: options.snapshot_interval.unwrap_or_default(),
            dump_mode: options.dump_mode.unwrap_or_default(),
            egress: options.egress.unwrap_or_default(),
            custom_tags: parse::tags(&options.custom_tag)?,
            disable_rerun: options.disable_rerun,
            disable_migrate: options.disable_migrate,
        };
        match file {
            Some(file) => job_file::completed(file, flags),
            None => Ok(flags),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn request(line: &str) -> SubmitRequest {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Submit(args) => args.request().unwrap(),
            _ => panic!("not submit"),
        }
    }

    #[test]
    fn submit_flags_reach_request() {
        let request = request(
            "float submit -i dir:/ -n web -c 2:4 -m 4:8 -e A=1 -e B=2 --publish 8080:80 --publish 22 --gateway lab \
             --targetPort 8080 --securityGroup campus --securityGroup sg-1 --host host-1 --workDir /tmp --withRoot \
             --dataVolume /a:/b --dataVolume [size=10]:/c -f -- python3 -m http.server",
        );
        assert_eq!(request.image, "dir:/");
        assert_eq!(request.name, "web");
        assert_eq!((request.cpu, request.cpu_max), (Some(2), Some(4)));
        assert_eq!((request.mem_gb, request.mem_gb_max), (Some(4.0), Some(8.0)));
        assert_eq!(request.env, ["A=1", "B=2"]);
        assert_eq!(request.publish, ["8080:80", "22"]);
        assert_eq!((request.gateway.as_str(), request.target_ports), ("lab", vec![8080]));
        assert_eq!(request.security_groups, ["campus", "sg-1"]);
        assert_eq!((request.host.as_str(), request.working_dir.as_str()), ("host-1", "/tmp"));
        assert_eq!(request.data_volumes, ["/a:/b", "[size=10]:/c"]);
        assert_eq!(request.command, ["python3", "-m", "http.server"]);
        assert!(request.with_root);
    }

    #[test]
    fn submit_policies_reach_request() {
        let request = request(
            "float submit -i dir:/ --vmPolicy [onDemand=true] -M cpu.upperBoundDuration=5s --timeLimit 3600s --idle 30m \
             --resumeOnConnect --snapshotInterval 10m --dumpMode full --egress gateway --customTag a:1 --customTag b:2 --disableRerun \
             --disableMigrate",
        );
        assert_eq!((request.vm_policy.as_str(), request.time_limit.as_str()), ("[onDemand=true]", "3600s"));
        assert_eq!((request.migrate_policy.as_str(), request.idle.as_str()), ("cpu.upperBoundDuration=5s", "30m"));
        assert_eq!((request.snapshot_interval.as_str(), request.egress.as_str()), ("10m", "gateway"));
        assert_eq!(request.dump_mode, "full");
        assert_eq!(request.custom_tags, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into());
        assert!(request.resume_on_connect && request.disable_rerun && request.disable_migrate);
    }

    #[test]
    fn template_alone_is_enough() {
        let request = request("float sbatch --template jupyter");
        assert_eq!(request, SubmitRequest { template: "jupyter".into(), ..SubmitRequest::default() });
    }

    #[test]
    fn missing_script_has_known_message() {
        match Cli::try_parse_from("float submit -i dir:/ -j abc.sh".split(' ')).unwrap().command {
            Command::Submit(args) => {
                assert_eq!(args.request().unwrap_err().to_string(), "open abc.sh: no such file or directory");
            }
            _ => panic!("not submit"),
        }
    }
}
