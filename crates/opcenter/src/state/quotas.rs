//! The quotas of all users and groups, read from the database.

use mooring_store::{StoreError, Tx};

use crate::decide::quota::{GroupQuota, Quotas};

/// Reads all quotas, and what all users hold.
pub(crate) async fn read(tx: &mut Tx) -> Result<Quotas, StoreError> {
    let memberships = tx.membership_list().await?;
    let groups = tx.group_list().await?.into_iter().map(|group| GroupQuota {
        members: memberships.iter().filter(|row| row.group == group.name).map(|row| row.user_name.clone()).collect(),
        name: group.name.to_string(),
        quota: group.quota,
    });
    Ok(Quotas {
        users: tx.user_list().await?.into_iter().map(|user| (user.name, user.quota)).collect(),
        groups: groups.collect(),
        holdings: tx.holding_list().await?,
    })
}
