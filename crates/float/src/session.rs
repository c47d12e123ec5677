//! `~/.float/session.yaml`: where the last login went, and its token. Only its owner reads it; it is replaced as a whole.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::error::Local;

/// A session that `login` has kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// OpCenter's address.
    pub(crate) address: String,
    /// Who logged in.
    #[serde(default)]
    pub(crate) username: String,
    /// The bearer token.
    pub(crate) token: String,
}

/// The file that keeps the session.
#[derive(Debug, Clone)]
pub(crate) struct SessionFile {
    path: PathBuf,
}

impl SessionFile {
    /// The file of the user who runs this.
    pub(crate) fn of_user() -> Result<Self> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home =
            home.ok_or_else(|| Local::new("HOME is not set", "set it, or give `-a`, `-u` and `-p` with every call"))?;
        Ok(Self::in_home(Path::new(&home)))
    }

    fn in_home(home: &Path) -> Self {
        Self { path: home.join(".float/session.yaml") }
    }

    /// The session, if there is one.
    pub(crate) fn load(&self) -> Result<Option<Session>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", self.path.display())),
        };
        let broken = |_| Local::new(format!("{} is damaged", self.path.display()), "`float login` writes it anew");
        Ok(Some(serde_norway::from_str(&text).map_err(broken)?))
    }

    /// Replaces the session.
    pub(crate) fn store(&self, session: &Session) -> Result<()> {
        let text = serde_norway::to_string(session).context("can't write the session as YAML")?;
        self.replace(&text).with_context(|| format!("can't write {}", self.path.display()))
    }

    /// Forgets the session.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// A reader sees the old file or the new one, and nobody else ever sees either.
    fn replace(&self, text: &str) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let fresh = directory.join(format!(".session.yaml.{}", std::process::id()));
        // One of that name is left from a process that died: this process has the number now.
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let replaced = written.and_then(|()| fs::rename(&fresh, &self.path));
        if replaced.is_err() {
            // The failure that is reported is the first one.
            let _ = fs::remove_file(&fresh);
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn session(token: &str) -> Session {
        Session { address: "10.0.0.5:8443".into(), username: "admin".into(), token: token.into() }
    }

    #[test]
    fn a_session_is_kept_replaced_and_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let file = SessionFile::in_home(home.path());
        assert!(file.load().unwrap().is_none());
        file.store(&session("one")).unwrap();
        file.store(&session("two")).unwrap();
        assert_eq!(file.load().unwrap().unwrap().token, "two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file.path), 0o600);
        assert_eq!(mode(file.path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(file.path.parent().unwrap()).unwrap().count(), 1);
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(file.load().unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_said_to_be_so() {
        let home = tempfile::tempdir().unwrap();
        let file = SessionFile::in_home(home.path());
        file.store(&session("one")).unwrap();
        fs::write(&file.path, "address: [").unwrap();
        assert!(file.load().err().unwrap().to_string().ends_with("is damaged"));
    }
}
