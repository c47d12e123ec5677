//! The command palette: jobs, gateways, hosts, pages and actions, found by a few letters.
//!
//! The dialogue opens by Ctrl-K on every page. Each letter asks for the results again; they are
//! links and dialogues that the visitor could reach by the menu as well.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_store::JobPlace;
use mooring_types::filter::{Filter, TextKey, TextTest};
use mooring_types::job::JobStatus;

use super::address::Address;
use super::problem::Problem;
use super::routes::Routes;
use super::visitor::Visitor;
use super::{answer, shell, ui};
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::view::Views;
use crate::view::job_list::{self, Listing};

/// The most results of a kind.
const EACH_MAX: usize = 6;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/palette", open).get("/palette/results", results)
}

/// The dialogue.
#[derive(Template)]
#[template(path = "palette/palette.html")]
struct Palette {
    results: Results,
}

/// The results for a text.
#[derive(Template)]
#[template(path = "palette/results.html")]
struct Results {
    groups: Vec<Group>,
}

/// The results of a kind.
struct Group {
    heading: &'static str,
    found: Vec<Found>,
}

/// A result.
struct Found {
    icon: &'static str,
    label: String,
    /// A text that tells it from others of the same name.
    about: String,
    status: Option<JobStatus>,
    goal: Goal,
}

/// The goal of a result.
enum Goal {
    /// Another page.
    Page(String),
    /// A dialogue over the present page.
    Dialog(&'static str),
}

async fn open(State(context): State<Context>, visitor: Visitor) -> Result<Response, Problem> {
    answer::part(&Palette { results: find(&context, &visitor, "").await? })
}

async fn results(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    answer::part(&find(&context, &visitor, address.one("text").trim()).await?)
}

/// Returns what is found for a text; for an empty one the newest jobs and all pages.
async fn find(context: &Context, visitor: &Visitor, text: &str) -> ApiResult<Results> {
    let views = Views::latest(context, &mut context.store.begin_read().await?).await?;
    let fits = |label: &str| label.to_lowercase().contains(&text.to_lowercase());
    let gateways = views.gateways(&visitor.user).into_iter();
    let gateways = gateways.filter(|gateway| fits(&gateway.name) || fits(gateway.id.as_str())).map(|gateway| Found {
        icon: "gateway",
        about: gateway.address,
        status: None,
        goal: Goal::Page(format!("/gateways/{}", gateway.id)),
        label: gateway.name,
    });
    let hosts =
        views.hosts(&visitor.user).into_iter().filter(|host| fits(&host.name) || fits(host.id.as_str())).map(|host| {
            Found {
                icon: "host",
                about: host.address,
                status: None,
                goal: Goal::Page(format!("/hosts/{}", host.id)),
                label: host.name,
            }
        });
    let pages = shell::entries(visitor.user.role).filter(|(label, ..)| fits(label));
    let pages = pages.map(|(label, icon, path)| Found {
        icon,
        label: label.to_owned(),
        about: String::new(),
        status: None,
        goal: Goal::Page(path.to_owned()),
    });
    let mut groups = vec![
        Group { heading: "Jobs", found: jobs(context, visitor, text).await? },
        Group { heading: "Gateways", found: gateways.take(EACH_MAX).collect() },
        Group { heading: "Hosts", found: hosts.take(EACH_MAX).collect() },
        Group {
            heading: "Actions",
            found: if visitor.user.refuse_viewer().is_ok() { actions(fits) } else { Vec::new() },
        },
        Group { heading: "Pages", found: pages.collect() },
    ];
    groups.retain(|group| !group.found.is_empty());
    Ok(Results { groups })
}

async fn jobs(context: &Context, visitor: &Visitor, text: &str) -> ApiResult<Vec<Found>> {
    let contains = |key| Filter::Text { key, is: TextTest::Contains, value: text.to_owned() };
    let filters = if text.is_empty() {
        Vec::new()
    } else {
        vec![Filter::Any(vec![contains(TextKey::Name), contains(TextKey::Id)])]
    };
    let listing = Listing { filters, limit: EACH_MAX as u32, place: JobPlace::Newest, ..Listing::default() };
    let page = job_list::page(context, &visitor.user, listing).await?;
    let found = page.jobs.into_iter().map(|job| Found {
        icon: "jobs",
        about: job.id.to_string(),
        status: Some(job.status),
        goal: Goal::Page(format!("/jobs/{}", job.id)),
        label: job.name,
    });
    Ok(found.collect())
}

fn actions(fits: impl Fn(&str) -> bool) -> Vec<Found> {
    let actions = [
        ("plus", "Submit a job", Goal::Page("/submit".into())),
        ("template", "Start a job from a template", Goal::Page("/templates".into())),
        ("gateway", "Create a gateway", Goal::Dialog("/gateways/new")),
        ("key", "Set a secret", Goal::Dialog("/secrets/new")),
    ];
    let fitting = actions.into_iter().filter(|(_, label, _)| fits(label));
    let found = fitting.map(|(icon, label, goal)| Found {
        icon,
        label: label.to_owned(),
        about: String::new(),
        status: None,
        goal,
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn results_are_text_and_lead_on() {
        let found = |goal| Found {
            icon: "jobs",
            label: sample::MARKUP.into(),
            about: sample::MARKUP.into(),
            status: Some(JobStatus::Executing),
            goal,
        };
        let found = vec![found(Goal::Page("/jobs/u1".into())), found(Goal::Dialog("/gateways/new"))];
        let text = Palette { results: Results { groups: vec![Group { heading: "Jobs", found }] } }.render().unwrap();
        assert!(text.contains("href=\"/jobs/u1\"") && text.contains("hx-get=\"/gateways/new\""), "{text}");
        assert!(!text.contains(sample::MARKUP));
        assert!(Results { groups: Vec::new() }.render().unwrap().contains("Nothing is found"));
    }

    #[test]
    fn actions_are_found_by_any_letters() {
        assert_eq!(actions(|label| label.contains("gateway")).len(), 1);
    }
}
