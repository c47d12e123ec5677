//! Tokens with which hosts join.

use std::fmt;

use mooring_types::{JoinTokenId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The request of a token with which one host may join.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The name that the host has to have; empty for any.
    #[serde(default)]
    pub name: String,
    /// The time for which the token is good, like `30m`, at most a week; empty for an hour.
    #[serde(default)]
    pub ttl: String,
    /// The URL of OpCenter for the new host.
    pub opcenter: String,
}

/// A token that has not been used, without its secret part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenView {
    #[schema(value_type = String)]
    pub id: JoinTokenId,
    /// The name that the host has to have; empty for any.
    pub name: String,
    /// The user that made it.
    pub user: String,
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// A new token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenAnswer {
    pub join_token: JoinTokenView,
    /// The commands to paste into a root shell of the machine; they hold the token.
    pub command: String,
}

impl fmt::Debug for JoinTokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTokenAnswer").field("join_token", &self.join_token).finish_non_exhaustive()
    }
}
