//! Job files: the options of `float submit` in YAML or JSON.
//!
//! A key is the long name of a flag, or the API's. `job` is the path of a job script, relative to
//! the job file. Unknown keys are refused: with a typing error the job would lose, say, its time
//! limit. A value that becomes text is the text in the file, also where it looks like a number.

mod yaml;

use std::fmt::Display;
use std::path::Path;

use anyhow::Result;
use mooring_api::Submission;
use mooring_api::submission::{Accepted, Content, Misplaced, Place, Written};

use crate::commands::refused;
use crate::error::invalid;
use crate::file;
use crate::printer::Printer;

/// The key with the path of a job script.
const SCRIPT_PATH_KEY: &str = "job";
const SCRIPT_KEY: &str = "script";
const FORMAT_HINT: &str =
    "write YAML or JSON like `image: dir:/`, a key on each line; `float submit --help` has the keys";

/// Reads a job file.
pub(crate) fn read(path: &Path, printer: &Printer) -> Result<Submission> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let file = JobFile { name: format!("job file {}", path.display()), directory };
    let Accepted { submission, warnings } = file.submission(&file::text(path)?)?;
    for warning in warnings {
        printer.note(&format!("note: {}: {warning}", file.name));
    }
    Ok(submission)
}

/// A job file that is read.
struct JobFile<'a> {
    name: String,
    /// The directory that the path of a job script is relative to.
    directory: &'a Path,
}

impl JobFile<'_> {
    fn submission(&self, text: &str) -> Result<Accepted> {
        let written = self.written(text.trim_start_matches('\u{feff}'))?;
        let Some(Written { content: Content::Map(mut entries), .. }) = written else {
            return Err(invalid(format!("{}: no keys", self.name), FORMAT_HINT));
        };
        self.read_script(&mut entries)?;
        Submission::read_written(&entries)
            .map_err(|Misplaced { error, place }| refused(&error, self.told(place, error.with_key())))
    }

    fn written(&self, text: &str) -> Result<Option<Written>> {
        if text.trim_start().starts_with('{') {
            // What begins like JSON may be YAML; its parser then tells what is wrong.
            if let Ok(written) = Written::of_json(text) {
                return Ok(Some(written));
            }
        }
        yaml::read(text).map_err(|error| {
            invalid(self.told(Some(error.place), format!("neither YAML nor JSON: {}", error.told)), FORMAT_HINT)
        })
    }

    /// Replaces the path of a job script by its text.
    fn read_script(&self, entries: &mut [(String, Written)]) -> Result<()> {
        let has_text = entries.iter().any(|(key, _)| key == SCRIPT_KEY);
        let Some((key, path)) = entries.iter_mut().find(|(key, _)| key == SCRIPT_PATH_KEY) else { return Ok(()) };
        let Content::Text(name) = &path.content else {
            return Err(invalid(self.told(path.place, "`job` takes the path of a job script"), FORMAT_HINT));
        };
        if has_text {
            return Err(invalid(self.told(path.place, "both `job` and `script`"), "give one of them"));
        }
        let text = file::text(&self.directory.join(name))?;
        (*key, path.content) = (SCRIPT_KEY.to_owned(), Content::Text(text));
        Ok(())
    }

    fn told(&self, place: Option<Place>, message: impl Display) -> String {
        match place {
            Some(Place { line, column }) => format!("{}, line {line} column {column}: {message}", self.name),
            None => format!("{}: {message}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parsed(text: &str) -> Result<Submission> {
        let file = JobFile { name: "job file job.yaml".to_owned(), directory: Path::new("") };
        file.submission(text).map(|accepted| accepted.submission)
    }

    fn env(text: &str) -> Vec<(String, String)> {
        parsed(text).unwrap().env.0.into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn yaml_and_json_are_equal() {
        let yaml = "image: dir:/\nmem: 0.5\nenv:\n  LEVEL: 3\npublish: [8080:80]\nvmPolicy:\n  onDemand: true\ncommand: [ls, 1]\n";
        let json = r#"{"image": "dir:/", "memGB": 0.5, "env": ["LEVEL=3"], "publish": "8080:80",
            "vmPolicy": "[onDemand=true]", "command": ["ls", "1"]}"#;
        assert_eq!(parsed(yaml).unwrap(), parsed(json).unwrap());
    }

    #[test]
    fn what_is_written_stays() {
        let yaml = "image: dir:/\nname: 2.50\ncommand: [env, 1e3, 010, ~x]\ncustomTag: {run: 1e3, day: 2026-08-01}\n\
            env: {BIG: 18446744073709551616, MASK: 0xFF, MODE: 0o755, NEW: *v, OLD: &v 1.0, ON: True, PY: 2.50, SIGN: +7}\n"
            .replace("NEW: *v, OLD: &v 1.0", "A: &v 1.0, NEW: *v");
        let submission = parsed(&yaml).unwrap();
        assert_eq!(submission.name.as_ref().unwrap().as_str(), "2.50");
        assert_eq!(submission.command, ["env", "1e3", "010", "~x"]);
        assert_eq!(submission.custom_tags.0["run"], "1e3");
        assert_eq!(submission.custom_tags.0["day"], "2026-08-01");
        let told = [
            ("A", "1.0"),
            ("BIG", "18446744073709551616"),
            ("MASK", "0xFF"),
            ("MODE", "0o755"),
            ("NEW", "1.0"),
            ("ON", "True"),
            ("PY", "2.50"),
            ("SIGN", "+7"),
        ];
        assert_eq!(submission.env.0.clone().into_iter().collect::<Vec<_>>(), pairs(&told));
        let json = r#"{"name": 2.50, "command": ["env", 1e3], "customTag": {"run": 1e3},
            "env": {"BIG": 18446744073709551616, "ON": true, "PY": 2.50}}"#;
        let submission = parsed(json).unwrap();
        assert_eq!(submission.command, ["env", "1e3"]);
        assert_eq!(submission.env.0["BIG"], "18446744073709551616");
        // What is printed for a next submission has the same texts.
        assert!(submission.arguments().contains("PY=2.50"), "{}", submission.arguments());
    }

    #[test]
    fn yaml_has_many_ways_to_write_a_text() {
        assert_eq!(
            env("env: {A: '2.50', B: \"x\\ny\", C: !!str 1, D: '', E: !!str ~}"),
            pairs(&[("A", "2.50"), ("B", "x\ny"), ("C", "1"), ("D", ""), ("E", "~"),])
        );
        assert_eq!(
            env("env:\n  KEEP: |+\n    a\n\n  ONE: |\n    a\n  NONE: |-\n    a\n  FOLD: >\n    a\n    b\n"),
            pairs(&[("FOLD", "a b\n"), ("KEEP", "a\n\n"), ("NONE", "a"), ("ONE", "a\n"),])
        );
        let common = "env:\n  <<: &all {A: 1.0, B: 010}\n  B: 2.0\n  C: 3.0\n";
        assert_eq!(env(common), pairs(&[("A", "1.0"), ("B", "2.0"), ("C", "3.0")]));
        // A byte order mark, and line ends of Windows.
        let submission = parsed("\u{feff}image: dir:/\r\nenv:\r\n  A: 1.0\r\nscript: |\r\n  one\r\n  two\r\n").unwrap();
        assert_eq!((&*submission.env.0["A"], submission.script.as_deref()), ("1.0", Some("one\ntwo\n")));
        assert_eq!(parsed("withRoot: True").unwrap().with_root, parsed("withRoot: true").unwrap().with_root);
        let policy = parsed("migratePolicy: {disable: True, cpu: {upperBoundRatio: 80}}").unwrap().migrate_policy;
        assert!(policy.unwrap().to_string().starts_with("[disable=true"));
    }

    #[test]
    fn script_is_found_beside_job_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("train.sh"), "true").unwrap();
        let file = directory.path().join("job.yaml");
        fs::write(&file, "image: dir:/\njob: train.sh\n").unwrap();
        assert_eq!(read(&file, &Printer::default()).unwrap().script.as_deref(), Some("true"));
        assert!(parsed("job: a\nscript: b").is_err());
    }

    #[test]
    fn errors_name_file_place_and_key() {
        for (text, message) in [
            ("imgae: x", ", line 1 column 8: unknown key `imgae`"),
            (
                "image: dir:/\ncpu: 4:2",
                ", line 2 column 6: `cpu`: invalid number of cores `4:2`: the least, 4, is more",
            ),
            ("{\"image\": \"dir:/\",\n \"cpu\": 0}", ", line 2 column 9: `cpu`: invalid number of cores `0`"),
            ("withRoot: maybe", ", line 1 column 11: `withRoot` takes `true` or `false`"),
            ("env: {A: 1, EMPTY: ~}", ", line 1 column 13: `env.EMPTY` is null: write `\"\"` for an empty value"),
            ("env:\n  EMPTY:\n  A: 1", ", line 2 column 3: `env.EMPTY` is null"),
            ("timeLimit:", ", line 1 column 1: `timeLimit` is null"),
            ("command: [a, null]", ", line 1 column 14: `command[1]` is null"),
            ("env: {A: 1, A: 2}", ", line 1 column 16: `env.A` is given twice"),
            ("name: a\nname: b", ", line 2 column 7: `name` is given twice"),
            ("env: {<<: 1}", ", line 1 column 11: neither YAML nor JSON: `<<` takes a map"),
            ("name: !secret a", ", line 1 column 15: neither YAML nor JSON: the tag `!secret` has no meaning here"),
            ("name: a\n---\nname: b", ", line 2 column 1: neither YAML nor JSON: a second document"),
            ("- a", ": no keys"),
            ("", ": no keys"),
            ("# nothing", ": no keys"),
            ("a: [", ", line "),
            ("a: *b", ", line 1 column 4: neither YAML nor JSON: "),
            ("a: &b [*b]", ", line 1 column 8: neither YAML nor JSON: "),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("Invalid argument, job file job.yaml{message}")), "{text:?}: {error}");
        }
    }

    #[test]
    fn aliases_of_aliases_are_limited() {
        let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("b{level}: &a{level} [{}]\n", alias.trim_end_matches(", ")));
        }
        assert!(parsed(&text).unwrap_err().to_string().contains("too many values"));
        assert!(parsed(&format!("a: {}{}", "[".repeat(1000), "]".repeat(1000))).is_err());
    }
}
