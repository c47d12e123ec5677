//! What can be typed: the global flags and the commands.
//!
//! Names and aliases are those that users' scripts know. A global flag may stand before or after the command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    auth, external, gateway, group, host, job, log, metrics, migrate, secret, security_group, submit, suspend,
    template, user,
};
use crate::printer::Format;
use crate::{server, up};

/// Run interactive jobs that move between hosts while their users stay connected.
#[derive(Debug, Parser)]
#[command(name = "float", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  float up                                           everything on this machine, to try it out
  float login -a 10.0.0.5:8443 -u admin              asks for the password
  float submit --template jupyter --gateway lab      JupyterLab behind the gateway `lab`
  float show -j <job>                                its status and its URL
  float migrate -j <job> --wait                      move it to another host; its users stay connected

`float <command> --help` explains a command.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// OpCenter's address, `host:port` or a URL [default: that of the last login, else 127.0.0.1:8443]
    #[arg(short, long, global = true, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// log in as this user, for this call alone
    #[arg(short, long, global = true, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// the user's password [default: $MOORING_PASSWORD, else asked for]
    #[arg(short, long, global = true, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// an access token, in place of user and password
    #[arg(short = 'O', long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// the output's format
    #[arg(short = 'F', long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// what is logged to stderr [default: warn]
    #[arg(long = "logLevel", global = true, value_enum, value_name = "LEVEL", hide_possible_values = false)]
    pub(crate) log_level: Option<LogLevel>,
    /// log more: the same as `--logLevel debug`
    #[arg(short, long, global = true, value_enum, value_name = "on|off", num_args = 0..=1, default_missing_value = "on")]
    #[arg(default_value = "off", hide_possible_values = true, hide_default_value = true)]
    pub(crate) verbose: Switch,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Global {
    /// What is logged where `MOORING_LOG` says nothing.
    pub(crate) fn log_filter(&self) -> &'static str {
        match (self.log_level, self.verbose) {
            (Some(LogLevel::Trace), _) => "trace",
            (Some(LogLevel::Debug), _) | (None, Switch::On) => "debug",
            (Some(LogLevel::Info), _) => "info",
            (Some(LogLevel::Warn), _) | (None, Switch::Off) => "warn",
            (Some(LogLevel::Error), _) => "error",
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// log in and keep the session in ~/.float/session.yaml
    Login(auth::LoginArgs),
    /// end the session
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
    /// show a job with its ports, URLs and moves
    Show(job::ShowArgs),
    /// move a job to another host; its connections through gateways stay
    Migrate(migrate::MigrateArgs),
    /// put a job into the capsule store and free its host; its gateway ports stay
    #[command(visible_alias = "hibernate")]
    Suspend(suspend::SuspendArgs),
    /// have a suspended job go on, on any host that fits
    #[command(visible_aliases = ["recover", "restore"])]
    Resume(suspend::ResumeArgs),
    /// take a capsule of a job that goes on
    Snapshot(suspend::SnapshotArgs),
    /// change a job's tags, policies, limits or name
    Modify(job::ModifyArgs),
    /// submit a job anew, with the same spec and options
    #[command(visible_aliases = ["requeue", "resubmit"])]
    Rerun(submit::RerunArgs),
    /// cancel a job, or all that a filter finds
    #[command(visible_alias = "scancel")]
    Cancel(job::CancelArgs),
    /// show what a job has written, or its events
    Log(log::LogArgs),
    /// show what a job used, over time
    Metrics(metrics::MetricsArgs),
    /// show what jobs use now
    Top(metrics::TopArgs),
    /// show what a job's own files take
    Df(metrics::DfArgs),
    /// show how OpCenter is: its version, and how many hosts, gateways and jobs there are
    #[command(after_help = "\
Example:
  float status -F table")]
    Status,
    /// list the hosts with what they have and carry, or have one be empty
    #[command(visible_alias = "sinfo")]
    Hosts(host::HostsArgs),
    /// jobs that somebody else runs: a gateway for them as well
    Job(external::JobArgs),
    /// gateways: the stable addresses of jobs
    Gateway(gateway::GatewayArgs),
    /// security groups: who may connect to gateways and to published ports
    #[command(name = "securityGroup", visible_alias = "sg")]
    SecurityGroup(security_group::SecurityGroupArgs),
    /// templates: what a submission needs not say
    Template(template::TemplateArgs),
    /// secrets, for the environment of your jobs
    Secret(secret::SecretArgs),
    /// users
    User(user::UserArgs),
    /// groups of users, who see each other's jobs
    Group(group::GroupArgs),
    /// run a daemon
    Server(server::Args),
    /// run everything on this machine
    Up(up::Args),
    /// print the completion script of a shell
    #[command(after_help = "\
Examples:
  float completion bash > /etc/bash_completion.d/float
  source <(float completion zsh)")]
    Completion {
        /// the shell
        shell: Shell,
    },
    /// print the versions of this program and, if it can be reached, of OpCenter
    #[command(after_help = "\
Example:
  float version -F json")]
    Version,
    /// answer a step of CRIU's by asking the agent
    #[command(hide = true)]
    CriuHook {
        /// the agent's socket
        socket: PathBuf,
        /// the container
        container: String,
        /// CRIU's step
        action: String,
    },
}

/// The shells that completion scripts exist for.
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
    fn the_commands_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in ["float -a x -u me -p secret -F json list", "float list -a x -u me -p secret -F json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.address.as_deref(), Some("x"));
            assert_eq!(cli.global.username.as_deref(), Some("me"));
            assert_eq!(cli.global.password.as_deref(), Some("secret"));
            assert_eq!(cli.global.format, Format::Json);
        }
    }

    #[test]
    fn verbose_takes_a_value_or_none() {
        for (line, filter) in [
            ("float list", "warn"),
            ("float list -v", "debug"),
            ("float -v on list", "debug"),
            ("float --verbose off list", "warn"),
            ("float --logLevel info list", "info"),
            ("float --logLevel error -v on list", "error"),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).unwrap().global.log_filter(), filter, "{line}");
        }
    }

    #[test]
    fn every_alias_is_known() {
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
