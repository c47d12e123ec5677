//! `~/.float/known_opcenters.yaml`: how the OpCenter at each address is believed.
//!
//! An address that is not in the file is asked at the first contact. This machine's certificates
//! may vouch for it. Otherwise the fingerprint of its authority is remembered, and another one at
//! that address is refused from then on.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mooring_api::client::Address;
use mooring_ops::file::{self, Durability, Mode};
use mooring_tls::{Trust, first_contact};

use crate::error::Local;

/// The file with what is known.
#[derive(Debug, Clone)]
pub(crate) struct KnownOpCenters {
    path: PathBuf,
}

impl KnownOpCenters {
    /// The file of the user who runs the program.
    pub(crate) fn of_user() -> Result<Self> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.ok_or_else(|| Local::new("HOME is not set", "set it, or give `--ca`"))?;
        Ok(Self::in_home(Path::new(&home)))
    }

    fn in_home(home: &Path) -> Self {
        Self { path: home.join(".float/known_opcenters.yaml") }
    }

    /// Returns how the OpCenter at an address is believed; asks it at the first contact.
    pub(crate) async fn trust(&self, address: &Address) -> Result<Trust> {
        let name = name(address);
        if let Some(known) = self.load()?.get(&name) {
            return if known.is_empty() { Ok(Trust::System) } else { Ok(Trust::read(known)?) };
        }
        let trust = first_contact(address.host(), address.port())
            .await
            .with_context(|| format!("can't reach OpCenter at {}", address.url()))?;
        self.remember(address, &trust)?;
        if let Trust::Pinned(fingerprint) = trust {
            // A missing stderr is ignored: the fingerprint is in the file.
            let _ = writeln!(
                io::stderr().lock(),
                "{name} is known from now on by its authority, {fingerprint}; OpCenter logs the same one at its start"
            );
        }
        Ok(trust)
    }

    /// Remembers how the OpCenter at an address is believed.
    pub(crate) fn remember(&self, address: &Address, trust: &Trust) -> Result<()> {
        let mut known = self.load()?;
        known.insert(name(address), trust.to_string());
        let text = serde_norway::to_string(&known).context("can't write what is known as YAML")?;
        let written = match self.path.parent() {
            Some(directory) => file::private_dir(directory),
            None => Ok(()),
        };
        written
            .and_then(|()| file::replace(&self.path, Durability::Synced, Mode::Private, text.as_bytes()))
            .with_context(|| format!("can't write {}", self.path.display()))
    }

    fn load(&self) -> Result<BTreeMap<String, String>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", self.path.display())),
        };
        let broken =
            |_| Local::new(format!("{} is damaged", self.path.display()), "remove it; addresses are then asked again");
        Ok(serde_norway::from_str(&text).map_err(broken)?)
    }
}

/// Returns the address's name in the file.
fn name(address: &Address) -> String {
    format!("{}:{}", address.host(), address.port())
}

#[cfg(test)]
mod tests {
    use mooring_tls::Fingerprint;

    use super::*;

    #[tokio::test]
    async fn what_is_known_is_not_asked_again() {
        let home = tempfile::tempdir().unwrap();
        let known = KnownOpCenters::in_home(home.path());
        // Nothing listens on port 1 of loopback.
        let address = Address::parse("https://127.0.0.1:1").unwrap();
        assert!(known.trust(&address).await.is_err());
        let pinned = Trust::Pinned(Fingerprint::of(b"an authority"));
        for trust in [pinned, Trust::System] {
            known.remember(&address, &trust).unwrap();
            assert_eq!(known.trust(&address).await.unwrap(), trust);
        }
    }

    #[tokio::test]
    async fn damaged_file_is_reported() {
        let home = tempfile::tempdir().unwrap();
        let known = KnownOpCenters::in_home(home.path());
        known.remember(&Address::parse("https://127.0.0.1:1").unwrap(), &Trust::System).unwrap();
        fs::write(&known.path, "- [").unwrap();
        let error = known.trust(&Address::parse("https://127.0.0.1:1").unwrap()).await.unwrap_err();
        assert!(error.to_string().ends_with("is damaged"), "{error}");
    }
}
