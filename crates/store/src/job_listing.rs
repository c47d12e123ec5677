//! Lists of jobs: filtered, ordered and counted by the database.
//!
//! The table `job_listing` has the few columns that lists need; triggers keep it equal to `job`.
//! [`condition`] translates filters. [`Filter::holds`] says what they mean, and a test compares
//! the two.
//!
//! The order is that of submission. A page is found by the job before or after it and not by a
//! number, so that its place stays while new jobs arrive.

mod condition;
#[cfg(test)]
mod tests;

use mooring_types::filter::Filter;
use mooring_types::job::{Category, JobStatus};
use mooring_types::{JobId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use self::condition::Condition;
use crate::job::{self, JobRow};
use crate::{Result, Tx, parsed, unsigned};

/// A choice of jobs.
#[derive(Debug, Clone)]
pub struct JobChoice {
    /// The users whose jobs are chosen from; `None` for all.
    pub owners: Option<Vec<String>>,
    /// The filters that all hold.
    pub filters: Vec<Filter>,
    /// The time from which ages are counted.
    pub now: Timestamp,
}

/// The place of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobPlace {
    /// The newest jobs.
    Newest,
    /// The jobs that were submitted just before this one.
    Before(JobId),
    /// The jobs that were submitted just after this one.
    After(JobId),
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPageRow {
    /// The jobs, newest first.
    pub jobs: Vec<JobRow>,
    /// The numbers of chosen jobs of every category, on all pages.
    pub counts: Vec<(Category, u64)>,
    /// The number of chosen jobs of the page's category that are newer than the page.
    pub newer: u64,
    /// The number of chosen jobs of the page's category that are older than the page.
    pub older: u64,
}

/// The numbers of jobs of a status.
struct Counted {
    status: JobStatus,
    jobs: u64,
    /// Those that are newer than a page.
    newer: u64,
}

impl Tx {
    /// Lists the chosen jobs, oldest first.
    pub async fn job_list_chosen(&mut self, choice: &JobChoice) -> Result<Vec<JobRow>> {
        let mut query = QueryBuilder::new(job::select!("JOIN job_listing ON job_listing.id = job.id WHERE "));
        self.condition(choice).await?.push(&mut query);
        query.push(" ORDER BY job_listing.submit_ns, job_listing.id");
        let rows = query.build().fetch_all(&mut *self.inner).await?;
        rows.iter().map(job::read).collect()
    }

    /// Counts the jobs of these users, by status; `None` for all users.
    pub async fn job_count(&mut self, owners: Option<&[String]>) -> Result<Vec<(JobStatus, u64)>> {
        let mut query = QueryBuilder::new("SELECT status, COUNT(*) AS number FROM job_listing WHERE ");
        condition::push_owners(&mut query, owners);
        query.push(" GROUP BY status");
        let rows = query.build().fetch_all(&mut *self.inner).await?;
        rows.iter().map(|row| Ok((parsed(row, "status")?, unsigned(row, "number")?))).collect()
    }

    /// Returns a page of at most `limit` chosen jobs of a category, or of all; `None` if there is
    /// no job at the place.
    pub async fn job_page(
        &mut self,
        choice: &JobChoice,
        category: Option<Category>,
        place: &JobPlace,
        limit: u32,
    ) -> Result<Option<JobPageRow>> {
        let edge = match place {
            JobPlace::Newest => None,
            JobPlace::Before(id) | JobPlace::After(id) => match self.submit_time(id).await? {
                Some(time) => Some((time, id.clone())),
                None => return Ok(None),
            },
        };
        let condition = self.condition(choice).await?;
        let is_after = matches!(place, JobPlace::After(_));
        let ids = self.page_ids(&condition, category, edge.as_ref(), is_after, limit).await?;
        let jobs = self.job_list_of_ids(&ids).await?;
        // An empty page is after all jobs that it could show. Nothing is newer than the first page.
        let newest = match (jobs.first(), edge) {
            (_, None) => None,
            (Some(job), _) => Some((job.submit_time, job.id.clone())),
            (None, edge) => edge,
        };
        let statuses = self.page_counts(&condition, newest.as_ref()).await?;
        let count = |of: Category| -> u64 {
            statuses.iter().filter(|found| found.status.category() == of).map(|found| found.jobs).sum()
        };
        let counts = Category::ALL.map(|category| (category, count(category))).into();
        let is_counted = |found: &&Counted| category.is_none_or(|category| category == found.status.category());
        let (total, newer) = statuses
            .iter()
            .filter(is_counted)
            .fold((0, 0), |(total, newer), found| (total + found.jobs, newer + found.newer));
        let older = total.saturating_sub(newer + jobs.len() as u64);
        Ok(Some(JobPageRow { jobs, counts, newer, older }))
    }

    /// Returns the ids of a page, newest first.
    async fn page_ids(
        &mut self,
        condition: &Condition<'_>,
        category: Option<Category>,
        edge: Option<&(Timestamp, JobId)>,
        is_after: bool,
        limit: u32,
    ) -> Result<Vec<JobId>> {
        let mut query = QueryBuilder::new("SELECT job_listing.id FROM job_listing WHERE ");
        condition.push(&mut query);
        if let Some(category) = category {
            query.push(" AND ");
            condition::push_category(&mut query, category);
        }
        if let Some(edge) = edge {
            query.push(" AND ");
            push_place(&mut query, if is_after { ">" } else { "<" }, edge);
        }
        query.push(if is_after {
            " ORDER BY submit_ns, id LIMIT "
        } else {
            " ORDER BY submit_ns DESC, id DESC LIMIT "
        });
        query.push_bind(limit);
        let rows = query.build().fetch_all(&mut *self.inner).await?;
        let mut ids = rows.iter().map(|row| parsed(row, "id")).collect::<Result<Vec<JobId>>>()?;
        if is_after {
            ids.reverse();
        }
        Ok(ids)
    }

    /// Counts the chosen jobs by status, and those of them that are newer than a place.
    async fn page_counts(
        &mut self,
        condition: &Condition<'_>,
        newest: Option<&(Timestamp, JobId)>,
    ) -> Result<Vec<Counted>> {
        // Without a condition the index by status is counted. With one, each row is read anyway, in
        // the order of the table: `+` keeps the database from the order of the index.
        let status = if condition.is_empty() { "status" } else { "+status" };
        let mut query = QueryBuilder::new("SELECT status, COUNT(*) AS jobs, SUM(");
        match newest {
            Some(newest) => push_place(&mut query, ">", newest),
            None => {
                query.push("0");
            }
        }
        query.push(") AS newer FROM job_listing WHERE ");
        condition.push(&mut query);
        query.push(format_args!(" GROUP BY {status}"));
        let rows = query.build().fetch_all(&mut *self.inner).await?;
        let read = |row: &SqliteRow| {
            Ok(Counted { status: parsed(row, "status")?, jobs: unsigned(row, "jobs")?, newer: unsigned(row, "newer")? })
        };
        rows.iter().map(read).collect()
    }

    /// Returns the jobs with these ids, in the order of the ids.
    async fn job_list_of_ids(&mut self, ids: &[JobId]) -> Result<Vec<JobRow>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new(job::select!("WHERE job.id IN "));
        condition::push_list(&mut query, ids.iter().map(JobId::as_str));
        let rows = query.build().fetch_all(&mut *self.inner).await?;
        let mut jobs = rows.iter().map(job::read).collect::<Result<Vec<_>>>()?;
        jobs.sort_by_key(|job| ids.iter().position(|id| *id == job.id));
        Ok(jobs)
    }

    async fn submit_time(&mut self, id: &JobId) -> Result<Option<Timestamp>> {
        let query = sqlx::query("SELECT submit_time FROM job WHERE id = ?").bind(id.as_str());
        let row = query.fetch_optional(&mut *self.inner).await?;
        row.as_ref().map(|row| parsed(row, "submit_time")).transpose()
    }

    async fn condition<'a>(&mut self, choice: &'a JobChoice) -> Result<Condition<'a>> {
        let hosts = sqlx::query("SELECT id, name FROM host").fetch_all(&mut *self.inner).await?;
        let named = |row: &SqliteRow| Ok((parsed(row, "id")?, parsed(row, "name")?));
        let mut images = QueryBuilder::<Sqlite>::new("SELECT DISTINCT image FROM job_listing WHERE image ");
        images.push(condition::IS_WIDE);
        let images = images.build().fetch_all(&mut *self.inner).await?;
        Ok(Condition {
            choice,
            hosts: hosts.iter().map(named).collect::<Result<_>>()?,
            wide_images: images.iter().map(|row| Ok(row.try_get("image")?)).collect::<Result<_>>()?,
        })
    }
}

fn push_place(query: &mut QueryBuilder<'_, Sqlite>, operator: &str, (time, id): &(Timestamp, JobId)) {
    query.push(format_args!("(job_listing.submit_ns, job_listing.id) {operator} ("));
    query.push_bind(condition::nanoseconds(*time)).push(", ").push_bind(id.to_string()).push(")");
}
