//! Links to the pages of the web interface.
//!
//! A terminal shows an id as a link by the sequence OSC 8. Only a terminal gets it: a pipe, a file
//! and JSON never do. `NO_COLOR` turns it off, as it turns off everything that is not text.

use std::io::{self, IsTerminal};

use mooring_types::JobId;

/// Returns the address of a job's page at an OpCenter.
pub(crate) fn job_page(opcenter: &str, job: &JobId) -> String {
    format!("{opcenter}/jobs/{job}")
}

/// Returns whether stdout is a terminal that shows links.
pub(crate) fn are_shown() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let terminal = std::env::var("TERM").unwrap_or_default();
    io::stdout().is_terminal() && !is_set("NO_COLOR") && knows_links(&terminal)
}

/// Returns whether a kind of terminal ignores or shows OSC 8; the others print a part of it.
fn knows_links(terminal: &str) -> bool {
    !matches!(terminal, "" | "dumb" | "linux" | "vt100" | "vt220")
}

/// Returns a text with the first occurrence of each id turned into a link to its job's page.
pub(crate) fn linked<'a>(text: String, opcenter: &str, jobs: impl Iterator<Item = &'a JobId>) -> String {
    jobs.fold(text, |text, job| {
        let link = format!("\u{1b}]8;;{}\u{1b}\\{job}\u{1b}]8;;\u{1b}\\", job_page(opcenter, job));
        text.replacen(job.as_str(), &link, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_links_and_all_else_stays() {
        let jobs: Vec<JobId> =
            ["uqaj8l6a407u88v0106ol", "a407u88v0106oluqaj8l6"].iter().map(|id| id.parse().unwrap()).collect();
        let table = format!("| {} | one |\n| {} | two |\n", jobs[0], jobs[1]);
        let text = linked(table.clone(), "http://127.0.0.1:8443", jobs.iter());
        assert!(text.contains("\u{1b}]8;;http://127.0.0.1:8443/jobs/a407u88v0106oluqaj8l6\u{1b}\\a407u"), "{text:?}");
        assert_eq!(text.matches("\u{1b}]8;;\u{1b}\\").count(), 2);
        let plain = jobs.iter().fold(text, |text, job| {
            text.replace(&format!("\u{1b}]8;;{}\u{1b}\\", job_page("http://127.0.0.1:8443", job)), "")
        });
        assert_eq!(plain.replace("\u{1b}]8;;\u{1b}\\", ""), table);
    }

    #[test]
    fn terminals_without_links_get_text() {
        assert!(knows_links("xterm-256color") && knows_links("screen"));
        assert!(!knows_links("dumb") && !knows_links(""));
    }
}
