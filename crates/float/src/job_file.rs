//! Job files: the options of `float submit` in YAML or JSON.
//!
//! A key is the long name of a flag, or the API's. `job` is the path of a job script, relative to
//! the job file. Unknown keys are refused: with a typing error the job would lose, say, its time
//! limit.

use std::path::Path;

use anyhow::Result;
use mooring_api::Submission;
use serde_json::Value;

use crate::commands::refused;
use crate::error::invalid;
use crate::file;

/// The key with the path of a job script.
const SCRIPT_PATH_KEY: &str = "job";
const FORMAT_HINT: &str =
    "write YAML or JSON like `image: dir:/`, a key on each line; `float submit --help` has the keys";

/// Reads a job file.
pub(crate) fn read(path: &Path) -> Result<Submission> {
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&file::text(path)?, &format!("job file {}", path.display()), directory)
}

fn parse(text: &str, file: &str, directory: &Path) -> Result<Submission> {
    // JSON is a part of YAML, whose parser names the line of an error.
    let value: Value = serde_norway::from_str(text)
        .map_err(|error| invalid(format!("{file}: neither YAML nor JSON: {error}"), FORMAT_HINT))?;
    let Value::Object(mut values) = value else { return Err(invalid(format!("{file}: no keys"), FORMAT_HINT)) };
    if let Some(script) = values.remove(SCRIPT_PATH_KEY) {
        let Value::String(script) = script else {
            return Err(invalid(format!("{file}: `job` takes the path of a job script"), FORMAT_HINT));
        };
        let text = file::text(&directory.join(script))?;
        if values.insert("script".to_owned(), text.into()).is_some() {
            return Err(invalid(format!("{file}: both `job` and `script`"), "give one of them"));
        }
    }
    Submission::read(values).map_err(|error| refused(&error, format!("{file}: {}", error.with_key())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parsed(text: &str) -> Result<Submission> {
        parse(text, "job file job.yaml", Path::new(""))
    }

    #[test]
    fn yaml_and_json_are_equal() {
        let yaml = "image: dir:/\nmem: 0.5\nenv:\n  LEVEL: 3\npublish: [8080:80]\nvmPolicy:\n  onDemand: true\ncommand: [ls, 1]\n";
        let json = r#"{"image": "dir:/", "memGB": 0.5, "env": ["LEVEL=3"], "publish": "8080:80",
            "vmPolicy": "[onDemand=true]", "command": ["ls", "1"]}"#;
        assert_eq!(parsed(yaml).unwrap(), parsed(json).unwrap());
    }

    #[test]
    fn script_is_found_beside_job_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("train.sh"), "true").unwrap();
        let file = directory.path().join("job.yaml");
        fs::write(&file, "image: dir:/\njob: train.sh\n").unwrap();
        assert_eq!(read(&file).unwrap().script.as_deref(), Some("true"));
        assert!(parsed("job: a\nscript: b").is_err());
    }

    #[test]
    fn errors_name_file_and_key() {
        for (text, message) in [
            ("imgae: x", "unknown key `imgae`"),
            ("cpu: 4:2", "`cpu`: invalid number of cores `4:2`"),
            ("withRoot: maybe", "`withRoot` takes `true` or `false`"),
            ("- a", "no keys"),
            ("a: [", "neither YAML nor JSON: "),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("Invalid argument, job file job.yaml: {message}")), "{error}");
        }
    }
}
