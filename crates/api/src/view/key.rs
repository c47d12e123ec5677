//! Keys of OpCenter. Views have their ids, never the keys themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A key of OpCenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    /// A digest of the key, or of its public part.
    pub id: String,
    /// The use of the key, in words.
    pub purpose: String,
    /// The name of its file in OpCenter's state directory.
    pub file: String,
    /// The number of users' secrets that it seals.
    pub secrets: usize,
    /// The number of jobs' capsule keys that it seals.
    pub capsule_keys: usize,
}
