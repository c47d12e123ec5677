//! The OpCenter that simulated daemons connect to, over TLS as real ones do.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use mooring_api::Client;
use mooring_tls::{Identity, Trust};

/// The address of an OpCenter, and how it is believed.
#[derive(Debug, Clone)]
pub struct OpCenter {
    address: String,
    trust: Trust,
}

impl OpCenter {
    /// Returns the OpCenter at an address like `127.0.0.1:8443`, with the authority in its state
    /// directory.
    pub fn at(address: impl Into<String>, state_dir: &Path) -> Result<Self> {
        let file = state_dir.join("ca.pem");
        let file = file.to_str().context("the state directory's path is no text")?;
        Ok(Self { address: address.into(), trust: Trust::read(file)? })
    }

    /// Returns a client that shows a daemon's certificate, if there is one.
    pub fn client(&self, identity: Option<Arc<Identity>>) -> Result<Client> {
        Ok(Client::for_daemon(&self.address, self.trust.clone(), identity)?)
    }
}
