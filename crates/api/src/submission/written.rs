//! Values as they were written: each with its text and its place, before anything reads a number
//! or a truth value from it.
//!
//! A version `2.50` is no number, and a mask `0xFF` is not 255. So job files and the JSON of the
//! API are read into these values first, and the fields of a submission read the texts.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{InvalidSubmission, Submission};

/// The keys of the original that have no effect here, and why.
const IGNORED: [(&str, &str); 5] = [
    ("imageVolSize", "volumes grow as they need"),
    ("rootVolSize", "volumes grow as they need"),
    ("instType", "hosts have no instance types; `cpu` and `memGB` give the size"),
    ("allowList", "hosts have no instance types; `host` names one"),
    ("denyList", "hosts have no instance types; `host` names one"),
];

/// A submission that was read, and the keys that have no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub submission: Submission,
    /// A sentence for each of them.
    pub warnings: Vec<String>,
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The place of its first character; absent where nobody sees the text.
    pub place: Option<Place>,
    pub content: Content,
}

/// The content of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Null,
    /// A text, number or truth value, without quotes.
    Text(String),
    List(Vec<Written>),
    /// The entries in their order; a key may be there twice.
    Map(Vec<(String, Written)>),
}

/// A place in a text. Both numbers begin with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Values that are no submission, and their place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Misplaced {
    pub error: InvalidSubmission,
    pub place: Option<Place>,
}

impl Written {
    /// Reads JSON.
    ///
    /// # Errors
    /// The text is no JSON.
    pub fn of_json(text: &str) -> serde_json::Result<Self> {
        of_raw(serde_json::from_str(text)?, text)
    }

    /// Returns the value with texts alone; `path` names it in errors.
    fn value(&self, path: &str) -> Result<Value, Misplaced> {
        let refused = |error| Misplaced { error, place: self.place };
        match &self.content {
            Content::Null => Err(refused(InvalidSubmission::Null { key: path.to_owned() })),
            Content::Text(text) => Ok(Value::from(text.as_str())),
            Content::List(items) => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| item.value(&format!("{path}[{index}]"))).collect()
            }
            Content::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, value) in entries {
                    let path = format!("{path}.{key}");
                    if map.insert(key.clone(), value.value(&path)?).is_some() {
                        let error = InvalidSubmission::Twice { key: path };
                        return Err(Misplaced { error, place: value.place });
                    }
                }
                Ok(Value::Object(map))
            }
        }
    }
}

impl Submission {
    /// Reads a submission from values as they were written.
    ///
    /// # Errors
    /// A key is unknown or given twice, or a value is null or invalid.
    pub fn read_written(entries: &[(String, Written)]) -> Result<Accepted, Misplaced> {
        let mut values = Vec::new();
        let mut warnings = Vec::new();
        for (key, value) in entries {
            let read = value.value(key)?;
            match IGNORED.iter().find(|(ignored, _)| ignored == key) {
                Some(_) if [Value::from(""), Value::from("0")].contains(&read) => {}
                Some((_, why)) => warnings.push(format!("`{key}` has no effect: {why}")),
                None => values.push((key.clone(), read)),
            }
        }
        let read = Self::read(values).map(|submission| Accepted { submission, warnings });
        read.map_err(|error| {
            // Of a key that is given twice, the second one is the place.
            let place = entries.iter().rev().find(|(key, _)| key == error.key()).and_then(|(_, value)| value.place);
            Misplaced { error, place }
        })
    }

    /// Reads a submission from the JSON of the API. A null stands for an absent value there.
    ///
    /// # Errors
    /// It is no map, a key is unknown or given twice, or a value is invalid.
    pub fn of_json(json: &RawValue) -> Result<Accepted, InvalidSubmission> {
        let written = Written::of_json(json.get()).map_err(|_| InvalidSubmission::NoMap)?;
        let Content::Map(mut entries) = written.content else { return Err(InvalidSubmission::NoMap) };
        entries.retain(|(_, value)| value.content != Content::Null);
        Self::read_written(&entries).map_err(|misplaced| misplaced.error)
    }
}

/// Reads an optional submission of another request, for `#[serde(deserialize_with = …)]`.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Submission>, D::Error> {
    let json = Option::<Box<RawValue>>::deserialize(deserializer)?;
    let read = |json: Box<RawValue>| Submission::of_json(&json).map(|accepted| accepted.submission);
    json.map(read).transpose().map_err(|error| de::Error::custom(error.with_key()))
}

/// Reads a part of a whole text.
fn of_raw(part: &RawValue, whole: &str) -> serde_json::Result<Written> {
    let text = part.get();
    let content = match text.as_bytes().first() {
        Some(b'n') => Content::Null,
        Some(b'"') => Content::Text(serde_json::from_str(text)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            Content::List(items.into_iter().map(|item| of_raw(item, whole)).collect::<Result<_, _>>()?)
        }
        Some(b'{') => {
            let Entries(entries) = serde_json::from_str(text)?;
            let read = |(key, value)| Ok((key, of_raw(value, whole)?));
            Content::Map(entries.into_iter().map(read).collect::<serde_json::Result<_>>()?)
        }
        _ => Content::Text(text.to_owned()),
    };
    let offset = text.as_ptr().addr().checked_sub(whole.as_ptr().addr());
    Ok(Written { place: offset.and_then(|offset| Place::at(whole, offset)), content })
}

impl Place {
    /// Returns the place of a byte of a text.
    fn at(text: &str, offset: usize) -> Option<Self> {
        let before = text.get(..offset)?;
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Some(Self { line: before.matches('\n').count() + 1, column: before.get(line_start..)?.chars().count() + 1 })
    }
}

/// The entries of a JSON map in their order.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(json: &str) -> Result<Accepted, InvalidSubmission> {
        Submission::of_json(&serde_json::from_str::<Box<RawValue>>(json).unwrap())
    }

    fn read(json: &str) -> Result<Submission, InvalidSubmission> {
        accepted(json).map(|accepted| accepted.submission)
    }

    #[test]
    fn fields_of_the_original_are_taken_or_named() {
        let json = r#"{"cpu": 2, "mem": 4, "instType": "", "image": "python", "imageVolSize": 6, "jobContent": "true",
            "dataVolumes": [], "customTags": {}, "envs": ["A=1"]}"#;
        let Accepted { submission, warnings } = accepted(json).unwrap();
        assert_eq!((submission.script.as_deref(), submission.cpu), (Some("true"), Some(2)));
        assert_eq!(warnings, ["`imageVolSize` has no effect: volumes grow as they need"]);
        let warned = accepted(r#"{"instType": "m5.large"}"#).unwrap().warnings;
        assert_eq!(warned, ["`instType` has no effect: hosts have no instance types; `cpu` and `memGB` give the size"]);
        assert_eq!(read(r#"{"instTyp": "m5.large"}"#).unwrap_err().with_key(), "unknown key `instTyp`");
    }

    #[test]
    fn numbers_of_json_keep_their_text() {
        let json = r#"{"image": "dir:/", "cpu": 2, "memGB": 0.50, "timeLimit": null, "name": 2.50, "withRoot": true,
            "env": {"PY": 2.50, "RATE": 1e3, "BIG": 18446744073709551616, "ON": true, "TEXT": "a\u0041\n"},
            "command": ["echo", 1.0, -0], "customTags": {"run": 1e3}, "publish": [8080]}"#;
        let submission = read(json).unwrap();
        let env = [("PY", "2.50"), ("RATE", "1e3"), ("BIG", "18446744073709551616"), ("ON", "true"), ("TEXT", "aA\n")];
        assert_eq!(submission.env, super::super::Environment::from(env));
        assert_eq!(submission.command, ["echo", "1.0", "-0"]);
        assert_eq!(submission.name.unwrap().as_str(), "2.50");
        assert_eq!(submission.custom_tags.0["run"], "1e3");
        assert_eq!((submission.cpu, submission.mem_gb, submission.with_root), (Some(2), Some(0.5), true));
    }

    #[test]
    fn nulls_and_repetitions_are_named() {
        for (json, told) in [
            (r#"{"env": {"EMPTY": null}}"#, "`env.EMPTY` is null: write `\"\"` for an empty value"),
            (r#"{"command": ["echo", null]}"#, "`command[1]` is null: write `\"\"` for an empty value"),
            (r#"{"env": {"A": 1, "A": 2}}"#, "`env.A` is given twice"),
            (r#"{"name": "a", "name": "b"}"#, "`name` is given twice"),
            ("[]", "a map of keys is expected"),
        ] {
            assert_eq!(read(json).unwrap_err().with_key(), told);
        }
    }

    #[test]
    fn place_is_that_of_the_value() {
        let written = Written::of_json("{\"image\": \"dir:/\",\n  \"ä\": {\"b\": 1}}").unwrap();
        let Content::Map(entries) = written.content else { panic!("a map") };
        assert_eq!(entries[0].1.place, Some(Place { line: 1, column: 11 }));
        let Content::Map(inner) = &entries[1].1.content else { panic!("a map") };
        assert_eq!(inner[0].1.place, Some(Place { line: 2, column: 14 }));
    }
}
