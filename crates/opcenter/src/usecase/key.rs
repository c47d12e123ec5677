//! Keys: list, rotate.
//!
//! A rotation draws a new key for users' secrets, the capsule keys of jobs and the keys of
//! gateways' certificates. It seals all of them with the new key in one transaction. Capsules stay
//! as they are: only the wrapping of their keys changes. [`crate::state::vault`] says what a start
//! makes of a rotation that was interrupted.

use mooring_api::ErrorCode;
use mooring_api::view::KeyView;
use mooring_ops::failpoint;
use mooring_store::{GatewayCertificateRow, Tx};

use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::state::vault::{KEY_FILE, Key, Unsealed};

/// The setting with the id of the key that all values are sealed with.
pub(crate) const IN_USE: &str = "secretKey";

/// Lists the keys of OpCenter, without the keys themselves.
pub(crate) async fn list(context: &Context, user: &User) -> ApiResult<Vec<KeyView>> {
    user.refuse_unless_admin("looking at the keys")?;
    let mut tx = context.store.begin_read().await?;
    let authority = KeyView {
        id: context.authority.fingerprint().to_string(),
        purpose: "signs certificates".into(),
        file: "ca-key.pem".into(),
        secrets: 0,
        capsule_keys: 0,
    };
    Ok(vec![view(&mut tx, &context.vault.present()).await?, authority])
}

async fn view(tx: &mut Tx, key: &Key) -> ApiResult<KeyView> {
    Ok(KeyView {
        id: key.id().to_owned(),
        purpose: "seals secrets and capsule keys".into(),
        file: KEY_FILE.into(),
        secrets: tx.secret_list().await?.len(),
        capsule_keys: tx.job_capsule_key_list().await?.len(),
    })
}

/// Seals all values with a new key, which takes the place of the present one.
pub(crate) async fn rotate(context: &Context, user: &User) -> ApiResult<KeyView> {
    user.refuse_unless_admin("rotating a key")?;
    let vault = &context.vault;
    let _alone = vault.rotation.lock().await;
    let (old, next) = (vault.present(), vault.prepare()?);
    pass("key-written").await?;
    let mut tx = context.store.begin().await?;
    let left = reseal(context, &mut tx, &next).await?;
    tx.setting_set(IN_USE, next.id()).await?;
    let view = view(&mut tx, &next).await?;
    pass("key-sealed").await?;
    // The next one who seals a value waits for this transaction.
    vault.switch(next.clone());
    if let Err(error) = tx.commit().await {
        vault.switch(old);
        return Err(error.into());
    }
    pass("key-committed").await?;
    vault.finish()?;
    pass("key-finished").await?;
    context.wake();
    audit::about(Kind::Key, next.id(), KEY_FILE);
    audit::detail(format!("in place of {}", old.id()));
    if left > 0 {
        audit::detail(format!("{left} values could not be opened"));
        tracing::warn!(left, "{left} values could not be opened before the rotation, and stay so");
    }
    tracing::info!(actor = user.name, "the key of secrets is {} now, in place of {}", next.id(), old.id());
    Ok(view)
}

/// Seals all values with another key. Returns the number of those that can't be opened: they stay.
async fn reseal(context: &Context, tx: &mut Tx, key: &Key) -> ApiResult<usize> {
    let mut left = 0;
    for row in tx.secret_list().await? {
        match context.vault.reseal(key, &row.user, &row.name, &row.sealed) {
            Ok(sealed) => tx.secret_reseal(&row.user, &row.name, &sealed).await?,
            Err(Unsealed::CantOpen(_)) => left += 1,
            Err(Unsealed::CantSeal(error)) => return Err(error.into()),
        }
    }
    for (job, sealed) in tx.job_capsule_key_list().await? {
        match context.vault.reseal_capsule_key(key, &job, &sealed) {
            Ok(sealed) => tx.job_capsule_key_set(&job, &sealed).await?,
            Err(Unsealed::CantOpen(_)) => left += 1,
            Err(Unsealed::CantSeal(error)) => return Err(error.into()),
        }
    }
    for row in tx.gateway_certificate_list().await? {
        match context.vault.reseal_port_key(key, &row.gateway, &row.name, &row.sealed_key) {
            Ok(sealed_key) => tx.gateway_certificate_put(&GatewayCertificateRow { sealed_key, ..row }).await?,
            Err(Unsealed::CantOpen(_)) => left += 1,
            Err(Unsealed::CantSeal(error)) => return Err(error.into()),
        }
    }
    Ok(left)
}

async fn pass(name: &str) -> ApiResult<()> {
    failpoint::check(name).await.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}
