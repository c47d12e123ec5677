//! Security groups.

use mooring_types::{SecurityGroupId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A security group to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityGroupCreateRequest {
    pub name: String,
    /// A description for people.
    pub description: String,
    /// The rules, `tcp:<port>[-<port>]:<source>` each.
    pub rules: Vec<String>,
}

/// Changes to a security group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityGroupModifyRequest {
    /// The rules to add.
    pub add_rules: Vec<String>,
    /// The rules to remove.
    pub remove_rules: Vec<String>,
}

/// A security group.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupView {
    #[schema(value_type = String)]
    pub id: SecurityGroupId,
    pub name: String,
    /// A description for people.
    pub description: String,
    /// The rules, `tcp:<port>[-<port>]:<source>` each.
    pub rules: Vec<String>,
    /// The user who created the group.
    pub user: String,
    /// The time of the creation.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// The gateways and jobs with the group.
    pub used_by: Vec<String>,
}
