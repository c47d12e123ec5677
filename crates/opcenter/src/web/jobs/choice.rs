//! The choice of jobs that an address names.

use mooring_store::JobPlace;
use mooring_types::JobId;
use mooring_types::job::Category;

use crate::error::ApiResult;
use crate::view::job_list::{self, Listing};
use crate::web::address::Address;

/// The choice of an address.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// The filter as it was typed.
    pub(super) filter: String,
    pub(super) category: Option<Category>,
    before: Option<JobId>,
    after: Option<JobId>,
}

/// A filter that can't be read.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Choice {
    /// Reads an address.
    pub(super) fn of(address: &Address) -> ApiResult<Self> {
        Ok(Self {
            filter: address.one("filter").trim().to_owned(),
            category: address.parse("category")?,
            before: address.parse("before")?,
            after: address.parse("after")?,
        })
    }

    /// Returns the request for the page.
    pub(super) fn listing(&self) -> Result<Listing, Wrong> {
        let filters = match self.filter.as_str() {
            "" => Vec::new(),
            text => match job_list::filter(text) {
                Ok(filter) => vec![filter],
                Err(error) => {
                    return Err(Wrong { message: error.0.message, hint: error.0.hint.unwrap_or_default() });
                }
            },
        };
        let place = match (&self.before, &self.after) {
            (Some(job), _) => JobPlace::Before(job.clone()),
            (None, Some(job)) => JobPlace::After(job.clone()),
            (None, None) => JobPlace::Newest,
        };
        Ok(Listing { filters, category: self.category, place, ..Listing::default() })
    }

    /// Returns whether the page is one with newer jobs than the visitor came from.
    pub(super) fn is_back(&self) -> bool {
        self.before.is_none() && self.after.is_some()
    }

    /// Returns whether anything but the place is chosen.
    pub(super) fn is_narrow(&self) -> bool {
        !self.filter.is_empty() || self.category.is_some()
    }

    /// Returns the address of the first page of a category, with the same filter.
    pub(super) fn of_category(&self, category: &Option<Category>) -> String {
        address(&self.filter, *category, None)
    }

    /// Returns the address of the page of older jobs.
    pub(super) fn older(&self, next: &JobId) -> String {
        address(&self.filter, self.category, Some(("before", next)))
    }

    /// Returns the address of the page of newer jobs.
    pub(super) fn newer(&self, previous: &JobId) -> String {
        address(&self.filter, self.category, Some(("after", previous)))
    }

    /// Returns the command that lists the same jobs.
    pub(super) fn command(&self) -> String {
        let filter = Some(self.filter.clone()).filter(|text| !text.is_empty());
        let category = self.category.map(|category| format!("category={category}"));
        filter.into_iter().chain(category).fold("float list -F table".to_owned(), |command, filter| {
            // A text with a zero byte, which no shell takes, is no filter either.
            format!("{command} -f {}", shlex::try_quote(&filter).unwrap_or_default())
        })
    }
}

fn address(filter: &str, category: Option<Category>, place: Option<(&str, &JobId)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !filter.is_empty() {
        query.append_pair("filter", filter);
    }
    if let Some(category) = category {
        query.append_pair("category", &category.to_string());
    }
    if let Some((key, job)) = place {
        query.append_pair(key, job.as_str());
    }
    match query.finish() {
        text if text.is_empty() => "/jobs".to_owned(),
        text => format!("/jobs?{text}"),
    }
}
