//! A form and the submission that it stands for: one reading, one writing.
//!
//! | field | in the form |
//! |---|---|
//! | a list | its items under one key |
//! | a size | `cpu` and `cpuMax`, which the command line writes as `2:4` |
//! | `command` | words, quoted as for a shell |
//! | `command` or `script` | `run` says which of them counts |

use mooring_api::Submission;
use mooring_api::submission::{FIELDS, Field, InvalidSubmission};
use serde_json::Value;

use super::hidden;
use crate::web::form::Form;

/// The key that chooses between a command and a script.
pub(super) const RUN: &str = "run";
/// The two ways to say what runs.
const WAYS: [&str; 2] = ["command", "script"];
/// The keys of the ends of sizes, by the keys of their beginnings.
pub(super) const ENDS: [(&str, &str); 2] = [("cpu", "cpuMax"), ("memGB", "memGBMax")];

/// Returns the key of the end of a size.
pub(super) fn end_of(key: &str) -> Option<&'static str> {
    ENDS.iter().find_map(|(begin, end)| (*begin == key).then_some(*end))
}

/// Returns whether a field is shown together with another one.
pub(super) fn is_end(key: &str) -> bool {
    ENDS.iter().any(|(_, end)| *end == key)
}

/// Returns the fields at which refusals stand. The end of a size has that of its beginning.
pub(super) fn places() -> Vec<(&'static str, &'static str)> {
    let begin = |key: &'static str| ENDS.iter().find_map(|(begin, end)| (*end == key).then_some(*begin));
    FIELDS.iter().map(|field| (field.key, begin(field.key).unwrap_or(field.key))).collect()
}

/// Reads the valid fields of a form, and notes an error at each of the others.
pub(super) fn read(form: &mut Form) -> Submission {
    let mut values = Vec::new();
    for field in FIELDS {
        match value(form, field) {
            Ok(None) => {}
            Ok(Some(value)) => match Submission::read([(field.key.to_owned(), value.clone())]) {
                Ok(_) => values.push((field.key.to_owned(), value)),
                Err(error) => form.refuse(field.key, told(&error)),
            },
            Err(message) => form.refuse(field.key, message),
        }
    }
    // What was read alone is read together, since no key comes twice.
    let submission = Submission::read(values).unwrap_or_default();
    hidden::refuse(form, &submission);
    submission
}

/// Returns the form that begins with a submission.
pub(super) fn write(submission: &Submission) -> Form {
    let mut form = Form::default();
    let Ok(Value::Object(values)) = serde_json::to_value(submission) else { return form };
    for (key, value) in &values {
        for text in texts(key, value) {
            form.set(key, text);
        }
    }
    let ways: Vec<&str> = WAYS.into_iter().filter(|way| values.contains_key(*way)).collect();
    if let [way] = ways.as_slice() {
        form.set(RUN, *way);
    }
    form
}

/// Returns the texts that stand for a value in a form.
pub(super) fn texts(key: &str, value: &Value) -> Vec<String> {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        // As the command line writes it: `2`, not `2.0`.
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        other => other.to_string(),
    };
    match value {
        Value::Array(items) if key == "command" => {
            let words: Vec<String> = items.iter().map(plain).collect();
            vec![shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default()]
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(pairs) => pairs.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect(),
        value => vec![plain(value)],
    }
}

/// Returns the value of a field as a job file would have it; `None` without one.
fn value(form: &Form, field: &Field) -> Result<Option<Value>, &'static str> {
    let key = field.key;
    let one = form.text(key).replace("\r\n", "\n");
    if WAYS.contains(&key) && WAYS.contains(&form.text(RUN)) && form.text(RUN) != key {
        return Ok(None);
    }
    if key == "command" {
        let words = shlex::split(&one).ok_or("a quote is not closed; write the command as in a shell")?;
        return Ok((!words.is_empty()).then(|| Value::from(words)));
    }
    if key == "script" {
        return Ok((!one.trim().is_empty()).then(|| Value::from(one)));
    }
    if field.is_list {
        let items: Vec<String> = form.list(key).map(|text| text.replace("\r\n", "\n")).collect();
        // The value of a variable may begin or end with a blank.
        let items = items.into_iter().map(|text| if key == "env" { text } else { text.trim().to_owned() });
        let items: Vec<String> = items.filter(|text| !text.is_empty()).collect();
        return Ok((!items.is_empty()).then(|| Value::from(items)));
    }
    let is_switch = field.flag().is_some_and(|flag| flag.value.is_none());
    if is_switch {
        return Ok(form.is_checked(key).then_some(Value::Bool(true)));
    }
    if is_end(key) {
        return Ok(None);
    }
    let begin = one.trim();
    let text = match end_of(key).map(|end| form.text(end).trim()).filter(|end| !end.is_empty()) {
        Some(end) => format!("{begin}:{end}"),
        None => begin.to_owned(),
    };
    Ok((!text.is_empty()).then(|| Value::from(text)))
}

/// Words an error as the command line does, with its next step.
fn told(error: &InvalidSubmission) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn submission(values: Value) -> Submission {
        serde_json::from_value(values).unwrap()
    }

    /// Reads the form as a browser sends it.
    fn again(submission: &Submission) -> (Submission, Form) {
        let mut form = write(submission);
        (read(&mut form), form)
    }

    #[test]
    fn every_field_round_trips() {
        let examples = |skipped: &str| {
            let fields = FIELDS.iter().filter(|field| field.key != skipped);
            Submission::read(fields.map(|field| (field.key.to_owned(), field.example()))).unwrap()
        };
        for skipped in WAYS {
            let (read, form) = again(&examples(skipped));
            assert!(form.is_valid(), "{form:?}");
            assert_eq!(read, examples(skipped));
            for field in FIELDS.iter().filter(|field| field.key != skipped) {
                assert!(!form.text(field.key).is_empty(), "{} is not in the form", field.key);
            }
        }
        for field in FIELDS.iter().filter(|field| !is_end(field.key)) {
            let alone = Submission::read([(field.key.to_owned(), field.example())]).unwrap();
            assert_eq!(again(&alone).0, alone, "{}", field.key);
        }
    }

    #[test]
    fn each_wrong_field_has_its_error_and_the_others_count() {
        let mut form = Form::with("image", "dir:/");
        for (key, text) in [
            ("cpu", "4"),
            ("cpuMax", "2"),
            ("memGB", "much"),
            ("publish", "99999"),
            ("env", "PLAIN"),
            ("egress", "vpn"),
            ("command", "echo 'open"),
            ("name", " web "),
            ("timeLimit", "soon"),
        ] {
            form.set(key, text);
        }
        let read = read(&mut form);
        assert_eq!(read, submission(json!({"image": "dir:/", "name": "web"})));
        for (key, message) in [
            ("cpu", "invalid number of cores `4:2`: the least, 4, is more than the most, 2"),
            ("memGB", "invalid memory `much`"),
            ("publish", "99999"),
            ("env", "`PLAIN` is no environment variable; write KEY=VALUE"),
            ("egress", "invalid egress `vpn`; write `host` or `gateway`"),
            ("command", "a quote is not closed"),
            ("timeLimit", "invalid duration `soon`"),
        ] {
            assert!(form.error(key).contains(message), "{key}: {}", form.error(key));
        }
        assert_eq!((form.error("image"), form.text("publish")), ("", "99999"));
    }

    #[test]
    fn command_or_script_is_what_was_chosen() {
        let mut form = Form::with(RUN, "script");
        form.set("command", "echo 'open");
        form.set("script", "#!/bin/sh\r\ntrue\r\n");
        let read = read(&mut form);
        assert!(form.is_valid(), "{form:?}");
        assert_eq!(read, submission(json!({"script": "#!/bin/sh\ntrue\n"})));
    }

    proptest! {
        #[test]
        fn texts_come_back_as_they_were(
            command in prop::collection::vec("[^\0\r]{0,12}", 1..5),
            script in "[^\0\r]{0,40}[a-z]",
            value in "[^\0\r]{0,20}",
        ) {
            let command = Submission { command, ..submission(json!({"env": [format!("A={value}")]})) };
            prop_assert_eq!(again(&command).0, command);
            let script = submission(json!({"script": script}));
            prop_assert_eq!(again(&script).0, script);
        }
    }
}
