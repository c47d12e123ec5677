//! The global options, accepted before and after every command.

use anyhow::Context;
use clap::{Args, ValueEnum};
use mooring_tls::Trust;

use crate::printer::Format;

/// The global options.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// address of OpCenter: `host`, `host:port` or a URL [default: from the last login, else
    /// $FLOAT_ADDR, which is set inside a job, else 127.0.0.1:8443]
    #[arg(short, long, global = true, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// OpCenter's authority: `sha256:` and its fingerprint, or a file with certificates [default:
    /// as remembered from the first contact]
    #[arg(long, global = true, value_name = "FILE|FINGERPRINT", env = "FLOAT_CA", hide_env_values = true)]
    pub(crate) ca: Option<String>,
    /// log in as this user for this command only
    #[arg(short, long, global = true, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// password of the user [default: $MOORING_PASSWORD, else asks]
    #[arg(short, long, global = true, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// token instead of user and password: that of a session, or an API token [default: that of the
    /// last login, else $FLOAT_TOKEN for $FLOAT_ADDR]
    #[arg(short = 'O', long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// output format [default: table for lists, yaml for one object]
    #[arg(short = 'F', long, global = true, value_enum)]
    pub(crate) format: Option<Format>,
    /// show tables with all columns and whole cells, also where the terminal is too narrow
    #[arg(long, global = true)]
    pub(crate) wide: bool,
    /// log level on stderr [default: warn]
    #[arg(long = "logLevel", global = true, value_enum, value_name = "LEVEL", hide_possible_values = false)]
    pub(crate) log_level: Option<LogLevel>,
    /// same as `--logLevel debug`
    #[arg(short, long, global = true, value_enum, value_name = "on|off", num_args = 0..=1, default_missing_value = "on")]
    #[arg(default_value = "off", hide_possible_values = true, hide_default_value = true)]
    pub(crate) verbose: Switch,
}

/// The log levels.
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
    /// The certificates of `--ca`, if it was given.
    pub(crate) fn trust(&self) -> anyhow::Result<Option<Trust>> {
        let given = self.ca.as_deref().filter(|ca| !ca.is_empty());
        given.map(|ca| Trust::read(ca).context("can't use `--ca`")).transpose()
    }

    /// The log filter when `MOORING_LOG` is not set.
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn global_flags_before_or_after_command() {
        for line in ["float -a x -u me -p secret -F json list", "float list -a x -u me -p secret -F json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.address.as_deref(), Some("x"));
            assert_eq!(cli.global.username.as_deref(), Some("me"));
            assert_eq!(cli.global.password.as_deref(), Some("secret"));
            assert_eq!(cli.global.format, Some(Format::Json));
        }
    }

    #[test]
    fn verbose_value_is_optional() {
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
}
