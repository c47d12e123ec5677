//! Actions on jobs of the list: suspend, resume and cancel, of one or of several at once.
//!
//! Several jobs are asked about first: the dialogue names each job with what will happen to it. The
//! answer tells the outcome of each.

use std::str::FromStr;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::JobView;
use mooring_types::JobId;
use mooring_types::job::{Action, JobStatus};

use crate::audit;
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{job, migration, see_job};
use crate::view::job::job_of;
use crate::web::address::Address;
use crate::web::form::Form;
use crate::web::problem::Problem;
use crate::web::routes::Routes;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The most jobs of one request.
const SEVERAL_MAX: usize = 200;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/jobs/several", ask).post("/jobs/several", act)
}

/// An action on jobs of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Suspend,
    Resume,
    Cancel,
}

impl Deed {
    pub(super) const ALL: [Self; 3] = [Self::Suspend, Self::Resume, Self::Cancel];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Suspend => "Suspend",
            Self::Resume => "Resume",
            Self::Cancel => "Cancel",
        }
    }

    pub(super) fn icon(self) -> &'static str {
        match self {
            Self::Suspend => "pause",
            Self::Resume => "play",
            Self::Cancel => "stop",
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Suspend => Action::Suspend,
            Self::Resume => Action::Resume,
            Self::Cancel => Action::Cancel,
        }
    }

    /// Returns the effect on each job.
    fn effect(self) -> &'static str {
        match self {
            Self::Suspend => {
                "Each job is frozen and its state goes into the capsule store. Its host is freed, its gateway ports \
                 stay, and clients wait."
            }
            Self::Resume => "Each job goes on from the capsule store, on a host that has room.",
            Self::Cancel => {
                "Each job's processes are ended and its gateway ports are freed. What is not in a volume or among its \
                 results is lost."
            }
        }
    }

    /// Returns the words for a request that was accepted.
    fn begun(self) -> &'static str {
        match self {
            Self::Suspend => "is being suspended",
            Self::Resume => "is being resumed",
            Self::Cancel => "is being cancelled",
        }
    }

    /// Returns whether nothing brings the job back.
    pub(super) fn is_final(self) -> bool {
        self == Self::Cancel
    }

    async fn request(self, context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
        let request = async {
            match self {
                Self::Suspend => migration::suspend(context, user, id).await,
                Self::Resume => migration::resume(context, user, id).await,
                Self::Cancel => job::cancel(context, user, id).await,
            }
        };
        audit::part(context, audit::action::Action::on_job(self.name()), id, request).await
    }
}

impl FromStr for Deed {
    type Err = ApiError;

    fn from_str(text: &str) -> ApiResult<Self> {
        let found = Self::ALL.into_iter().find(|deed| deed.name() == text);
        found.ok_or_else(|| ApiError::invalid(format!("no action `{text}`")))
    }
}

/// An action in a job's row.
pub(super) struct Offer {
    pub(super) deed: Deed,
    pub(super) label: &'static str,
    pub(super) icon: &'static str,
    /// The reason why the job's status forbids it; empty where it does not.
    pub(super) refusal: String,
}

impl Offer {
    /// Returns the actions that a user may ever request for a job.
    pub(super) fn all(user: &User, job: &JobView) -> Vec<Self> {
        if !user.may_act_on(&job.user) {
            return Vec::new();
        }
        let offer = |deed: Deed| Self {
            deed,
            label: deed.label(),
            icon: deed.icon(),
            refusal: refusal(job.status, deed.action()),
        };
        Deed::ALL.into_iter().map(offer).collect()
    }
}

/// Returns why a status forbids an action, and what is possible instead; empty where it does not.
pub(super) fn refusal(status: JobStatus, action: Action) -> String {
    status.allows(action).err().map(|refused| format!("{refused}; {}", refused.possible())).unwrap_or_default()
}

/// A job that the dialogue asks about.
struct Chosen {
    job: JobView,
    refusal: String,
}

/// The dialogue that asks before something happens to jobs.
#[derive(Template)]
#[template(path = "jobs/ask.html")]
struct AskDialog {
    deed: Deed,
    chosen: Vec<Chosen>,
}

impl AskDialog {
    fn possible(&self) -> usize {
        self.chosen.iter().filter(|chosen| chosen.refusal.is_empty()).count()
    }

    fn title(&self) -> String {
        match self.chosen.as_slice() {
            [only] => format!("{} Job {}", self.deed.label(), only.job.name),
            several => format!("{} {}", self.deed.label(), ui::count(several.len(), "job")),
        }
    }

    fn button(&self) -> String {
        format!("{} {}", self.deed.label(), ui::count(self.possible(), "job"))
    }
}

/// The outcome of a job's request.
struct Outcome {
    id: String,
    refusal: Option<ApiError>,
}

/// The dialogue that tells the outcomes.
#[derive(Template)]
#[template(path = "jobs/outcomes.html")]
struct OutcomesDialog {
    deed: Deed,
    outcomes: Vec<Outcome>,
}

async fn ask(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    let deed: Deed = address.one("action").parse()?;
    let ids: Vec<&str> = address.all("job").collect();
    check_number(ids.len())?;
    let mut tx = context.store.begin().await?;
    let mut chosen = Vec::new();
    for id in ids {
        let job = see_job(&mut tx, &visitor.user, id).await?;
        let job = job_of(&context, &mut tx, &job).await?;
        let refusal = refusal(job.status, deed.action());
        chosen.push(Chosen { job, refusal });
    }
    answer::part(&AskDialog { deed, chosen })
}

async fn act(State(context): State<Context>, visitor: Visitor, form: Form) -> Result<Response, Problem> {
    let deed: Deed = form.text("action").parse()?;
    let ids: Vec<&str> = form.list("job").collect();
    check_number(ids.len())?;
    let mut outcomes = Vec::new();
    for id in &ids {
        let refusal = deed.request(&context, &visitor.user, id).await.err();
        outcomes.push(Outcome { id: (*id).to_owned(), refusal });
    }
    if let [only] = ids.as_slice() {
        return match outcomes.into_iter().find_map(|outcome| outcome.refusal) {
            Some(error) => Err(error.into()),
            None => Ok(answer::done(&format!("Job {only} {}", deed.begun()))),
        };
    }
    answer::part(&OutcomesDialog { deed, outcomes })
}

fn check_number(jobs: usize) -> ApiResult<()> {
    match jobs {
        0 => Err(ApiError::invalid("no job is selected").hint("select jobs in the first column")),
        1..=SEVERAL_MAX => Ok(()),
        _ => Err(ApiError::invalid(format!("more than {SEVERAL_MAX} jobs are selected"))
            .hint("`float cancel --filter` cancels any number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    fn chosen(status: JobStatus) -> Chosen {
        let job = JobView { status, name: sample::MARKUP.into(), ..sample::job() };
        Chosen { refusal: refusal(status, Action::Cancel), job }
    }

    #[test]
    fn dialogue_says_what_will_happen_to_whom() {
        let chosen = vec![chosen(JobStatus::Executing), chosen(JobStatus::Completed)];
        let text = AskDialog { deed: Deed::Cancel, chosen }.render().unwrap();
        for part in ["Cancel 2 jobs", "Cancel 1 job<", "can&#39;t be cancelled", "processes are ended"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains(sample::MARKUP));
        assert_eq!(text.matches("name=\"job\"").count(), 1, "{text}");
    }

    #[test]
    fn outcome_of_each_is_told() {
        let refusal = Some(ApiError::not_found("no job <b>").hint("list them"));
        let outcomes = vec![Outcome { id: "u1".into(), refusal: None }, Outcome { id: "u2".into(), refusal }];
        let text = OutcomesDialog { deed: Deed::Suspend, outcomes }.render().unwrap();
        assert!(text.contains("is being suspended") && text.contains("list them") && !text.contains("<b>"), "{text}");
    }
}
