//! The audit: list and export.

use mooring_api::view::{AuditPage, AuditQuery, AuditView};
use mooring_store::{AuditActor, AuditChoice, AuditRow};

use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

const LIMIT_DEFAULT: u32 = 100;
/// The most entries of a page.
pub(crate) const LIMIT_MAX: u32 = 1000;

/// Lists entries, newest first.
pub(crate) async fn list(context: &Context, user: &User, query: &AuditQuery) -> ApiResult<AuditPage> {
    user.refuse_unless_admin("looking at the audit")?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(ApiError::invalid(format!("a page has 1 to {LIMIT_MAX} entries")));
    }
    let mut tx = context.store.begin_read().await?;
    // One more than asked for shows whether there is a next page.
    let mut rows = tx.audit_list(&choice(query), limit + 1).await?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().map(|row| row.id).filter(|_| has_more);
    Ok(AuditPage { entries: rows.into_iter().map(view).collect(), next })
}

/// Lists the actions that have entries.
pub(crate) async fn actions(context: &Context, user: &User) -> ApiResult<Vec<String>> {
    user.refuse_unless_admin("looking at the audit")?;
    Ok(context.store.begin_read().await?.audit_actions().await?)
}

fn choice(query: &AuditQuery) -> AuditChoice {
    let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    AuditChoice {
        user: text(&query.user),
        action: text(&query.action),
        object: text(&query.object),
        outcome: query.outcome,
        since: query.since,
        until: query.until,
        before: query.before,
        after: query.after,
    }
}

fn view(row: AuditRow) -> AuditView {
    let (user, unproven) = match row.actor {
        AuditActor::Known(name) => (name, false),
        AuditActor::Stranger(name) => (name, true),
    };
    AuditView {
        id: row.id,
        time: row.time,
        user,
        unproven,
        address: row.address,
        client: row.client,
        action: row.action,
        object: row.object,
        object_name: row.object_name,
        detail: row.detail,
        outcome: row.outcome,
        reason: row.reason,
    }
}

/// A text format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Csv,
    /// A line of JSON for each entry.
    Jsonl,
}

impl Format {
    /// Returns the media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/x-ndjson",
        }
    }

    /// Returns the name of a file with the export.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Csv => "audit.csv",
            Self::Jsonl => "audit.jsonl",
        }
    }

    /// Returns what precedes the entries.
    pub(crate) fn head(self) -> &'static str {
        match self {
            Self::Csv => "id,time,user,unproven,address,client,action,object,objectName,detail,outcome,reason\r\n",
            Self::Jsonl => "",
        }
    }

    /// Returns an entry as a line.
    pub(crate) fn line(self, entry: &AuditView) -> String {
        match self {
            Self::Jsonl => serde_json::to_string(entry).unwrap_or_default() + "\n",
            Self::Csv => {
                let AuditView {
                    id,
                    time,
                    user,
                    unproven,
                    address,
                    client,
                    action,
                    object,
                    object_name,
                    detail,
                    outcome,
                    reason,
                } = entry;
                let texts = [user, address, client, action, object, object_name, detail, reason].map(|text| cell(text));
                let [user, address, client, action, object, object_name, detail, reason] = texts;
                format!(
                    "{id},{time},{user},{unproven},{address},{client},{action},{object},{object_name},{detail},\
                     {outcome},{reason}\r\n"
                )
            }
        }
    }
}

/// Returns a text as a cell. A spreadsheet takes some first characters for a formula; an apostrophe
/// before them makes it a text.
fn cell(text: &str) -> String {
    let formula = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    if formula.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{formula}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use mooring_types::audit::AuditOutcome;

    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let entry = AuditView {
            id: 7,
            time: "2026-01-01T00:00:00Z".parse().unwrap(),
            user: "ada".into(),
            unproven: false,
            address: "192.0.2.1".into(),
            client: "a \"browser\", perhaps".into(),
            action: "user.add".into(),
            object: "=HYPERLINK(1)".into(),
            object_name: String::new(),
            detail: String::new(),
            outcome: AuditOutcome::Refused,
            reason: "no".into(),
        };
        let expected = "7,2026-01-01T00:00:00Z,ada,false,192.0.2.1,\"a \"\"browser\"\", perhaps\",user.add,\
                        \"'=HYPERLINK(1)\",,,refused,no\r\n";
        assert_eq!(Format::Csv.line(&entry), expected);
        assert_eq!(Format::Csv.head().matches(',').count(), 11);
        let read: AuditView = serde_json::from_str(&Format::Jsonl.line(&entry)).unwrap();
        assert_eq!(read, entry);
    }
}
