//! The settings that OpCenter runs with.

use mooring_types::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The settings that OpCenter runs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingsView {
    pub version: String,
    /// The start of the process.
    #[schema(value_type = String)]
    pub start_time: Timestamp,
    pub settings: Vec<SettingView>,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingView {
    /// The name, like `stateDir`.
    pub name: String,
    /// The values; empty for none.
    pub values: Vec<String>,
    /// The flag of `float server opcenter` that sets it; empty if nothing does.
    pub flag: String,
    /// The meaning.
    pub description: String,
}
