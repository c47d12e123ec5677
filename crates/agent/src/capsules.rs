//! The capsule store as this host reaches it.
//!
//! OpCenter sends the access with each order that leads to the store, with a key that opens the
//! capsules of that job alone.

use std::sync::Arc;

use mooring_api::watch::StoreAccess;
use mooring_capsule::{CapsuleKey, CapsuleStore, Location, S3Options};
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The capsule store of this host's cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capsules(Arc<Mutex<Option<Open>>>);

/// A store that was opened, which all jobs share.
#[derive(Debug)]
struct Open {
    access: StoreAccess,
    store: CapsuleStore,
}

impl Capsules {
    /// Opens the store for the capsules of a job. Capsules that are being written or read go on in
    /// the store where they began.
    ///
    /// # Errors
    /// The store can't be used from this host.
    pub(crate) fn store(&self, access: &StoreAccess) -> Result<CapsuleStore> {
        let key: CapsuleKey = access.key.parse().map_err(|_| Error::CapsuleKey)?;
        let mut open = self.0.lock();
        if let Some(open) = open.as_ref().filter(|open| open.access.is_same_store(access)) {
            return Ok(open.store.with_key(key));
        }
        let options = S3Options::given(&access.endpoint, &access.region, &access.access_key, &access.secret_key);
        let store = CapsuleStore::open(&access.location.parse::<Location>()?.with_s3(options), key)?;
        *open = Some(Open { access: access.clone(), store: store.clone() });
        Ok(store)
    }
}
