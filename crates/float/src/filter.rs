//! `float list -f`: which jobs are shown.
//!
//! ```text
//!  filter    = condition { "or" condition }      several filters: all must hold
//!  condition = key "=" value                     key: id, name, status, user
//! ```
//!
//! Status names are read in any case; everything else is compared as it is.

use anyhow::Result;
use mooring_api::view::JobView;
use mooring_types::job::JobStatus;

use crate::error::invalid;

const FORM: &str = "write `status=Executing or status=Floating`; the keys are id, name, status and user";

/// A filter that was understood: one of its conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Id(String),
    Name(String),
    Status(JobStatus),
    User(String),
}

impl Filter {
    /// Reads a filter.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let alternatives = words.split(|word| word.eq_ignore_ascii_case("or"));
        alternatives.map(|words| Condition::parse(&words.join(" "))).collect::<Result<_>>().map(Self)
    }

    /// Whether a job is to be shown.
    pub(crate) fn holds(&self, job: &JobView) -> bool {
        self.0.iter().any(|condition| condition.holds(job))
    }
}

impl Condition {
    fn parse(text: &str) -> Result<Self> {
        let refused = || invalid(format!("invalid filter `{text}`"), FORM);
        let (key, value) = text.split_once('=').ok_or_else(refused)?;
        let (key, value) = (key.trim(), value.trim());
        match key {
            _ if value.is_empty() || value.contains(['=', ' ']) => Err(refused()),
            "id" => Ok(Self::Id(value.to_owned())),
            "name" => Ok(Self::Name(value.to_owned())),
            "user" => Ok(Self::User(value.to_owned())),
            "status" => status(value).map(Self::Status),
            _ => Err(refused()),
        }
    }

    fn holds(&self, job: &JobView) -> bool {
        match self {
            Self::Id(id) => job.id.as_str() == id,
            Self::Name(name) => job.name == *name,
            Self::Status(status) => job.status == *status,
            Self::User(user) => job.user == *user,
        }
    }
}

fn status(text: &str) -> Result<JobStatus> {
    let found = JobStatus::ALL.into_iter().find(|status| status.to_string().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let all: Vec<String> = JobStatus::ALL.iter().map(ToString::to_string).collect();
        invalid(format!("unknown job status `{text}`"), format!("the statuses are {}", all.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_filter_holds_when_one_of_its_conditions_does() {
        let job = samples::moved_job();
        for holds in [
            "status=Executing",
            "status=executing",
            "status = Executing",
            "status=Floating or status=Executing",
            "user=bob OR name=notebook",
            "id=uqaj8l6a407u88v0106ol",
            "user=admin",
        ] {
            assert!(Filter::parse(holds).unwrap().holds(&job), "{holds}");
        }
        for fails in ["status=Floating", "user=bob or user=alice", "name=note", "name=Notebook"] {
            assert!(!Filter::parse(fails).unwrap().holds(&job), "{fails}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for bad in [
            "",
            "or",
            "status",
            "status=",
            "=x",
            "status=Running",
            "age=3",
            "user=a user=b",
            "user=a b",
            "user=a or",
            "user==a",
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
