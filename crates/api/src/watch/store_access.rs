//! The access to the capsule store that a host gets with an order.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The access to the capsule store, for the capsules of one job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreAccess {
    /// `dir:/path` or `s3://bucket/prefix`.
    pub location: String,
    /// The URL of an S3-compatible server; empty for Amazon S3.
    #[serde(default)]
    pub endpoint: String,
    /// The region of the S3 server.
    #[serde(default)]
    pub region: String,
    /// The access key; empty for the machine's own rights.
    #[serde(default)]
    pub access_key: String,
    /// The secret key.
    #[serde(default)]
    pub secret_key: String,
    /// The key of the job's capsules, in hex.
    pub key: String,
}

/// The place of the capsule store, without any key. A host tells whether it reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorePlace {
    /// As in [`StoreAccess`].
    pub location: String,
    /// As in [`StoreAccess`].
    #[serde(default)]
    pub endpoint: String,
    /// As in [`StoreAccess`].
    #[serde(default)]
    pub region: String,
}

impl StoreAccess {
    /// Returns the place of the store.
    #[must_use]
    pub fn place(&self) -> StorePlace {
        let Self { location, endpoint, region, .. } = self.clone();
        StorePlace { location, endpoint, region }
    }

    /// Returns the access to a capsule store in a directory; OpCenter adds the key.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            location: format!("dir:{}", directory.display()),
            endpoint: String::new(),
            region: String::new(),
            access_key: String::new(),
            secret_key: String::new(),
            key: String::new(),
        }
    }

    /// Returns the access for the capsules that a key opens.
    #[must_use]
    pub fn with_key(&self, key: String) -> Self {
        Self { key, ..self.clone() }
    }

    /// Returns whether another access leads to the same store in the same way, with any key.
    #[must_use]
    pub fn is_same_store(&self, other: &Self) -> bool {
        *self == other.with_key(self.key.clone())
    }
}

impl fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAccess")
            .field("location", &self.location)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}
