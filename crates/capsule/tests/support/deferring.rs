//! Capsules of which a part is read last.

use std::ops::Range;

use anyhow::Result;
use mooring_capsule::{CapsuleStore, Manifest};
use mooring_types::CapsuleName;
use tokio::io::AsyncWriteExt;

use crate::support::facts;

/// Writes a capsule of which a part is deferred; gives what is read of it after that.
pub(crate) async fn write_deferring(
    store: &CapsuleStore,
    name: &CapsuleName,
    bytes: &[u8],
    deferred: Range<usize>,
) -> Result<(Manifest, Vec<u8>)> {
    let parts = [&bytes[..deferred.start], &bytes[deferred.clone()], &bytes[deferred.end..]];
    let mut writer = store.create(name).await?;
    writer.write_all(parts[0]).await?;
    let start = writer.position();
    writer.write_all(parts[1]).await?;
    writer.defer_since(start);
    writer.write_all(parts[2]).await?;
    let manifest = writer.finish(facts()).await?;
    Ok((manifest, [parts[0], parts[2], parts[1]].concat()))
}
