//! The audit: the outcome of a request that changes something, and the text of its entry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most characters of a text in an entry.
pub const TEXT_MAX: usize = 256;

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuditOutcome {
    /// The request was fulfilled.
    Succeeded,
    /// OpCenter refused the request, and nothing changed.
    Refused,
    /// OpCenter failed.
    Failed,
}

impl AuditOutcome {
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Refused, Self::Failed];
}

impl fmt::Display for AuditOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

/// A text that is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown outcome `{0}`: the outcomes are succeeded, refused, failed")]
pub struct UnknownOutcome(String);

impl FromStr for AuditOutcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.to_string() == text);
        found.ok_or_else(|| UnknownOutcome(plain(text)))
    }
}

/// Returns a text as one line of at most [`TEXT_MAX`] characters.
///
/// Characters that end a line, control a terminal or turn the direction of writing become
/// escapes. So a text from a user can't look like an entry of its own.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(TEXT_MAX));
    for (number, character) in text.chars().enumerate() {
        if number == TEXT_MAX {
            line.push('…');
            break;
        }
        if is_plain(character) { line.push(character) } else { line.extend(character.escape_unicode()) }
    }
    line
}

fn is_plain(character: char) -> bool {
    let ends_line = matches!(character, '\u{2028}' | '\u{2029}');
    let turns =
        matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !ends_line && !turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn outcomes_read_back() {
        for outcome in AuditOutcome::ALL {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        assert!("done".parse::<AuditOutcome>().is_err());
    }

    #[test]
    fn text_of_a_user_is_one_line() {
        assert_eq!(plain("a\nb\r\u{1b}[2J\u{202e}c"), r"a\u{a}b\u{d}\u{1b}[2J\u{202e}c");
        assert_eq!(plain("ä 🚀"), "ä 🚀");
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), TEXT_MAX + 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_second_line(text in "\\PC{0,40}|.{0,40}") {
            prop_assert_eq!(plain(&text).lines().count() <= 1, true);
            prop_assert!(!plain(&text).contains(char::is_control));
        }
    }
}
