//! The audit: entries, and the query that chooses them.

use mooring_types::Timestamp;
use mooring_types::audit::AuditOutcome;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The entries to list. All conditions have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// The name of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The action, like `job.cancel`, or the part before the dot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The object, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// `succeeded`, `refused` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub outcome: Option<AuditOutcome>,
    /// The earliest time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// The time after the last entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub until: Option<Timestamp>,
    /// Only entries before the one with this number: the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Only entries after the one with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// The most entries, up to 1000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl AuditQuery {
    /// Returns the parameters of a URL that are set.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self { user, action, object, outcome, since, until, before, after, limit } = self;
        let texts = [("user", user), ("action", action), ("object", object)];
        let texts = texts.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        let others = [
            ("outcome", outcome.map(|value| value.to_string())),
            ("since", since.map(|value| value.to_string())),
            ("until", until.map(|value| value.to_string())),
            ("before", before.map(|value| value.to_string())),
            ("after", after.map(|value| value.to_string())),
            ("limit", limit.map(|value| value.to_string())),
        ];
        texts.chain(others.into_iter().filter_map(|(key, value)| Some((key, value?)))).collect()
    }
}

/// A page of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditPage {
    /// The entries, newest first.
    pub entries: Vec<AuditView>,
    /// The value of `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

/// A request that changed something, or was to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditView {
    /// The number of the entry; it grows.
    pub id: i64,
    /// The time of the answer.
    #[schema(value_type = String)]
    pub time: Timestamp,
    /// The user, `host NAME` or `gateway NAME`; empty for an unknown one.
    pub user: String,
    /// `true` if the request did not prove who sent it, like a login with a wrong password.
    pub unproven: bool,
    /// The address that the request came from.
    pub address: String,
    /// The program that sent it, by its own word.
    pub client: String,
    /// The action, like `job.cancel`.
    pub action: String,
    /// The id of the object, or the text that named it.
    pub object: String,
    /// The name of the object, if it has one beside its id.
    pub object_name: String,
    /// Further objects.
    pub detail: String,
    /// `succeeded`, `refused` or `failed`.
    #[schema(value_type = String)]
    pub outcome: AuditOutcome,
    /// The reason of a refusal or a failure.
    pub reason: String,
}
