//! The output files of a job: its two streams and its results.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest output file in bytes. A longer one is cut, with a mark.
pub const OUTPUT_MAX: u64 = 64 << 20;
/// The most results of a job.
pub const RESULTS_MAX: usize = 64;
/// The longest name of a result, in bytes.
const NAME_MAX: usize = 128;
const RESULTS: &str = "results/";

/// An output file of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OutputFile {
    /// `stdout.autosave`: its standard output.
    Stdout,
    /// `stderr.autosave`: its standard error.
    Stderr,
    /// `results/<name>`: a file from its results directory.
    Result(String),
}

/// A text that names no output file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no output file is named `{0}`")]
pub struct UnknownOutput(String);

impl FromStr for OutputFile {
    type Err = UnknownOutput;

    fn from_str(text: &str) -> Result<Self, UnknownOutput> {
        let plain = |name: &str| {
            let letters = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-+".contains(letter));
            letters && !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.')
        };
        match text {
            "stdout.autosave" | "stdout" => Ok(Self::Stdout),
            "stderr.autosave" | "stderr" => Ok(Self::Stderr),
            _ => match text.strip_prefix(RESULTS) {
                Some(name) if plain(name) => Ok(Self::Result(name.to_owned())),
                _ => Err(UnknownOutput(text.chars().take(NAME_MAX).collect())),
            },
        }
    }
}

impl fmt::Display for OutputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout.autosave"),
            Self::Stderr => f.write_str("stderr.autosave"),
            Self::Result(name) => write!(f, "{RESULTS}{name}"),
        }
    }
}

impl TryFrom<String> for OutputFile {
    type Error = UnknownOutput;

    fn try_from(text: String) -> Result<Self, UnknownOutput> {
        text.parse()
    }
}

impl From<OutputFile> for String {
    fn from(file: OutputFile) -> Self {
        file.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_a_file_of_the_job_and_nowhere_else() {
        for name in ["stdout.autosave", "stderr.autosave", "results/figures.tar.gz", "results/a+b_1-2"] {
            assert_eq!(name.parse::<OutputFile>().unwrap().to_string(), name);
        }
        assert_eq!("stderr".parse(), Ok(OutputFile::Stderr));
        for bad in ["", "order", "results/", "results/..", "results/a/b", "results/.hidden", "../x", "results/a b"] {
            assert!(bad.parse::<OutputFile>().is_err(), "{bad}");
        }
    }
}
