//! Jobs: their list by category, filter and page, and actions on one or several of them.
//!
//! All that chooses the list is in the address, so that it can be kept, sent and gone back to.

mod action;
mod choice;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{JobPage, JobView};
use mooring_store::JobPlace;
use mooring_types::filter::{self, Suggestion};
use mooring_types::job::{Action, Category};

use self::action::{Deed, Offer};
use self::choice::{Choice, Wrong};
use super::address::Address;
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::visitor::Visitor;
use super::{answer, ui};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::view::Views;
use crate::view::job_list::{self, Listing};

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    let routes = routes.page::<JobsPage>("/jobs").get("/jobs/filter", suggest);
    action::routes(routes)
}

/// The list.
#[derive(Template)]
#[template(path = "jobs/jobs.html")]
struct JobsPage {
    choice: Choice,
    /// The page of the list, or what is wrong with the filter.
    found: Result<JobPage, Wrong>,
    user: User,
    /// The reason why the visitor changes nothing; empty without one.
    refusal: String,
}

impl Page for JobsPage {
    const SECTION: Section = Section::Jobs;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let choice = Choice::of(address)?;
        let found = match choice.listing() {
            Ok(listing) => Ok(find(scene, &choice, listing).await?),
            Err(wrong) => Err(wrong),
        };
        Ok(Self { choice, found, user: scene.user.clone(), refusal: scene.user.refusal() })
    }

    fn title(&self) -> String {
        "Jobs".into()
    }
}

/// Returns the page of a choice, or the first one where that says more. The way back leads to a
/// page that is not full when jobs have come, and a page may have lost all its jobs.
async fn find(scene: &Scene, choice: &Choice, listing: Listing) -> ApiResult<JobPage> {
    let first = Listing { place: JobPlace::Newest, ..listing.clone() };
    let page = job_list::page(&scene.context, &scene.user, listing).await?;
    let is_start = choice.is_back() && page.newer == 0;
    if is_start || (page.jobs.is_empty() && page.total > 0) {
        return job_list::page(&scene.context, &scene.user, first).await;
    }
    Ok(page)
}

impl JobsPage {
    /// Returns the categories with their labels and numbers of jobs.
    fn chips(&self) -> [(Option<Category>, &'static str, u32); 5] {
        let counts = self.found.as_ref().map(|page| page.counts).unwrap_or_default();
        [
            (None, "All", counts.total),
            (Some(Category::Pending), "Pending", counts.pending),
            (Some(Category::Running), "Running", counts.running),
            (Some(Category::Success), "Success", counts.success),
            (Some(Category::Failed), "Failed", counts.failed),
        ]
    }

    /// Returns the actions of a job's row that are offered to the visitor.
    fn offers(&self, job: &JobView) -> Vec<Offer> {
        Offer::all(&self.user, job)
    }

    /// Returns why a job's status forbids a migration; empty where it does not.
    fn migrate_refusal(job: &JobView) -> String {
        action::refusal(job.status, Action::Migrate)
    }

    /// Returns the actions on several jobs.
    fn deeds() -> [Deed; 3] {
        Deed::ALL
    }

    fn may_change(&self, job: &JobView) -> bool {
        self.user.may_act_on(&job.user)
    }

    /// Returns the place of the page in the list, like `51 to 100 of 1234`.
    fn range(page: &JobPage) -> String {
        let shown = u32::try_from(page.jobs.len()).unwrap_or(u32::MAX);
        format!("{} to {} of {}", page.newer + 1, page.newer + shown, page.total)
    }
}

/// The suggestions of the filter's field.
#[derive(Template)]
#[template(
    source = r#"{% for suggestion in suggestions %}<li role="option" id="s-{{ loop.index0 }}" data-from="{{ from }}" data-text="{{ suggestion.text }}"><code><bdi>{{ suggestion.text }}</bdi></code><span class="soft"><bdi>{{ suggestion.help }}</bdi></span></li>{% endfor %}"#,
    ext = "html"
)]
struct Suggestions {
    /// The place from which on a suggestion replaces the text, in the units of browsers.
    from: usize,
    suggestions: Vec<Suggestion>,
}

/// Returns what may come next in a filter; `text` is its part before the cursor.
async fn suggest(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    let text = address.one("text");
    let views = Views::latest(&context, &mut context.store.begin_read().await?).await?;
    let known = |key: &str| views.known(&visitor.user, key);
    let filter::Completion { from, suggestions } = filter::complete(text, known);
    let from = text.get(..from).unwrap_or(text).encode_utf16().count();
    answer::part(&Suggestions { from, suggestions })
}

#[cfg(test)]
mod tests;
