//! `float audit`.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};
use mooring_api::Client;
use mooring_api::view::{AuditQuery, AuditView};
use mooring_types::audit::AuditOutcome;
use mooring_types::duration::parse_duration;
use mooring_types::{Clock, SystemClock, Timestamp};

use crate::parse::one_of;
use crate::printer::Printer;
use crate::table::{Tabular, seconds};

/// The interval between two looks of `--follow`.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// The most entries of one answer.
const PAGE_MAX: u32 = 1000;

/// The arguments of `float audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float audit -F table
  float audit --user alice --action job.cancel --since 1d -F table
  float audit --action session.login --outcome refused
  float audit --object lab --follow
  float audit --export csv > audit.csv

Shows the requests that changed something or were refused, newest first, with user, address, action, object and
outcome (admins). Entries are kept for 400 days.")]
pub(crate) struct AuditArgs {
    /// only requests of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// only this action, for example job.cancel, or all actions on one kind of object, for example
    /// job
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// only requests about this object, by id or name
    #[arg(long, value_name = "OBJECT")]
    object: Option<String>,
    /// only requests with this outcome
    #[arg(long, value_parser = outcome())]
    outcome: Option<AuditOutcome>,
    /// only requests from this time on: a time like 2026-03-01T09:00:00Z, or an age like 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// only requests before this time, or of at least this age
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// number of entries
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAGE_MAX as i64))]
    limit: u32,
    /// go on, and print new entries as lines
    #[arg(short, long)]
    follow: bool,
    /// print all entries as text
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["limit", "follow"])]
    export: Option<Export>,
}

/// Returns the parser of outcomes.
fn outcome() -> impl TypedValueParser<Value = AuditOutcome> {
    one_of(["succeeded", "refused", "failed"])
}

/// The formats of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Export {
    /// comma-separated values, with a line of headers
    Csv,
    /// a line of JSON for each entry
    Jsonl,
}

impl Export {
    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    match text.parse() {
        Ok(time) => Ok(time),
        Err(_) => match parse_duration(text) {
            Ok(age) => Ok(SystemClock.now() - age),
            Err(_) => Err("give a time like 2026-03-01T09:00:00Z, or an age like 2h".into()),
        },
    }
}

impl Tabular for AuditView {
    const NONE: &'static str = "No entries";
    const COLUMNS: &'static [&'static str] = &["TIME", "USER", "ADDRESS", "ACTION", "OBJECT", "OUTCOME", "REASON"];

    fn row(&self) -> Vec<String> {
        vec![
            seconds(self.time),
            if self.unproven { format!("{}?", self.user) } else { self.user.clone() },
            self.address.clone(),
            self.action.clone(),
            named(&self.object, &self.object_name),
            self.outcome.to_string(),
            self.reason.clone(),
        ]
    }
}

fn named(object: &str, name: &str) -> String {
    if name.is_empty() { object.to_owned() } else { format!("{name} ({object})") }
}

/// Shows or exports the audit.
pub(crate) async fn audit(args: AuditArgs, client: &Client, printer: &Printer) -> Result<()> {
    let query = AuditQuery {
        user: args.user,
        action: args.action,
        object: args.object,
        outcome: args.outcome,
        since: args.since,
        until: args.until,
        limit: Some(args.limit),
        ..AuditQuery::default()
    };
    if let Some(format) = args.export {
        return export(&query, format, client).await;
    }
    let entries = client.audit_list(&query).await?.entries;
    if args.follow {
        return follow(query, entries, client, printer).await;
    }
    printer.list(&entries)
}

async fn export(query: &AuditQuery, format: Export, client: &Client) -> Result<()> {
    let query = AuditQuery { limit: None, ..query.clone() };
    let mut export = client.audit_export(&query, format.name()).await?;
    let mut stdout = std::io::stdout().lock();
    while let Some(piece) = export.piece().await? {
        stdout.write_all(&piece).context("can't write to stdout")?;
    }
    stdout.flush().context("can't write to stdout")
}

/// Prints entries as lines, oldest first, and then each new one.
async fn follow(query: AuditQuery, mut entries: Vec<AuditView>, client: &Client, printer: &Printer) -> Result<()> {
    let mut after = 0;
    loop {
        for entry in entries.iter().rev() {
            after = after.max(entry.id);
            printer.line(&line(entry))?;
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        let newer = AuditQuery { after: Some(after), limit: Some(PAGE_MAX), ..query.clone() };
        entries = client.audit_list(&newer).await?.entries;
    }
}

fn line(entry: &AuditView) -> String {
    let [time, user, address, action, object, outcome, reason] = entry.row().try_into().unwrap_or_default();
    let parts = [time, user, address, action, object, outcome, reason];
    parts.into_iter().map(|part| if part.is_empty() { "-".to_owned() } else { part }).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_a_row_and_a_line() {
        let entry = AuditView {
            id: 7,
            time: "2026-03-01T09:00:00Z".parse().unwrap(),
            user: "ada".into(),
            unproven: true,
            address: "192.0.2.1".into(),
            client: "float/0.1.0".into(),
            action: "gateway.destroy".into(),
            object: "g-sidlpgb7oi9p48kxycpmn".into(),
            object_name: "lab".into(),
            detail: String::new(),
            outcome: AuditOutcome::Refused,
            reason: String::new(),
        };
        let expected =
            "2026-03-01T09:00:00Z  ada?  192.0.2.1  gateway.destroy  lab (g-sidlpgb7oi9p48kxycpmn)  refused  -";
        assert_eq!(line(&entry), expected);
    }

    #[test]
    fn time_is_a_moment_or_an_age() {
        assert_eq!(time("2026-03-01T09:00:00Z"), Ok("2026-03-01T09:00:00Z".parse().unwrap()));
        assert!(time("2h").unwrap() < SystemClock.now());
        assert!(time("yesterday").is_err());
    }
}
