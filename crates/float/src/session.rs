//! `~/.float/session.yaml`: the address and the token of the last login. Only its owner can read
//! it; it is replaced atomically.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::error::Local;

/// A stored session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) username: String,
    pub(crate) token: String,
}

/// The session file.
#[derive(Debug, Clone)]
pub(crate) struct SessionFile {
    path: PathBuf,
}

impl SessionFile {
    /// The session file of the user who runs the program.
    pub(crate) fn of_user() -> Result<Self> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home
            .ok_or_else(|| Local::new("HOME is not set", "set it, or give `-a`, `-u` and `-p` with every command"))?;
        Ok(Self::in_home(Path::new(&home)))
    }

    fn in_home(home: &Path) -> Self {
        Self { path: home.join(".float/session.yaml") }
    }

    /// Reads the session; `None` without a file.
    pub(crate) fn load(&self) -> Result<Option<Session>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", self.path.display())),
        };
        let broken = |_| Local::new(format!("{} is damaged", self.path.display()), "run `float login` to replace it");
        Ok(Some(serde_norway::from_str(&text).map_err(broken)?))
    }

    pub(crate) fn store(&self, session: &Session) -> Result<()> {
        let text = serde_norway::to_string(session).context("can't write the session as YAML")?;
        self.replace(&text).with_context(|| format!("can't write {}", self.path.display()))
    }

    /// Deletes the session file.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Replaces the file atomically; only its owner can read it at any time.
    fn replace(&self, text: &str) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let fresh = directory.join(format!(".session.yaml.{}", std::process::id()));
        // A file of that name is left over from a dead process with the same id.
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let replaced = written.and_then(|()| fs::rename(&fresh, &self.path));
        if replaced.is_err() {
            // The first error is the one to report.
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
    fn session_is_stored_replaced_removed() {
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
    fn damaged_session_is_reported() {
        let home = tempfile::tempdir().unwrap();
        let file = SessionFile::in_home(home.path());
        file.store(&session("one")).unwrap();
        fs::write(&file.path, "address: [").unwrap();
        assert!(file.load().err().unwrap().to_string().ends_with("is damaged"));
    }
}
