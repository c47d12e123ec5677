//! The condition of a choice of jobs in SQL, on the table `job_listing`.
//!
//! What the database can't decide is decided in Rust and given as a list. Such are the statuses of
//! a category, the hosts of a name, and images with characters whose case the database does not
//! know.

use std::cmp::Ordering;
use std::time::Duration;

use mooring_types::filter::{Filter, Order, TextKey, TextTest, TimeKey};
use mooring_types::job::{Category, JobStatus};
use mooring_types::{HostId, Name, Timestamp};
use sqlx::{QueryBuilder, Sqlite};

use super::JobChoice;

/// The condition of the index of images with other characters than those of ASCII.
pub(super) const IS_WIDE: &str = "GLOB '*[^ -~]*'";

const AND: &str = " AND ";
const OR: &str = " OR ";

type Query<'a> = QueryBuilder<'a, Sqlite>;

/// A choice, with the texts of the database that are compared in Rust.
pub(super) struct Condition<'a> {
    pub(super) choice: &'a JobChoice,
    /// All hosts.
    pub(super) hosts: Vec<(HostId, Name)>,
    /// All images with other characters than those of ASCII.
    pub(super) wide_images: Vec<String>,
}

impl Condition<'_> {
    /// Returns whether all jobs are chosen.
    pub(super) fn is_empty(&self) -> bool {
        self.choice.owners.is_none() && self.choice.filters.is_empty()
    }

    /// Appends the condition.
    pub(super) fn push(&self, query: &mut Query<'_>) {
        push_owners(query, self.choice.owners.as_deref());
        query.push(AND);
        self.push_joined(query, &self.choice.filters, AND);
    }

    /// Joins filters as a balanced tree: SQLite limits the depth of an expression, and takes
    /// `a OR b OR c` as `(a OR b) OR c`.
    fn push_joined(&self, query: &mut Query<'_>, filters: &[Filter], between: &str) {
        match filters {
            [] => {
                query.push(sql(between == AND));
            }
            [only] => self.push_filter(query, only),
            several => {
                let (first, second) = several.split_at(several.len() / 2);
                query.push("(");
                self.push_joined(query, first, between);
                query.push(between);
                self.push_joined(query, second, between);
                query.push(")");
            }
        }
    }

    fn push_filter(&self, query: &mut Query<'_>, filter: &Filter) {
        match filter {
            Filter::Any(filters) => self.push_joined(query, filters, OR),
            Filter::All(filters) => self.push_joined(query, filters, AND),
            Filter::Text { key, is, value } => self.push_text(query, key, *is, value),
            Filter::Status { is, value } => push_statuses(query, |status| is.holds(status == *value)),
            Filter::Category { is, value } => push_statuses(query, |status| is.holds(status.category() == *value)),
            Filter::Age { key, is, value } => self.push_age(query, column(*key), *is, *value),
            Filter::Time { key, is, value } => {
                query.push(format_args!("job_listing.{} {is} ", column(*key))).push_bind(nanoseconds(*value));
            }
            Filter::Ran { is, value } => self.push_ran(query, *is, *value),
        }
    }

    /// Ids, names and users are of ASCII, whose case the database knows. In tags the case of other
    /// letters counts.
    fn push_text(&self, query: &mut Query<'_>, key: &TextKey, is: TextTest, value: &str) {
        match key {
            TextKey::Id => compare(query, "job_listing.id", is, value),
            TextKey::Name => compare(query, "job_listing.name", is, value),
            TextKey::User => compare(query, "job_listing.user_name", is, value),
            TextKey::Image => self.push_image(query, is, value),
            TextKey::Host => self.push_host(query, is, value),
            // Of ASCII the parser admits letters, digits and `-` alone.
            TextKey::Tag(key) => {
                let value = if is == TextTest::Contains { &value.to_ascii_lowercase() } else { value };
                compare_folded(query, &format!("json_extract(job_listing.tags, '$.\"{key}\"')"), is, value);
            }
        }
    }

    fn push_image(&self, query: &mut Query<'_>, is: TextTest, value: &str) {
        if is == TextTest::Contains {
            query.push(format_args!("CASE WHEN job_listing.image {IS_WIDE} THEN job_listing.image IN "));
            let fitting = self.wide_images.iter().map(String::as_str).filter(|image| is.holds(Some(image), value));
            push_list(query, fitting);
            query.push(" ELSE ");
        }
        compare(query, "job_listing.image", is, value);
        if is == TextTest::Contains {
            query.push(" END");
        }
    }

    /// A job that has ended is on no host.
    fn push_host(&self, query: &mut Query<'_>, is: TextTest, value: &str) {
        query.push("CASE WHEN job_listing.host_id IS NULL OR ");
        push_statuses(query, JobStatus::is_final);
        query.push(" THEN ").push(sql(is.holds(Some(""), value)));
        query.push(" ELSE job_listing.host_id IN ");
        let fitting = self.hosts.iter().filter(|(_, name)| is.holds(Some(name.as_str()), value));
        push_list(query, fitting.map(|(id, _)| id.as_str()));
        query.push(" END");
    }

    /// The age of a time is compared as the time is with the moment at which that age began. A time
    /// in the future has age zero.
    fn push_age(&self, query: &mut Query<'_>, column: &str, is: Order, value: Duration) {
        let began = i128::from(nanoseconds(self.choice.now)) - i128::try_from(value.as_nanos()).unwrap_or(i128::MAX);
        let began = i64::try_from(began).unwrap_or(i64::MIN);
        query.push(format_args!("CASE WHEN job_listing.{column} < ")).push_bind(began);
        query.push(" THEN ").push(sql(is.holds(Ordering::Greater)));
        query.push(format_args!(" WHEN job_listing.{column} = ")).push_bind(began);
        query.push(" THEN ").push(sql(is.holds(Ordering::Equal)));
        let younger = if value.is_zero() { Ordering::Equal } else { Ordering::Less };
        query.push(" ELSE ").push(sql(is.holds(younger))).push(" END");
    }

    /// The time from the first execution to the end or to now, never below zero; zero for a job
    /// that has never executed.
    fn push_ran(&self, query: &mut Query<'_>, is: Order, value: Duration) {
        query.push("COALESCE(MAX(COALESCE(job_listing.end_ns, ").push_bind(nanoseconds(self.choice.now));
        query.push(format_args!(") - job_listing.exec_ns, 0), 0) {is} "));
        query.push_bind(i64::try_from(value.as_nanos()).unwrap_or(i64::MAX));
    }
}

/// Appends the condition that a job belongs to one of these users.
pub(super) fn push_owners(query: &mut Query<'_>, owners: Option<&[String]>) {
    match owners {
        None => {
            query.push(sql(true));
        }
        Some(owners) => {
            query.push("job_listing.user_name IN ");
            push_list(query, owners.iter().map(String::as_str));
        }
    }
}

/// Appends the condition that a job is of a category.
pub(super) fn push_category(query: &mut Query<'_>, category: Category) {
    push_statuses(query, |status| status.category() == category);
}

/// Appends a list of values in parentheses.
pub(super) fn push_list<'a>(query: &mut Query<'_>, values: impl Iterator<Item = &'a str>) {
    query.push("(");
    let mut separated = query.separated(", ");
    for value in values {
        separated.push_bind(value.to_owned());
    }
    query.push(")");
}

fn push_statuses(query: &mut Query<'_>, fits: impl Fn(JobStatus) -> bool) {
    // The names are ours: letters alone.
    let names: Vec<String> =
        JobStatus::ALL.into_iter().filter(|status| fits(*status)).map(|status| format!("'{status}'")).collect();
    query.push(format_args!("job_listing.status IN ({})", names.join(", ")));
}

/// Compares a column of ASCII, or an expression that may be NULL.
fn compare(query: &mut Query<'_>, column: &str, is: TextTest, value: &str) {
    let value = if is == TextTest::Contains { &value.to_lowercase() } else { value };
    compare_folded(query, column, is, value);
}

/// Compares with a value that is in lower case already where case does not count.
fn compare_folded(query: &mut Query<'_>, column: &str, is: TextTest, value: &str) {
    match is {
        TextTest::Same => query.push(format_args!("{column} IS ")).push_bind(value.to_owned()),
        TextTest::Other => query.push(format_args!("{column} IS NOT ")).push_bind(value.to_owned()),
        TextTest::Contains => {
            query.push(format_args!("COALESCE(instr(lower({column}), ")).push_bind(value.to_owned()).push("), 0) > 0")
        }
    };
}

fn column(key: TimeKey) -> &'static str {
    match key {
        TimeKey::Submit => "submit_ns",
        TimeKey::Update => "update_ns",
    }
}

/// Returns nanoseconds since 1970. A time that 64 bits can't hold is as far away as they can.
pub(super) fn nanoseconds(time: Timestamp) -> i64 {
    let exact = time.as_nanosecond();
    i64::try_from(exact).unwrap_or(if exact < 0 { i64::MIN } else { i64::MAX })
}

fn sql(truth: bool) -> &'static str {
    if truth { "TRUE" } else { "FALSE" }
}
