//! The rows of the table: what is known of a field of the submission, and what can be wrong with a
//! value.

use mooring_types::nearest;
use mooring_types::size::{InvalidSize, Size};
use serde_json::Value;
use utoipa::openapi::schema::Schema;

use super::{ALIASES, FIELDS, Submission};

/// A field of a [`Submission`].
#[derive(Debug)]
pub struct Field {
    /// The key in JSON.
    pub key: &'static str,
    /// The section of the help.
    pub section: Section,
    /// `true` if a flag may be repeated.
    pub is_list: bool,
    /// The flag as the help shows it, like `-i --image <IMAGE>`; empty for none.
    pub(super) usage: &'static str,
    /// The lines of the doc.
    pub(super) doc: &'static [&'static str],
    pub(super) set: fn(&mut Submission, &Value) -> Result<(), InvalidValue>,
    pub(super) get: fn(&Submission) -> Option<Value>,
    /// The values of the flag, one for each use of it.
    pub(super) words: fn(&Submission) -> Vec<String>,
    pub(super) schema: fn() -> Schema,
    /// A value in JSON, as it is written.
    pub(super) example: fn() -> Value,
}

/// The sections of the help of `float submit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The program to run, and its host.
    Job,
    /// Automatic behaviour.
    Automatic,
}

/// The flag of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// The letter after `-`.
    pub short: Option<char>,
    /// The name after `--`.
    pub long: &'static str,
    /// The name of the value in the help; `None` for a switch.
    pub value: Option<&'static str>,
}

impl Flag {
    /// The shortest way to write the flag.
    pub(super) fn shortest(&self) -> String {
        self.short.map_or_else(|| format!("--{}", self.long), |short| format!("-{short}"))
    }
}

impl Field {
    /// The field with that key, flag or alias.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        let key = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, key)| key);
        FIELDS.iter().find(|field| field.names().any(|name| name == key))
    }

    /// The flag, if the field has one.
    #[must_use]
    pub fn flag(&self) -> Option<Flag> {
        let (names, value) = match self.usage.split_once(" <") {
            Some((names, value)) => (names, value.strip_suffix('>')),
            None => (self.usage, None),
        };
        let mut names = names.rsplit(' ');
        let long = names.next()?.strip_prefix("--")?;
        let short = names.next().and_then(|short| short.chars().nth(1));
        Some(Flag { short, long, value })
    }

    /// The doc as a sentence.
    #[must_use]
    pub fn doc(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// The doc as the help shows it: a lower-case fragment without an article.
    #[must_use]
    pub fn help(&self) -> String {
        let doc = self.doc();
        let doc = ["The ", "An ", "A "].iter().find_map(|article| doc.strip_prefix(article)).unwrap_or(&doc);
        let doc = doc.trim_end_matches('.');
        let is_word = doc.chars().nth(1).is_some_and(|second| !second.is_uppercase());
        let first = doc.chars().next().filter(|_| is_word).map(|first| first.to_ascii_lowercase());
        first.into_iter().chain(doc.chars().skip(usize::from(is_word))).collect()
    }

    /// A value in JSON, as it is written.
    #[must_use]
    pub fn example(&self) -> Value {
        (self.example)()
    }

    /// The names under which users give the field.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.key), self.flag().map(|flag| flag.long)].into_iter().flatten()
    }

    /// The fields of a size: `2:4` is the minimum and the maximum.
    pub(super) fn split_range(&'static self, value: Value) -> Result<Vec<(&'static Self, Value)>, InvalidValue> {
        let (max_key, text) = match (self.key, &value) {
            ("cpu", Value::String(text)) if !text.is_empty() => ("cpuMax", text.clone()),
            ("memGB", Value::String(text)) if !text.is_empty() => ("memGBMax", text.clone()),
            _ => return Ok(vec![(self, value)]),
        };
        let (min, max): (Value, Option<Value>) = if self.key == "cpu" {
            let refused = |error: InvalidSize| {
                InvalidValue::new(error.told("number of cores"), "write `2`, or `2:4` for a range")
            };
            let size: Size<u32> = text.parse().map_err(refused)?;
            (size.min.into(), size.max.map(Value::from))
        } else {
            let refused = |error: InvalidSize| {
                InvalidValue::new(error.told("memory"), "write GB: `4`, `0.5`, or `4:8` for a range")
            };
            let size: Size<f64> = text.parse().map_err(refused)?;
            (size.min.into(), size.max.map(Value::from))
        };
        let max = max.and_then(|max| Some((Self::find(max_key)?, max)));
        Ok([(self, min)].into_iter().chain(max).collect())
    }
}

/// A value that a field can't have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InvalidValue {
    /// The JSON type is wrong.
    Shape { expected: &'static str },
    /// The content is wrong.
    Content { message: String, hint: String },
}

impl InvalidValue {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Content { message: message.into(), hint: hint.into() }
    }

    pub(super) fn at(self, key: &str) -> InvalidSubmission {
        let key = key.to_owned();
        match self {
            Self::Shape { expected } => InvalidSubmission::Shape { key, expected },
            Self::Content { message, hint } => InvalidSubmission::Content { key, message, hint },
        }
    }
}

/// Values that are no submission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubmission {
    /// There is no such field.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// The key.
        key: String,
        /// The most similar key.
        nearest: Option<&'static str>,
    },
    /// A field is given more than once.
    #[error("`{key}` is given twice")]
    Twice {
        /// The key.
        key: String,
    },
    /// A value is null.
    #[error("`{key}` is null: write `\"\"` for an empty value")]
    Null {
        /// The key, with those of the maps around it.
        key: String,
    },
    /// There is no map of keys.
    #[error("a map of keys is expected")]
    NoMap,
    /// A value has the wrong JSON type.
    #[error("`{key}` takes {expected}")]
    Shape {
        /// The key.
        key: String,
        /// The types that the field takes.
        expected: &'static str,
    },
    /// A value can't be parsed.
    #[error("{message}")]
    Content {
        /// The key.
        key: String,
        /// The parser's message.
        message: String,
        /// The next step; empty for none.
        hint: String,
    },
}

impl InvalidSubmission {
    pub(super) fn unknown_key(key: &str) -> Self {
        let names = FIELDS.iter().flat_map(Field::names);
        Self::UnknownKey { key: key.chars().take(80).collect(), nearest: nearest(key, names) }
    }

    /// The key of the field.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::UnknownKey { key, .. }
            | Self::Twice { key }
            | Self::Null { key }
            | Self::Shape { key, .. }
            | Self::Content { key, .. } => key,
            Self::NoMap => "",
        }
    }

    /// The next step.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        const KEYS: &str = "the keys are the long names of the flags of `float submit`";
        match self {
            Self::UnknownKey { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`? {KEYS}")),
            Self::UnknownKey { nearest: None, .. } => Some(KEYS.to_owned()),
            Self::Twice { .. } => Some("give it once".to_owned()),
            Self::Shape { .. } | Self::Null { .. } => None,
            Self::NoMap => Some(KEYS.to_owned()),
            Self::Content { hint, .. } => Some(hint.clone()).filter(|hint| !hint.is_empty()),
        }
    }

    /// The message with the key, for a file with many of them.
    #[must_use]
    pub fn with_key(&self) -> String {
        match self {
            Self::Content { key, message, .. } => format!("`{key}`: {message}"),
            other => other.to_string(),
        }
    }
}
