//! Security groups.

use mooring_types::{SecurityGroupId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A security group to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityGroupCreateRequest {
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What it allows, `tcp:<port>[-<port>]:<source>` each.
    pub rules: Vec<String>,
}

/// What is to change of a security group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityGroupModifyRequest {
    /// Rules to be added.
    pub add_rules: Vec<String>,
    /// Rules to be removed.
    pub remove_rules: Vec<String>,
}

/// A security group.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it allows, `tcp:<port>[-<port>]:<source>` each.
    pub rules: Vec<String>,
    /// Who created it.
    pub user: String,
    /// When it was created.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// The gateways and the jobs that have it.
    pub used_by: Vec<String>,
}
