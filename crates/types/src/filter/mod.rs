//! Which jobs are meant: `status=Executing or (user=alice and update<=12w)`.
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
//! | `id`, `name`, `user`, `image`, `host`, `tag:KEY` | text, in double quotes where it has blanks or operators in it | `=`, `!=`, `~`: contains, in any case |
//! | `status`, `category` | one of the names, in any case | `=`, `!=` |
//! | `submit`, `update` | an age like `12w`: `update<=12w` is what changed within the last 12 weeks | all but `~` |
//! | | a point in time like `2026-08-01` or `2026-08-01T12:00:00Z`: `submit>=2026-08-01` is what came since | all but `~` |
//! | `duration` | how long it has run, like `2h` | all but `~` |
//!
//! Reading ([`parse`]) and judging ([`Filter::holds`]) are apart, and neither knows where jobs come
//! from: a job is shown to a filter as a [`Subject`].

mod parse;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use parse::InvalidFilter;

use crate::Timestamp;
use crate::duration::format_duration;
use crate::job::{Category, JobStatus};

/// A filter that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// One of them holds.
    Any(Vec<Filter>),
    /// All of them hold.
    All(Vec<Filter>),
    /// A text is so.
    Text {
        /// Which.
        key: TextKey,
        /// How it compares.
        is: TextTest,
        /// To what.
        value: String,
    },
    /// The status is, or is not, that one.
    Status {
        /// Whether it is.
        is: Equality,
        /// Which.
        value: JobStatus,
    },
    /// The status's group is, or is not, that one.
    Category {
        /// Whether it is.
        is: Equality,
        /// Which.
        value: Category,
    },
    /// Something was so long ago.
    Age {
        /// What.
        key: TimeKey,
        /// How it compares.
        is: Order,
        /// How long.
        value: Duration,
    },
    /// Something was at that time.
    Time {
        /// What.
        key: TimeKey,
        /// How it compares.
        is: Order,
        /// When.
        value: Timestamp,
    },
    /// It has run for so long.
    Ran {
        /// How it compares.
        is: Order,
        /// How long.
        value: Duration,
    },
}

/// A key with text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextKey {
    /// The job's id.
    Id,
    /// Its name.
    Name,
    /// Who submitted it.
    User,
    /// Its image.
    Image,
    /// The name of its host.
    Host,
    /// The value of its tag of that key.
    Tag(String),
}

/// A key with a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeKey {
    /// When it was submitted.
    Submit,
    /// When its record last changed.
    Update,
}

/// Whether two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equality {
    /// `=`
    Same,
    /// `!=`
    Other,
}

/// How text compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextTest {
    /// `=`
    Same,
    /// `!=`
    Other,
    /// `~`
    Contains,
}

/// How what has an order compares.
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

/// A job as a filter sees it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Who submitted it.
    pub user: &'a str,
    /// Its image.
    pub image: &'a str,
    /// The name of its host; empty where there is none.
    pub host: &'a str,
    /// Its tags.
    pub tags: &'a BTreeMap<String, String>,
    /// Its status.
    pub status: JobStatus,
    /// When it was submitted.
    pub submit: Timestamp,
    /// When its record last changed.
    pub update: Timestamp,
    /// How long it has run.
    pub duration: Duration,
}

impl Filter {
    /// Whether a job is meant, at that time.
    #[must_use]
    pub fn holds(&self, job: &Subject<'_>, now: Timestamp) -> bool {
        match self {
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(job, now)),
            Self::All(filters) => filters.iter().all(|filter| filter.holds(job, now)),
            Self::Text { key, is, value } => is.holds(job.text(key), value),
            Self::Status { is, value } => is.holds(job.status == *value),
            Self::Category { is, value } => is.holds(job.status.category() == *value),
            Self::Age { key, is, value } => {
                // What is to come is as old as what is now.
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
    fn holds(self, same: bool) -> bool {
        (self == Self::Same) == same
    }
}

impl TextTest {
    /// A text that is not there is other than every text.
    fn holds(self, text: Option<&str>, value: &str) -> bool {
        match self {
            Self::Same => text == Some(value),
            Self::Other => text != Some(value),
            Self::Contains => text.is_some_and(|text| text.to_lowercase().contains(&value.to_lowercase())),
        }
    }
}

impl Order {
    fn holds(self, ordering: Ordering) -> bool {
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
            Self::Category { is, value } => write!(f, "category{is}{}", parse::category_name(*value)),
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
