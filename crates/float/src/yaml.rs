//! YAML as scripts read it: a key and its value on one line, without a parser.
//!
//! A text stands in double quotes if YAML 1.1 or 1.2 would read something else from it. That is a
//! number, a truth value, null or a time. A reader that takes the text between the quotes, or a
//! word of a line, finds what was meant. The items of a list begin in the column of its key.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_norway::{Mapping, Value};

/// The further indent of what is in a map or below a dash.
const STEP: usize = 2;
/// The words that YAML 1.1 or 1.2 reads as something else, in lower case.
const WORDS: [&str; 13] = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", "="];

/// Writes a value.
pub(crate) fn to_string(value: &(impl Serialize + ?Sized)) -> Result<String> {
    let value = serde_norway::to_value(value).context("can't write the answer as YAML")?;
    let mut text = String::new();
    match &value {
        Value::Mapping(map) if !map.is_empty() => mapping(&mut text, map, 0, Begin::OwnLine),
        Value::Sequence(items) if !items.is_empty() => sequence(&mut text, items, 0, Begin::OwnLine),
        value => {
            text.push_str(&scalar(value, STEP));
            text.push('\n');
        }
    }
    Ok(text)
}

/// The place of the first entry of a map or list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// On a line of its own.
    OwnLine,
    /// Behind the dash of a list.
    BehindDash,
}

fn mapping(text: &mut String, map: &Mapping, indent: usize, begin: Begin) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 || begin == Begin::OwnLine {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        text.push_str(&key_text(key));
        text.push(':');
        match value {
            Value::Mapping(map) if !map.is_empty() => {
                text.push('\n');
                mapping(text, map, indent + STEP, Begin::OwnLine);
            }
            Value::Sequence(items) if !items.is_empty() => {
                text.push('\n');
                sequence(text, items, indent, Begin::OwnLine);
            }
            value => line_end(text, value, indent),
        }
    }
}

fn sequence(text: &mut String, items: &[Value], indent: usize, begin: Begin) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || begin == Begin::OwnLine {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        text.push('-');
        match item {
            Value::Mapping(map) if !map.is_empty() => {
                text.push(' ');
                mapping(text, map, indent + STEP, Begin::BehindDash);
            }
            Value::Sequence(items) if !items.is_empty() => {
                text.push(' ');
                sequence(text, items, indent + STEP, Begin::BehindDash);
            }
            item => line_end(text, item, indent),
        }
    }
}

fn line_end(text: &mut String, value: &Value, indent: usize) {
    text.push(' ');
    text.push_str(&scalar(value, indent + STEP));
    text.push('\n');
}

fn scalar(value: &Value, indent: usize) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(value) => string(value, indent),
        Value::Sequence(_) => "[]".into(),
        Value::Mapping(_) => "{}".into(),
        Value::Tagged(tagged) => scalar(&tagged.value, indent),
    }
}

fn key_text(key: &Value) -> String {
    match key {
        Value::String(key) if is_plain(key) => key.clone(),
        Value::String(key) => quoted(key),
        key => scalar(key, 0),
    }
}

fn string(value: &str, indent: usize) -> String {
    if is_plain(value) {
        return value.to_owned();
    }
    if is_block(value) { block(value, indent) } else { quoted(value) }
}

/// Returns whether a text may stand without quotes and is read as itself.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let second_is_blank = text.chars().nth(1).is_none_or(char::is_whitespace);
    let begins_otherwise =
        ",[]{}#&*!|>'\"%@`".contains(first) || ("-?:".contains(first) && second_is_blank) || text.starts_with("---");
    let ends_otherwise = text.ends_with(':') || text.trim() != text;
    let holds_otherwise = text.contains(": ") || text.contains(" #") || text.chars().any(needs_escape);
    !(begins_otherwise
        || ends_otherwise
        || holds_otherwise
        || WORDS.contains(&&*text.to_ascii_lowercase())
        || text.starts_with("...")
        || is_number(text)
        || is_time(text))
}

/// Returns whether some YAML reads the text as a number. YAML 1.1 has digits in groups (`1_000`),
/// by sixty (`22:30`), and of base 2, 8 and 16.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text).to_ascii_lowercase();
    if matches!(&*unsigned, ".inf" | ".nan" | "inf" | "nan" | "infinity") {
        return true;
    }
    let all = |digits: &str, is_digit: fn(char) -> bool| {
        !digits.is_empty() && digits.chars().all(|char| is_digit(char) || char == '_')
    };
    for (prefix, is_digit) in [
        ("0x", (|char: char| char.is_ascii_hexdigit()) as fn(char) -> bool),
        ("0o", |char| char.is_digit(8)),
        ("0b", |char| char.is_digit(2)),
    ] {
        if unsigned.strip_prefix(prefix).is_some_and(|digits| all(digits, is_digit)) {
            return true;
        }
    }
    let is_decimal = |char: char| char.is_ascii_digit();
    if let Some((first, rest)) = unsigned.split_once(':') {
        let by_sixty = |part: &str| part.len() <= 2 && all(part, is_decimal) && part < "60";
        let (rest, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
        let is_fraction = fraction.is_empty() || all(fraction, is_decimal);
        return all(first, is_decimal) && rest.split(':').all(by_sixty) && is_fraction;
    }
    let (mantissa, exponent) = match unsigned.split_once('e') {
        Some((mantissa, exponent)) => (mantissa.to_owned(), exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        None => (unsigned.clone(), "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((&mantissa, ""));
    let digits = [whole, fraction].concat();
    digits.starts_with(|char: char| char.is_ascii_digit()) && all(&digits, is_decimal) && all(exponent, is_decimal)
}

/// Returns whether YAML 1.1 reads the text as a time: it begins like a date.
fn is_time(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, least: usize, most: usize| {
        part.is_some_and(|part| (least..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    digits(parts.next(), 4, 4)
        && digits(parts.next(), 1, 2)
        && parts.next().is_some_and(|day| day.starts_with(|char: char| char.is_ascii_digit()))
}

/// Returns whether a character can stand in a quoted text alone.
fn needs_escape(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Returns whether a text of several lines can be written line by line.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && !text.chars().any(|char| char != '\n' && char != '\t' && needs_escape(char))
}

fn block(text: &str, indent: usize) -> String {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let chomping = match text.len() - text.trim_end_matches('\n').len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let mut written = format!("|{chomping}");
    for line in lines.split('\n') {
        written.push('\n');
        if !line.is_empty() {
            written.extend(std::iter::repeat_n(' ', indent));
            written.push_str(line);
        }
    }
    written
}

fn quoted(text: &str) -> String {
    let mut written = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            char if needs_escape(char) => written.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => written.push(char),
        }
    }
    written.push('"');
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_like_something_else_is_in_double_quotes() {
        for text in [
            "",
            "42",
            "0",
            "-1",
            "+7",
            "010",
            "1e3",
            "1E+3",
            "0xFF",
            "0o755",
            "0b1",
            "1_000",
            "2.50",
            ".5",
            "5.",
            "22:30",
            "190:20:30",
            "20:30:15.5",
            ".inf",
            "-.Inf",
            ".NaN",
            "yes",
            "No",
            "on",
            "OFF",
            "y",
            "N",
            "true",
            "False",
            "null",
            "~",
            "<<",
            "=",
            "2026-08-01",
            "2026-08-01T12:00:00Z",
            "2026-8-1 1:02:03",
            "- a",
            "-",
            "? a",
            "a: b",
            "a #b",
            "a:",
            " a",
            "a ",
            "#a",
            "*a",
            "&a",
            "!a",
            "[a]",
            "{a}",
            "'a'",
            "\"a\"",
            "%a",
            "@a",
            "`a`",
            "---",
            "...",
            "a\tb",
            "a\u{85}b",
            "|",
            ">",
        ] {
            let written = string(text, 0);
            assert!(written.starts_with('"') && written.ends_with('"'), "{text:?}: {written}");
            assert_eq!(serde_norway::from_str::<Value>(&written).unwrap(), Value::from(text));
        }
    }

    #[test]
    fn words_that_scripts_know_stay_as_they_are() {
        for text in [
            "uqaj8l6a407u88v0106ol",
            "198.18.0.3",
            "198.18.0.3 (2Core4GB/Spot)",
            "8888 -> 198.18.0.1:10000",
            "8888:8888",
            "http://198.18.0.1:10000/lab?token=f00",
            "-i dir:/ -n web -c 2:4",
            "3m5s",
            "0.0017 USD",
            "Executing",
            "stdout.autosave",
            "10.0.0.5:8443",
            "sha256:6b3c",
            "a-b_c.d",
            "1.2.3",
            "12h",
            "on-demand",
        ] {
            assert_eq!(string(text, 0), text);
        }
    }

    #[test]
    fn layout_is_that_of_lines() {
        let value = json!({
            "rc": "42", "none": [], "empty": {}, "tags": {"n": "1e3", "010": "x"}, "list": ["a", "22:22"],
            "maps": [{"id": "x", "inner": {"a": 1}, "deep": [["b"], []]}], "script": "one\ntwo\n", "last": null,
        });
        let written = to_string(&value).unwrap();
        assert_eq!(
            written,
            "rc: \"42\"\nnone: []\nempty: {}\ntags:\n  \"n\": \"1e3\"\n  \"010\": x\nlist:\n- a\n- \"22:22\"\nmaps:\n- id: x\n  inner:\n\
             \x20   a: 1\n  deep:\n  - - b\n  - []\nscript: |\n  one\n  two\nlast: null\n"
        );
        assert_eq!(serde_norway::from_str::<serde_json::Value>(&written).unwrap(), value);
        assert_eq!(to_string("-\n").unwrap(), "|\n  -\n");
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let text = prop_oneof![any::<String>(), "[-+0-9._:eExo]{0,8}", "[ a#:\\-\n\t'\"]{0,12}", "(a|\n| ){0,6}"];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            text.clone().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in values()) {
            let written = to_string(&value).unwrap();
            prop_assert_eq!(serde_norway::from_str::<serde_json::Value>(&written).unwrap(), value, "{}", written);
        }
    }
}
