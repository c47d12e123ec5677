//! The command line: parsed, or refused with exit code 2 before anything is sent.
//!
//! What the parser refuses is told in the words of all other errors. A flag or a command that the
//! original has and Mooring has not is refused with a sentence that says what to use instead.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::error::{self, Told};
use crate::{help, original};

/// The exit code of a command line that can't be run.
pub(crate) const INVALID: u8 = 2;

/// Parses the arguments of this process. An error was written already.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    Cli::try_parse_from(&words).map_err(|refused| {
        if is_help(refused.kind()) {
            // The same once more, with the prose of each help in paragraphs.
            help::command().try_get_matches_from(&words).err().unwrap_or(refused).exit();
        }
        let told = told(&refused, &words);
        error::write(&if asks_for_json(&words) { told.json() } else { told.text() });
        ExitCode::from(INVALID)
    })
}

fn is_help(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(kind, K::DisplayHelp | K::DisplayVersion | K::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// Returns whether a command line that can't be parsed asks for JSON.
fn asks_for_json(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let apart = words.windows(2).any(|pair| matches!(&*pair[0], "-F" | "--format") && pair[1] == "json");
    apart || words.iter().any(|word| matches!(&**word, "-Fjson" | "-F=json" | "--format=json"))
}

fn told(refused: &clap::Error, words: &[OsString]) -> Told {
    let named = |kind| match refused.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let words: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    let of_original = match refused.kind() {
        ErrorKind::InvalidSubcommand => named(ContextKind::InvalidSubcommand).and_then(original::command),
        ErrorKind::UnknownArgument => {
            named(ContextKind::InvalidArg).and_then(|flag| original::flag(flag, words.iter().map(|word| &**word)))
        }
        _ => None,
    };
    of_original.map_or_else(|| in_our_words(&refused.render().to_string()), |sentence| Told::own(&sentence, None))
}

/// Tells the parser's error: its first paragraph, and its tips or else its usage as the hint.
fn in_our_words(rendered: &str) -> Told {
    let mut paragraphs = rendered.split("\n\n").map(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join(" ")
    });
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first);
    let rest: Vec<String> = paragraphs.collect();
    let with = |prefix: &str| rest.iter().find_map(|text| text.strip_prefix(prefix));
    let hint = with("tip: ").map(|tips| tips.replace(" tip: ", "; ")).or_else(|| {
        let usage = with("Usage: ")?;
        Some(format!("write `{usage}`; `--help` explains it"))
    });
    Told::own(message, hint.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Told {
        let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        told(&Cli::try_parse_from(&words).unwrap_err(), &words)
    }

    #[test]
    fn parser_speaks_like_everything_else() {
        let told = refusal("float list --nonsense").text();
        assert!(told.starts_with("Error: unexpected argument '--nonsense' found\nhint: write `float list"), "{told}");
        let told = refusal("float -F xml list").text();
        assert!(
            told.starts_with("Error: invalid value 'xml' for '--format <FORMAT>' [possible values: json"),
            "{told}"
        );
        let told = refusal("float lst").text();
        assert!(
            told.starts_with("Error: unrecognized subcommand 'lst'\nhint: some similar subcommands exist: "),
            "{told}"
        );
    }

    #[test]
    fn json_is_asked_for_in_any_form() {
        for line in ["float -F json x", "float x -Fjson", "float --format=json x", "float x --format json"] {
            assert!(asks_for_json(&line.split(' ').map(Into::into).collect::<Vec<_>>()), "{line}");
        }
        assert!(!asks_for_json(&["float".into(), "-F".into(), "yaml".into(), "json".into()]));
    }
}
