//! The capsule store as this host reaches it: OpCenter says where it is, in every slice.

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
    told: Option<StoreAccess>,
    /// Opened when it is needed for the first time.
    open: Option<CapsuleStore>,
}

impl Capsules {
    /// Takes in where it is. What is being written or read goes on where it was begun.
    pub(crate) fn tell(&self, access: Option<&StoreAccess>) {
        let mut known = self.access();
        if known.told.as_ref() != access {
            *known = Access { told: access.cloned(), open: None };
        }
    }

    /// The store.
    ///
    /// # Errors
    /// There is none, or it can't be used from this host.
    pub(crate) fn store(&self) -> Result<CapsuleStore> {
        let mut known = self.access();
        if let Some(open) = &known.open {
            return Ok(open.clone());
        }
        let told = known.told.as_ref().ok_or(Error::NoStore)?;
        let store = open(told)?;
        known.open = Some(store.clone());
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
