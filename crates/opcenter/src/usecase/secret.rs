//! Secrets: set, get, list, remove; and the check of a job's references to them.
//!
//! A secret belongs to one user; admins see no more of it than others. [`crate::state::vault`]
//! seals it. It is opened for the user who asks for it, and for the slice of the host that runs the
//! user's job. A job gets the value at the moment in which its container is made; later changes of
//! the secret do not affect it.

use mooring_api::ErrorCode;
use mooring_api::view::{SecretSetRequest, SecretValue, SecretView};
use mooring_store::{JobRow, SecretRow, Tx};
use mooring_types::job::JobSpec;
use mooring_types::secret::references;
use mooring_types::{Clock, Name, UserId};

use super::{parse, template};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::view::job::NamedJob;

const SECRET_HINT: &str = "`float secret ls` shows your secrets; `float secret set` sets one";
/// The most bytes of a value.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// The most secrets of a user.
const SECRETS_MAX: usize = 1000;

/// Sets a secret.
pub(crate) async fn set(
    context: &Context,
    user: &User,
    name: &str,
    request: &SecretSetRequest,
) -> ApiResult<SecretView> {
    let name: Name = parse(name).at("name")?;
    if request.value.is_empty() || request.value.len() > VALUE_BYTES_MAX || request.value.contains('\0') {
        return Err(ApiError::invalid(format!(
            "the value of a secret is text of 1 to {VALUE_BYTES_MAX} bytes without a NUL"
        ))
        .at("value"));
    }
    let mut tx = context.store.begin().await?;
    // Within the transaction: a rotation of the key waits for it, or has ended.
    let sealed = context.vault.seal(&user.id, &name, &request.value)?;
    tx.secret_put(&user.id, &name, &sealed, context.clock.now()).await?;
    let all = tx.secret_list_of_user(&user.id).await?;
    if all.len() > SECRETS_MAX {
        return Err(ApiError::new(ErrorCode::ResourceExhausted, format!("a user has at most {SECRETS_MAX} secrets"))
            .hint("remove some with `float secret unset`"));
    }
    let row = all.into_iter().find(|secret| secret.name == name).ok_or_else(|| unknown(name.as_str()))?;
    tx.commit().await?;
    audit::about(Kind::Secret, name.as_str(), "");
    tracing::info!(user = user.name, "secret {name} of {} is set", user.name);
    context.wake();
    Ok(view(&row))
}

/// Returns a secret with its value.
pub(crate) async fn get(context: &Context, user: &User, name: &str) -> ApiResult<SecretValue> {
    let mut tx = context.store.begin().await?;
    let all = tx.secret_list_of_user(&user.id).await?;
    let row = all.into_iter().find(|secret| secret.name.as_str() == name).ok_or_else(|| unknown(name))?;
    Ok(SecretValue { name: row.name.to_string(), value: open(context, &row)? })
}

/// Lists the user's secrets without their values.
pub(crate) async fn list(context: &Context, user: &User) -> ApiResult<Vec<SecretView>> {
    let mut tx = context.store.begin().await?;
    Ok(tx.secret_list_of_user(&user.id).await?.iter().map(view).collect())
}

/// The jobs and templates that refer to a secret.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses {
    /// The jobs that have started: they have its value.
    pub(crate) started: Vec<NamedJob>,
    /// The jobs that have not.
    pub(crate) waiting: Vec<NamedJob>,
    /// A volume of a job that has started needs it on the next host.
    pub(crate) mounts: bool,
    pub(crate) templates: Vec<String>,
}

/// Returns what refers to a secret of the user.
pub(crate) async fn uses(context: &Context, user: &User, name: &str) -> ApiResult<Uses> {
    let name: Name = parse(name)?;
    let mut tx = context.store.begin_read().await?;
    let is_meant = |value: &String| references(value).is_ok_and(|names| names.contains(&name));
    let in_volume = |job: &JobRow| job.spec.volumes.iter().any(|volume| volume.options.values().any(is_meant));
    let mut live = tx.job_list_live().await?;
    live.retain(|job| job.user_name == user.name && !job.status.is_final());
    live.retain(|job| job.spec.env.values().any(is_meant) || in_volume(job));
    let (started, waiting): (Vec<&JobRow>, Vec<&JobRow>) = live.iter().partition(|job| job.exec_time.is_some());
    Ok(Uses {
        mounts: started.iter().any(|job| in_volume(job)),
        started: NamedJob::all(started.into_iter()),
        waiting: NamedJob::all(waiting.into_iter()),
        templates: template::referring(&tx.template_list(&user.id).await?, &name),
    })
}

/// Removes a secret; existing jobs keep its value.
pub(crate) async fn unset(context: &Context, user: &User, name: &str) -> ApiResult<()> {
    let name: Name = parse(name)?;
    let mut tx = context.store.begin().await?;
    if !tx.secret_delete(&user.id, &name).await? {
        return Err(unknown(name.as_str()));
    }
    tx.commit().await?;
    audit::about(Kind::Secret, name.as_str(), "");
    tracing::info!(user = user.name, "secret {name} of {} is removed", user.name);
    context.wake();
    Ok(())
}

/// Checks that every secret that a job refers to exists and opens.
pub(crate) async fn check(context: &Context, tx: &mut Tx, user: &UserId, spec: &JobSpec) -> ApiResult<()> {
    let mut secrets = None;
    let of_env = spec.env.values().map(|value| ("env", value));
    let of_volumes = spec.volumes.iter().flat_map(|volume| volume.options.values());
    for (field, value) in of_env.chain(of_volumes.map(|value| ("dataVolumes", value))) {
        for name in references(value).map_err(|error| ApiError::invalid(error.to_string()).at(field))? {
            if secrets.is_none() {
                secrets = Some(tx.secret_list_of_user(user).await?);
            }
            let secret = secrets.iter().flatten().find(|secret| secret.name == name);
            open(context, secret.ok_or_else(|| unknown(name.as_str()).at(field))?)?;
        }
    }
    Ok(())
}

fn open(context: &Context, row: &SecretRow) -> ApiResult<String> {
    context.vault.unseal(&row.user, &row.name, &row.sealed).map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("secret `{}` can't be opened: {error}", row.name))
            .hint("set it again with `float secret set`")
    })
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("no secret `{name}`")).hint(SECRET_HINT)
}

fn view(row: &SecretRow) -> SecretView {
    SecretView { name: row.name.to_string(), create_time: row.create_time, update_time: row.update_time }
}
