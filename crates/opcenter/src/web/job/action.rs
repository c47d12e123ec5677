//! The buttons of the page, and the actions without a form: suspend, resume, snapshot, rerun,
//! cancel.

use std::pin::Pin;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::JobView;
use mooring_store::JobRow;
use mooring_types::JobId;

use super::connections::{self, Connected};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{allowed, find_job, job, migration};
use crate::view::Views;
use crate::web::address::Address;
use crate::web::answer;
use crate::web::problem::Problem;
use crate::web::ui;
use crate::web::visitor::Visitor;

/// The effect of a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Opens a dialogue.
    Asks,
    /// Acts at once.
    Acts,
}

/// A button.
pub(super) struct Button {
    pub(super) label: &'static str,
    pub(super) icon: &'static str,
    pub(super) path: String,
    pub(super) does: Does,
    pub(super) class: &'static str,
    /// The reason why it is disabled; empty if it is not.
    pub(super) refusal: String,
}

impl Button {
    /// Returns the id in the page, which stays while the button changes.
    pub(super) fn id(&self) -> String {
        format!("do-{}", self.label.to_lowercase().replace(' ', "-"))
    }
}

/// Returns the buttons for a user whose job it is, or an admin. A viewer sees why none does
/// anything.
pub(super) fn buttons(context: &Context, user: &User, job: &JobRow) -> Vec<Button> {
    let button = |label, icon, path: &str, does, class, check: ApiResult<()>| Button {
        label,
        icon,
        path: format!("/jobs/{}/{path}", job.id),
        does,
        class,
        refusal: refusal(user.refuse_viewer().and(check)),
    };
    let template = format!("/templates/new?job={}", job.id);
    vec![
        button("Migrate", "migrate", "migrate", Does::Asks, "primary", allowed::migrate(job)),
        button("Suspend", "pause", "suspend", Does::Acts, "", allowed::suspend(context, job)),
        button("Resume", "play", "resume", Does::Acts, "", allowed::resume(job)),
        button("Snapshot", "snapshot", "snapshot", Does::Acts, "", allowed::snapshot(context, job)),
        button("Modify", "edit", "modify", Does::Asks, "", allowed::modify(job)),
        button("Rerun", "rerun", "rerun", Does::Acts, "", allowed::rerun(job)),
        Button { path: template, ..button("Save as template", "template", "", Does::Asks, "", allowed::rerun(job)) },
        button("Cancel", "stop", "cancel", Does::Asks, "danger", allowed::cancel(job)),
    ]
}

/// Returns the reason of a refusal with what helps; empty without one.
pub(super) fn refusal(check: ApiResult<()>) -> String {
    match check {
        Ok(()) => String::new(),
        Err(error) => match error.0.hint {
            Some(hint) => format!("{}; {hint}", error.0.message),
            None => error.0.message,
        },
    }
}

type Request<'a> = Pin<Box<dyn Future<Output = ApiResult<JobId>> + Send + 'a>>;

async fn act(
    context: &Context,
    visitor: &Visitor,
    address: &Address,
    request: for<'a> fn(&'a Context, &'a User, &'a str) -> Request<'a>,
    said: &str,
) -> Result<Response, Problem> {
    request(context, &visitor.user, address.id()).await?;
    Ok(answer::done(said))
}

pub(super) async fn suspend(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let said = "Suspend request has been submitted";
    act(&context, &visitor, &address, |context, user, id| Box::pin(migration::suspend(context, user, id)), said).await
}

pub(super) async fn resume(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let said = "Resume request has been submitted";
    act(&context, &visitor, &address, |context, user, id| Box::pin(migration::resume(context, user, id)), said).await
}

pub(super) async fn snapshot(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let said = "Snapshot request has been submitted";
    act(&context, &visitor, &address, |context, user, id| Box::pin(migration::snapshot(context, user, id)), said).await
}

/// Submits the job again and opens the page of the new one.
pub(super) async fn rerun(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let id = job::rerun(&context, &visitor.user, address.id()).await?;
    Ok(answer::go(&format!("/jobs/{id}"), "The job is submitted again: this is the new one"))
}

/// The dialogue that asks before the job is cancelled.
#[derive(Template)]
#[template(path = "job/cancel.html")]
struct CancelDialog {
    job: JobView,
    connections: Vec<Connected>,
}

impl CancelDialog {
    fn clients(&self) -> usize {
        self.connections.iter().map(|connected| connected.view.clients.len()).sum()
    }
}

pub(super) async fn cancel_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let mut tx = context.store.begin().await?;
    let row = find_job(&mut tx, &visitor.user, address.id()).await?;
    allowed::cancel(&row)?;
    let views = Views::read(&context, &mut tx).await?;
    let connections = connections::of_job(&views.gateways(&visitor.user), &row.id);
    answer::part(&CancelDialog { job: views.job(&row, &[]), connections })
}

pub(super) async fn cancel(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    job::cancel(&context, &visitor.user, address.id()).await?;
    Ok(answer::done("Cancel request has been submitted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    #[test]
    fn dialogue_says_what_is_lost() {
        let connections = connections::of_job(&[sample::gateway()], &sample::job().id);
        let job = JobView { name: sample::MARKUP.into(), ..sample::job() };
        let text = CancelDialog { job, connections }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("1 client connection"), "{text}");
        assert!(text.contains("in memory"), "{text}");
    }
}
