//! Secrets. Only two types have a value, and their `Debug` hides it.

use std::fmt;

use mooring_types::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The new value of a secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSetRequest {
    /// The value, at most 64 KiB of text.
    pub value: String,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretView {
    pub name: String,
    /// The time of the creation.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// The time of the last change.
    #[schema(value_type = String)]
    pub update_time: Timestamp,
}

/// A secret with its value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretValue {
    pub name: String,
    pub value: String,
}

impl fmt::Debug for SecretSetRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSetRequest").finish_non_exhaustive()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretValue").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_has_no_value() {
        let value = SecretValue { name: "token".into(), value: "open sesame".into() };
        let request = SecretSetRequest { value: value.value.clone() };
        assert!(!format!("{value:?}{request:?}{value:#?}{request:#?}").contains("sesame"));
    }
}
