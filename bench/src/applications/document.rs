//! The table of results, for a terminal and as `docs/applications.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use mooring_testkit::applications::row::{Group, Row};
use mooring_testkit::applications::run::{MIGRATIONS, Report};

use super::results::{Outcome, State, Stored};

/// The begin of the document.
const BEGIN: &str = "\
# Applications

Made by `make apps` from the results of its runs: do not edit it by hand. The rows are in
`apps/rows`.

Each application runs as a job of a virtual host, and a client uses it all the time: three
migrations, a suspend of five seconds, a resume, and a drain of its host. The client connects before
the first migration and ends with a check of what was kept.

- *Green*: every step succeeded, and the client advanced between any two. None of its answers was
  wrong, missing, refused, repeated or out of order. Where the row says *refused*, each step was, in
  these words, without a pause.
- *Not here*: a package that the row needs is not to be had, or this host lacks what it needs.
- The wait is the longest between two answers. The bytes are those of the largest migration. Pauses
  grow with what else the machine does: `make bench` measures them on an idle one.
";

/// The head of the tables.
const HEAD: [&str; 9] = ["application", "version", "client", "moves", "pause", "wait", "MB", "operations", "errors"];

/// Returns the table for a terminal.
pub(super) fn table(groups: &[Group], results: &BTreeMap<String, Stored>) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["name", "", "version", "moves", "pause", "wait", "MB", "operations", "errors"]);
    for row in groups.iter().flat_map(|group| &group.rows) {
        let Some(result) = results.get(&row.name) else { continue };
        let (version, figures) = match &result.outcome {
            Outcome::Ran { version, report } => (short(version), figures(report)),
            Outcome::NotHere { .. } | Outcome::NotRun { .. } => (String::new(), Default::default()),
        };
        let state = result.state(row).to_string();
        table.add_row([vec![row.name.clone(), state, version], figures.to_vec()].concat());
    }
    let count = |state| results_of(groups, results).filter(|(row, result)| result.state(row) == state).count();
    let counts = [State::Green, State::Red, State::NotHere].map(|state| format!("{} {state}", count(state)));
    format!("{table}\n{}", counts.join(", "))
}

/// Returns the document.
pub(super) fn markdown(groups: &[Group], results: &BTreeMap<String, Stored>) -> String {
    let mut text = BEGIN.to_owned();
    let with: BTreeSet<String> =
        results.values().map(|result| format!("{} build, kernel {}", result.build, result.kernel)).collect();
    let with = with.into_iter().collect::<Vec<_>>().join("; ");
    let count = |state| results_of(groups, results).filter(|(row, result)| result.state(row) == state).count();
    let (green, red, not_here) = (count(State::Green), count(State::Red), count(State::NotHere));
    let _ = writeln!(text, "\n{green} green, {red} red, {not_here} not here. Mooring: {with}.");
    for group in groups {
        let ran = |row: &&Row| results.get(&row.name).is_some_and(|result| result.state(row) != State::NotHere);
        if !group.rows.iter().any(|row| ran(&row)) {
            continue;
        }
        let _ = writeln!(text, "\n## {}\n\n| {} | |", group.group, HEAD.join(" | "));
        let _ = writeln!(text, "|{}", "---|".repeat(HEAD.len() + 1));
        for row in group.rows.iter().filter(ran) {
            let _ = writeln!(text, "{}", line(row, &results[&row.name]));
        }
    }
    section(&mut text, "Red", State::Red, groups, results);
    section(&mut text, "Not here", State::NotHere, groups, results);
    text
}

/// Adds the rows of a state with their reasons.
fn section(text: &mut String, title: &str, state: State, groups: &[Group], results: &BTreeMap<String, Stored>) {
    let rows: Vec<_> = results_of(groups, results).filter(|(row, result)| result.state(row) == state).collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n## {title}\n\n| application | seen | why, and what was tried |\n|---|---|---|");
    for (row, result) in rows {
        let explained = row.explained.as_deref().unwrap_or_default();
        let _ = writeln!(text, "| {} | {} | {} |", row.title, cell(&beginning(&result.trouble(row))), cell(explained));
    }
}

fn results_of<'a>(
    groups: &'a [Group],
    results: &'a BTreeMap<String, Stored>,
) -> impl Iterator<Item = (&'a Row, &'a Stored)> {
    let rows = groups.iter().flat_map(|group| &group.rows);
    rows.filter_map(|row| results.get(&row.name).map(|result| (row, result)))
}

/// One line of a table in Markdown.
fn line(row: &Row, result: &Stored) -> String {
    let (version, figures) = match &result.outcome {
        Outcome::Ran { version, report } => (short(version), figures(report)),
        Outcome::NotHere { .. } | Outcome::NotRun { .. } => (String::new(), Default::default()),
    };
    let state = match &row.refused {
        Some(words) if result.state(row) == State::Green => format!("green: refused, \"{words}\""),
        _ => result.state(row).to_string(),
    };
    let client = row.client.split(' ').next().unwrap_or_default().trim_end_matches(".py");
    format!("| {} | {} | {client} | {} | {state} |", row.title, cell(&version), figures.join(" | "))
}

/// Moves, pause, wait, bytes, operations, errors.
fn figures(report: &Report) -> [String; 6] {
    let done = |kind: &str| report.steps.iter().filter(|step| step.kind == kind && step.outcome == "succeeded").count();
    let moves = match ["suspend", "resume", "drain"].map(done) {
        [1, 1, 1] if done("migrate") == MIGRATIONS => "all".to_owned(),
        others => format!("{} of {}", done("migrate") + others.iter().sum::<usize>(), MIGRATIONS + 3),
    };
    let away = |kind: &str| kind == "suspend" || kind == "resume";
    let between = report.steps.iter().filter(|step| !away(&step.kind));
    let most =
        |value: fn(&mooring_testkit::applications::run::Step) -> f64| between.clone().map(value).fold(0.0, f64::max);
    [
        moves,
        format!("{:.2} s", most(|step| step.pause_seconds)),
        format!("{:.2} s", most(|step| step.longest_wait_seconds)),
        format!("{:.0}", most(|step| megabytes(step.bytes_moved))),
        report.operations.to_string(),
        report.error_count.to_string(),
    ]
}

fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// The part of a version's line that has digits.
fn short(version: &str) -> String {
    let digits = |word: &&str| word.chars().any(|letter| letter.is_ascii_digit());
    let word = version.split([' ', ',', '(', '/', '=']).find(digits).unwrap_or(version);
    word.trim_start_matches('v').trim_end_matches([')', ':']).to_owned()
}

/// The beginning of a long text.
fn beginning(text: &str) -> String {
    const LETTERS: usize = 200;
    let ellipsis = if text.chars().count() > LETTERS { "…" } else { "" };
    text.chars().take(LETTERS).collect::<String>() + ellipsis
}

/// Text that does not end a table's cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_word_with_digits() {
        let lines = [
            "Redis server v=7.0.15 sha=0",
            "nginx version: nginx/1.22.1",
            "Python 3.11.2",
            "v24.1.0",
            "gdb (Debian 13.1-3)",
        ];
        assert_eq!(lines.map(short), ["7.0.15", "1.22.1", "3.11.2", "24.1.0", "13.1-3"]);
    }
}
