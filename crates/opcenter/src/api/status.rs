//! The status of everything, in numbers.

use axum::Json;
use axum::extract::State;
use mooring_api::view::StatusView;
use mooring_api::{ErrorBody, paths};

use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::view::status;

/// Show the numbers of hosts, gateways and jobs by status.
#[utoipa::path(get, path = paths::STATUS, responses((status = 200, body = StatusView), (status = 401, body = ErrorBody)))]
pub(super) async fn show(State(context): State<Context>, user: User) -> ApiResult<Json<StatusView>> {
    status::look(&context, &user).await.map(Json)
}
