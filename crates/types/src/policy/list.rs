//! The written form of policies: `[key=value,key=value]`, with optional brackets.

use std::collections::BTreeSet;

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    #[error("invalid {policy} policy: `{part}` is not key=value")]
    Form { policy: &'static str, part: String },
    #[error("invalid {policy} policy: it has no key `{key}`")]
    Key {
        policy: &'static str,
        key: String,
        /// All keys of the policy.
        known: &'static [&'static str],
    },
    #[error("invalid {policy} policy: `{key}` is given twice")]
    Twice { policy: &'static str, key: String },
    #[error("invalid {policy} policy: `{key}={value}`: {expected}")]
    Value {
        policy: &'static str,
        key: String,
        value: String,
        /// The allowed values.
        expected: String,
    },
    /// Two values contradict each other.
    #[error("invalid {policy} policy: {contradiction}")]
    Contradiction { policy: &'static str, contradiction: String },
}

impl InvalidPolicy {
    /// Returns what to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Form { .. } => "write [key=value,key=value]".into(),
            Self::Key { key, known, .. } => match crate::nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? The keys are {}", known.join(", ")),
                None => format!("the keys are {}", known.join(", ")),
            },
            Self::Twice { .. } => "give every key once".into(),
            Self::Value { expected, .. } => format!("give {expected}"),
            Self::Contradiction { .. } => "change one of the two".into(),
        }
    }
}

/// A `key=value` of a policy.
pub(super) struct Entry<'a> {
    pub(super) policy: &'static str,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

impl Entry<'_> {
    /// Makes the error of an invalid value.
    pub(super) fn refused(&self, expected: impl Into<String>) -> InvalidPolicy {
        let (key, value) = (self.key.to_owned(), self.value.chars().take(80).collect());
        InvalidPolicy::Value { policy: self.policy, key, value, expected: expected.into() }
    }

    /// Parses `true` or `false`.
    pub(super) fn truth(&self) -> Result<bool, InvalidPolicy> {
        self.value.to_ascii_lowercase().parse().map_err(|_| self.refused("`true` or `false`"))
    }

    /// Parses a duration.
    pub(super) fn duration(&self) -> Result<std::time::Duration, InvalidPolicy> {
        crate::duration::parse_duration(self.value).map_err(|_| self.refused("a duration like 30s or 10m"))
    }

    /// Parses a number within bounds.
    pub(super) fn number<T>(&self, least: T, most: T) -> Result<T, InvalidPolicy>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let number = self.value.parse::<T>().ok().filter(|number| *number >= least && *number <= most);
        number.ok_or_else(|| self.refused(format!("a number from {least} to {most}")))
    }
}

/// Splits a list, whose keys have to be known and unique.
pub(super) fn entries<'a>(
    policy: &'static str,
    text: &'a str,
    known: &'static [&'static str],
) -> Result<Vec<Entry<'a>>, InvalidPolicy> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).trim();
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = BTreeSet::new();
    inner
        .split(',')
        .map(|part| {
            let (key, value) = part
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .ok_or_else(|| InvalidPolicy::Form { policy, part: part.trim().chars().take(80).collect() })?;
            if !known.contains(&key) {
                return Err(InvalidPolicy::Key { policy, key: key.chars().take(80).collect(), known });
            }
            if !seen.insert(key) {
                return Err(InvalidPolicy::Twice { policy, key: key.to_owned() });
            }
            Ok(Entry { policy, key, value })
        })
        .collect()
}
