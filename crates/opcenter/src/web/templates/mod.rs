//! Job Templates: cards from which a job starts with one click, and the templates that users make.

mod logo;
mod start;

use askama::Template;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use mooring_api::Submission;
use mooring_api::view::{TemplateCreateRequest, TemplateView};
use mooring_types::TemplateName;
use mooring_types::template::Scope;

use self::logo::{Logo, logo};
use super::address::Address;
use super::form::{Form, Places};
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::submit::{Piece, Written, pieces};
use super::visitor::Visitor;
use super::{answer, ui};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{find_job, parse, template};

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<TemplatesPage>("/templates")
        .get("/templates/new", new_of_job)
        .post("/templates", create)
        .dialog::<start::StartDialog>("/templates/{id}/start")
        .post("/templates/{id}/start", start::start)
        .get("/templates/{id}/file", file_dialog)
        .get("/templates/{id}/job.yaml", file)
        .get("/templates/{id}/delete", delete_dialog)
        .post("/templates/{id}/delete", delete)
}

/// The cards.
#[derive(Template)]
#[template(path = "templates/templates.html")]
struct TemplatesPage {
    /// The templates that users made, newest first, then the built-in ones.
    cards: Vec<Card>,
    /// The reason why the visitor changes nothing; empty without one.
    refusal: String,
}

/// A template on the page.
struct Card {
    view: TemplateView,
    logo: Logo,
    may_delete: bool,
}

impl Card {
    fn new(user: &User, view: TemplateView) -> ApiResult<Self> {
        let name: TemplateName = parse(&view.name)?;
        let may_delete =
            !view.user.is_empty() && template::may_delete(user, name.scope).is_ok() && user.refuse_viewer().is_ok();
        Ok(Self { logo: logo(name.name.as_str()), may_delete, view })
    }

    /// Returns the description, in which backticks mark what one types.
    fn description(&self) -> Vec<Piece> {
        pieces(&self.view.description)
    }

    /// Returns what the template's jobs run, in a few words.
    fn runs(&self) -> Vec<(&'static str, String)> {
        let job = &self.view.job;
        let listed = |items: Vec<String>| items.join(", ");
        let mut runs = vec![("Image", job.image.as_ref().map(ToString::to_string).unwrap_or_default())];
        runs.push(("Ports", listed(job.publish.iter().map(ToString::to_string).collect())));
        let size =
            [job.cpu.map(|cpu| ui::count(cpu as usize, "core")), job.mem_gb.map(|memory| format!("{memory} GB"))];
        runs.push(("Size", listed(size.into_iter().flatten().collect())));
        runs.retain(|(_, text)| !text.is_empty());
        runs
    }
}

impl Page for TemplatesPage {
    const SECTION: Section = Section::Templates;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        let all = template::list(&scene.context, &scene.user).await?;
        let (built_in, mut made): (Vec<_>, Vec<_>) = all.into_iter().partition(|view| view.user.is_empty());
        made.reverse();
        let cards = made.into_iter().chain(built_in).map(|view| Card::new(&scene.user, view));
        Ok(Self { cards: cards.collect::<ApiResult<_>>()?, refusal: scene.user.refusal() })
    }

    fn title(&self) -> String {
        "Job Templates".into()
    }
}

// new

/// The fields at which refusals stand.
const PLACES: &Places = &[("name", "name"), ("description", "description"), ("accessPath", "accessPath")];

/// The dialogue that makes a template of a job or a submission.
#[derive(Template)]
#[template(path = "templates/new.html")]
struct NewDialog {
    form: Form,
    scopes: Vec<ui::Choice>,
}

impl NewDialog {
    fn new(user: &User, form: Form) -> Self {
        let mut scopes = vec![ui::Choice::new("private", "me alone")];
        if user.is_admin() {
            scopes.push(ui::Choice::new("public", "everybody"));
        }
        Self { form, scopes }
    }
}

/// Returns the dialogue that makes a template of a submission.
pub(super) fn new_dialog(user: &User, submission: &Submission) -> Result<Response, Problem> {
    let json = serde_json::to_string(submission).map_err(|error| ApiError::invalid(error.to_string()))?;
    let mut form = Form::with("submission", &json);
    form.set("name", submission.name.as_ref().map(ToString::to_string).unwrap_or_default());
    answer::part(&NewDialog::new(user, form))
}

async fn new_of_job(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    let job = find_job(&mut context.store.begin().await?, &visitor.user, address.one("job")).await?;
    let mut form = Form::with("job", job.id.as_str());
    form.set("name", job.spec.name.to_string());
    answer::part(&NewDialog::new(&visitor.user, form))
}

async fn create(State(context): State<Context>, visitor: Visitor, mut form: Form) -> Result<Response, Problem> {
    let name: Option<TemplateName> = form.require("name");
    let from_job = form.parse("job");
    let job = match form.text("submission") {
        "" => None,
        json => Some(serde_json::from_str(json).map_err(|error| ApiError::invalid(error.to_string()))?),
    };
    if let Some(name) = name.filter(|_| form.is_valid()) {
        let scope = if form.text("scope") == "public" { name.scope } else { Scope::Private };
        let request = TemplateCreateRequest {
            name: TemplateName { scope, ..name }.to_string(),
            description: form.text("description").trim().to_owned(),
            from_job,
            job,
            access_path: form.text("accessPath").trim().to_owned(),
        };
        match template::create(&context, &visitor.user, &request).await {
            Ok(view) => return Ok(answer::done(&format!("Template {} is created", view.name))),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    answer::invalid(&NewDialog::new(&visitor.user, form))
}

// job file

/// The dialogue that shows a template as a job file.
#[derive(Template)]
#[template(path = "templates/file.html")]
struct FileDialog {
    view: TemplateView,
    file: String,
}

async fn file_dialog(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    let view = template::show(&context, &visitor.user, address.id()).await?;
    let file = Written::of(&view.job).job_file;
    answer::part(&FileDialog { view, file })
}

async fn file(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    let view = template::show(&context, &visitor.user, address.id()).await?;
    let headers = [(CONTENT_TYPE, "application/yaml"), (CONTENT_DISPOSITION, "attachment; filename=\"job.yaml\"")];
    Ok((headers, Written::of(&view.job).job_file).into_response())
}

// delete

/// The dialogue that asks before a template is deleted.
#[derive(Template)]
#[template(path = "templates/delete.html")]
struct DeleteDialog<'a> {
    name: &'a str,
    /// The template that has the name without a tag afterwards.
    successor: Option<String>,
}

async fn delete_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let successor = template::successor(&context, &visitor.user, address.id()).await?;
    answer::part(&DeleteDialog { name: address.id(), successor })
}

async fn delete(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    template::delete(&context, &visitor.user, address.id()).await?;
    Ok(answer::done(&format!("Template {} is deleted", address.id())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    fn card(view: TemplateView, may_delete: bool) -> Card {
        Card { logo: logo("training"), may_delete, view }
    }

    #[test]
    fn templates_render_and_keep_markup_as_text() {
        let view =
            TemplateView { description: sample::MARKUP.into(), user: sample::MARKUP.into(), ..sample::template() };
        let own = TemplatesPage { cards: vec![card(view.clone(), true)], refusal: String::new() }.render().unwrap();
        assert!(!own.contains(sample::MARKUP) && own.contains("/templates/private%3A%3Atraining%3A2/start"), "{own}");
        assert!(own.contains("%3A2/delete"), "{own}");
        let other = TemplatesPage { cards: vec![card(view, false)], refusal: String::new() }.render().unwrap();
        assert!(!other.contains("%3A2/delete"), "{other}");
        let mut form = Form::with("submission", sample::MARKUP);
        form.set("description", sample::MARKUP);
        let scopes = vec![ui::Choice::new("private", "me alone")];
        let new = NewDialog { form, scopes }.render().unwrap();
        assert!(!new.contains(sample::MARKUP) && new.contains("name=\"submission\""), "{new}");
        let file = FileDialog { view: sample::template(), file: sample::MARKUP.into() }.render().unwrap();
        assert!(!file.contains(sample::MARKUP) && file.contains("job.yaml"), "{file}");
        let text = DeleteDialog { name: "lab:2", successor: Some("lab:1".into()) }.render().unwrap();
        assert!(text.contains("/templates/lab%3A2/delete") && text.contains("<code>lab:1</code>"), "{text}");
        let text = DeleteDialog { name: "lab:2", successor: None }.render().unwrap();
        assert!(text.contains("No template has this name"), "{text}");
    }
}
