//! Keys of OpCenter.

use axum::Json;
use axum::extract::State;
use mooring_api::view::KeyView;
use mooring_api::{ErrorBody, paths};

use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::key;

/// List the keys of OpCenter by their ids. It takes an admin.
#[utoipa::path(get, path = paths::KEYS,
    responses((status = 200, body = [KeyView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<KeyView>>> {
    Ok(Json(key::list(&context, &user).await?))
}

/// Replace the key that seals secrets and capsule keys, and seal all of them with the new one. It
/// takes an admin.
#[utoipa::path(post, path = paths::KEYS_ROTATE,
    responses((status = 200, body = KeyView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn rotate(State(context): State<Context>, user: User) -> ApiResult<Json<KeyView>> {
    Ok(Json(key::rotate(&context, &user).await?))
}
