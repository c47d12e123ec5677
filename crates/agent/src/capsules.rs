//! The capsule store as this host reaches it. OpCenter names it in every slice.

use std::sync::Arc;

use mooring_api::watch::StoreAccess;
use mooring_capsule::{CapsuleStore, Location, S3Options, SealKey};
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The capsule store of this host's cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capsules(Arc<Mutex<Access>>);

#[derive(Debug, Default)]
struct Access {
    desired: Option<StoreAccess>,
    /// Opened when it is needed for the first time.
    open: Option<CapsuleStore>,
}

impl Capsules {
    /// Takes in the store that a slice names. Capsules that are being written or read go on in the
    /// store where they began.
    pub(crate) fn apply(&self, desired: Option<&StoreAccess>) {
        let mut access = self.access();
        if access.desired.as_ref() != desired {
            *access = Access { desired: desired.cloned(), open: None };
        }
    }

    /// Returns the store.
    ///
    /// # Errors
    /// OpCenter has named none, or it can't be used from this host.
    pub(crate) fn store(&self) -> Result<CapsuleStore> {
        let mut access = self.access();
        if let Some(open) = &access.open {
            return Ok(open.clone());
        }
        let store = open(access.desired.as_ref().ok_or(Error::NoStore)?)?;
        access.open = Some(store.clone());
        Ok(store)
    }

    fn access(&self) -> parking_lot::MutexGuard<'_, Access> {
        self.0.lock()
    }
}

fn open(access: &StoreAccess) -> Result<CapsuleStore> {
    let options = S3Options::given(&access.endpoint, &access.region, &access.access_key, &access.secret_key);
    let seal: SealKey = access.seal.parse().map_err(|_| Error::SealKey)?;
    Ok(CapsuleStore::open(&access.location.parse::<Location>()?.with_s3(options), seal)?)
}
