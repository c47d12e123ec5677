//! Capsules written and read whole.

use anyhow::Result;
use mooring_capsule::{CapsuleStore, Manifest};
use mooring_types::{CapsuleName, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::facts;

pub(crate) async fn write(store: &CapsuleStore, name: &CapsuleName, bytes: &[u8]) -> Result<Manifest> {
    let mut writer = store.create(name).await?;
    writer.write_all(bytes).await?;
    Ok(writer.finish(facts()).await?)
}

pub(crate) async fn read(store: &CapsuleStore, name: &CapsuleName) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.open_capsule(name).await?.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// A time after everything that a test does, by which leftovers are old.
pub(crate) fn later() -> Timestamp {
    Timestamp::now() + jiff::SignedDuration::from_hours(1)
}
