//! Quotas of users and groups.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// The change of a value: absent, `null` or the new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// The value stays.
    #[default]
    Keep,
    /// There is no value any more.
    Clear,
    To(T),
}

impl<T: Copy> Change<T> {
    /// Returns whether the value stays.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// Returns the value after the change.
    pub fn after(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::To(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::To(value) => serializer.serialize_some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::To))
    }
}

/// Changes to a quota: an absent limit stays, `null` removes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QuotaChange {
    #[serde(skip_serializing_if = "Change::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub jobs: Change<u32>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub cores: Change<u32>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    #[schema(value_type = Option<f64>)]
    pub mem_gb: Change<f64>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub gateways: Change<u32>,
}

/// The limits of a user or a group; `null` where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaView {
    /// Jobs that have not ended.
    pub jobs: Option<u32>,
    /// Cores of jobs that are not suspended, and of gateways.
    pub cores: Option<u32>,
    /// Memory of the same, in GB.
    pub mem_gb: Option<f64>,
    pub gateways: Option<u32>,
}

/// The amounts of the same that a user or the members of a group have now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldingView {
    pub jobs: u32,
    pub cores: u32,
    pub mem_gb: f64,
    pub gateways: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_and_null_differ() {
        let change: QuotaChange = serde_json::from_value(json!({"jobs": 3, "cores": null})).unwrap();
        assert_eq!((change.jobs, change.cores, change.mem_gb), (Change::To(3), Change::Clear, Change::Keep));
        assert_eq!(serde_json::to_value(change).unwrap(), json!({"jobs": 3, "cores": null}));
        assert_eq!((change.jobs.after(Some(1)), change.cores.after(Some(1))), (Some(3), None));
        assert_eq!(change.mem_gb.after(Some(1.5)), Some(1.5));
    }
}
