//! The page that `float` prints without arguments: first steps, and the commands by subject.

use crate::printer::Printer;

const START_PAGE: &str = "\
Run interactive jobs that migrate between hosts while their clients stay connected.

First steps:
  float up                                          run a complete Mooring on this machine, to try it
  float login -a 10.0.0.5:8443 -u admin             or log in to an OpCenter
  float gateway create -n lab                       create a gateway: a stable address for jobs
  float submit --template jupyter --gateway lab     start JupyterLab behind it
  float show -j <job>                               show its status and URL
  float migrate -j <job> --wait                     migrate it; clients stay connected

Commands:
  jobs          submit, list, show, modify, rerun, cancel
  migration     check, migrate, suspend, resume, snapshot
  monitoring    log, metrics, top, df, hosts, status
  network       gateway, securityGroup, job
  sharing       template, secret, user, group
  session       login, logout, web, session, token, version, release, completion
  admin         audit, settings, key
  daemons       up, server

Help:
  float --help               all commands and the global options
  float <command> --help     the options of a command, with examples
";

/// Prints the start page.
pub(crate) fn print() -> anyhow::Result<()> {
    Printer::default().raw(START_PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    fn section(title: &str) -> impl Iterator<Item = &'static str> {
        let lines = START_PAGE.lines().skip_while(move |line| line.strip_suffix(':') != Some(title));
        lines.skip(1).take_while(|line| !line.is_empty())
    }

    #[test]
    fn start_page_lists_every_command() {
        let listed = section("Commands").flat_map(|line| line[16..].split(", "));
        let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
        let cli = Cli::command();
        let visible = cli.get_subcommands().filter(|command| !command.is_hide_set());
        assert_eq!(listed, visible.map(|command| command.get_name().to_owned()).collect());
    }

    #[test]
    fn first_steps_are_valid_commands() {
        for line in section("First steps") {
            let command = line[2..].split("   ").next().unwrap().trim();
            assert!(Cli::try_parse_from(command.split(' ')).is_ok(), "{command}");
        }
    }
}
