//! Flags and commands of the original that Mooring has not, each with the sentence that says what
//! to use instead. Those that Mooring has are in [`crate::cli`].

/// A flag of the original.
struct Flag {
    names: &'static [&'static str],
    /// The commands that have it; empty for all.
    commands: &'static [&'static str],
    /// The thing to use instead, or the thing that decides it here.
    instead: &'static str,
}

/// A command of the original.
struct Command {
    names: &'static [&'static str],
    instead: &'static str,
}

const NO_TYPES: &str = "hosts have no instance types: use `--host`, or `-c` and `-m`";
const SUBMIT: &[&str] = &["submit", "sbatch"];
const NO_HPC: &str = "the HPC mode of the original is not there";
const SIGN_IN: &str = "users of another directory sign in with `float login --sso`, by OpenID";

const FLAGS: &[Flag] = &[
    Flag { names: &["-t", "--instType"], commands: &["submit", "sbatch", "migrate"], instead: NO_TYPES },
    Flag { names: &["--zone"], commands: &[], instead: "hosts have no zones: `--host` names the host to start on" },
    Flag {
        names: &["--subnet"],
        commands: &[],
        instead: "jobs have addresses of OpCenter's overlay; `--host` names the host to start on",
    },
    Flag { names: &["--storage"], commands: &[], instead: "give the storage itself: `--dataVolume <SOURCE:MOUNT>`" },
    Flag {
        names: &["--snapLocation"],
        commands: &[],
        instead: "OpCenter has one place for all snapshots: `float server opcenter --capsule-store`",
    },
    Flag {
        names: &["--hostInit"],
        commands: &[],
        instead: "jobs run nothing on their host: put it into the image or a job script, `-j <FILE>`",
    },
    Flag {
        names: &["--hostTerminate"],
        commands: &[],
        instead: "jobs run nothing on their host: put it at the end of a job script, `-j <FILE>`",
    },
    Flag {
        names: &["--extraContainerOpts", "--extraOptions"],
        commands: &[],
        instead: "options of a container engine can't be given; `float submit --help` lists those of a job",
    },
    Flag { names: &["--gpu-count", "--gpu"], commands: &[], instead: "jobs can't use GPUs yet" },
    Flag { names: &["--scroll"], commands: &[], instead: "output is not scrolled: pipe it into `less`" },
    Flag {
        names: &["--metricsInterval", "--metrics"],
        commands: SUBMIT,
        instead: "the interval is the same for all jobs: `float server agent --metrics-interval`",
    },
];

const COMMANDS: &[Command] = &[
    Command { names: &["ps"], instead: "`float top -j <job>` shows the usage of a job, `float check` its processes" },
    Command { names: &["ptop", "qtop"], instead: "`float top` shows the usage of all jobs" },
    Command {
        names: &["promote", "boost"],
        instead: "`float migrate -j <job> -c <cores> -m <GB>` gives a running job another size",
    },
    Command {
        names: &["image", "mi"],
        instead: "images are not registered: `float submit -i <name:tag>` pulls one from its registry",
    },
    Command { names: &["storage"], instead: "storage is not registered: give `float submit --dataVolume` its source" },
    Command {
        names: &["config"],
        instead: "`float settings` shows the settings; `float server opcenter --help` has the options",
    },
    Command { names: &["report"], instead: "`float metrics` shows the usage of a job, `float audit` who did what" },
    Command { names: &["restart", "reboot"], instead: "the service manager of its host restarts OpCenter" },
    Command { names: &["smtp"], instead: "OpCenter sends no mail; `float log events` has what happens to a job" },
    Command {
        names: &["quota-policy"],
        instead: "`float user quota` and `float group quota` set the quota of a user or a group",
    },
    Command { names: &["ldap", "nis", "saml"], instead: SIGN_IN },
    Command { names: &["cluster", "queue", "queues", "node", "project"], instead: NO_HPC },
];

/// Returns the refusal of a flag of the original, where the words of the command line have a
/// command with that flag.
pub(crate) fn flag<'a>(flag: &str, mut words: impl Iterator<Item = &'a str>) -> Option<String> {
    let found = FLAGS.iter().find(|known| known.names.contains(&flag))?;
    let has_command = found.commands.is_empty() || words.any(|word| found.commands.contains(&word));
    has_command.then(|| format!("`{flag}` is not supported: {}", found.instead))
}

/// Returns the refusal of a command of the original.
pub(crate) fn command(name: &str) -> Option<String> {
    let found = COMMANDS.iter().find(|known| known.names.contains(&name))?;
    Some(format!("`float {name}` is not supported: {}", found.instead))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_is_refused_is_not_there() {
        let cli = Cli::command();
        for command in COMMANDS {
            for name in command.names {
                assert!(cli.find_subcommand(name).is_none(), "{name} is there");
            }
        }
        for flag in FLAGS {
            assert!(flag.names.iter().all(|name| name.starts_with('-')));
            for name in flag.commands {
                let command = cli.find_subcommand(name).unwrap();
                let has = |known: &str| {
                    let long = known.strip_prefix("--");
                    long.is_some() && command.get_arguments().any(|arg| arg.get_long() == long)
                };
                assert!(!flag.names.iter().any(|name| has(name)), "{name}");
            }
        }
    }
}
