//! The requests of users, hosts and gateways, one file per noun. Each is one transaction: all of it
//! happens, or nothing.

pub(crate) mod allowed;
pub(crate) mod api_token;
pub(crate) mod audit_log;
pub(crate) mod belongings;
mod certificate;
pub(crate) mod connection;
pub(crate) mod external;
pub(crate) mod gateway;
pub(crate) mod gateway_certificate;
pub(crate) mod group;
pub(crate) mod host;
pub(crate) mod job;
pub(crate) mod job_session;
pub(crate) mod join_token;
pub(crate) mod key;
mod membership;
pub(crate) mod migration;
pub(crate) mod modify;
mod permissions;
mod policy;
mod quota;
pub(crate) mod resources;
mod script;
pub(crate) mod secret;
pub(crate) mod security_group;
pub(crate) mod session;
pub(crate) mod setting;
pub(crate) mod sign_in;
pub(crate) mod template;
pub(crate) mod usage;
pub(crate) mod user;
pub(crate) mod visit;
mod volumes;

use mooring_api::ErrorCode;
use mooring_store::{GatewayRow, JobRow, Tx};
use mooring_types::{GatewayId, JobId, Reference};

use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult};

/// Returns the job with that id, if the user may act on it.
pub(crate) async fn find_job(tx: &mut Tx, user: &User, id: &str) -> ApiResult<JobRow> {
    let job = see_job(tx, user, id).await?;
    audit::about(Kind::Job, job.id.as_str(), job.spec.name.as_str());
    if user.may_change(&job.user_name) {
        return Ok(job);
    }
    let owner = &job.user_name;
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("job {id} belongs to {owner}"))
        .hint(format!("members of a group see each other's jobs, and no more: ask {owner} or an admin")))
}

/// Returns the job with that id, if the user may see it.
pub(crate) async fn see_job(tx: &mut Tx, user: &User, id: &str) -> ApiResult<JobRow> {
    let list = "`float list` shows the jobs";
    let id: JobId =
        id.parse().map_err(|error: mooring_types::id::InvalidId| ApiError::invalid(error.to_string()).hint(list))?;
    let job = tx.job_get(&id).await?.filter(|job| user.may_see(&job.user_name));
    job.ok_or_else(|| ApiError::not_found(format!("no job {id}")).hint(list))
}

/// Returns the gateway with that id or name.
pub(crate) async fn find_gateway(tx: &mut Tx, reference: &Reference<GatewayId>) -> ApiResult<GatewayRow> {
    let all = tx.gateway_list().await?;
    let found = all.into_iter().find(|gateway| reference.is_to(&gateway.id, &gateway.spec.name));
    if let Some(gateway) = &found {
        audit::about(Kind::Gateway, gateway.id.as_str(), gateway.spec.name.as_str());
    }
    found.ok_or_else(|| {
        ApiError::not_found(format!("no gateway `{reference}`")).hint("`float gateway list` shows the gateways")
    })
}

/// Parses a text; the error is for the user.
pub(crate) fn parse<T>(text: &str) -> ApiResult<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| ApiError::invalid(error.to_string()))
}

/// Makes the error for a name that is taken; any other error stays what it is.
pub(crate) fn taken(error: mooring_store::StoreError, message: impl FnOnce() -> String) -> ApiError {
    if error.is_taken() { ApiError::new(ErrorCode::AlreadyExists, message()) } else { error.into() }
}
