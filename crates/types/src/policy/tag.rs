//! Tags of jobs, `key:value`.

use std::fmt;
use std::str::FromStr;

/// The longest key or value.
const LENGTH_MAX: usize = 63;

/// A tag: key and value have 1 to 63 characters of `[A-Za-z0-9-]` each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomTag {
    pub key: String,
    pub value: String,
}

/// A text that is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tag `{text}`: a tag is key:value, each of 1 to 63 letters, digits or `-`")]
pub struct InvalidTag {
    text: String,
}

impl CustomTag {
    /// Says whether a text may be the key or the value of a tag.
    #[must_use]
    pub fn is_part(text: &str) -> bool {
        (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    }
}

impl FromStr for CustomTag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        match text.split_once(':') {
            Some((key, value)) if Self::is_part(key) && Self::is_part(value) => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(InvalidTag { text: text.chars().take(140).collect() }),
        }
    }
}

impl fmt::Display for CustomTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_checked() {
        for bad in ["", "a", ":", "a:", ":b", "a b:c", "a:b:c", "a_b:c", "ä:b", &format!("{}:b", "x".repeat(64))] {
            assert!(bad.parse::<CustomTag>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_tag_reads_back(key in "[A-Za-z0-9-]{1,63}", value in "[A-Za-z0-9-]{1,63}") {
            let tag = CustomTag { key, value };
            prop_assert_eq!(tag.to_string().parse::<CustomTag>(), Ok(tag));
        }
    }
}
