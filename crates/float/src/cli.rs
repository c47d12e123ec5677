//! The commands. Names and aliases are those that users' scripts know.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    audit, auth, check, external, gateway, group, host, job, key, log, metrics, migrate, release, secret,
    security_group, session, submit, suspend, template, token, user, web,
};
use crate::global::Global;
use crate::{server, up};

/// Run interactive jobs that migrate between hosts while their clients stay connected.
#[derive(Debug, Parser)]
#[command(name = "float", version, max_term_width = 100, subcommand_required = true)]
#[command(after_help = "\
Examples:
  float up                                           everything on this machine, to try it out
  float login -a 10.0.0.5:8443 -u admin              asks for the password
  float submit --template jupyter --gateway lab      JupyterLab behind the gateway `lab`
  float show -j <job>                                its status and its URL
  float migrate -j <job> --wait                      migrate it to another host; clients stay connected

`float <command> --help` shows the options and examples of a command.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// log in and store the session in ~/.float/session.yaml
    Login(auth::LoginArgs),
    /// log out and delete the stored session
    #[command(after_help = "\
Example:
  float logout")]
    Logout,
    /// submit a job
    #[command(visible_alias = "sbatch")]
    Submit(Box<submit::SubmitArgs>),
    /// list jobs
    #[command(visible_aliases = ["squeue", "ls"])]
    List(job::ListArgs),
    /// show a job with its ports, URLs and migrations
    Show(job::ShowArgs),
    /// show what hinders a migration of a running job
    Check(check::CheckArgs),
    /// migrate a job to another host; connections through gateways stay open
    Migrate(migrate::MigrateArgs),
    /// suspend a job into the capsule store and free its host; the job keeps its gateway ports
    #[command(visible_alias = "hibernate")]
    Suspend(suspend::SuspendArgs),
    /// resume a suspended job on any host that fits
    #[command(visible_aliases = ["recover", "restore"])]
    Resume(suspend::ResumeArgs),
    /// take a snapshot of a running job
    Snapshot(suspend::SnapshotArgs),
    /// change the policies, limits, tags or name of a job
    Modify(job::ModifyArgs),
    /// submit a job again, with the same options
    #[command(visible_aliases = ["requeue", "resubmit"])]
    Rerun(submit::RerunArgs),
    /// cancel a job, or all jobs that match a filter
    #[command(visible_alias = "scancel")]
    Cancel(job::CancelArgs),
    /// show the output or the events of a job
    Log(log::LogArgs),
    /// show the resource usage of a job over time
    Metrics(metrics::MetricsArgs),
    /// show the current resource usage of jobs
    Top(metrics::TopArgs),
    /// show the disk usage of a job's changed files
    Df(metrics::DfArgs),
    /// show the version of OpCenter and the number of hosts, gateways and jobs
    #[command(after_help = "\
Example:
  float status -F table")]
    Status,
    /// list the hosts with their resources and jobs, or drain a host
    #[command(visible_alias = "sinfo")]
    Hosts(host::HostsArgs),
    /// external jobs: put a job of another scheduler behind a gateway
    Job(external::JobArgs),
    /// gateways: stable addresses for jobs
    Gateway(gateway::GatewayArgs),
    /// security groups: rules for connections to gateways and published ports
    #[command(name = "securityGroup", visible_alias = "sg")]
    SecurityGroup(security_group::SecurityGroupArgs),
    /// templates: defaults for submissions
    Template(template::TemplateArgs),
    /// secrets: values for the environment of your jobs
    Secret(secret::SecretArgs),
    /// users and their roles
    User(user::UserArgs),
    /// groups of users who see each other's jobs
    Group(group::GroupArgs),
    /// list and end your open sessions
    Session(session::SessionArgs),
    /// API tokens: let scripts and services call OpCenter in your name
    Token(token::TokenArgs),
    /// open OpCenter's pages in a browser, signed in
    Web(web::WebArgs),
    /// list and rotate the keys of OpCenter (admins)
    Key(key::KeyArgs),
    /// show who changed what and when (admins)
    Audit(audit::AuditArgs),
    /// show the settings that OpCenter runs with (admins)
    #[command(after_help = "\
Example:
  float settings -F table")]
    Settings,
    /// run a daemon
    Server(server::Args),
    /// run a complete Mooring on this machine
    Up(Box<up::Args>),
    /// print a shell completion script
    #[command(after_help = "\
Examples:
  float completion bash > /etc/bash_completion.d/float
  source <(float completion zsh)")]
    Completion {
        /// shell
        shell: Shell,
    },
    /// print the versions of this program and of OpCenter
    #[command(after_help = "\
Example:
  float version -F json")]
    Version,
    /// update this program
    Release(release::ReleaseArgs),
    /// accepted for scripts: Mooring needs no license
    #[command(hide = true)]
    License {
        /// what to do; it changes nothing
        #[arg(value_parser = ["info", "acquire"], default_value = "info")]
        action: String,
    },
    /// run a container and write down how it ends
    #[command(hide = true)]
    Monitor {
        /// directory of the job
        directory: PathBuf,
        /// directory that runc sees as /run
        run: Option<PathBuf>,
    },
    /// run a CRIU hook by asking the agent
    #[command(hide = true)]
    CriuHook {
        /// socket of the agent
        socket: PathBuf,
        /// container
        container: String,
        /// action of CRIU
        action: String,
    },
}

/// The shells with completion scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Fish,
    Zsh,
    Powershell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn aliases_parse() {
        for line in [
            "sbatch -i dir:/",
            "squeue",
            "ls",
            "scancel -j x",
            "hibernate -j x",
            "recover -j x",
            "restore -j x",
            "sinfo",
            "requeue -j x",
            "resubmit -j x",
        ] {
            let line = format!("float {line}");
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
