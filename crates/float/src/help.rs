//! Help texts. Their prose is written in lines of the source; the parser wraps it once, at the
//! width of the terminal.

use clap::{Command, CommandFactory};

use crate::cli::Cli;

/// Returns the definition of the command line, with the prose of each help in paragraphs.
pub(crate) fn command() -> Command {
    in_paragraphs(Cli::command())
}

fn in_paragraphs(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = match command.get_after_help().map(|text| joined(&text.to_string())) {
        Some(text) => command.after_help(text),
        None => command,
    };
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, in_paragraphs))
}

/// Joins the lines of a paragraph. A line that is indented, like an example, stays on its own.
fn joined(text: &str) -> String {
    let is_prose = |line: &str| line.chars().next().is_some_and(|first| !first.is_whitespace());
    let mut whole = String::new();
    let mut before = "";
    for line in text.lines() {
        if !whole.is_empty() {
            whole.push(if is_prose(before) && is_prose(line) { ' ' } else { '\n' });
        }
        whole.push_str(line);
        before = line;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_joined_and_examples_stay() {
        let text = "Examples:\n  float a\n      what it does\n  float b\n\nOne sentence\nin two lines.\nAnother.\n  x";
        let whole = "Examples:\n  float a\n      what it does\n  float b\n\nOne sentence in two lines. Another.\n  x";
        assert_eq!(joined(text), whole);
    }

    /// The examples in the help of a command and of those below it.
    fn examples(command: &Command, found: &mut Vec<String>) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
        let is_example = |line: &&str| line.contains("float ") && !line.starts_with(' ') && !line.starts_with('[');
        found.extend(lines.filter(is_example).map(str::to_owned));
        for below in command.get_subcommands() {
            examples(below, found);
        }
    }

    #[test]
    fn examples_run_as_they_stand() {
        let mut found = Vec::new();
        examples(&command(), &mut found);
        assert!(found.len() > 90, "{}", found.len());
        for example in found {
            // Two blanks begin a comment, and a shell's words end the arguments.
            let line = &example[example.find("float ").unwrap()..];
            let line = line.split("  ").next().unwrap().replace("<job>", "job");
            for line in line.split(" && ") {
                let end = [" < ", " > ", " | "].iter().filter_map(|sign| line.find(sign)).min();
                let end = end.or_else(|| line.find(')').filter(|_| example.contains("<(")));
                // In quotes, these signs end nothing.
                let line = if line.contains('\'') { line } else { &line[..end.unwrap_or(line.len())] };
                let words = shlex::split(line).unwrap_or_else(|| panic!("{example}"));
                let parsed = command().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{example}\n{}", parsed.unwrap_err());
            }
        }
    }
}
