//! Patterns: the defaults that a template gives a submission; pure.
//!
//! A value of the submission wins over the template's. Environment variables are merged by name.
//! `{token}` in a template is replaced by a new token for each job, so that its URL opens that job
//! alone.

use std::collections::BTreeMap;

use mooring_api::view::SubmitRequest;
use mooring_types::job::Volume;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};

/// The placeholder of a job's token.
const TOKEN_PLACEHOLDER: &str = "{token}";
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
    pub(crate) fn new(job: &SubmitRequest, access_path: &str) -> ApiResult<Self> {
        Ok(Self { job: to_map(job)?, access_path: access_path.to_owned() })
    }

    /// Makes a pattern that repeats a job on any host under any name. The token of its URL becomes
    /// a placeholder wherever it occurs.
    pub(crate) fn of_job(job: SubmitRequest, access_path: &str) -> ApiResult<Self> {
        let (name, gateway, host) = Default::default();
        let mut pattern =
            Self::new(&SubmitRequest { name, gateway, host, target_ports: Vec::new(), ..job }, access_path)?;
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
    pub(crate) fn complete(self, given: &SubmitRequest) -> ApiResult<SubmitRequest> {
        let (empty, mut given) = (to_map(&SubmitRequest::default())?, to_map(given)?);
        let mut job = self.job;
        let says =
            |given: &Map<String, Value>, key: &str| given.get(key).is_some_and(|value| Some(value) != empty.get(key));
        if WHAT_TO_RUN.iter().any(|key| says(&given, key)) {
            job.retain(|key, _| !WHAT_TO_RUN.contains(&key.as_str()));
        }
        let env = joined(job.get("env"), given.get("env"));
        given.retain(|key, value| Some(&*value) != empty.get(key));
        job.extend(given);
        job.insert("env".into(), env.into());
        job.remove("template");
        read(Value::Object(job))
    }

    /// Returns the request as it is shown.
    pub(crate) fn shown(&self, masked: impl Fn(&str, &str) -> String) -> ApiResult<SubmitRequest> {
        let mut request: SubmitRequest = read(Value::Object(self.job.clone()))?;
        for entry in &mut request.env {
            if let Some((key, value)) = entry.split_once('=') {
                *entry = format!("{key}={}", masked(key, value));
            }
        }
        for volume in &mut request.data_volumes {
            *volume = volume.parse().map_or_else(|_| String::new(), |volume: Volume| volume.redacted().to_string());
        }
        Ok(request)
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

fn to_map(request: &SubmitRequest) -> ApiResult<Map<String, Value>> {
    match serde_json::to_value(request) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(ApiError::invalid("the job can't be written as JSON")),
    }
}

fn read(value: Value) -> ApiResult<SubmitRequest> {
    serde_json::from_value(value).map_err(|error| ApiError::invalid(format!("the template's job is not one: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern() -> Pattern {
        let job = SubmitRequest {
            image: "dir:/".into(),
            command: ["serve", "--token", "{token}"].map(str::to_owned).into(),
            env: ["A=1", "B={token}"].map(str::to_owned).into(),
            cpu: Some(2),
            mem_gb: Some(4.0),
            publish: vec!["80".into()],
            ..SubmitRequest::default()
        };
        Pattern::new(&job, "/?token={token}").unwrap()
    }

    #[test]
    fn what_a_submission_says_counts_and_the_template_gives_the_rest() {
        let given = SubmitRequest {
            name: "mine".into(),
            template: "web".into(),
            mem_gb: Some(8.0),
            env: ["B=2", "C=3"].map(str::to_owned).into(),
            ..SubmitRequest::default()
        };
        let job = pattern().with_token("t0").complete(&given).unwrap();
        assert_eq!((job.name.as_str(), job.template.as_str(), job.image.as_str()), ("mine", "", "dir:/"));
        assert_eq!((job.cpu, job.mem_gb), (Some(2), Some(8.0)));
        assert_eq!(job.command, ["serve", "--token", "t0"]);
        assert_eq!(job.env, ["A=1", "B=2", "C=3"]);
        assert_eq!(job.publish, ["80"]);
    }

    #[test]
    fn a_token_is_drawn_in_the_template_and_not_in_what_is_given() {
        let given = SubmitRequest { env: vec!["D={token}".into()], ..SubmitRequest::default() };
        let pattern = pattern().with_token("t0");
        assert_eq!(pattern.access_path, "/?token=t0");
        assert_eq!(pattern.complete(&given).unwrap().env, ["A=1", "B=t0", "D={token}"]);
    }

    #[test]
    fn a_command_of_ones_own_is_taken_whole() {
        let given = SubmitRequest { command: vec!["true".into()], ..SubmitRequest::default() };
        assert_eq!(pattern().complete(&given).unwrap().command, ["true"]);
    }

    #[test]
    fn a_job_becomes_a_template_without_its_token() {
        let job = SubmitRequest {
            name: "lab".into(),
            image: "dir:/".into(),
            command: vec!["lab".into(), "--token=0123456789abcdef".into()],
            env: vec!["KEY={secret:key}".into()],
            working_dir: "/srv".into(),
            cpu: Some(2),
            mem_gb: Some(1.5),
            publish: vec!["8888:80".into()],
            gateway: "lab".into(),
            target_ports: vec![8888],
            host: "host-1".into(),
            ..SubmitRequest::default()
        };
        let pattern = Pattern::of_job(job, "/lab?x=1&token=0123456789abcdef").unwrap();
        assert_eq!(pattern.access_path, "/lab?x=1&token={token}");
        let again = pattern.with_token("fedc").complete(&SubmitRequest::default()).unwrap();
        assert_eq!(again.command, ["lab", "--token=fedc"]);
        assert_eq!(again.env, ["KEY={secret:key}"]);
        assert_eq!((again.working_dir.as_str(), again.publish), ("/srv", vec!["8888:80".to_owned()]));
        assert_eq!((again.cpu, again.mem_gb), (Some(2), Some(1.5)));
        assert_eq!((again.name + &again.gateway + &again.host, again.target_ports), (String::new(), Vec::new()));
    }
}
