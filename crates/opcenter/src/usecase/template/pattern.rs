//! Patterns: the defaults that a template gives a submission; pure.
//!
//! A value of the submission wins over the template's. Environment variables are merged by name.
//! `{token}` in a template is replaced by a new token for each job, so that its URL opens that job
//! alone.

use std::collections::BTreeMap;

use mooring_api::Submission;
use mooring_types::job::Volume;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};

/// The placeholder of a job's token.
pub(super) const TOKEN_PLACEHOLDER: &str = "{token}";
/// The query keys by which programs take a token.
const TOKEN_KEYS: [&str; 2] = ["token", "tkn"];
/// The least length of a value that counts as a token.
const TOKEN_LENGTH_MIN: usize = 8;
/// The two ways to say what runs: a submission that uses one gets neither from the template.
const WHAT_TO_RUN: [&str; 2] = ["command", "script"];

/// The part of a template from which jobs are made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    /// The defaults as JSON: unknown keys are kept.
    pub(crate) job: Map<String, Value>,
    /// The access path of its jobs.
    pub(crate) access_path: String,
}

impl Pattern {
    /// Makes a pattern of a request.
    pub(crate) fn new(job: &Submission, access_path: &str) -> ApiResult<Self> {
        Ok(Self { job: to_map(job)?, access_path: access_path.to_owned() })
    }

    /// Makes a pattern that repeats a job on any host under any name. The token of its URL becomes
    /// a placeholder wherever it occurs.
    pub(crate) fn of_job(job: Submission, access_path: &str) -> ApiResult<Self> {
        let job = Submission { name: None, gateway: None, host: None, target_ports: Vec::new(), ..job };
        let mut pattern = Self::new(&job, access_path)?;
        if let Some(token) = token_of(access_path) {
            pattern.replace(token, TOKEN_PLACEHOLDER);
        }
        Ok(pattern)
    }

    /// Returns the pattern with a token in place of its placeholder.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.replace(TOKEN_PLACEHOLDER, token);
        self
    }

    /// Returns the request that a submission stands for.
    pub(crate) fn complete(self, given: &Submission) -> ApiResult<Submission> {
        let (mut job, given) = (self.job, to_map(given)?);
        if WHAT_TO_RUN.iter().any(|key| given.contains_key(*key)) {
            job.retain(|key, _| !WHAT_TO_RUN.contains(&key.as_str()));
        }
        let env = joined(job.get("env"), given.get("env"));
        job.extend(given);
        job.insert("env".into(), env.into());
        job.remove("template");
        read(job)
    }

    /// Returns the request as it is shown.
    pub(crate) fn shown(&self, masked: impl Fn(&str, &str) -> String) -> ApiResult<Submission> {
        let mut submission = read(self.job.clone())?;
        for (key, value) in &mut submission.env.0 {
            *value = masked(key, value);
        }
        submission.data_volumes = submission.data_volumes.iter().map(Volume::redacted).collect();
        Ok(submission)
    }

    fn replace(&mut self, from: &str, to: &str) {
        for value in self.job.values_mut() {
            replace(value, from, to);
        }
        self.access_path = self.access_path.replace(from, to);
    }
}

fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => *text = text.replace(from, to),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, from, to)),
        Value::Object(keys) => keys.values_mut().for_each(|item| replace(item, from, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Merges two environments by name; `given` wins.
fn joined(one: Option<&Value>, other: Option<&Value>) -> Vec<String> {
    let entries = [one, other].into_iter().flatten().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    let mut by_name: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries {
        by_name.insert(entry.split('=').next().unwrap_or_default(), entry);
    }
    by_name.into_values().map(str::to_owned).collect()
}

/// Returns the token in the query of a URL.
fn token_of(access_path: &str) -> Option<&str> {
    let (_, query) = access_path.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, value)| TOKEN_KEYS.contains(key) && value.len() >= TOKEN_LENGTH_MIN)?;
    Some(value)
}

fn to_map(request: &Submission) -> ApiResult<Map<String, Value>> {
    match serde_json::to_value(request) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(ApiError::invalid("the job can't be written as JSON")),
    }
}

fn read(values: Map<String, Value>) -> ApiResult<Submission> {
    Submission::read(values).map_err(|error| ApiError::invalid(format!("invalid template: {}", error.with_key())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn submission(values: Value) -> Submission {
        serde_json::from_value(values).unwrap()
    }

    fn pattern() -> Pattern {
        let job = submission(json!({
            "image": "dir:/", "command": ["serve", "--token", "{token}"], "env": ["A=1", "B={token}"], "cpu": 2,
            "memGB": 4.0, "publish": ["80"],
        }));
        Pattern::new(&job, "/?token={token}").unwrap()
    }

    #[test]
    fn given_values_override_template() {
        let given = submission(json!({"name": "mine", "template": "web", "memGB": 8.0, "env": ["B=2", "C=3"]}));
        let job = pattern().with_token("t0").complete(&given).unwrap();
        let expected = submission(json!({
            "name": "mine", "image": "dir:/", "command": ["serve", "--token", "t0"], "env": ["A=1", "B=2", "C=3"],
            "cpu": 2, "memGB": 8.0, "publish": ["80"],
        }));
        assert_eq!(job, expected);
    }

    #[test]
    fn token_is_drawn_in_template_only() {
        let given = submission(json!({"env": ["D={token}"]}));
        let pattern = pattern().with_token("t0");
        assert_eq!(pattern.access_path, "/?token=t0");
        let job = serde_json::to_value(pattern.complete(&given).unwrap()).unwrap();
        assert_eq!(job["env"], json!(["A=1", "B=t0", "D={token}"]));
    }

    #[test]
    fn given_command_replaces_command_and_script() {
        let given = submission(json!({"command": ["true"]}));
        assert_eq!(pattern().complete(&given).unwrap().command, ["true"]);
    }

    #[test]
    fn template_of_job_hides_its_token() {
        let job = submission(json!({
            "name": "lab", "image": "dir:/", "command": ["lab", "--token=0123456789abcdef"], "env": ["KEY={secret:key}"],
            "workingDir": "/srv", "cpu": 2, "memGB": 1.5, "publish": ["8888:80"], "gateway": "lab", "targetPorts": [8888],
            "host": "host-1",
        }));
        let pattern = Pattern::of_job(job, "/lab?x=1&token=0123456789abcdef").unwrap();
        assert_eq!(pattern.access_path, "/lab?x=1&token={token}");
        let again = pattern.with_token("fedc").complete(&Submission::default()).unwrap();
        let expected = submission(json!({
            "image": "dir:/", "command": ["lab", "--token=fedc"], "env": ["KEY={secret:key}"], "workingDir": "/srv",
            "cpu": 2, "memGB": 1.5, "publish": ["8888:80"],
        }));
        assert_eq!(again, expected);
    }

    #[test]
    fn stored_pattern_with_empty_values_is_read() {
        let Value::Object(job) = json!({
            "name": "", "image": "dir:/", "script": "", "env": [], "cpu": null, "withRoot": false, "publish": ["80"],
            "targetPorts": [], "vmPolicy": "", "timeLimit": "", "customTags": {}, "disableRerun": false,
        }) else {
            panic!("not a map")
        };
        let pattern = Pattern { job, access_path: "/".into() };
        let expected = submission(json!({"image": "dir:/", "publish": ["80"]}));
        assert_eq!(pattern.complete(&Submission::default()).unwrap(), expected);
    }
}
