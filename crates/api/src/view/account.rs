//! Users and groups. A password is read and never shown, not even by `Debug`.

use std::fmt;

use mooring_types::{Role, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A user to be added.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserAddRequest {
    /// Its name.
    pub name: String,
    /// Its password, at least 8 characters.
    pub password: String,
    /// `admin` or `user`; `user` when empty.
    pub role: String,
    /// The groups that it is in, by name.
    pub groups: Vec<String>,
}

/// What is to change of a user; what is absent or empty stays.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserUpdateRequest {
    /// The new password; the user's sessions end.
    pub password: String,
    /// The password that the user has now: whoever changes one's own gives it.
    pub current_password: String,
    /// `admin` or `user`.
    pub role: String,
    /// Groups that it is to be in, by name.
    pub add_groups: Vec<String>,
    /// Groups that it is to be in no more, by name.
    pub remove_groups: Vec<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Its name.
    pub name: String,
    /// What it may do.
    #[schema(value_type = String)]
    pub role: Role,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// Since when.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
}

/// A group to be added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GroupAddRequest {
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// Who is in it, by name.
    pub users: Vec<String>,
}

/// What is to change of a group; what is absent or empty stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GroupUpdateRequest {
    /// What it is for.
    pub description: Option<String>,
    /// Users that are to be in it, by name.
    pub add_users: Vec<String>,
    /// Users that are to be in it no more, by name.
    pub remove_users: Vec<String>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Who is in it.
    pub users: Vec<String>,
    /// Since when.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
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
        let Self { password: _, current_password: _, role, add_groups, remove_groups } = self;
        f.debug_struct("UserUpdateRequest")
            .field("role", role)
            .field("add_groups", add_groups)
            .field("remove_groups", remove_groups)
            .finish_non_exhaustive()
    }
}
