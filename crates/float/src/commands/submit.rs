//! `float submit`.

use anyhow::Result;
use clap::Args;
use mooring_api::Client;
use mooring_api::view::SubmitRequest;

use crate::parse;
use crate::printer::Printer;

/// What `float submit` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float submit --template jupyter --gateway lab
      JupyterLab, reachable through the gateway `lab`
  float submit -i dir:/ -n web -c 2 -m 4 --publish 8080:80 -e MODE=test -- python3 -m http.server 80
      a command on this machine's own tree; other jobs and gateways reach its port 80 as 8080
  float submit -i oci-archive:/images/app.tar --host host-1
      an image from a file, started on a host of your choice

Prints the job's record; `id` is what the other commands take.")]
pub(crate) struct SubmitArgs {
    /// where its root file system comes from: dir:/path, oci:/path (an image layout) or oci-archive:/path.tar
    #[arg(short, long, value_name = "IMAGE")]
    image: Option<String>,
    /// a template, `name` or `name:tag`; what is given beside it overrides it
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// its name, 1 to 63 letters, digits, `.`, `_` or `-` [default: made up]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// cores, `min` or `min:max`; the least is given [default: the template's, else 1]
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// memory in GB, `min` or `min:max`; the least is given [default: the template's, else 2]
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
    /// an environment variable; repeatable
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
    /// the host to start on, by name [default: chosen]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// working directory inside the container [default: the image's]
    #[arg(long = "workDir", value_name = "DIR")]
    work_dir: Option<String>,
    /// for scripts that say it: nothing is asked anyway
    #[arg(short, long)]
    force: bool,
    /// the command and its arguments, after `--` [default: the image's]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Submits a job.
pub(crate) async fn submit(args: SubmitArgs, client: &Client, printer: &Printer) -> Result<()> {
    printer.object(&client.job_submit(&args.request()?).await?)
}

impl SubmitArgs {
    fn request(self) -> Result<SubmitRequest> {
        Ok(SubmitRequest {
            name: self.name.unwrap_or_default(),
            template: self.template.unwrap_or_default(),
            image: self.image.unwrap_or_default(),
            command: self.command,
            env: self.env,
            working_dir: self.work_dir.unwrap_or_default(),
            cpu: self.cpu.as_deref().map(parse::cores).transpose()?,
            mem_gb: self.mem.as_deref().map(parse::memory).transpose()?,
            publish: self.publish,
            gateway: self.gateway.unwrap_or_default(),
            target_ports: parse::ports(&self.target_port)?,
            host: self.host.unwrap_or_default(),
            security_groups: self.security_group,
        })
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
    fn all_flags_reach_the_request() {
        let request = request(
            "float submit -i dir:/ -n web -c 2:4 -m 4:8 -e A=1 -e B=2 --publish 8080:80 --publish 22 --gateway lab \
             --targetPort 8080 --securityGroup campus --securityGroup sg-1 --host host-1 --workDir /tmp -f -- python3 -m http.server",
        );
        assert_eq!(request.image, "dir:/");
        assert_eq!(request.name, "web");
        assert_eq!((request.cpu, request.mem_gb), (Some(2), Some(4.0)));
        assert_eq!(request.env, ["A=1", "B=2"]);
        assert_eq!(request.publish, ["8080:80", "22"]);
        assert_eq!((request.gateway.as_str(), request.target_ports), ("lab", vec![8080]));
        assert_eq!(request.security_groups, ["campus", "sg-1"]);
        assert_eq!((request.host.as_str(), request.working_dir.as_str()), ("host-1", "/tmp"));
        assert_eq!(request.command, ["python3", "-m", "http.server"]);
    }

    #[test]
    fn a_template_alone_leaves_the_rest_to_it() {
        let request = request("float sbatch --template jupyter");
        assert_eq!(request.template, "jupyter");
        assert_eq!((request.cpu, request.mem_gb), (None, None));
        assert!(request.image.is_empty() && request.command.is_empty() && request.publish.is_empty());
    }
}
