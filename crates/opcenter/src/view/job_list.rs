//! Lists of jobs, as users read them.
//!
//! The database filters, orders and counts. A list is read beside the transactions of requests, so
//! that a long one delays nobody.

use std::collections::BTreeMap;

use mooring_api::view::{JobCounts, JobPage, JobTotals, JobView, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};
use mooring_store::{JobChoice, JobPlace, JobRow, MigrationRow, Tx};
use mooring_types::filter::{Filter, InvalidFilter};
use mooring_types::job::{Category, JobStatus, UnknownCategory};
use mooring_types::{Clock, JobId};

use super::Views;
use super::job::as_seen_by;
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// The most jobs whose migrations are read job by job.
const FEW: usize = 1000;

/// A request for jobs, as its query says.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) filters: Vec<Filter>,
    pub(crate) category: Option<Category>,
    pub(crate) limit: u32,
    pub(crate) place: JobPlace,
}

impl Default for Listing {
    fn default() -> Self {
        Self { filters: Vec::new(), category: None, limit: PAGE_LIMIT_DEFAULT, place: JobPlace::Newest }
    }
}

impl Listing {
    /// Reads a query. Keys of other requests are ignored.
    pub(crate) fn read(query: &str) -> ApiResult<Self> {
        let mut listing = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "filter" => listing.filters.push(filter(&value)?),
                "category" => listing.category = Some(category(&value)?),
                "limit" => listing.limit = limit(&value)?,
                "before" => listing.put(JobPlace::Before(job(&value)?))?,
                "after" => listing.put(JobPlace::After(job(&value)?))?,
                _ => {}
            }
        }
        Ok(listing)
    }

    fn put(&mut self, place: JobPlace) -> ApiResult<()> {
        if self.place != JobPlace::Newest {
            return Err(ApiError::invalid("a page has one place").hint("give `before` or `after`, once"));
        }
        self.place = place;
        Ok(())
    }
}

/// Parses a filter.
pub(crate) fn filter(text: &str) -> ApiResult<Filter> {
    text.parse().map_err(|error: InvalidFilter| ApiError::invalid(error.to_string()).hint(error.hint()))
}

fn category(text: &str) -> ApiResult<Category> {
    text.parse().map_err(|error: UnknownCategory| ApiError::invalid(error.to_string()).hint(error.hint()))
}

fn limit(text: &str) -> ApiResult<u32> {
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| ApiError::invalid(format!("the limit of a page is a number from 1 to {PAGE_LIMIT_MAX}")))
}

fn job(text: &str) -> ApiResult<JobId> {
    text.parse().map_err(|error: mooring_types::id::InvalidId| {
        ApiError::invalid(error.to_string()).hint("`next` and `previous` of a page name the jobs")
    })
}

/// Returns the jobs that a user may see and that match all filters, newest last.
pub(crate) async fn jobs(context: &Context, user: &User, filters: Vec<Filter>) -> ApiResult<Vec<JobView>> {
    let mut tx = context.store.begin_read().await?;
    let rows = tx.job_list_chosen(&choice(context, user, filters)).await?;
    shown(context, &mut tx, user, &rows).await
}

/// Returns a page of the jobs that a user may see.
pub(crate) async fn page(context: &Context, user: &User, listing: Listing) -> ApiResult<JobPage> {
    let Listing { filters, category, limit, place } = listing;
    let mut tx = context.store.begin_read().await?;
    let page = tx.job_page(&choice(context, user, filters), category, &place, limit).await?;
    let page = page.ok_or_else(|| {
        ApiError::not_found("there is no job at the place of the page").hint("start again from the first page")
    })?;
    let jobs = shown(context, &mut tx, user, &page.jobs).await?;
    Ok(JobPage {
        total: number(page.newer + page.older) + number(jobs.len() as u64),
        newer: number(page.newer),
        counts: count(page.counts.into_iter()),
        previous: jobs.first().filter(|_| page.newer > 0).map(|job| job.id.clone()),
        next: jobs.last().filter(|_| page.older > 0).map(|job| job.id.clone()),
        jobs,
    })
}

/// Counts the jobs that a user may see.
pub(crate) async fn totals(tx: &mut Tx, user: &User) -> ApiResult<JobTotals> {
    let statuses = tx.job_count(user.visible_owners().as_deref()).await?;
    let cancelled = statuses.iter().filter(|(status, _)| *status == JobStatus::Cancelled);
    let cancelled = number(cancelled.map(|(_, jobs)| jobs).sum());
    let of_category = statuses.into_iter().map(|(status, jobs): (JobStatus, u64)| (status.category(), jobs));
    let JobCounts { total, pending, running, success, failed } = count(of_category);
    Ok(JobTotals { total, pending, running, success, failed: failed.saturating_sub(cancelled), cancelled })
}

fn count(numbers: impl Iterator<Item = (Category, u64)>) -> JobCounts {
    numbers.fold(JobCounts::default(), |mut counts, (category, jobs)| {
        counts.total += number(jobs);
        match category {
            Category::Pending => counts.pending += number(jobs),
            Category::Running => counts.running += number(jobs),
            Category::Success => counts.success += number(jobs),
            Category::Failed => counts.failed += number(jobs),
        }
        counts
    })
}

fn number(jobs: u64) -> u32 {
    u32::try_from(jobs).unwrap_or(u32::MAX)
}

fn choice(context: &Context, user: &User, filters: Vec<Filter>) -> JobChoice {
    JobChoice { owners: user.visible_owners(), filters, now: context.clock.now() }
}

async fn shown(context: &Context, tx: &mut Tx, user: &User, rows: &[JobRow]) -> ApiResult<Vec<JobView>> {
    let all = if rows.len() <= FEW {
        tx.migration_list_of_jobs(rows.iter().map(|job| &job.id)).await?
    } else {
        tx.migration_list().await?
    };
    let mut migrations: BTreeMap<JobId, Vec<MigrationRow>> = BTreeMap::new();
    for row in all {
        migrations.entry(row.job.clone()).or_default().push(row);
    }
    let of = |job: &JobRow| migrations.get(&job.id).map(Vec::as_slice).unwrap_or_default();
    let views = Views::latest(context, tx).await?;
    Ok(rows.iter().map(|job| as_seen_by(user, views.job(job, of(job)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_of_a_page_is_checked() {
        let id = JobId::random(&mut rand::rng());
        let query = format!("filter=user%3Dalice&filter=name~x&category=Running&limit=7&before={id}&other=1");
        let listing = Listing::read(&query).unwrap();
        assert_eq!((listing.filters.len(), listing.category, listing.limit), (2, Some(Category::Running), 7));
        assert_eq!(listing.place, JobPlace::Before(id.clone()));
        let both = format!("before={id}&after={id}");
        for wrong in ["filter=user", "category=all", "limit=0", "limit=1001", "limit=x", "before=x", both.as_str()] {
            assert!(Listing::read(wrong).is_err(), "{wrong}");
        }
    }
}
