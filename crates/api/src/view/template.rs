//! Templates.

use mooring_types::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SubmitRequest;

/// A template to be created, from a job or from a request.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TemplateCreateRequest {
    /// `name`, `name:tag`, or with `private::` in front; a number follows the last one where there is no tag.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// The job that it is made from, by id.
    pub from_job: String,
    /// What it gives where a submission says nothing, in place of a job. `{token}` is drawn anew for each job.
    pub job: Option<SubmitRequest>,
    /// What follows the address in the URL of its jobs; the job's own or `/` when empty.
    pub access_path: String,
}

/// A template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateView {
    /// How it is called in `float submit --template`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Who created it; nobody where it is built in.
    pub user: String,
    /// Since when; absent where it is built in.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// What follows the address in the URL of its jobs.
    pub access_path: String,
    /// What it gives where a submission says nothing, without what looks like a secret.
    pub job: SubmitRequest,
}
