//! Hosts.

use axum::Json;
use axum::extract::State;
use mooring_api::view::HostView;
use mooring_api::{ErrorBody, paths};

use crate::auth::User;
use crate::center::Center;
use crate::error::ApiResult;
use crate::views::Views;

/// All hosts by name.
#[utoipa::path(get, path = paths::HOSTS, responses((status = 200, body = [HostView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(center): State<Center>, _user: User) -> ApiResult<Json<Vec<HostView>>> {
    let mut tx = center.store.begin().await?;
    Ok(Json(Views::look(&center, &mut tx).await?.hosts()))
}
