//! Tables: headers in capitals, `|` between columns. Scripts count words, so no cell is empty.
//!
//! A list fits the width of a terminal. The columns that a type can spare are left out, then the
//! widest ones are cut with `…`. The values of one object are wrapped. Without a width nothing is
//! left out, cut or wrapped.

mod columns;

use anyhow::{Context, Result};
use comfy_table::{Cell, ContentArrangement, Table, TableComponent, presets};
use mooring_api::view::{
    ConnectionView, EventView, FindingView, GatewayView, GroupView, HoldingView, HostView, JobView, JoinTokenView,
    MetricView, QuotaView, SecretView, SecurityGroupView, TemplateView, UserView,
};
use mooring_types::Timestamp;
use serde::Serialize;
use serde_norway::Value;

use self::columns::Column;
use crate::yaml;

/// A type with a table row.
pub(crate) trait Tabular: Serialize {
    /// The text for an empty list.
    const NONE: &'static str;
    /// The column headers.
    const COLUMNS: &'static [&'static str];
    /// The columns that a narrow terminal does without, the least useful one first.
    const SPARE: &'static [&'static str] = &[];

    /// One cell for each column.
    fn row(&self) -> Vec<String>;
}

impl Tabular for JobView {
    const NONE: &'static str = "No jobs";
    const COLUMNS: &'static [&'static str] =
        &["ID", "NAME", "HOST", "USER", "STATUS", "SUBMITTED", "DURATION", "PORTS"];
    const SPARE: &'static [&'static str] = &["SUBMITTED", "USER", "DURATION", "HOST"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.host_name.clone(),
            self.user.clone(),
            self.status.to_string(),
            seconds(self.submit_time),
            self.duration.clone(),
            self.port_mappings.join(", "),
        ]
    }
}

impl Tabular for GatewayView {
    const NONE: &'static str = "No gateways";
    const COLUMNS: &'static [&'static str] =
        &["ID", "NAME", "STATUS", "ADDRESS", "PORT RANGE", "HOST", "CONNECTIONS", "CREATED", "SECURITY GROUPS"];
    const SPARE: &'static [&'static str] = &["CREATED", "SECURITY GROUPS", "HOST", "CONNECTIONS", "PORT RANGE"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            wire_name(&self.status),
            self.address.clone(),
            self.port_range.clone(),
            self.host_name.clone(),
            self.connections.len().to_string(),
            seconds(self.create_time),
            self.security_groups.join(", "),
        ]
    }
}

impl Tabular for ConnectionView {
    const NONE: &'static str = "No connections";
    const COLUMNS: &'static [&'static str] =
        &["JOB ID", "JOB NAME", "TARGET PORT", "GATEWAY PORT", "STATE", "CLIENTS", "ACCESS URL"];
    const SPARE: &'static [&'static str] = &["CLIENTS", "GATEWAY PORT", "JOB ID", "TARGET PORT"];

    fn row(&self) -> Vec<String> {
        vec![
            self.job_id.to_string(),
            self.job_name.clone(),
            self.target_port.to_string(),
            self.gateway_port.to_string(),
            self.state.to_string(),
            self.clients.len().to_string(),
            self.access_url.clone(),
        ]
    }
}

impl Tabular for SecurityGroupView {
    const NONE: &'static str = "No security groups";
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "USER", "USED BY", "RULES", "DESCRIPTION"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.user.clone(),
            self.used_by.len().to_string(),
            self.rules.join(", "),
            self.description.clone(),
        ]
    }
}

impl Tabular for JoinTokenView {
    const NONE: &'static str = "No unused join tokens";
    const COLUMNS: &'static [&'static str] = &["ID", "HOST", "USER", "CREATED", "EXPIRES"];

    fn row(&self) -> Vec<String> {
        let host = if self.name.is_empty() { "any".to_owned() } else { self.name.clone() };
        vec![self.id.to_string(), host, self.user.clone(), self.create_time.to_string(), self.expires_at.to_string()]
    }
}

impl Tabular for HostView {
    const NONE: &'static str = "No hosts";
    const COLUMNS: &'static [&'static str] = &[
        "ID", "NAME", "ADDRESS", "STATUS", "ROLE", "JOBS", "CPU USED", "GB USED", "KERNEL", "CRIU", "RUNC", "PURCHASE",
    ];
    const SPARE: &'static [&'static str] = &["RUNC", "CRIU", "KERNEL", "ID", "PURCHASE", "ADDRESS"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.address.clone(),
            self.status.to_string(),
            wire_name(&self.role),
            self.jobs.to_string(),
            format!("{}/{}", self.cores_used, self.cores),
            format!("{:.1}/{:.1}", self.mem_gb_used, self.mem_gb),
            self.kernel.clone(),
            self.criu.clone(),
            self.runc.clone(),
            wire_name(&self.purchase),
        ]
    }
}

impl Tabular for MetricView {
    const NONE: &'static str = "No metrics";
    const COLUMNS: &'static [&'static str] = &[
        "TIME",
        "STATUS",
        "CPU USED",
        "GB USED",
        "GB CACHED",
        "GB SWAPPED",
        "PROCESSES",
        "RECEIVED/S",
        "SENT/S",
        "GB ON DISK",
    ];
    const SPARE: &'static [&'static str] = &["GB SWAPPED", "GB CACHED", "PROCESSES", "GB ON DISK", "STATUS"];

    fn row(&self) -> Vec<String> {
        vec![
            seconds(self.time),
            self.status.to_string(),
            format!("{:.2}/{}", self.cpu_used, self.cpu),
            format!("{:.3}/{}", self.mem_used, self.mem_gb),
            format!("{:.3}", self.page_cache),
            format!("{:.3}", self.swap),
            self.processes.to_string(),
            self.received_per_second.to_string(),
            self.sent_per_second.to_string(),
            self.disk.map_or_else(String::new, |gb| format!("{gb:.3}")),
        ]
    }
}

impl Tabular for EventView {
    const NONE: &'static str = "No events";
    const COLUMNS: &'static [&'static str] = &["TIME", "KIND", "MESSAGE"];

    fn row(&self) -> Vec<String> {
        vec![self.time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(), self.event.to_parts().0, self.event.to_string()]
    }
}

impl Tabular for FindingView {
    const NONE: &'static str = "No findings";
    const COLUMNS: &'static [&'static str] = &["JOB", "NAME", "EFFECT", "PID", "PROGRAM", "TEXT"];

    fn row(&self) -> Vec<String> {
        vec![
            self.job_id.to_string(),
            self.job_name.clone(),
            self.effect.to_string(),
            self.pid.map_or_else(String::new, |pid| pid.to_string()),
            self.program.clone(),
            self.text.clone(),
        ]
    }
}

impl Tabular for UserView {
    const NONE: &'static str = "No users";
    const COLUMNS: &'static [&'static str] =
        &["ID", "NAME", "ROLE", "GROUPS", "SIGN-IN", "CREATED", "JOBS", "CORES", "GB", "GATEWAYS"];
    const SPARE: &'static [&'static str] = &["ID", "CREATED", "SIGN-IN", "GROUPS"];

    fn row(&self) -> Vec<String> {
        [
            self.id.to_string(),
            self.name.clone(),
            self.role.to_string(),
            self.groups.join(", "),
            self.sign_in.clone(),
            seconds(self.create_time),
        ]
        .into_iter()
        .chain(of_quota(&self.quota, &self.used))
        .collect()
    }
}

impl Tabular for GroupView {
    const NONE: &'static str = "No groups";
    const COLUMNS: &'static [&'static str] =
        &["NAME", "USERS", "CREATED", "JOBS", "CORES", "GB", "GATEWAYS", "DESCRIPTION"];

    fn row(&self) -> Vec<String> {
        [self.name.clone(), self.users.join(", "), seconds(self.create_time)]
            .into_iter()
            .chain(of_quota(&self.quota, &self.used))
            .chain([self.description.clone()])
            .collect()
    }
}

/// The columns of a quota: what is used of each limit, as `2/10`, or `2` without one.
fn of_quota(quota: &QuotaView, used: &HoldingView) -> [String; 4] {
    let count = |used: u32, limit: Option<u32>| limit.map_or(used.to_string(), |limit| format!("{used}/{limit}"));
    let memory = quota.mem_gb.map_or(String::new(), |limit| format!("/{limit:.1}"));
    [
        count(used.jobs, quota.jobs),
        count(used.cores, quota.cores),
        format!("{:.1}{memory}", used.mem_gb),
        count(used.gateways, quota.gateways),
    ]
}

impl Tabular for SecretView {
    const NONE: &'static str = "No secrets";
    const COLUMNS: &'static [&'static str] = &["NAME", "CREATED", "UPDATED"];

    fn row(&self) -> Vec<String> {
        vec![self.name.clone(), seconds(self.create_time), seconds(self.update_time)]
    }
}

impl Tabular for TemplateView {
    const NONE: &'static str = "No templates";
    const COLUMNS: &'static [&'static str] = &["NAME", "USER", "CREATED", "IMAGE", "PORTS", "DESCRIPTION"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.user.clone(),
            self.create_time.map(seconds).unwrap_or_default(),
            self.job.image.as_ref().map(ToString::to_string).unwrap_or_default(),
            self.job.publish.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            self.description.clone(),
        ]
    }
}

/// A table with a row for each item, and whether columns of it are left out.
pub(crate) fn of_list<T: Tabular>(items: &[T], width: Option<usize>) -> (String, bool) {
    let mut columns: Vec<Column> =
        T::COLUMNS.iter().map(|header| Column { header, cells: Vec::with_capacity(items.len()) }).collect();
    for item in items {
        for (column, cell) in columns.iter_mut().zip(item.row()) {
            column.cells.push(filled(&cell));
        }
    }
    let all = columns.len();
    if let Some(width) = width {
        columns::fit(&mut columns, T::SPARE, width);
    }
    let mut table = empty();
    table.set_header(columns.iter().map(|column| column.header));
    for row in 0..items.len() {
        table.add_row(columns.iter().map(|column| Cell::new(&column.cells[row])));
    }
    (format!("{table}\n"), columns.len() < all)
}

/// A table with a row for each key; nested values are YAML in their cells.
pub(crate) fn of_object(object: &impl Serialize, width: Option<usize>) -> Result<String> {
    let value = serde_norway::to_value(object).context("can't convert the answer")?;
    let mut table = empty();
    if let Some(width) = width.and_then(|width| u16::try_from(width).ok()) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(["KEY", "VALUE"]);
    if let Value::Mapping(keys) = value {
        for (key, value) in keys {
            table.add_row([text(&key)?, text(&value)?]);
        }
    }
    Ok(format!("{table}\n"))
}

fn empty() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::HeaderLines, '-').set_style(TableComponent::MiddleHeaderIntersections, '+');
    table
}

fn text(value: &Value) -> Result<String> {
    Ok(match value {
        Value::Null => "-".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => filled(value),
        Value::Sequence(items) if items.is_empty() => "-".into(),
        Value::Mapping(keys) if keys.is_empty() => "-".into(),
        Value::Sequence(items) if items.iter().all(Value::is_string) => {
            items.iter().map(text).collect::<Result<Vec<_>>>()?.join("\n")
        }
        nested => yaml::to_string(nested)?.trim_end().to_owned(),
    })
}

/// Fills empty cells, which would shift the words that scripts count, and removes control
/// characters.
fn filled(cell: &str) -> String {
    if cell.is_empty() {
        return "-".into();
    }
    cell.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// The wire name of a value without data.
pub(crate) fn wire_name(value: &impl Serialize) -> String {
    match serde_norway::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A time with a precision of one second.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
