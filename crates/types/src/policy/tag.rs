//! Tags of jobs, `key:value`.

use std::fmt;
use std::str::FromStr;

/// The longest key or value.
const LENGTH_MAX: usize = 63;

/// A tag: key and value have 1 to 63 characters each. Of ASCII these are letters, digits, `.`, `_`
/// and `-`, as in names; beyond it, letters of any script and emoji. Nobody sees blanks and signs
/// of the direction of text, so those are none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomTag {
    pub key: String,
    pub value: String,
}

/// A text that is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tag `{text}`: a tag is key:value, each of 1 to 63 letters, digits, emoji, `.`, `_` or `-`")]
pub struct InvalidTag {
    text: String,
}

impl CustomTag {
    /// Says whether a text may be the key or the value of a tag.
    #[must_use]
    pub fn is_part(text: &str) -> bool {
        (1..=LENGTH_MAX).contains(&text.chars().count()) && text.chars().all(is_seen)
    }
}

/// Returns whether a character may stand in a tag. The two joiners, which words and emoji of some
/// scripts need, may.
fn is_seen(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    }
    let is_invisible = matches!(
        char,
        '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    !(is_invisible || char.is_control() || char.is_whitespace())
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
        for bad in [
            "",
            "a",
            ":",
            "a:",
            ":b",
            "a b:c",
            "a:b:c",
            "a/b:c",
            "a:b=c",
            "a:ä b",
            "a:\u{202e}b",
            "a:b\u{a0}",
            &format!("{}:b", "ä".repeat(64)),
        ] {
            assert!(bad.parse::<CustomTag>().is_err(), "{bad}");
        }
        for (key, value) in [("פרויקט", "ספינה-7"), ("👩‍🚀", "🇩🇪"), (&*"ä".repeat(63), "प्रकल्प")]
        {
            let tag = CustomTag { key: key.to_owned(), value: value.to_owned() };
            assert_eq!(tag.to_string().parse(), Ok(tag));
        }
    }

    proptest! {
        #[test]
        fn a_tag_reads_back(key in "[A-Za-z0-9._א-ת🚢-]{1,63}", value in "[A-Za-z0-9._א-ת🚢-]{1,63}") {
            let tag = CustomTag { key, value };
            prop_assert_eq!(tag.to_string().parse::<CustomTag>(), Ok(tag));
        }
    }
}
