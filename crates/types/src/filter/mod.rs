//! Filters that select jobs: `status=Executing or (user=alice and update<=12w)`.
//!
//! ```text
//!  filter     = all { "or" all }
//!  all        = term { "and" term }
//!  term       = "(" filter ")" | comparison
//!  comparison = key operator value
//!  operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//! ```
//!
//! | key | value | operators |
//! |---|---|---|
//! | `id`, `name`, `user`, `image`, `host`, `tag:KEY` | text | `=`, `!=`, `~` |
//! | `status`, `category` | one of the names, in any case | `=`, `!=` |
//! | `submit`, `update` | an age like `12w`, or a point in time | all but `~` |
//! | `duration` | the time for which the job has run, like `2h` | all but `~` |
//!
//! - `~` means "contains", in any case. Text with blanks or operators needs double quotes.
//! - `update<=12w` selects jobs that changed within the last 12 weeks.
//! - A point in time is `2026-08-01` or `2026-08-01T12:00:00Z`: `submit>=2026-08-01` selects jobs
//!   that were submitted since.
//!
//! A text is parsed once ([`parse`]) and then tested on jobs ([`Filter::holds`]), each seen as a
//! [`Subject`]. [`complete()`] says how an unfinished text may go on.

mod complete;
mod parse;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use complete::{Completion, KEYS, Key, Suggestion, Values, complete};
pub use parse::InvalidFilter;

use crate::Timestamp;
use crate::duration::format_duration;
use crate::job::{Category, JobStatus};

/// A parsed filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// At least one holds.
    Any(Vec<Filter>),
    /// All hold.
    All(Vec<Filter>),
    /// A comparison with text.
    Text { key: TextKey, is: TextTest, value: String },
    /// A comparison with a status.
    Status { is: Equality, value: JobStatus },
    /// A comparison with a category.
    Category { is: Equality, value: Category },
    /// A comparison with an age.
    Age { key: TimeKey, is: Order, value: Duration },
    /// A comparison with a point in time.
    Time { key: TimeKey, is: Order, value: Timestamp },
    /// A comparison with the running time.
    Ran { is: Order, value: Duration },
}

/// A key whose value is text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextKey {
    Id,
    Name,
    /// The user who submitted the job.
    User,
    Image,
    /// The name of the host.
    Host,
    /// The value of the tag with this key.
    Tag(String),
}

/// A key whose value is a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeKey {
    /// The submission.
    Submit,
    /// The last change of the job's record.
    Update,
}

/// An operator of equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equality {
    /// `=`
    Same,
    /// `!=`
    Other,
}

/// An operator of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextTest {
    /// `=`
    Same,
    /// `!=`
    Other,
    /// `~`
    Contains,
}

/// An operator of ordered values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `=`
    Same,
    /// `!=`
    Other,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

/// The facts about a job that filters test.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// The user who submitted the job.
    pub user: &'a str,
    pub image: &'a str,
    /// The name of the host; empty where there is none.
    pub host: &'a str,
    pub tags: &'a BTreeMap<String, String>,
    pub status: JobStatus,
    /// The time of submission.
    pub submit: Timestamp,
    /// The last change of the job's record.
    pub update: Timestamp,
    /// The time for which the job has run.
    pub duration: Duration,
}

impl Filter {
    /// Says whether the filter selects a job at this time.
    #[must_use]
    pub fn holds(&self, job: &Subject<'_>, now: Timestamp) -> bool {
        match self {
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(job, now)),
            Self::All(filters) => filters.iter().all(|filter| filter.holds(job, now)),
            // As the database does it, which knows the case of ASCII alone.
            Self::Text { key: key @ TextKey::Tag(_), is: TextTest::Contains, value } => {
                job.text(key).is_some_and(|tag| tag.to_ascii_lowercase().contains(&value.to_ascii_lowercase()))
            }
            Self::Text { key, is, value } => is.holds(job.text(key), value),
            Self::Status { is, value } => is.holds(job.status == *value),
            Self::Category { is, value } => is.holds(job.status.category() == *value),
            Self::Age { key, is, value } => {
                // A time in the future has age zero.
                let age = Duration::try_from(now.duration_since(job.time(*key))).unwrap_or_default();
                is.holds(age.cmp(value))
            }
            Self::Time { key, is, value } => is.holds(job.time(*key).cmp(value)),
            Self::Ran { is, value } => is.holds(job.duration.cmp(value)),
        }
    }
}

impl Subject<'_> {
    fn text(&self, key: &TextKey) -> Option<&str> {
        match key {
            TextKey::Id => Some(self.id),
            TextKey::Name => Some(self.name),
            TextKey::User => Some(self.user),
            TextKey::Image => Some(self.image),
            TextKey::Host => Some(self.host),
            TextKey::Tag(key) => self.tags.get(key).map(String::as_str),
        }
    }

    fn time(&self, key: TimeKey) -> Timestamp {
        match key {
            TimeKey::Submit => self.submit,
            TimeKey::Update => self.update,
        }
    }
}

impl Equality {
    /// Says whether the operator holds for two values that are the same or not.
    #[must_use]
    pub fn holds(self, same: bool) -> bool {
        (self == Self::Same) == same
    }
}

impl TextTest {
    /// Says whether the operator holds for a text. A missing text differs from every text.
    #[must_use]
    pub fn holds(self, text: Option<&str>, value: &str) -> bool {
        match self {
            Self::Same => text == Some(value),
            Self::Other => text != Some(value),
            Self::Contains => text.is_some_and(|text| text.to_lowercase().contains(&value.to_lowercase())),
        }
    }
}

impl Order {
    /// Says whether the operator holds for two values in this order.
    #[must_use]
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Same => ordering.is_eq(),
            Self::Other => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
            Self::More => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(filters) => write_joined(f, filters, " or "),
            Self::All(filters) => write_joined(f, filters, " and "),
            Self::Text { key, is, value } => {
                let is_plain = !value.is_empty() && value.bytes().all(parse::is_bare) && !parse::is_word_of_ours(value);
                let quote = if is_plain { "" } else { "\"" };
                write!(f, "{key}{is}{quote}{value}{quote}")
            }
            Self::Status { is, value } => write!(f, "status{is}{value}"),
            Self::Category { is, value } => write!(f, "category{is}{value}"),
            Self::Age { key, is, value } => write!(f, "{key}{is}{}", format_duration(*value)),
            Self::Time { key, is, value } => write!(f, "{key}{is}{value}"),
            Self::Ran { is, value } => write!(f, "duration{is}{}", format_duration(*value)),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, filters: &[Filter], between: &str) -> fmt::Result {
    for (index, filter) in filters.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { between })?;
        match filter {
            Filter::Any(_) | Filter::All(_) => write!(f, "({filter})")?,
            filter => write!(f, "{filter}")?,
        }
    }
    Ok(())
}

impl fmt::Display for TextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("id"),
            Self::Name => f.write_str("name"),
            Self::User => f.write_str("user"),
            Self::Image => f.write_str("image"),
            Self::Host => f.write_str("host"),
            Self::Tag(key) => write!(f, "tag:{key}"),
        }
    }
}

impl fmt::Display for TimeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Submit => "submit",
            Self::Update => "update",
        })
    }
}

impl fmt::Display for Equality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Same { "=" } else { "!=" })
    }
}

impl fmt::Display for TextTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "=",
            Self::Other => "!=",
            Self::Contains => "~",
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "=",
            Self::Other => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        })
    }
}

#[cfg(test)]
mod tests;
