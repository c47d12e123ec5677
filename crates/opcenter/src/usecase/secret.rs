//! Secrets: set, get, list, remove; and the check of a job's references to them.
//!
//! A secret is one user's, admins see no more of it than others. It is sealed before it is written ([`crate::state::vault`]), and opened in two
//! places: here for the user who asks for it, and in [`crate::decide::slices`] for the host that runs the user's job. A job takes the value of the
//! moment in which its container is made; what becomes of the secret later does not touch it.

use mooring_api::ErrorCode;
use mooring_api::view::{SecretSetRequest, SecretValue, SecretView};
use mooring_store::{SecretRow, Tx};
use mooring_types::job::JobSpec;
use mooring_types::secret::references;
use mooring_types::{Clock, Name};

use super::parse;
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

const LIST: &str = "`float secret ls` shows your secrets; `float secret set` sets one";
/// The largest value, in bytes.
const VALUE_MAX: usize = 64 << 10;
/// More secrets than this nobody keeps.
const COUNT_MAX: usize = 1000;

/// Sets a secret.
pub(crate) async fn set(
    context: &Context,
    user: &User,
    name: &str,
    request: &SecretSetRequest,
) -> ApiResult<SecretView> {
    let name: Name = parse(name)?;
    if request.value.is_empty() || request.value.len() > VALUE_MAX || request.value.contains('\0') {
        return Err(ApiError::invalid(format!(
            "the value of a secret is text of 1 to {VALUE_MAX} bytes without a NUL"
        )));
    }
    let sealed = context.vault.seal(&user.id, &name, &request.value)?;
    let mut tx = context.store.begin().await?;
    tx.secret_put(&user.id, &name, &sealed, context.clock.now()).await?;
    let all = tx.secret_list_of_user(&user.id).await?;
    if all.len() > COUNT_MAX {
        return Err(ApiError::new(ErrorCode::ResourceExhausted, format!("a user has at most {COUNT_MAX} secrets"))
            .hint("remove some with `float secret unset`"));
    }
    let row = all.into_iter().find(|secret| secret.name == name).ok_or_else(|| unknown(name.as_str()))?;
    tx.commit().await?;
    tracing::info!(user = user.name, "secret {name} of {} is set", user.name);
    context.wake();
    Ok(view(&row))
}

/// A secret with its value.
pub(crate) async fn get(context: &Context, user: &User, name: &str) -> ApiResult<SecretValue> {
    let mut tx = context.store.begin().await?;
    let all = tx.secret_list_of_user(&user.id).await?;
    let row = all.into_iter().find(|secret| secret.name.as_str() == name).ok_or_else(|| unknown(name))?;
    Ok(SecretValue { name: row.name.to_string(), value: open(context, &row)? })
}

/// All secrets of the user, without their values.
pub(crate) async fn list(context: &Context, user: &User) -> ApiResult<Vec<SecretView>> {
    let mut tx = context.store.begin().await?;
    Ok(tx.secret_list_of_user(&user.id).await?.iter().map(view).collect())
}

/// Removes a secret; jobs that have it keep what they have.
pub(crate) async fn unset(context: &Context, user: &User, name: &str) -> ApiResult<()> {
    let name: Name = parse(name)?;
    let mut tx = context.store.begin().await?;
    if !tx.secret_delete(&user.id, &name).await? {
        return Err(unknown(name.as_str()));
    }
    tx.commit().await?;
    tracing::info!(user = user.name, "secret {name} of {} is removed", user.name);
    context.wake();
    Ok(())
}

/// That every secret that a job's environment or volumes refer to is there and can be opened.
pub(crate) async fn check(context: &Context, tx: &mut Tx, user: &User, spec: &JobSpec) -> ApiResult<()> {
    let mut known = None;
    for value in spec.env.values().chain(spec.volumes.iter().flat_map(|volume| volume.options.values())) {
        for name in references(value).map_err(|error| ApiError::invalid(error.to_string()))? {
            if known.is_none() {
                known = Some(tx.secret_list_of_user(&user.id).await?);
            }
            let secret = known.iter().flatten().find(|secret| secret.name == name);
            open(context, secret.ok_or_else(|| unknown(name.as_str()))?)?;
        }
    }
    Ok(())
}

fn open(context: &Context, row: &SecretRow) -> ApiResult<String> {
    context.vault.unseal(&row.user, &row.name, &row.sealed).map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("secret `{}` can't be opened: {error}", row.name))
            .hint("set it anew with `float secret set`")
    })
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("no secret `{name}`")).hint(LIST)
}

fn view(row: &SecretRow) -> SecretView {
    SecretView { name: row.name.to_string(), create_time: row.create_time, update_time: row.update_time }
}
