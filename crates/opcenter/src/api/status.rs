//! How everything is, in numbers.

use axum::Json;
use axum::extract::State;
use mooring_api::view::StatusView;
use mooring_api::{ErrorBody, paths};

use crate::auth::User;
use crate::center::Center;
use crate::error::ApiResult;
use crate::status;

/// How many hosts, gateways and jobs there are, and how they are.
#[utoipa::path(get, path = paths::STATUS, responses((status = 200, body = StatusView), (status = 401, body = ErrorBody)))]
pub(super) async fn show(State(center): State<Center>, user: User) -> ApiResult<Json<StatusView>> {
    status::look(&center, &user).await.map(Json)
}
