//! Job files: what `float submit` is told by its flags, as YAML or JSON.
//!
//! A key is the long name of a flag, or what the API calls it. Where the API has a list a file may have one value alone, tags and variables may
//! be a list or a map, and a policy may be a map. What no flag is called is refused: a slip would be a job without its time limit.

use std::path::Path;

use anyhow::{Context, Result};
use mooring_api::ClientError;
use mooring_api::view::SubmitRequest;
use mooring_types::nearest;
use serde_json::{Map, Value};

use crate::error::invalid;
use crate::{file, parse};

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A text; `true`, `12` and the like are texts here as well.
    Text,
    /// `true` or `false`.
    Truth,
    /// Texts, or one of them alone.
    Texts,
    /// Ports, or one of them alone.
    Ports,
    /// `KEY=VALUE`s, or a map.
    Variables,
    /// `key:value`s, or a map.
    Tags,
    /// A policy as text, or a map.
    Policy,
    /// `min` or `min:max` cores.
    Cores,
    /// `min` or `min:max` GB.
    Memory,
    /// A number of cores or GB.
    Number,
    /// The path of a job script.
    Script,
}

/// The keys: as they may be written, as the API calls them, and what they take.
const KEYS: [(&str, &str, Kind); 38] = [
    ("image", "image", Kind::Text),
    ("template", "template", Kind::Text),
    ("name", "name", Kind::Text),
    ("job", "script", Kind::Script),
    ("script", "script", Kind::Text),
    ("jobContent", "script", Kind::Text),
    ("command", "command", Kind::Texts),
    ("cpu", "cpu", Kind::Cores),
    ("cpuMax", "cpuMax", Kind::Number),
    ("mem", "memGB", Kind::Memory),
    ("memGB", "memGB", Kind::Memory),
    ("memGBMax", "memGBMax", Kind::Number),
    ("env", "env", Kind::Variables),
    ("envs", "env", Kind::Variables),
    ("workDir", "workingDir", Kind::Text),
    ("workingDir", "workingDir", Kind::Text),
    ("withRoot", "withRoot", Kind::Truth),
    ("dataVolume", "dataVolumes", Kind::Texts),
    ("dataVolumes", "dataVolumes", Kind::Texts),
    ("publish", "publish", Kind::Texts),
    ("securityGroup", "securityGroups", Kind::Texts),
    ("securityGroups", "securityGroups", Kind::Texts),
    ("gateway", "gateway", Kind::Text),
    ("targetPort", "targetPorts", Kind::Ports),
    ("targetPorts", "targetPorts", Kind::Ports),
    ("host", "host", Kind::Text),
    ("vmPolicy", "vmPolicy", Kind::Policy),
    ("migratePolicy", "migratePolicy", Kind::Policy),
    ("timeLimit", "timeLimit", Kind::Text),
    ("idle", "idle", Kind::Text),
    ("resumeOnConnect", "resumeOnConnect", Kind::Truth),
    ("snapshotInterval", "snapshotInterval", Kind::Text),
    ("dumpMode", "dumpMode", Kind::Text),
    ("egress", "egress", Kind::Text),
    ("customTag", "customTags", Kind::Tags),
    ("customTags", "customTags", Kind::Tags),
    ("disableRerun", "disableRerun", Kind::Truth),
    ("disableMigrate", "disableMigrate", Kind::Truth),
];

/// Reads a job file. The path of a job script in it is looked for beside it.
pub(crate) fn read(path: &Path) -> Result<SubmitRequest> {
    let text = file::text(path)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    request(&text, beside).map_err(|fault| match fault {
        Fault::Said { message, hint } => invalid(format!("job file {}: {message}", path.display()), hint),
        Fault::Other(error) => error,
    })
}

/// The request of a file with what the flags say in its place. Variables and tags are joined; of the ways to say what to run the flags' counts.
pub(crate) fn completed(file: SubmitRequest, flags: SubmitRequest) -> Result<SubmitRequest> {
    let says_what_to_run = !flags.command.is_empty() || !flags.script.is_empty();
    let file =
        if says_what_to_run { SubmitRequest { command: Vec::new(), script: String::new(), ..file } } else { file };
    // The size of one is not the range of the other.
    let file = if flags.cpu.is_some() { SubmitRequest { cpu_max: None, ..file } } else { file };
    let file = if flags.mem_gb.is_some() { SubmitRequest { mem_gb_max: None, ..file } } else { file };
    let env: Vec<String> = {
        let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
        let said: Vec<String> = flags.env.iter().map(name).collect();
        file.env.iter().filter(|entry| !said.contains(&name(entry))).chain(&flags.env).cloned().collect()
    };
    let custom_tags = file.custom_tags.clone().into_iter().chain(flags.custom_tags.clone()).collect();
    let (empty, mut whole, said) = (map(&SubmitRequest::default())?, map(&file)?, map(&flags)?);
    whole.extend(said.into_iter().filter(|(key, value)| empty.get(key) != Some(value)));
    let whole: SubmitRequest = serde_json::from_value(Value::Object(whole)).context("can't read the job")?;
    Ok(SubmitRequest { env, custom_tags, ..whole })
}

fn map(request: &SubmitRequest) -> Result<Map<String, Value>> {
    match serde_json::to_value(request).context("can't write the job as JSON")? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// What is wrong with a job file.
#[derive(Debug)]
enum Fault {
    /// Something in it.
    Said { message: String, hint: String },
    /// Something elsewhere.
    Other(anyhow::Error),
}

fn fault(message: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault::Said { message: message.into(), hint: hint.into() }
}

fn request(text: &str, beside: &Path) -> Result<SubmitRequest, Fault> {
    const FORM: &str = "write YAML or JSON like `image: dir:/`, a key on each line; `float submit --help` has the keys";
    // YAML is read as what it is: JSON is a part of it, and its errors name the line.
    let value: Value =
        serde_norway::from_str(text).map_err(|error| fault(format!("it is neither YAML nor JSON: {error}"), FORM))?;
    let Value::Object(given) = value else { return Err(fault("it has no keys", FORM)) };
    let mut request = Map::new();
    for (key, value) in given {
        let Some((_, name, kind)) = KEYS.into_iter().find(|(known, _, _)| *known == key) else {
            let all = "the keys are the long names of the flags of `float submit`";
            let near = nearest(&key, KEYS.iter().map(|(known, _, _)| *known));
            let hint = near.map_or_else(|| all.to_owned(), |near| format!("did you mean `{near}`? {all}"));
            return Err(fault(format!("unknown key `{key}`"), hint));
        };
        for (name, value) in one(&key, name, kind, value, beside)? {
            if request.insert(name.to_owned(), value).is_some() {
                return Err(fault(format!("`{name}` is given twice"), "say it once"));
            }
        }
    }
    serde_json::from_value(Value::Object(request)).map_err(|error| fault(error.to_string(), FORM))
}

/// The keys of the request that a key of the file stands for.
fn one(
    key: &str,
    name: &'static str,
    kind: Kind,
    value: Value,
    beside: &Path,
) -> Result<Vec<(&'static str, Value)>, Fault> {
    let refused = |form: &str| fault(format!("`{key}` can't be that"), format!("write {form}"));
    let said = |error: anyhow::Error| match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(body)) => {
            fault(format!("`{key}`: {}", body.message), body.hint.clone().unwrap_or_default())
        }
        _ => Fault::Other(error),
    };
    let value = match kind {
        Kind::Text => text(&value).ok_or_else(|| refused("one text"))?.into(),
        Kind::Truth if value.is_boolean() => value,
        Kind::Truth => return Err(refused("`true` or `false`")),
        Kind::Texts => texts(value).ok_or_else(|| refused("a list of texts"))?.into(),
        Kind::Ports => {
            let texts = texts(value).ok_or_else(|| refused("a list of ports"))?;
            parse::ports(&texts).map_err(said)?.into()
        }
        Kind::Variables => {
            let form = "a list of KEY=VALUE, or a map";
            pairs(value, '=').ok_or_else(|| refused(form))?.into()
        }
        Kind::Tags => {
            let tags = pairs(value, ':').ok_or_else(|| refused("a list of key:value, or a map"))?;
            let tags = parse::tags(&tags).map_err(said)?;
            Value::Object(tags.into_iter().map(|(key, value)| (key, value.into())).collect())
        }
        Kind::Policy => policy(value).ok_or_else(|| refused("a policy as text, or a map"))?.into(),
        Kind::Cores => {
            let size =
                parse::core_range(&text(&value).ok_or_else(|| refused("`2`, or `2:4` for a range"))?).map_err(said)?;
            return Ok(sizes((name, size.min.into()), ("cpuMax", size.max.map(Into::into))));
        }
        Kind::Memory => {
            let size = parse::memory_range(&text(&value).ok_or_else(|| refused("GB: `4`, or `4:8` for a range"))?);
            let size = size.map_err(said)?;
            return Ok(sizes((name, size.min.into()), ("memGBMax", size.max.map(Into::into))));
        }
        Kind::Number if value.is_number() => value,
        Kind::Number => return Err(refused("a number")),
        Kind::Script => {
            let path = text(&value).ok_or_else(|| refused("the path of a job script"))?;
            file::text(&beside.join(path)).map_err(Fault::Other)?.into()
        }
    };
    Ok(vec![(name, value)])
}

fn sizes(least: (&'static str, Value), most: (&'static str, Option<Value>)) -> Vec<(&'static str, Value)> {
    [Some(least), most.1.map(|value| (most.0, value))].into_iter().flatten().collect()
}

/// One value as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A list of texts, or one alone.
fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        one => text(&one).map(|text| vec![text]),
    }
}

/// A list of pairs, or a map.
fn pairs(value: Value, between: char) -> Option<Vec<String>> {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| Some(format!("{key}{between}{}", text(value)?))).collect(),
        other => texts(other),
    }
}

/// A policy: text, or a map whose maps are `cpu.step` and the like.
fn policy(value: Value) -> Option<String> {
    let Value::Object(map) = value else { return text(&value) };
    let mut parts = Vec::new();
    for (key, value) in &map {
        match value {
            Value::Object(inner) => {
                for (below, value) in inner {
                    parts.push(format!("{key}.{below}={}", text(value)?));
                }
            }
            value => parts.push(format!("{key}={}", text(value)?)),
        }
    }
    Some(format!("[{}]", parts.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> SubmitRequest {
        request(text, Path::new("")).unwrap()
    }

    fn refused(text: &str) -> (String, String) {
        match request(text, Path::new("")).unwrap_err() {
            Fault::Said { message, hint } => (message, hint),
            Fault::Other(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_job_file_says_what_the_flags_say() {
        let yaml = "\
image: dir:/
name: web
cpu: 2:4
mem: 0.5
env:
  MODE: test
  LEVEL: 3
publish: [8080:80, 22]
targetPort: 8080
dataVolume: /data:/data:ro
vmPolicy:
  onDemand: true
  retryLimit: 1
migratePolicy:
  cpu:
    upperBoundRatio: 80
  evadeOOM: false
timeLimit: 2h30m
customTag: [project:course-7]
withRoot: true
command: [python3, -m, http.server, 80]
";
        let mut request = read(yaml);
        request.env.sort();
        assert_eq!(
            (request.cpu, request.cpu_max, request.mem_gb, request.mem_gb_max),
            (Some(2), Some(4), Some(0.5), None)
        );
        assert_eq!(request.env, ["LEVEL=3", "MODE=test"]);
        assert_eq!(request.publish, ["8080:80", "22"]);
        assert_eq!((request.target_ports.as_slice(), request.data_volumes.len()), ([8080].as_slice(), 1));
        assert_eq!(request.vm_policy, "[onDemand=true,retryLimit=1]");
        assert_eq!(request.migrate_policy, "[cpu.upperBoundRatio=80,evadeOOM=false]");
        assert_eq!((request.time_limit.as_str(), request.custom_tags["project"].as_str()), ("2h30m", "course-7"));
        assert_eq!(request.command, ["python3", "-m", "http.server", "80"]);
        assert!(request.with_root);
        let json = r#"{"image": "dir:/", "memGB": 4, "customTags": {"a": "1"}, "envs": ["A=1"], "jobContent": "true"}"#;
        let request = read(json);
        assert_eq!((request.mem_gb, request.env, request.script.as_str()), (Some(4.0), vec!["A=1".to_owned()], "true"));
    }

    #[test]
    fn what_the_api_takes_a_file_may_say() {
        let all = serde_json::to_value(SubmitRequest::default()).unwrap();
        for key in all.as_object().unwrap().keys() {
            assert!(KEYS.iter().any(|(known, name, _)| known == key && name == key), "{key}");
        }
        for (known, name, _) in KEYS {
            assert!(all.get(name).is_some(), "{known} stands for {name}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let told = |text: &str| refused(text).0;
        let (message, hint) = refused("imgae: x");
        assert_eq!(message, "unknown key `imgae`");
        assert!(hint.starts_with("did you mean `image`?"), "{hint}");
        assert_eq!(told("mem: 1\nmemGB: 2"), "`memGB` is given twice");
        assert_eq!(told("cpu: 4:2"), "`cpu`: invalid number of cores `4:2`");
        assert_eq!(told("withRoot: maybe"), "`withRoot` can't be that");
        assert_eq!(
            told("customTag: a"),
            "`customTag`: invalid tag `a`: a tag is key:value, each of 1 to 63 letters, digits or `-`"
        );
        assert_eq!(told("- a"), "it has no keys");
        assert!(told("a: [").starts_with("it is neither YAML nor JSON: "));
    }

    #[test]
    fn flags_count_where_both_say_something() {
        let file =
            read("image: dir:/\ncpu: 2:4\nenv: [A=1, B=2]\ncustomTags: {a: x, b: y}\nscript: 'true'\npublish: 80");
        let flags = SubmitRequest {
            cpu: Some(1),
            env: vec!["B=3".into()],
            custom_tags: [("b".to_owned(), "z".to_owned())].into(),
            command: vec!["ls".into()],
            ..SubmitRequest::default()
        };
        let both = completed(file, flags).unwrap();
        assert_eq!((both.image.as_str(), both.cpu, both.cpu_max), ("dir:/", Some(1), None));
        assert_eq!((both.env, both.publish), (vec!["A=1".to_owned(), "B=3".to_owned()], vec!["80".to_owned()]));
        assert_eq!((both.custom_tags["a"].as_str(), both.custom_tags["b"].as_str()), ("x", "z"));
        assert_eq!((both.command.len(), both.script.as_str()), (1, ""));
    }
}
