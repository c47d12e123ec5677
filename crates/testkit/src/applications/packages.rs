//! The packages of rows, from Debian, PyPI and npm, installed once.
//!
//! ```text
//!   <prefix>/apps/root              a Debian of its own: the image of jobs (`scripts/setup apps`)
//!   <prefix>/apps/root/opt/ROW      a row's virtual environment, and its modules of Node.js
//!   <prefix>/apps/root/srv/apps     apps/programs and apps/clients
//! ```
//!
//! The host's own packages are not touched. Rows with the image `host` use what `scripts/setup
//! test` installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::directory;
use super::row::{Image, Row};

/// The places of rows' files, as jobs and clients see them.
#[derive(Debug, Clone)]
pub struct Places {
    prefix: PathBuf,
    /// The copy of `apps` that jobs of the image `host` see.
    host_apps: PathBuf,
}

impl Places {
    /// The places below the prefix, with a copy of programs and clients in `files`, for the image
    /// `host`.
    pub fn new(files: &Path) -> Result<Self> {
        let prefix = std::env::var_os("MOORING_PREFIX").filter(|prefix| !prefix.is_empty());
        let prefix = prefix.map_or_else(|| PathBuf::from("/opt/mooring"), PathBuf::from);
        let host_apps = files.join("apps");
        copy(&host_apps)?;
        Ok(Self { prefix, host_apps })
    }

    /// The root file system of the row's job.
    #[must_use]
    pub fn root(&self, row: &Row) -> PathBuf {
        match row.image {
            Image::Debian => self.prefix.join("apps/root"),
            Image::Host => PathBuf::from("/"),
        }
    }

    /// A script for `sh -c`, with the row's own programs on its path.
    #[must_use]
    pub fn script(&self, row: &Row, script: &str) -> String {
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let prefix = self.prefix.display();
        match row.image {
            Image::Host => format!(
                "export APPS={} PREFIX={prefix} HOME=/root PATH={prefix}/code-server/node_modules/.bin:{system}\n{script}",
                self.host_apps.display()
            ),
            Image::Debian => format!(
                "export APPS=/srv/apps HOME=/root PATH=/opt/{0}/venv/bin:/opt/{0}/node_modules/.bin:{system}\n{script}",
                row.name
            ),
        }
    }

    /// A command that runs a script where the row's packages are.
    #[must_use]
    pub fn command(&self, row: &Row, script: &str) -> Command {
        let mut command = match row.image {
            Image::Host => Command::new("sh"),
            Image::Debian => {
                let mut command = Command::new(directory().join("../scripts/in-root"));
                command.env("MOORING_PREFIX", &self.prefix).arg("sh");
                command
            }
        };
        command.arg("-c").arg(self.script(row, script)).stdin(Stdio::null());
        command
    }

    /// Installs what the row needs and is missing, and returns its version.
    ///
    /// # Errors
    /// Something is not to be had here. The text says what.
    pub fn install(&self, row: &Row) -> Result<String> {
        if row.image == Image::Debian {
            let root = self.root(row);
            ensure!(
                root.join("etc/debian_version").is_file(),
                "{} is missing: run `scripts/setup apps`",
                root.display()
            );
            copy(&root.join("srv/apps"))?;
            self.install_debian(row)?;
            self.install_own(row)?;
        }
        if let Some(needs) = &row.needs {
            self.run(row, needs).with_context(|| format!("`{needs}` fails"))?;
        }
        let printed = self.run(row, &row.version).with_context(|| format!("`{}` fails", row.version))?;
        let lines = [printed.stdout, printed.stderr].concat();
        Ok(String::from_utf8_lossy(&lines)
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("unknown")
            .to_owned())
    }

    fn install_debian(&self, row: &Row) -> Result<()> {
        let npm = (!row.npm.is_empty()).then_some("npm");
        let names: Vec<&str> = row.debian.iter().map(String::as_str).chain(npm).collect();
        if names.is_empty() {
            return Ok(());
        }
        let (count, names) = (names.len(), names.join(" "));
        let script = format!(
            "dpkg-query -W -f '${{Status}}\\n' {names} 2>/dev/null | grep -c '^install ok installed' | grep -qx {count} && exit 0
            export DEBIAN_FRONTEND=noninteractive
            flock /run/apt.lock apt-get install -y -qq --no-install-recommends {names} >/run/apt.log 2>&1 && exit 0
            flock /run/apt.lock apt-get update -qq
            exec flock /run/apt.lock apt-get install -y -qq --no-install-recommends {names}"
        );
        self.run(row, &script).with_context(|| format!("Debian has not all of {names}")).map(drop)
    }

    /// Installs packages of PyPI and npm. A list of them beside them tells that they are complete.
    fn install_own(&self, row: &Row) -> Result<()> {
        let wanted = [row.pypi.clone(), row.npm.clone()].concat().join("\n");
        let own = self.root(row).join("opt").join(&row.name);
        let list = own.join("installed");
        if wanted.is_empty() || fs::read_to_string(&list).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        let mut script = format!("set -e; rm -rf /opt/{0}; mkdir -p /opt/{0}; cd /opt/{0}\n", row.name);
        if !row.pypi.is_empty() {
            let names = shlex::try_join(row.pypi.iter().map(String::as_str))?;
            script += &format!(
                "python3 -m venv venv\nvenv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir {names}\n"
            );
        }
        // Node itself comes first: npm leaves out what is not for the Node that it runs on.
        let (node, others): (Vec<_>, Vec<_>) =
            row.npm.iter().map(String::as_str).partition(|package| package.starts_with("node@"));
        for packages in [node, others].into_iter().filter(|packages| !packages.is_empty()) {
            let names = shlex::try_join(packages)?;
            script +=
                &format!("npm install --prefix . --no-audit --no-fund --no-progress --cache /var/tmp/npm {names}\n");
        }
        self.run(row, &script)
            .with_context(|| format!("PyPI or npm have not all of {}", wanted.replace('\n', ", ")))?;
        Ok(fs::write(list, wanted)?)
    }

    fn run(&self, row: &Row, script: &str) -> Result<Output> {
        let output = self.command(row, script).output().context("run `sh`")?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let last: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
            bail!("{}: {}", output.status, last.into_iter().rev().collect::<Vec<_>>().join(" / "));
        }
        Ok(output)
    }
}

/// Copies programs and clients to `to`. Files that are the same stay as they are: jobs run them.
fn copy(to: &Path) -> Result<()> {
    for part in ["programs", "clients"] {
        fs::create_dir_all(to.join(part))?;
        for entry in fs::read_dir(directory().join(part))? {
            let from = entry?.path();
            let name = from.file_name().context("a file has a name")?;
            let target = to.join(part).join(name);
            let bytes = if from.is_file() { fs::read(&from)? } else { continue };
            if fs::read(&target).ok().as_ref() != Some(&bytes) {
                fs::write(&target, bytes).with_context(|| format!("write {}", target.display()))?;
            }
        }
    }
    Ok(())
}
