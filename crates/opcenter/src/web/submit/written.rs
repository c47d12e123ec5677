//! A submission as others write it: the command line, and a job file.

use mooring_api::Submission;

/// The line that ends a script on the command line, unless the script has it.
const END: &str = "SCRIPT";

/// A submission as a command line and as a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct Written {
    pub(in crate::web) command_line: String,
    /// YAML, as `float submit --file` reads it.
    pub(in crate::web) job_file: String,
}

impl Written {
    /// Writes a submission.
    pub(in crate::web) fn of(submission: &Submission) -> Self {
        Self { command_line: command_line(submission), job_file: job_file(submission) }
    }
}

fn command_line(submission: &Submission) -> String {
    let line = format!("float submit {}", submission.arguments());
    let Some(script) = &submission.script else { return line.trim_end().to_owned() };
    let mut end = END.to_owned();
    while script.lines().any(|line| line == end) {
        end.push('_');
    }
    format!("{line} <<'{end}'\n{}\n{end}", script.trim_end_matches('\n'))
}

fn job_file(submission: &Submission) -> String {
    if *submission == Submission::default() {
        return String::new();
    }
    // A submission is texts, numbers, lists and maps, which YAML all has.
    serde_norway::to_string(submission).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mooring_api::submission::FIELDS;
    use serde_json::json;

    use super::*;

    #[test]
    fn command_line_has_the_arguments() {
        let submission: Submission =
            serde_json::from_value(json!({"image": "dir:/", "env": ["A=it's me"], "command": ["ls", "-l"]})).unwrap();
        let written = Written::of(&submission);
        assert_eq!(written.command_line, format!("float submit {}", submission.arguments()));
        assert_eq!(Written::of(&Submission::default()).command_line, "float submit");
    }

    #[test]
    fn script_is_given_on_stdin() {
        let submission: Submission = serde_json::from_value(json!({"script": "echo a\nSCRIPT\n"})).unwrap();
        assert_eq!(Written::of(&submission).command_line, "float submit -j - <<'SCRIPT_'\necho a\nSCRIPT\nSCRIPT_");
    }

    #[test]
    fn job_file_is_read_back() {
        let submission = Submission::read(FIELDS.iter().map(|field| (field.key.to_owned(), field.example()))).unwrap();
        let read: Submission = serde_norway::from_str(&Written::of(&submission).job_file).unwrap();
        assert_eq!(read, submission);
    }
}
