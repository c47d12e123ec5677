//! The audit: filtered, paged, exported.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{AuditPage, AuditQuery};
use mooring_types::Clock;
use mooring_types::audit::AuditOutcome;

use super::address::Address;
use super::form::Form;
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::ui;
use super::ui::Choice;
use super::visitor::Visitor;
use crate::api::audit::download;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::audit_log::{self, Format};

/// The entries of a page.
const ENTRIES: u32 = 50;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.page::<Audit>("/audit").get("/audit/export", export)
}

/// The page.
#[derive(Template)]
#[template(path = "audit/audit.html")]
struct Audit {
    form: Form,
    /// The actions of entries, and all.
    actions: Vec<Choice>,
    outcomes: Vec<Choice>,
    ages: Vec<Choice>,
    page: AuditPage,
    /// The query of this page without its place, for links.
    query: String,
    is_first: bool,
}

impl Page for Audit {
    const SECTION: Section = Section::Audit;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let mut form = Form::default();
        for key in ["user", "action", "object", "outcome", "last"] {
            form.set(key, address.one(key));
        }
        let before: Option<i64> = address.parse("before")?;
        let age = AGES.iter().find(|(name, ..)| *name == address.one("last")).map(|(.., age)| *age);
        let query = AuditQuery {
            // Whole minutes: the export's address stays the same while the page is open.
            since: age.map(|age| minute(scene.context.clock.now() - age)),
            ..query_of(address)?
        };
        let asked = AuditQuery { before, limit: Some(ENTRIES), ..query.clone() };
        let page = audit_log::list(&scene.context, &scene.user, &asked).await?;
        let actions = audit_log::actions(&scene.context, &scene.user).await?;
        Ok(Self {
            form,
            actions: all("any action").chain(actions.into_iter().map(Choice::plain)).collect(),
            outcomes: all("any outcome")
                .chain(AuditOutcome::ALL.map(|outcome| Choice::plain(outcome.to_string())))
                .collect(),
            ages: all("all").chain(AGES.map(|(name, label, _)| Choice::new(name, label))).collect(),
            page,
            query: form_urlencoded::Serializer::new(String::new()).extend_pairs(query.pairs()).finish(),
            is_first: before.is_none(),
        })
    }

    fn title(&self) -> String {
        "Audit".into()
    }
}

/// Returns the query that an address holds.
fn query_of(address: &Address) -> ApiResult<AuditQuery> {
    let text = |key: &str| Some(address.one(key).to_owned()).filter(|text| !text.is_empty());
    Ok(AuditQuery {
        user: text("user"),
        action: text("action"),
        object: text("object"),
        outcome: address.parse("outcome")?,
        since: address.parse("since")?,
        ..AuditQuery::default()
    })
}

/// Answers with all entries of a query as a file.
async fn export(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    let format = if address.one("format") == "csv" { Format::Csv } else { Format::Jsonl };
    Ok(download(context, visitor.user, format, query_of(&address)?).await?)
}

/// The ages to choose from.
const AGES: [(&str, &str, Duration); 4] = [
    ("1h", "the last hour", Duration::from_secs(3600)),
    ("1d", "the last day", Duration::from_secs(24 * 3600)),
    ("7d", "the last week", Duration::from_secs(7 * 24 * 3600)),
    ("30d", "the last 30 days", Duration::from_secs(30 * 24 * 3600)),
];

fn all(label: &str) -> impl Iterator<Item = Choice> {
    std::iter::once(Choice::new("", label))
}

fn minute(time: mooring_types::Timestamp) -> mooring_types::Timestamp {
    mooring_types::Timestamp::from_second(time.as_second() / 60 * 60).unwrap_or(time)
}

impl Audit {
    /// Returns the address of the first page, with the filter as it was chosen.
    fn newest(&self) -> String {
        format!("/audit?{}", self.chosen().finish())
    }

    /// Returns the address of the next page.
    fn older(&self, before: &i64) -> String {
        format!("/audit?{}", self.chosen().append_pair("before", &before.to_string()).finish())
    }

    fn chosen(&self) -> form_urlencoded::Serializer<'static, String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for key in ["user", "action", "object", "outcome", "last"] {
            if !self.form.text(key).is_empty() {
                query.append_pair(key, self.form.text(key));
            }
        }
        query
    }

    fn is_filtered(&self) -> bool {
        !self.query.is_empty()
    }
}

fn outcome(outcome: &AuditOutcome) -> ui::Pill {
    match outcome {
        AuditOutcome::Succeeded => ui::pill("succeeded", ui::Tone::Good),
        AuditOutcome::Refused => ui::pill("refused", ui::Tone::Rest),
        AuditOutcome::Failed => ui::pill("failed", ui::Tone::Bad),
    }
}

#[cfg(test)]
mod tests {
    use mooring_api::view::AuditView;

    use super::*;
    use crate::web::sample;

    fn entry() -> AuditView {
        AuditView {
            id: 7,
            time: sample::moment(),
            user: "ada".into(),
            unproven: true,
            address: "192.0.2.1".into(),
            client: sample::MARKUP.into(),
            action: "gateway.destroy".into(),
            object: sample::MARKUP.into(),
            object_name: "lab".into(),
            detail: sample::MARKUP.into(),
            outcome: AuditOutcome::Refused,
            reason: sample::MARKUP.into(),
        }
    }

    fn page(entries: Vec<AuditView>, next: Option<i64>) -> Audit {
        Audit {
            form: Form::with("user", "<ada>"),
            actions: all("any action").collect(),
            outcomes: all("any outcome").collect(),
            ages: all("all").collect(),
            page: AuditPage { entries, next },
            query: "user=%3Cada%3E".into(),
            is_first: true,
        }
    }

    #[test]
    fn page_shows_texts_as_texts_and_keeps_the_filter() {
        let text = page(vec![entry()], Some(7)).render().unwrap();
        assert!(!text.contains(sample::MARKUP) && !text.contains("<ada>"), "{text}");
        for expected in
            ["/audit?user=%3Cada%3E&#38;before=7", "format=csv&amp;user=%3Cada%3E", "gateway.destroy", "not proven"]
        {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let text = page(Vec::new(), None).render().unwrap();
        assert!(text.contains("No entries") && !text.contains("Older"), "{text}");
    }
}
