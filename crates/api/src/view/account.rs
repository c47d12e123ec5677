//! Users and groups. Passwords are in requests only, and `Debug` hides them.

use std::fmt;

use mooring_types::{Role, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{HoldingView, QuotaChange, QuotaView};

/// A user to add.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserAddRequest {
    pub name: String,
    /// The password, at least 8 characters.
    pub password: String,
    /// `admin`, `user` or `viewer`; `user` when empty.
    pub role: String,
    /// The names of the user's groups.
    pub groups: Vec<String>,
}

/// Changes to a user; absent or empty values stay.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserUpdateRequest {
    /// The new password; it ends the user's sessions.
    pub password: String,
    /// The current password; required to change one's own.
    pub current_password: String,
    /// `admin`, `user` or `viewer`.
    pub role: String,
    /// The names of groups to join.
    pub add_groups: Vec<String>,
    /// The names of groups to leave.
    pub remove_groups: Vec<String>,
    /// Limits to change.
    pub quota: QuotaChange,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    #[schema(value_type = String)]
    pub id: UserId,
    pub name: String,
    #[schema(value_type = String)]
    pub role: Role,
    /// The names of the user's groups.
    pub groups: Vec<String>,
    /// `password`, or the URL of the OpenID provider at which the user signs in.
    pub sign_in: String,
    /// The time of the creation.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    pub quota: QuotaView,
    /// The amounts that count against the quota now.
    pub used: HoldingView,
}

impl UserView {
    /// The sign-in of a user who has a password.
    pub const BY_PASSWORD: &'static str = "password";

    /// Returns whether the user has a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.sign_in == Self::BY_PASSWORD
    }
}

/// A group to add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GroupAddRequest {
    pub name: String,
    /// A description for people.
    pub description: String,
    /// The names of the members.
    pub users: Vec<String>,
}

/// Changes to a group; absent or empty values stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GroupUpdateRequest {
    /// A description for people.
    pub description: Option<String>,
    /// The names of users to add.
    pub add_users: Vec<String>,
    /// The names of users to remove.
    pub remove_users: Vec<String>,
    /// Limits to change, of all members together.
    pub quota: QuotaChange,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    pub name: String,
    /// A description for people.
    pub description: String,
    /// The names of the members.
    pub users: Vec<String>,
    /// The time of the creation.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    pub quota: QuotaView,
    /// The amounts that count against the quota now.
    pub used: HoldingView,
}

impl fmt::Debug for UserAddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, password: _, role, groups } = self;
        f.debug_struct("UserAddRequest")
            .field("name", name)
            .field("role", role)
            .field("groups", groups)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UserUpdateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { password: _, current_password: _, role, add_groups, remove_groups, quota } = self;
        f.debug_struct("UserUpdateRequest")
            .field("role", role)
            .field("add_groups", add_groups)
            .field("remove_groups", remove_groups)
            .field("quota", quota)
            .finish_non_exhaustive()
    }
}
