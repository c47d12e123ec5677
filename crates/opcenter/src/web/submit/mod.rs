//! Submit Job: the form, the command line and job file that it stands for, and the submission.
//!
//! ```text
//!  Submission ─► typed::write ─► Form ─► layout::groups ─► the page
//!  the page ── POST /submit/preview, while one types ─► typed::read ─► Written, errors
//!           ── POST /submit ─────────────────────────► typed::read ─► usecase::job::submit
//! ```
//!
//! What one types stays in the browser: an answer replaces the preview and the texts below fields,
//! never a field.

mod earlier;
mod existing;
mod hidden;
mod layout;
mod typed;
mod written;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::Submission;
use mooring_api::submission::FIELDS;
use mooring_types::JobId;

use self::existing::Existing;
use self::layout::{Control, Group, Input};
use super::address::Address;
use super::form::Form;
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::visitor::Visitor;
use super::{answer, templates, ui};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{job, template};

pub(super) use layout::{Piece, facts, pieces};
pub(super) use written::Written;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<SubmitPage>("/submit")
        .post("/submit", submit)
        .post("/submit/preview", preview)
        .post("/submit/template", save_as_template)
}

/// The form with its preview.
#[derive(Template)]
#[template(path = "submit/submit.html")]
struct SubmitPage {
    form: Form,
    groups: Vec<Group>,
    preview: Preview,
    /// The job that the form begins with.
    earlier: Option<JobId>,
    /// The reason why the visitor submits nothing; empty without one.
    refusal: String,
}

impl Page for SubmitPage {
    const SECTION: Section = Section::SubmitJob;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let earlier: Option<JobId> = address.parse("from")?;
        let mut form = match &earlier {
            Some(job) => typed::write(&earlier::submission(scene, job).await?),
            None => Form::default(),
        };
        for field in FIELDS {
            address.all(field.key).for_each(|value| form.set(field.key, value));
        }
        let preview = Preview::of(&scene.context, &scene.user, &mut form).await.1;
        let groups = layout::groups(&form, &Existing::read(scene).await?);
        Ok(Self { form, groups, preview, earlier, refusal: scene.user.refusal() })
    }

    fn title(&self) -> String {
        "Submit Job".into()
    }
}

/// The submission that a form stands for, as others write it.
#[derive(Template)]
#[template(path = "submit/preview.html")]
struct Preview {
    written: Written,
    /// Some fields are wrong, and left out.
    is_partial: bool,
    /// The chosen template, and what it gives.
    template: String,
    gives: Vec<(String, String)>,
}

impl askama::filters::HtmlSafe for Preview {}

impl Preview {
    /// Reads a form, and notes its errors.
    async fn of(context: &Context, user: &User, form: &mut Form) -> (Submission, Self) {
        let submission = typed::read(form);
        let mut preview =
            Self { written: Written::of(&submission), is_partial: false, template: String::new(), gives: Vec::new() };
        if let Some(name) = &submission.template {
            match template::show(context, user, &name.to_string()).await {
                Ok(view) => (preview.template, preview.gives) = (view.name, facts(&view.job)),
                Err(error) => form.refused_at("template", error),
            }
        }
        preview.is_partial = !form.is_valid();
        (submission, preview)
    }
}

/// The answer to a form: the preview, and the texts below its fields.
#[derive(Template)]
#[template(path = "submit/answer.html")]
struct Answer {
    form: Form,
    inputs: Vec<Input>,
    preview: Preview,
}

async fn preview(State(context): State<Context>, visitor: Visitor, mut form: Form) -> Result<Response, Problem> {
    let (_, preview) = Preview::of(&context, &visitor.user, &mut form).await;
    answer::part(&Answer { form, inputs: layout::inputs(), preview })
}

async fn submit(State(context): State<Context>, visitor: Visitor, mut form: Form) -> Result<Response, Problem> {
    let (submission, preview) = Preview::of(&context, &visitor.user, &mut form).await;
    if form.is_valid() {
        let name = submission.name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
        match job::submit(&context, &visitor.user, submission).await {
            Ok(id) => return Ok(answer::go(&format!("/jobs/{id}"), &format!("Job{name} is submitted: {id}"))),
            Err(error) => form.refused_in(&typed::places(), error),
        }
    }
    answer::invalid(&Answer { form, inputs: layout::inputs(), preview })
}

async fn save_as_template(
    State(context): State<Context>,
    visitor: Visitor,
    mut form: Form,
) -> Result<Response, Problem> {
    let (submission, _) = Preview::of(&context, &visitor.user, &mut form).await;
    if !form.is_valid() {
        let wrong = FIELDS.iter().find(|field| !form.error(field.key).is_empty());
        let message =
            wrong.map_or_else(String::new, |field| format!("{}: {}", layout::label(field.key), form.error(field.key)));
        return Err(ApiError::invalid(message).hint("correct the form first").into());
    }
    templates::new_dialog(&visitor.user, &submission)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    fn page(form: Form) -> SubmitPage {
        let written = Written::of(&Submission::default());
        let preview = Preview {
            written,
            is_partial: true,
            template: sample::MARKUP.into(),
            gives: vec![(sample::MARKUP.into(), sample::MARKUP.into())],
        };
        let groups = layout::groups(&form, &Existing::default());
        SubmitPage { form, groups, preview, earlier: Some(sample::job().id), refusal: String::new() }
    }

    #[test]
    fn page_has_every_field_and_keeps_markup_as_text() {
        let mut form = Form::default();
        for field in FIELDS {
            form.set(field.key, sample::MARKUP);
        }
        typed::read(&mut form);
        let text = page(form).render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
        for field in FIELDS {
            assert!(text.contains(&format!("name=\"{}\"", field.key)), "{}", field.key);
        }
    }

    #[test]
    fn answer_has_the_text_below_every_field() {
        let mut form = Form::with("cpu", "many");
        let written = Written::of(&typed::read(&mut form));
        let preview = Preview { written, is_partial: true, template: String::new(), gives: Vec::new() };
        let text = Answer { form, inputs: layout::inputs(), preview }.render().unwrap();
        assert!(text.contains("invalid number of cores <code>many</code>"), "{text}");
        for field in FIELDS.iter().filter(|field| !typed::is_end(field.key)) {
            assert!(text.contains(&format!("id=\"e-{}\" hx-swap-oob", field.key)), "{}", field.key);
        }
    }
}
