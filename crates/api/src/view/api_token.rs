//! API tokens. The token is in the answer to its creation alone, and `Debug` hides it.

use std::fmt;

use mooring_types::api_token::TokenScope;
use mooring_types::{ApiTokenId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An API token to make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApiTokenRequest {
    /// The name, unique among the user's tokens.
    pub name: String,
    /// `read`, `jobs` or `all`; `read` when empty.
    pub scope: String,
    /// The time for which the token is good, like `30d`, at most `365d`; `30d` when empty.
    pub ttl: String,
}

/// An API token, without its secret part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenView {
    #[schema(value_type = String)]
    pub id: ApiTokenId,
    pub name: String,
    /// The name of its user.
    pub user: String,
    #[schema(value_type = String)]
    pub scope: TokenScope,
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// The time from which it is useless.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// The time of the last use, within a minute; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_used: Option<Timestamp>,
}

/// A new API token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenAnswer {
    pub api_token: ApiTokenView,
    /// The token itself. It is shown this once.
    pub token: String,
}

impl fmt::Debug for ApiTokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenAnswer").field("api_token", &self.api_token).finish_non_exhaustive()
    }
}
