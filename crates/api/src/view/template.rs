//! Templates.

use mooring_types::{JobId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Submission;
use crate::submission::{optional, text};

/// A template to create, from a job or from a submission.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TemplateCreateRequest {
    /// `name`, `name:tag` or `private::name:tag`; without a tag, the tag is the next number.
    pub name: String,
    /// A description for people.
    pub description: String,
    /// The job to create the template from.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from_job: Option<JobId>,
    /// The values of the template, instead of a job. `{token}` becomes a new random token for each
    /// job.
    #[serde(deserialize_with = "optional")]
    pub job: Option<Submission>,
    /// The path and query of its jobs' access URLs; the job's own or `/` when empty.
    pub access_path: String,
}

/// A template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateView {
    /// The name for `float submit --template`.
    pub name: String,
    /// A description for people.
    pub description: String,
    /// The user who created the template; empty for built-in ones.
    pub user: String,
    /// The time of the creation; absent for built-in templates.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// The path and query of its jobs' access URLs.
    pub access_path: String,
    /// The values of the template, with secrets masked.
    pub job: Submission,
}
