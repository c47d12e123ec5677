//! Sessions: those that are open, links that begin one in a browser, and requests for one that a
//! user confirms there.

use std::fmt;

use mooring_types::{JobId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SessionView;

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenSessionView {
    #[schema(value_type = String)]
    pub id: SessionId,
    /// The name of its user.
    pub user: String,
    /// `true` for the session of this request.
    pub present: bool,
    /// The time of the login.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// The time of the last request, within a minute.
    #[schema(value_type = String)]
    pub last_used: Timestamp,
    /// The latest end.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// The address that the login came from.
    pub address: String,
    /// The program that logged in, by its own word.
    pub client: String,
    /// The job of a session that is for one job alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
}

/// A link to make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LinkRequest {
    /// The path of the page to open, like `/jobs`; the first page when empty.
    pub page: String,
}

/// A link that logs a browser in, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// The path at OpCenter. It is as secret as a password until it is used.
    pub path: String,
    /// The time from which it is useless.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// A program's request for a session that a user confirms in a browser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SessionRequest {
    /// The name of the program's machine, which the page shows.
    pub machine: String,
}

/// A request for a session that waits for its confirmation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequestView {
    /// The token of the session, once a user has confirmed it.
    pub secret: String,
    /// The code that the page shows: the user compares.
    pub code: String,
    /// The path of the page at OpCenter.
    pub path: String,
    /// The time from which it is useless.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// The state of a request for a session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequestState {
    /// The session; absent while nobody has confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
}

impl fmt::Debug for SessionRequestView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret: _, code, path, expires_at } = self;
        f.debug_struct("SessionRequestView")
            .field("code", code)
            .field("path", path)
            .field("expires_at", expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LinkView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path: _, expires_at } = self;
        f.debug_struct("LinkView").field("expires_at", expires_at).finish_non_exhaustive()
    }
}
