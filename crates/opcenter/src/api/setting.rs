//! Settings.

use axum::Json;
use axum::extract::State;
use mooring_api::view::SettingsView;
use mooring_api::{ErrorBody, paths};

use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::setting;

/// Show the settings that OpCenter runs with. It takes an admin.
#[utoipa::path(get, path = paths::SETTINGS,
    responses((status = 200, body = SettingsView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<SettingsView>> {
    Ok(Json(setting::list(&context, &user)?))
}
