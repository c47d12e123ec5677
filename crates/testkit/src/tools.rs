//! A directory of tools that do something else as well, where a test says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::world::{Plan, World};

/// The steps of runc in which a test can interfere.
const STEPS: [&str; 2] = ["checkpoint", "restore"];

/// runc and CRIU of this machine. A shell reads the commands of a test before CRIU's part in a
/// step, or after a restore of runc.
#[derive(Debug)]
pub struct Tools {
    directory: tempfile::TempDir,
}

impl Tools {
    /// Makes the directory.
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir_in("/var/tmp")?;
        // Gateways look for nothing here; jobs may.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let tools = Self { directory };
        let bin = tools.directory.path().join("bin");
        fs::create_dir(&bin)?;
        let script = format!(
            "#!/bin/sh
case \" $* \" in *' restore '*) if [ -e {then} ]; then {runc} \"$@\"; code=$?; . {then}; exit $code; fi;; esac
exec {runc} \"$@\"\n",
            then = tools.then().display(),
            runc = found("runc")?.display()
        );
        fs::write(bin.join("runc"), script)?;
        let begins = STEPS.map(|step| {
            format!(
                "if [ -e {first} ] && tr '\\0' '\\n' </proc/$PPID/cmdline | grep -qx {step}; then . {first}; fi\n",
                first = tools.first(step).display()
            )
        });
        let script = format!("#!/bin/sh\n{}exec {} \"$@\"\n", begins.concat(), found("criu")?.display());
        fs::write(bin.join("criu"), script)?;
        for tool in ["criu", "runc"] {
            fs::set_permissions(bin.join(tool), fs::Permissions::from_mode(0o755))?;
        }
        Ok(tools)
    }

    /// Gives the commands that a shell reads before each CRIU of a step: `checkpoint` or `restore`.
    /// They may remove `$first`, the file that they are in.
    pub fn before(&self, step: &str, commands: &str) -> Result<()> {
        let first = self.first(step);
        Ok(fs::write(&first, format!("first={}\n{commands}\n", first.display()))?)
    }

    /// Gives a command that a shell runs after each restore, for each frozen process that was
    /// restored from `original`. It finds the process id in `$pid`.
    pub fn after_restore(&self, original: u32, command: &str) -> Result<()> {
        let script = format!(
            "for each in /proc/[0-9]*; do
    pid=${{each#/proc/}}
    if [ $pid != {original} ] && cmp -s $each/cmdline /proc/{original}/cmdline; then {command}; fi
done"
        );
        Ok(fs::write(self.then(), script)?)
    }

    /// Leaves CRIU alone again in this step.
    pub fn mend(&self, step: &str) -> Result<()> {
        Ok(fs::remove_file(self.first(step))?)
    }

    /// A file whose name the commands know as `${first%/*}/NAME`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a world with these tools.
    pub fn world(&self, mut plan: Plan) -> Result<World> {
        plan.environment.push(("MOORING_PREFIX".to_owned(), self.directory.path().to_owned()));
        World::start(plan)
    }

    fn then(&self) -> PathBuf {
        self.file("after-restore")
    }

    fn first(&self, step: &str) -> PathBuf {
        self.file(&format!("before-{step}"))
    }
}

fn found(tool: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = Path::new("/opt/mooring/bin").to_owned();
    std::iter::once(installed)
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(tool))
        .find(|path| path.exists())
        .with_context(|| format!("{tool} is not installed"))
}
