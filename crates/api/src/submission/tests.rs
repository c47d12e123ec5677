use serde_json::{Map, json};

use super::*;

fn read(value: Value) -> Result<Submission, InvalidSubmission> {
    let Value::Object(map) = value else { panic!("not a map") };
    Submission::read(map)
}

/// A submission with a value in every field.
fn full() -> Submission {
    Submission::read(FIELDS.iter().map(|field| (field.key.to_owned(), (field.example)()))).unwrap()
}

#[test]
fn every_field_round_trips_through_json() {
    let json = serde_json::to_value(full()).unwrap();
    for field in FIELDS {
        assert_eq!(json[field.key], (field.example)(), "{}", field.key);
    }
    assert_eq!(read(json).unwrap(), full());
    assert_eq!(serde_json::to_value(Submission::default()).unwrap(), json!({}));
}

/// Parses the words of [`Submission::arguments`] like `float submit`: flags, then the command.
fn parse_arguments(text: &str) -> Submission {
    let words = shlex::split(text).unwrap();
    let mut words = words.iter();
    let mut values = Map::new();
    while let Some(word) = words.next() {
        if word == "--" {
            values.insert("command".into(), words.by_ref().cloned().collect());
            break;
        }
        let field = FIELDS.iter().find(|field| field.flag().is_some_and(|flag| flag.shortest() == *word)).unwrap();
        let value = match field.flag().unwrap().value {
            None => Value::Bool(true),
            Some(_) => Value::from(words.next().unwrap().as_str()),
        };
        match values.entry(field.key).or_insert_with(|| if field.is_list { json!([]) } else { Value::Null }) {
            Value::Array(items) => items.push(value),
            single => *single = value,
        }
    }
    Submission::read(values).unwrap()
}

#[test]
fn every_flag_round_trips_through_arguments() {
    let submission = Submission { script: None, ..full() };
    assert_eq!(parse_arguments(&submission.arguments()), submission);
    let script = Submission { script: Some("true".into()), ..Submission::default() };
    assert_eq!(script.arguments(), "-j -");
}

#[test]
fn arguments_are_quoted_for_a_shell() {
    let submission = Submission {
        image: Some("dir:/".parse().unwrap()),
        cpu: Some(2),
        cpu_max: Some(4),
        env: Environment([("GREETING".to_owned(), "it's me".to_owned())].into()),
        command: ["sh", "-c", "echo $GREETING"].map(str::to_owned).into(),
        disable_rerun: true,
        ..Submission::default()
    };
    let words = shlex::split(&submission.arguments()).unwrap();
    assert_eq!(words.join("|"), "-i|dir:/|-c|2:4|-e|GREETING=it's me|--disableRerun|--|sh|-c|echo $GREETING");
}

#[test]
fn flags_are_distinct_and_documented() {
    let flags: Vec<Flag> = FIELDS.iter().filter_map(Field::flag).collect();
    for (index, flag) in flags.iter().enumerate() {
        let clashes = |other: &Flag| other.long == flag.long || (flag.short.is_some() && other.short == flag.short);
        assert!(!flags[index + 1..].iter().any(clashes), "{flag:?}");
    }
    for field in FIELDS {
        assert!(field.doc().ends_with('.'), "{}", field.key);
        assert!(!field.help().ends_with('.') && field.help().is_ascii(), "{}", field.key);
        assert!(field.usage.is_empty() || field.flag().is_some(), "{}", field.usage);
    }
}

#[test]
fn empty_texts_are_absent() {
    let texts = FIELDS.iter().filter(|field| !field.is_list && !["withRoot"].contains(&field.key));
    for field in texts.filter(|field| field.flag().is_none_or(|flag| flag.value.is_some())) {
        assert_eq!(read(json!({field.key: ""})).unwrap(), Submission::default(), "{}", field.key);
        assert_eq!(read(json!({field.key: null})).unwrap(), Submission::default(), "{}", field.key);
    }
}

#[test]
fn users_may_write_a_value_in_several_ways() {
    let lenient = read(json!({
        "cpu": "2:4", "mem": 0.5, "envs": {"MODE": "test", "LEVEL": 3}, "publish": "22", "targetPort": "8080",
        "vmPolicy": {"onDemand": true, "retryLimit": 1},
        "migratePolicy": {"cpu": {"upperBoundRatio": 80}, "evadeOOM": false},
        "customTag": ["project:course-7"], "jobContent": "true",
    }));
    let strict = read(json!({
        "cpu": 2, "cpuMax": 4, "memGB": 0.5, "env": ["LEVEL=3", "MODE=test"], "publish": ["22:22"], "targetPorts": [8080],
        "vmPolicy": "[onDemand=true,retryLimit=1]", "migratePolicy": "[cpu.upperBoundRatio=80,evadeOOM=false]",
        "customTags": {"project": "course-7"}, "script": "true",
    }));
    assert_eq!(lenient.unwrap(), strict.unwrap());
}

#[test]
fn invalid_values_are_explained() {
    let refused = |value: Value| read(value).unwrap_err();
    for (value, message) in [
        (json!({"imgae": "x"}), "unknown key `imgae`"),
        (json!({"mem": 1, "memGB": 2}), "`memGB` is given twice"),
        (json!({"cpu": "4:2"}), "`cpu`: invalid number of cores `4:2`"),
        (json!({"withRoot": "maybe"}), "`withRoot` takes `true` or `false`"),
        (json!({"timeLimit": "soon"}), "`timeLimit`: invalid duration `soon`"),
        (json!({"egress": "vpn"}), "`egress`: invalid egress `vpn`"),
        (json!({"dumpMode": "delta"}), "`dumpMode`: invalid dump mode `delta`"),
        (json!({"vmPolicy": "[x=1]"}), "`vmPolicy`: invalid VM policy: it has no key `x`"),
        (json!({"customTags": {"a b": "c"}}), "`customTags`: invalid tag `a b:c`"),
        (json!({"env": ["secret"]}), "`env`: `secret` is no environment variable"),
        (json!({"image": ["a"]}), "`image` takes one text"),
    ] {
        assert!(refused(value).with_key().starts_with(message), "{message}");
    }
    assert!(refused(json!({"imgae": "x"})).hint().unwrap().starts_with("did you mean `image`?"));
}

#[test]
fn overriding_values_replace_and_join() {
    let base = read(json!({
        "image": "dir:/", "cpu": "2:4", "env": ["A=1", "B=2"], "customTags": {"a": "x", "b": "y"}, "script": "true",
        "publish": 80,
    }));
    let top = read(json!({"cpu": 1, "env": ["B=3"], "customTags": {"b": "z"}, "command": ["ls"]}));
    let both = read(json!({
        "image": "dir:/", "cpu": 1, "env": ["A=1", "B=3"], "customTags": {"a": "x", "b": "z"}, "command": ["ls"],
        "publish": 80,
    }));
    assert_eq!(base.unwrap().overridden_by(top.unwrap()), both.unwrap());
}
