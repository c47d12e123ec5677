//! Output to stdout: a value in the requested format, or plain text.
//!
//! YAML and JSON have every key, in the order of the API's types; tables have selected columns. An
//! empty list is `[]` in JSON and a sentence like `No jobs` in the other formats. Without a
//! requested format, a list is a table and one object is YAML.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;
use mooring_api::view::JobView;
use serde::Serialize;

use crate::global::Global;
use crate::table::{self, Tabular};
use crate::{link, yaml};

/// The output format. The variants have no help texts, to keep the help of every command short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Yaml,
    Table,
}

/// The columns of a terminal that tells none.
const WIDTH_DEFAULT: usize = 80;

/// Writes the results of a command.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Printer {
    /// The requested format.
    format: Option<Format>,
    /// The columns of the terminal that tables have to fit.
    width: Option<usize>,
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
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self { format, width: None }
    }

    /// The printer of a command; tables fit the terminal, unless `--wide` is given.
    pub(crate) fn of(global: &Global) -> Self {
        let is_limited = !global.wide && io::stdout().is_terminal();
        Self { width: is_limited.then(terminal_width), ..Self::new(global.format) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Some(Format::Json)
    }

    fn of_object(&self) -> Format {
        self.format.unwrap_or(Format::Yaml)
    }

    fn of_list(&self) -> Format {
        self.format.unwrap_or(Format::Table)
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
        let is_linked = self.of_list() == Format::Table && link::are_shown();
        self.raw(&if is_linked { link::linked(text, opcenter, jobs.iter().map(|job| &job.id)) } else { text })
    }

    /// Prints a job; a person at a terminal is told the address of its page as well.
    pub(crate) fn job(&self, job: &JobView, opcenter: &str) -> Result<()> {
        self.object(job)?;
        if !self.is_json() && self.is_terminal() && io::stdout().is_terminal() {
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
        if self.of_list() == Format::Table {
            self.note(text);
        }
    }

    /// Confirms that a request for an object was accepted. Scripts search stdout for the text. So
    /// YAML gets it as a comment and a table as a line above it; JSON gets it on stderr.
    pub(crate) fn accepted(&self, text: &str) -> Result<()> {
        self.accepted_as(self.of_object(), text)
    }

    /// Confirms that a request for a list of objects was accepted.
    pub(crate) fn accepted_list(&self, text: &str) -> Result<()> {
        self.accepted_as(self.of_list(), text)
    }

    fn accepted_as(&self, format: Format, text: &str) -> Result<()> {
        match format {
            Format::Yaml => self.line(&format!("# {text}")),
            Format::Table => self.line(text),
            Format::Json => {
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
        match self.of_object() {
            Format::Json => json(object),
            Format::Yaml => yaml::to_string(object),
            Format::Table => table::of_object(object, self.width),
        }
    }

    fn render_list<T: Tabular>(&self, items: &[T]) -> Result<String> {
        match self.of_list() {
            Format::Json => json(items),
            _ if items.is_empty() => Ok(format!("{}\n", T::NONE)),
            Format::Yaml => yaml::to_string(items),
            Format::Table => {
                let (text, is_part) = table::of_list(items, self.width);
                if is_part {
                    self.note("the terminal is too narrow for all columns; `--wide` shows them");
                }
                Ok(text)
            }
        }
    }
}

/// The columns of the terminal.
fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(WIDTH_DEFAULT, |(width, _)| width.0.into())
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").context("can't write the answer as JSON")
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
            let text = Printer::new(Some(format)).render_object(&samples::moved_job()).unwrap();
            assert_snapshot!(name("job", format), text);
        }
    }

    #[test]
    fn metrics_table() {
        let text = Printer::new(Some(Format::Table)).render_list(&samples::metrics()).unwrap();
        assert_snapshot!("metrics-table", text);
        let jobs = [samples::moved_job(), samples::new_job()].map(CurrentUsage::from);
        assert_snapshot!("top-table", Printer::new(Some(Format::Table)).render_list(&jobs).unwrap());
        let nothing = Printer::new(Some(Format::Table)).render_list::<MetricView>(&[]).unwrap();
        assert_eq!(nothing, "No metrics\n");
    }

    #[test]
    fn job_list_formats() {
        for format in ALL {
            let text = Printer::new(Some(format)).render_list(&[samples::moved_job(), samples::new_job()]).unwrap();
            assert_snapshot!(name("jobs", format), text);
        }
    }

    #[test]
    fn gateway_formats() {
        for format in ALL {
            let text = Printer::new(Some(format)).render_object(&samples::gateway()).unwrap();
            assert_snapshot!(name("gateway", format), text);
        }
    }

    #[test]
    fn other_tables() {
        let printer = Printer::new(Some(Format::Table));
        assert_snapshot!("gateways-table", printer.render_list(&[samples::gateway()]).unwrap());
        assert_snapshot!("connections-table", printer.render_list(&samples::gateway().connections).unwrap());
        assert_snapshot!("hosts-table", printer.render_list(&samples::hosts()).unwrap());
        assert_snapshot!("security-groups-table", printer.render_list(&samples::security_groups()).unwrap());
        assert_snapshot!("events-table", printer.render_list(&samples::events()).unwrap());
    }

    /// The widest line of a table.
    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or_default()
    }

    #[test]
    fn tables_fit_the_terminal() {
        let at = |width| Printer { width: Some(width), ..Printer::new(Some(Format::Table)) };
        let gateway = samples::gateway();
        for width in [72, 80, 100, 120] {
            let printer = at(width);
            for text in [
                printer.render_list(&[samples::moved_job(), samples::new_job()]).unwrap(),
                printer.render_list(std::slice::from_ref(&gateway)).unwrap(),
                printer.render_list(&gateway.connections).unwrap(),
                printer.render_list(&samples::hosts()).unwrap(),
                printer.render_list(&samples::metrics()).unwrap(),
                printer.render_list(&samples::events()).unwrap(),
                printer.render_object(&samples::moved_job()).unwrap(),
                printer.render_object(&gateway).unwrap(),
            ] {
                assert!(widest(&text) <= width, "{width}: {}\n{text}", widest(&text));
                assert!(!text.contains("|  |"), "{text}");
            }
        }
        assert_snapshot!("jobs-table-80", at(80).render_list(&[samples::moved_job(), samples::new_job()]).unwrap());
        assert_snapshot!("hosts-table-80", at(80).render_list(&samples::hosts()).unwrap());
        let wide = Printer::new(Some(Format::Table)).render_list(&samples::hosts()).unwrap();
        assert!(wide.contains("KERNEL") && wide.contains("notReady: CRIU is missing"), "{wide}");
    }

    #[test]
    fn what_line_readers_find() {
        let mut job = samples::new_job();
        (job.name, job.rc) = ("010".into(), "42".into());
        (job.custom_tags, job.env) = ([("n".into(), "1e3".into())].into(), [("ON".into(), "yes".into())].into());
        let text = Printer::new(None).render_object(&job).unwrap();
        for line in [
            "name: \"010\"",
            "rc: \"42\"",
            "workingHost: \"\"",
            "imageDigest: \"\"",
            "  \"n\": \"1e3\"",
            "  \"ON\": \"yes\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("submitTime: \"2026-08-01T12:30:00.25Z\"\n"), "{text}");
        assert!(!text.contains('\''), "{text}");
        assert_snapshot!("job-yaml-awkward", text);
        job.rc = "0".into();
        assert!(Printer::new(None).render_object(&job).unwrap().contains("\nrc: \"0\"\n"));
    }

    #[test]
    fn empty_lists() {
        fn check<T: Tabular>(sentence: &str) {
            for format in [Format::Yaml, Format::Table] {
                assert_eq!(Printer::new(Some(format)).render_list::<T>(&[]).unwrap(), format!("{sentence}\n"));
            }
            assert_eq!(Printer::new(Some(Format::Json)).render_list::<T>(&[]).unwrap(), "[]\n");
        }
        check::<JobView>("No jobs");
        check::<GatewayView>("No gateways");
        check::<HostView>("No hosts");
        check::<ConnectionView>("No connections");
        check::<EventView>("No events");
        check::<SecurityGroupView>("No security groups");
    }

    #[test]
    fn lists_are_tables_and_objects_are_yaml_unless_a_format_is_given() {
        let printer = Printer::new(None);
        let job = samples::moved_job();
        assert!(printer.render_list(std::slice::from_ref(&job)).unwrap().starts_with("+-"));
        assert!(printer.render_object(&job).unwrap().starts_with("id: "));
    }

    #[test]
    fn script_visible_layout() {
        let text = Printer::new(None).render_object(&samples::moved_job()).unwrap();
        assert!(text.starts_with("id: uqaj8l6a407u88v0106ol\n"));
        let mut after = text.lines().skip_while(|line| *line != "portMappings:");
        let mapping = after.nth(1).unwrap();
        assert_eq!(mapping.split_whitespace().nth(3), Some("198.18.0.1:10000"));
        let text = Printer::new(None).render_list(&[samples::moved_job()]).unwrap();
        let row = text.lines().find(|line| line.contains("uqaj8l6a407u88v0106ol")).unwrap();
        assert_eq!(row.split_whitespace().nth(3), Some("notebook"));
    }
}
