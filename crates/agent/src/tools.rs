//! runc and CRIU: where they are, and whether this host can use them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mooring_linux::private_run::{self, PrivateRun};
use mooring_ops::log::chain;
use mooring_types::host::Readiness;
use tokio::process::Command;

/// The prefix below which `scripts/setup` installs tools that are newer than the system's packages.
const PREFIX: &str = "/opt/mooring";
/// The time that a tool may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The oldest CRIU that can dump TCP sockets on kernels since 6.16.
const CRIU_MIN: (u32, u32) = (4, 2);
/// The oldest runc with time namespaces and `--manage-cgroups-mode ignore`.
const RUNC_MIN: (u32, u32) = (1, 2);

/// The first releases of runc without the known escapes from a container of November 2025
/// (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881), by their minor version. Later ones never had
/// them.
const RUNC_MENDED: [Version; 3] = [
    Version { major: 1, minor: 2, patch: 8, candidate: None },
    Version { major: 1, minor: 3, patch: 3, candidate: None },
    Version { major: 1, minor: 4, patch: 0, candidate: Some(3) },
];

/// A version of runc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    /// The number of a release candidate.
    candidate: Option<u32>,
}

impl Version {
    /// Reads a version like `1.2.5`, `1.4.0-rc.3` or `1.3.6+ds1`.
    fn read(text: &str) -> Option<Self> {
        let (numbers, rest) = text.split_at(text.find(['-', '+', '~']).unwrap_or(text.len()));
        let mut numbers = numbers.split('.').map(str::parse);
        let mut number = || numbers.next().transpose().ok().map(Option::unwrap_or_default);
        let candidate = rest.get(1..).and_then(|rest| rest.strip_prefix("rc")).map(|rest| {
            let digits = rest.trim_start_matches('.').split(|other: char| !other.is_ascii_digit()).next();
            digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
        });
        Some(Self { major: number()?, minor: number()?, patch: number()?, candidate })
    }

    /// Returns whether a container can leave its host's runc of this version by a known escape.
    fn is_escapable(self) -> bool {
        // A candidate comes before its release.
        let age = |version: Self| (version.patch, version.candidate.unwrap_or(u32::MAX));
        let mended = RUNC_MENDED.iter().find(|mended| (mended.major, mended.minor) == (self.major, self.minor));
        match mended {
            Some(mended) => age(self) < age(*mended),
            None => (self.major, self.minor) < RUNC_MIN,
        }
    }
}

/// runc and CRIU of this host.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    directory: Option<PathBuf>,
    private_run: Option<PrivateRun>,
}

/// The versions of the tools, and whether they are of use.
#[derive(Debug, Clone)]
pub(crate) struct ToolFacts {
    pub(crate) criu: String,
    pub(crate) runc: String,
    pub(crate) readiness: Readiness,
}

impl Tools {
    /// The tools of `prefix` or the usual prefix, where they are there; else those on PATH.
    pub(crate) fn find(prefix: Option<&Path>) -> Self {
        let directory = prefix.unwrap_or(Path::new(PREFIX)).join("bin");
        Self { directory: directory.join("runc").exists().then_some(directory), private_run: None }
    }

    /// The same tools, with a `/run` in memory where the machine's is on disk.
    pub(crate) fn with_run(self, directory: &Path) -> Self {
        let opened = private_run::is_needed().then(|| PrivateRun::open(directory)).transpose();
        let private_run = opened.unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "no /run in memory: CRIU probes the kernel at each checkpoint, which takes longer");
            None
        });
        Self { private_run, ..self }
    }

    /// Unmounts the `/run` of [`Tools::with_run`].
    pub(crate) fn close(&self) {
        if let Some(Err(error)) = self.private_run.as_ref().map(PrivateRun::close) {
            tracing::debug!(error = %chain(&error), "the tools' /run stays mounted");
        }
    }

    /// A command of a tool.
    pub(crate) fn command(&self, tool: &str) -> Command {
        let program = self.directory.as_ref().map(|directory| directory.join(tool)).filter(|path| path.exists());
        let mut command = Command::new(program.unwrap_or_else(|| PathBuf::from(tool)));
        self.prepare(&mut command);
        command
    }

    /// Gives a command the PATH and the `/run` of the tools.
    pub(crate) fn prepare(&self, command: &mut Command) {
        command.env("PATH", self.path()).stdin(Stdio::null());
        if let Some(private_run) = &self.private_run {
            private_run.give(command.as_std_mut());
        }
    }

    /// The directory that the tools see as `/run`, where they have one of their own.
    pub(crate) fn private_run(&self) -> Option<&Path> {
        self.private_run.as_ref().map(PrivateRun::directory)
    }

    /// PATH with the tools first, where runc finds CRIU.
    fn path(&self) -> OsString {
        let rest = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let Some(directory) = &self.directory else { return rest };
        let mut path = directory.clone().into_os_string();
        path.push(":");
        path.push(rest);
        path
    }

    /// Asks both tools for their versions, and CRIU whether it works on this kernel.
    pub(crate) async fn facts(&self) -> ToolFacts {
        let criu = self.version("criu").await;
        let runc = self.version("runc").await;
        let readiness = match self.refusal(&criu, &runc).await {
            None => Readiness::Ready,
            Some(reason) => Readiness::NotReady { reason },
        };
        ToolFacts { criu, runc, readiness }
    }

    async fn refusal(&self, criu: &str, runc: &str) -> Option<String> {
        let too_old = |version: &str, least: (u32, u32)| parse(version).is_none_or(|found| found < least);
        if runc.is_empty() {
            return Some("runc is not installed: scripts/setup installs it".into());
        }
        if too_old(runc, RUNC_MIN) {
            return Some(format!("runc {runc} is too old, 1.2 or newer is needed: scripts/setup installs it"));
        }
        if Version::read(runc).is_none_or(Version::is_escapable) {
            return Some(format!(
                "runc {runc} has known escapes from its containers (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881): \
                 install runc 1.2.8, 1.3.3, 1.4.0 or newer; scripts/setup does that"
            ));
        }
        if criu.is_empty() {
            return Some("CRIU is not installed: scripts/setup installs it".into());
        }
        if too_old(criu, CRIU_MIN) {
            return Some(format!("CRIU {criu} is too old, 4.2 or newer is needed: scripts/setup installs it"));
        }
        match self.output("criu", &["check"]).await {
            Some((true, _)) => None,
            Some((false, output)) => {
                let last =
                    output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it printed nothing").to_owned();
                Some(format!("`criu check` fails: {last}"))
            }
            None => Some("`criu check` could not be run, or took too long".into()),
        }
    }

    async fn version(&self, tool: &str) -> String {
        let output = self.output(tool, &["--version"]).await.filter(|(success, _)| *success).map(|(_, output)| output);
        let word = output.as_deref().and_then(|output| {
            output.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        });
        word.unwrap_or_default().to_owned()
    }

    async fn output(&self, tool: &str, arguments: &[&str]) -> Option<(bool, String)> {
        let mut command = self.command(tool);
        command.args(arguments).kill_on_drop(true);
        let output = tokio::time::timeout(ANSWER_TIMEOUT, command.output()).await.ok()?.ok()?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Some((output.status.success(), text))
    }
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|other: char| !other.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("4.2.1"), Some((4, 2)));
        assert_eq!(parse("1.10-rc.1"), Some((1, 10)));
        assert!(parse("1.10") > parse("1.9"));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn versions_with_known_escapes_are_told_from_others() {
        let is_escapable = |text: &str| Version::read(text).is_none_or(Version::is_escapable);
        for bad in ["1.2.7", "1.2.0-rc.1", "1.3.0", "1.3.2+ds1", "1.4.0-rc.2", "1.4.0-rc1", "1.2.5-0ubuntu1", "x", ""] {
            assert!(is_escapable(bad), "{bad}");
        }
        for good in ["1.2.8", "1.3.3", "1.3.6+ds1", "1.4.0-rc.3", "1.4.0", "1.4.0~rc.4", "1.5.0-rc.1", "2.0"] {
            assert!(!is_escapable(good), "{good}");
        }
    }

    #[tokio::test]
    async fn host_with_an_escapable_runc_is_not_ready() {
        let prefix = tempfile::tempdir().unwrap();
        let bin = prefix.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for (tool, says) in [("runc", "runc version 1.3.2"), ("criu", "Version: 4.2.1")] {
            std::fs::write(bin.join(tool), format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            std::fs::set_permissions(bin.join(tool), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let facts = Tools::find(Some(prefix.path())).facts().await;
        assert!(matches!(facts.readiness, Readiness::NotReady { reason }
            if reason.contains("CVE-2025-31133") && reason.contains("1.3.2") && reason.contains("install")));
    }

    #[tokio::test]
    async fn host_without_runc_is_not_ready() {
        let empty = tempfile::tempdir().unwrap();
        let bin = empty.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink("/bin/false", bin.join("runc")).unwrap();
        let facts = Tools::find(Some(empty.path())).facts().await;
        assert!(matches!(facts.readiness, Readiness::NotReady { reason } if reason.contains("runc")));
    }
}
