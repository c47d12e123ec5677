//! Output to stdout: a value in the requested format, or plain text.
//!
//! YAML and JSON have every key, in the order of the API's types; tables have selected columns. An
//! empty list is `[]` in JSON and a sentence like `No jobs` in the other formats.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;
use mooring_api::view::JobView;
use serde::Serialize;

use crate::link;
use crate::table::{self, Tabular};

/// The output format. The variants have no help texts, to keep the help of every command short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    #[default]
    Yaml,
    Table,
}

/// Writes the results of a command.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Printer {
    format: Format,
}

/// A write to stdout failed.
#[derive(Debug)]
pub(crate) struct PrintError(io::Error);

impl PrintError {
    /// Returns `true` if the reader of stdout has closed the pipe, like `head`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl std::fmt::Display for PrintError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("can't write to stdout")
    }
}

impl std::error::Error for PrintError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(crate) fn object(&self, object: &impl Serialize) -> Result<()> {
        self.raw(&self.render_object(object)?)
    }

    pub(crate) fn list<T: Tabular>(&self, items: &[T]) -> Result<()> {
        self.raw(&self.render_list(items)?)
    }

    /// Prints a list of jobs; a terminal shows their ids in a table as links to their pages.
    pub(crate) fn jobs(&self, jobs: &[JobView], opcenter: &str) -> Result<()> {
        let text = self.render_list(jobs)?;
        let is_linked = self.format == Format::Table && link::are_shown();
        self.raw(&if is_linked { link::linked(text, opcenter, jobs.iter().map(|job| &job.id)) } else { text })
    }

    /// Prints a job; a person at a terminal is told the address of its page as well.
    pub(crate) fn job(&self, job: &JobView, opcenter: &str) -> Result<()> {
        self.object(job)?;
        if self.format != Format::Json && self.is_terminal() && io::stdout().is_terminal() {
            self.note(&format!("page: {}", link::job_page(opcenter, &job.id)));
        }
        Ok(())
    }

    /// Prints a line of text in any format.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        self.raw(&format!("{text}\n"))
    }

    /// Prints text unchanged and flushes it.
    pub(crate) fn raw(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Prints bytes unchanged and flushes them.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        Ok(stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(PrintError)?)
    }

    /// Prints a line on stderr: information that is not data.
    pub(crate) fn note(&self, text: &str) {
        // A note is optional: errors of stderr are ignored.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Prints a line on stderr that a table has no column for; other formats have it as data.
    pub(crate) fn note_below_table(&self, text: &str) {
        if self.format == Format::Table {
            self.note(text);
        }
    }

    /// Confirms that a request was accepted. Scripts search stdout for the text, so YAML output
    /// gets it as a comment; formats without comments get it on stderr.
    pub(crate) fn accepted(&self, text: &str) -> Result<()> {
        match self.format {
            Format::Yaml => self.line(&format!("# {text}")),
            Format::Json | Format::Table => {
                self.note(text);
                Ok(())
            }
        }
    }

    /// Returns `true` if stderr is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    fn render_object(&self, object: &impl Serialize) -> Result<String> {
        match self.format {
            Format::Json => json(object),
            Format::Yaml => yaml(object),
            Format::Table => table::of_object(object),
        }
    }

    fn render_list<T: Tabular>(&self, items: &[T]) -> Result<String> {
        match self.format {
            Format::Json => json(items),
            _ if items.is_empty() => Ok(format!("{}\n", T::NONE)),
            Format::Yaml => yaml(items),
            Format::Table => Ok(table::of_list(items)),
        }
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").context("can't write the answer as JSON")
}

fn yaml(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_norway::to_string(value).context("can't write the answer as YAML")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use mooring_api::view::{ConnectionView, EventView, GatewayView, HostView, JobView, MetricView, SecurityGroupView};

    use super::*;
    use crate::commands::metrics::CurrentUsage;
    use crate::samples;

    const ALL: [Format; 3] = [Format::Json, Format::Yaml, Format::Table];

    fn name(noun: &str, format: Format) -> String {
        format!("{noun}-{}", format!("{format:?}").to_lowercase())
    }

    #[test]
    fn job_formats() {
        for format in ALL {
            let text = Printer::new(format).render_object(&samples::moved_job()).unwrap();
            assert_snapshot!(name("job", format), text);
        }
    }

    #[test]
    fn metrics_table() {
        let text = Printer::new(Format::Table).render_list(&samples::metrics()).unwrap();
        assert_snapshot!("metrics-table", text);
        let jobs = [samples::moved_job(), samples::new_job()].map(CurrentUsage::from);
        assert_snapshot!("top-table", Printer::new(Format::Table).render_list(&jobs).unwrap());
        let nothing = Printer::new(Format::Table).render_list::<MetricView>(&[]).unwrap();
        assert_eq!(nothing, "No metrics\n");
    }

    #[test]
    fn job_list_formats() {
        for format in ALL {
            let text = Printer::new(format).render_list(&[samples::moved_job(), samples::new_job()]).unwrap();
            assert_snapshot!(name("jobs", format), text);
        }
    }

    #[test]
    fn gateway_formats() {
        for format in ALL {
            let text = Printer::new(format).render_object(&samples::gateway()).unwrap();
            assert_snapshot!(name("gateway", format), text);
        }
    }

    #[test]
    fn other_tables() {
        let printer = Printer::new(Format::Table);
        assert_snapshot!("gateways-table", printer.render_list(&[samples::gateway()]).unwrap());
        assert_snapshot!("connections-table", printer.render_list(&samples::gateway().connections).unwrap());
        assert_snapshot!("hosts-table", printer.render_list(&samples::hosts()).unwrap());
        assert_snapshot!("security-groups-table", printer.render_list(&samples::security_groups()).unwrap());
        assert_snapshot!("events-table", printer.render_list(&samples::events()).unwrap());
    }

    #[test]
    fn empty_lists() {
        fn check<T: Tabular>(sentence: &str) {
            for format in [Format::Yaml, Format::Table] {
                assert_eq!(Printer::new(format).render_list::<T>(&[]).unwrap(), format!("{sentence}\n"));
            }
            assert_eq!(Printer::new(Format::Json).render_list::<T>(&[]).unwrap(), "[]\n");
        }
        check::<JobView>("No jobs");
        check::<GatewayView>("No gateways");
        check::<HostView>("No hosts");
        check::<ConnectionView>("No connections");
        check::<EventView>("No events");
        check::<SecurityGroupView>("No security groups");
    }

    #[test]
    fn script_visible_layout() {
        let text = Printer::new(Format::Yaml).render_object(&samples::moved_job()).unwrap();
        assert!(text.starts_with("id: uqaj8l6a407u88v0106ol\n"));
        let mut after = text.lines().skip_while(|line| *line != "portMappings:");
        let mapping = after.nth(1).unwrap();
        assert_eq!(mapping.split_whitespace().nth(3), Some("198.18.0.1:10000"));
        let text = Printer::new(Format::Table).render_list(&[samples::moved_job()]).unwrap();
        let row = text.lines().find(|line| line.contains("uqaj8l6a407u88v0106ol")).unwrap();
        assert_eq!(row.split_whitespace().nth(3), Some("notebook"));
    }
}
