//! Pages of the list of jobs.

use mooring_types::JobId;
use mooring_types::job::Category;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JobCounts, JobView};

/// The number of jobs of a page whose request names none.
pub const PAGE_LIMIT_DEFAULT: u32 = 50;
/// The most jobs of a page.
pub const PAGE_LIMIT_MAX: u32 = 1000;

/// A request for a page of jobs, which [`JobPageRequest::query`] writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPageRequest {
    /// The filters that all hold.
    pub filters: Vec<String>,
    pub category: Option<Category>,
    /// The most jobs; [`PAGE_LIMIT_DEFAULT`] where absent.
    pub limit: Option<u32>,
    /// The job that is older than the page: [`JobPage::previous`] of another one.
    pub after: Option<JobId>,
    /// The job that is newer than the page: [`JobPage::next`] of another one.
    pub before: Option<JobId>,
}

impl JobPageRequest {
    /// Returns the query of the request, without `?`.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.filters.iter().map(|filter| ("filter", filter)));
        let values = [
            ("category", self.category.map(|category| category.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("after", self.after.as_ref().map(JobId::to_string)),
            ("before", self.before.as_ref().map(JobId::to_string)),
        ];
        query.extend_pairs(values.into_iter().filter_map(|(key, value)| Some((key, value?))));
        query.finish()
    }
}

/// The jobs under the key that clients of the original read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobPages {
    #[serde(rename = "Jobs")]
    pub jobs: Vec<JobView>,
}

/// A job that was submitted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubmittedView {
    #[serde(flatten)]
    pub job: JobView,
    /// The fields of the request that have no effect, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A page of the list of jobs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobView>,
    /// The number of matching jobs on all pages.
    pub total: u32,
    /// The number of matching jobs on the pages before this one.
    pub newer: u32,
    /// The numbers of jobs of every category that match the filters.
    pub counts: JobCounts,
    /// `after` of the page before this one; absent on the first page.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<JobId>,
    /// `before` of the next page, with older jobs; absent on the last page.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<JobId>,
}
