//! The keys of filters as data, and the texts that may come next in an unfinished filter.

use super::parse::{OPERATORS, is_bare, is_of_key, is_word_of_ours};
use crate::job::{Category, JobStatus};

/// A key of filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The key as it is written; `tag:KEY` stands for the key of each tag.
    pub name: &'static str,
    pub values: Values,
    pub help: &'static str,
}

/// The kind of a key's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    Text,
    Status,
    Category,
    /// An age or a point in time.
    Time,
    Duration,
}

/// All keys, the most useful ones first.
pub const KEYS: [Key; 11] = [
    Key { name: "status", values: Values::Status, help: "status" },
    Key { name: "user", values: Values::Text, help: "user who submitted the job" },
    Key { name: "name", values: Values::Text, help: "job name" },
    Key { name: "id", values: Values::Text, help: "job id" },
    Key { name: "image", values: Values::Text, help: "image" },
    Key { name: "host", values: Values::Text, help: "name of the host" },
    Key { name: "category", values: Values::Category, help: "pending, running, success or failed" },
    Key { name: TAG, values: Values::Text, help: "value of the tag with that key" },
    Key { name: "submit", values: Values::Time, help: "submission: its age or time" },
    Key { name: "update", values: Values::Time, help: "last change: its age or time" },
    Key { name: "duration", values: Values::Duration, help: "time for which the job has run" },
];

const TAG: &str = "tag:KEY";
const TAG_PREFIX: &str = "tag:";

impl Values {
    /// Returns the operators that compare such values.
    #[must_use]
    pub fn operators(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["=", "!=", "~"],
            Self::Status | Self::Category => &["=", "!="],
            Self::Time | Self::Duration => &["<=", ">=", "<", ">", "=", "!="],
        }
    }

    /// Returns all values where there are few, and examples of times.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        match self {
            Self::Text => Vec::new(),
            Self::Status => JobStatus::ALL.iter().map(ToString::to_string).collect(),
            Self::Category => Category::ALL.iter().map(ToString::to_string).collect(),
            Self::Time => ["1h", "24h", "7d", "4w"].map(str::to_owned).into(),
            Self::Duration => ["10m", "1h", "24h"].map(str::to_owned).into(),
        }
    }
}

impl Key {
    fn of(name: &str) -> Option<Self> {
        let name = if name.starts_with(TAG_PREFIX) { TAG } else { name };
        KEYS.into_iter().find(|key| key.name == name)
    }
}

/// The texts that may come next in an unfinished filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    /// The byte from which on a suggestion replaces the text.
    pub from: usize,
    pub suggestions: Vec<Suggestion>,
}

/// A text that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    pub text: String,
    pub help: String,
}

/// Returns what may come next after `text`, the part of a filter before the cursor. `known` returns
/// the values that its caller knows for a key of text, and the keys of tags for `tag:KEY`.
#[must_use]
pub fn complete(text: &str, known: impl Fn(&str) -> Vec<String>) -> Completion {
    let mut rest = Rest { text, at: 0 };
    loop {
        rest.skip(|byte| byte.is_ascii_whitespace() || byte == b'(');
        let key_at = rest.at;
        let key = rest.take(is_of_key);
        if rest.is_empty() {
            let is_typed = Key::of(key).is_some() && key != TAG_PREFIX;
            let keys = keys_like(key, &known);
            // A whole key goes on with its operators, unless it begins a longer one.
            return match Key::of(key) {
                Some(found) if is_typed && keys.iter().all(|other| other.text == key) => {
                    operators(found, key, rest.at, "")
                }
                _ => Completion { from: key_at, suggestions: keys },
            };
        }
        let Some(found) = Key::of(key) else { return Completion::default() };
        rest.skip(|byte| byte.is_ascii_whitespace());
        let operator_at = rest.at;
        let Some((sign, _)) = OPERATORS.iter().find(|(sign, _)| rest.rest().starts_with(sign)) else {
            return operators(found, key, operator_at, rest.rest());
        };
        rest.at += sign.len();
        rest.skip(|byte| byte.is_ascii_whitespace());
        let value_at = rest.at;
        let Some(value) = rest.value() else {
            return values(found, key, value_at, &text[value_at..], &known);
        };
        if rest.is_empty() && !value.ends_with('"') {
            return values(found, key, value_at, value, &known);
        }
        let before_blanks = rest.at;
        rest.skip(|byte| byte.is_ascii_whitespace() || byte == b')');
        let word_at = rest.at;
        let word = rest.take(|byte| byte.is_ascii_alphanumeric());
        if rest.is_empty() {
            // A word has a blank or a parenthesis before it.
            let is_apart = word_at > before_blanks;
            return if is_apart { joints(word_at, word) } else { Completion::default() };
        }
        if !is_word_of_ours(word) {
            return Completion::default();
        }
    }
}

/// The text that is not read yet.
struct Rest<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl<'a> Rest<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Consumes bytes of a kind, none of which is a part of a character.
    fn take(&mut self, is_part: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn skip(&mut self, is_part: impl Fn(u8) -> bool) {
        self.take(is_part);
    }

    /// Consumes a value with its quotes; `None` if its quote is open.
    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        if !self.rest().starts_with('"') {
            return Some(self.take(is_bare));
        }
        let length = self.rest()[1..].find('"')? + 2;
        self.at += length;
        Some(&self.text[start..self.at])
    }
}

fn keys_like(typed: &str, known: impl Fn(&str) -> Vec<String>) -> Vec<Suggestion> {
    let fits = |name: &str| name.to_lowercase().starts_with(&typed.to_lowercase());
    let tags = known(TAG).into_iter().map(|tag| (format!("{TAG_PREFIX}{tag}"), format!("value of the tag {tag}")));
    let keys = KEYS.into_iter().map(|key| {
        let name = if key.name == TAG { TAG_PREFIX } else { key.name };
        (name.to_owned(), key.help.to_owned())
    });
    let fitting = keys.chain(tags).filter(|(name, _)| fits(name));
    fitting.map(|(text, help)| Suggestion { text, help }).collect()
}

fn operators(key: Key, name: &str, from: usize, typed: &str) -> Completion {
    let fitting = key.values.operators().iter().filter(|sign| sign.starts_with(typed));
    let help = |sign: &str| {
        format!(
            "{name} {}",
            match sign {
                "=" => "is",
                "!=" => "is not",
                "~" => "contains",
                "<" => "less than",
                "<=" => "at most",
                ">" => "more than",
                _ => "at least",
            }
        )
    };
    let suggestions = fitting.map(|sign| Suggestion { text: (*sign).to_owned(), help: help(sign) }).collect();
    Completion { from, suggestions }
}

fn values(key: Key, name: &str, from: usize, typed: &str, known: impl Fn(&str) -> Vec<String>) -> Completion {
    let wanted = typed.trim_start_matches('"').to_lowercase();
    let all = if key.values == Values::Text { known(name) } else { key.values.names() };
    let fitting = all.into_iter().filter(|value| {
        let value = value.to_lowercase();
        value.starts_with(&wanted) && (value != wanted || typed.starts_with('"'))
    });
    let quoted = |value: String| {
        let is_plain = !value.is_empty() && value.bytes().all(is_bare) && !is_word_of_ours(&value);
        if is_plain && !typed.starts_with('"') { value } else { format!("\"{value}\"") }
    };
    let suggestions = fitting.map(|value| Suggestion { text: quoted(value), help: String::new() }).collect();
    Completion { from, suggestions }
}

fn joints(from: usize, typed: &str) -> Completion {
    let all = [("and", "both hold"), ("or", "one of both holds")];
    let fitting = all.into_iter().filter(|(word, _)| word.starts_with(&typed.to_lowercase()));
    let suggestions = fitting.map(|(text, help)| Suggestion { text: text.to_owned(), help: help.to_owned() }).collect();
    Completion { from, suggestions }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::filter::Filter;

    fn known(key: &str) -> Vec<String> {
        let values: &[&str] = match key {
            "user" => &["alice", "bob"],
            "host" => &["host-1", "host-2"],
            "image" => &["dir:/a b", "ubuntu"],
            TAG => &["project"],
            "tag:project" => &["course-7"],
            _ => &[],
        };
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    fn texts(text: &str) -> (usize, Vec<String>) {
        let Completion { from, suggestions } = complete(text, known);
        (from, suggestions.into_iter().map(|suggestion| suggestion.text).collect())
    }

    #[test]
    fn suggestions_continue_the_text() {
        for (text, from, expected) in [
            ("st", 0, vec!["status"]),
            ("ta", 0, vec!["tag:", "tag:project"]),
            ("tag:p", 0, vec!["tag:project"]),
            ("status", 6, vec!["=", "!="]),
            ("status ", 7, vec!["=", "!="]),
            ("status!", 6, vec!["!="]),
            ("tag:project", 11, vec!["=", "!=", "~"]),
            ("tag:project=", 12, vec!["course-7"]),
            ("status=exe", 7, vec!["Executing"]),
            ("status=Executing", 7, vec![]),
            ("status=Executing ", 17, vec!["and", "or"]),
            ("status=Executing a", 17, vec!["and"]),
            ("(user=alice) o", 13, vec!["or"]),
            ("user=alice or ho", 14, vec!["host"]),
            ("user=alice and (host~host-", 21, vec!["host-1", "host-2"]),
            ("image=d", 6, vec!["\"dir:/a b\""]),
            ("image=\"u", 6, vec!["\"ubuntu\""]),
            ("category=R", 9, vec!["running"]),
            ("nothing=", 0, vec![]),
            ("user=alice bob", 11, vec![]),
        ] {
            assert_eq!(texts(text), (from, expected.into_iter().map(str::to_owned).collect()), "{text}");
        }
        assert_eq!(texts("").1.len(), KEYS.len() + 1);
        assert_eq!(texts("user=alice and ").1.len(), KEYS.len() + 1);
    }

    #[test]
    fn every_key_reads_with_each_of_its_operators() {
        for key in KEYS {
            let value = key.values.names().into_iter().next().unwrap_or_else(|| "x".to_owned());
            for sign in ["=", "!=", "~", "<", "<=", ">", ">="] {
                let text = format!("{}{sign}{value}", key.name);
                assert_eq!(text.parse::<Filter>().is_ok(), key.values.operators().contains(&sign), "{text}");
            }
        }
    }

    proptest! {
        /// The first suggestion, taken again and again, makes a filter.
        #[test]
        fn first_suggestions_lead_to_a_filter(start in prop::sample::select(vec!["", "u", "(status", "id=x or "])) {
            let mut text = start.to_owned();
            for _ in 0..4 {
                let Completion { from, suggestions } = complete(&text, known);
                let Some(first) = suggestions.first() else { break };
                text.replace_range(from.., &first.text);
            }
            let closed = format!("{text}{}", ")".repeat(text.matches('(').count()));
            prop_assert!(closed.parse::<Filter>().is_ok(), "{}", closed);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}|[a-z=!<>~()\" äß]{0,40}") {
            let Completion { from, .. } = complete(&text, known);
            prop_assert!(text.is_char_boundary(from));
        }
    }
}
