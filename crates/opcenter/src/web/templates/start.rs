//! The dialogue that starts a job from a template: its name and its gateway, with defaults.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::Submission;
use mooring_api::view::{GatewayCreateRequest, GatewayView, TemplateView};
use mooring_types::gateway::GatewayStatus;
use mooring_types::{GatewayId, JobId, Name, Reference};

use super::logo::{Logo, logo};
use crate::auth::User;
use crate::error::{ApiResult, At};
use crate::state::context::Context;
use crate::usecase::{gateway, job, parse, template};
use crate::web::address::Address;
use crate::web::dialog::Dialog;
use crate::web::form::{Form, Places};
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The choice of a new gateway; no gateway has such a name.
const NEW: &str = ":new";
/// The choice of no gateway.
const NONE: &str = ":none";

/// The fields at which refusals stand.
const PLACES: &Places = &[("name", "name"), ("gateway", "gateway")];

/// The dialogue.
#[derive(Template)]
#[template(path = "templates/start.html")]
pub(super) struct StartDialog {
    form: Form,
    view: TemplateView,
    logo: Logo,
    gateways: Vec<ui::Choice>,
}

impl StartDialog {
    fn new(scene: &Scene, view: TemplateView, form: Form) -> ApiResult<Self> {
        let gateways = scene.views.gateways(&scene.user);
        Ok(Self { form, logo: logo(template_name(&view)?.as_str()), gateways: choices(gateways), view })
    }
}

/// Returns the gateways to choose from, the default one first: the oldest one that runs. Where none
/// runs, a new one.
fn choices(mut gateways: Vec<GatewayView>) -> Vec<ui::Choice> {
    let new_name = free_name(&gateways);
    gateways.retain(|gateway| gateway.status == GatewayStatus::Running);
    gateways.sort_by_key(|gateway| gateway.create_time);
    let named =
        |gateway: GatewayView| ui::Choice::new(gateway.name.clone(), format!("{} ({})", gateway.name, gateway.address));
    let mut choices: Vec<ui::Choice> = gateways.into_iter().map(named).collect();
    if choices.is_empty() {
        choices.push(ui::Choice::new(NEW, format!("a new gateway, {new_name}")));
    }
    choices.push(ui::Choice::new(NONE, "none: the job's host only"));
    choices
}

/// Returns a name that no gateway has.
fn free_name(gateways: &[GatewayView]) -> String {
    let names = std::iter::once("gateway".to_owned()).chain((2..).map(|number| format!("gateway-{number}")));
    let mut free = names.filter(|name| gateways.iter().all(|gateway| gateway.name != *name));
    free.next().unwrap_or_default()
}

fn template_name(view: &TemplateView) -> ApiResult<Name> {
    Ok(parse::<mooring_types::TemplateName>(&view.name)?.name)
}

impl Dialog for StartDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let view = template::show(&scene.context, &scene.user, address.id()).await?;
        let form = Form::with("name", template_name(&view)?.as_str());
        Self::new(scene, view, form)
    }
}

pub(super) async fn start(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let view = template::show(&context, &visitor.user, address.id()).await?;
    let name: Option<Name> = form.parse("name");
    if form.is_valid() {
        let submission = Submission { name, template: Some(parse(&view.name)?), ..Submission::default() };
        match submit(&context, &visitor.user, submission, form.text("gateway")).await {
            Ok(id) => return Ok(answer::go(&format!("/jobs/{id}"), &format!("{} starts as job {id}", view.name))),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let scene = Scene::read(&context, &visitor.user).await?;
    answer::invalid(&StartDialog::new(&scene, view, form)?)
}

/// Submits a job behind a gateway, which is created first where that was chosen. If the job is
/// refused, the new gateway goes again.
async fn submit(context: &Context, user: &User, submission: Submission, chosen: &str) -> ApiResult<JobId> {
    let new = if chosen == NEW { Some(create(context, user).await?) } else { None };
    let gateway = match (chosen, &new) {
        (_, Some(id)) => Some(Reference::Id(id.clone())),
        (NONE | "", None) => None,
        (name, None) => Some(parse(name)?),
    };
    let submitted = job::submit(context, user, Submission { gateway, ..submission }).await;
    if let (Err(_), Some(id)) = (&submitted, &new) {
        gateway::destroy(context, user, id.as_str()).await?;
    }
    submitted
}

async fn create(context: &Context, user: &User) -> ApiResult<GatewayId> {
    let gateways = Scene::read(context, user).await?.views.gateways(user);
    let request = GatewayCreateRequest { name: free_name(&gateways), ..GatewayCreateRequest::default() };
    gateway::create(context, user, request).await.at("gateway")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn dialogue_asks_for_a_name_and_a_gateway() {
        let view = TemplateView { description: sample::MARKUP.into(), ..sample::template() };
        let mut form = Form::with("name", sample::MARKUP);
        form.refuse("name", sample::MARKUP);
        let text = StartDialog { form, logo: logo("x"), gateways: choices(Vec::new()), view }.render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
        assert!(text.contains("hx-post=\"/templates/private%3A%3Atraining%3A2/start\""), "{text}");
        assert!(text.contains("a new gateway, gateway"), "{text}");
    }
}
