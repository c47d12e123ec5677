//! The drain of a host: what it will do, its start and its end.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{DrainRequest, FindingView, HostView};
use mooring_types::finding::Effect;

use super::for_admin;
use crate::state::context::Context;
use crate::usecase::host;
use crate::view::job::NamedJob;
use crate::web::address::Address;
use crate::web::form::Form;
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The dialogue that asks before a drain.
#[derive(Template)]
#[template(path = "hosts/drain.html")]
struct DrainDialog {
    form: Form,
    host: HostView,
    jobs: Vec<NamedJob>,
    gateways: Vec<String>,
    /// The findings that hinder jobs to leave.
    hindrances: Vec<FindingView>,
    has_store: bool,
}

impl DrainDialog {
    fn number(&self) -> String {
        super::jobs(&self.host)
    }

    async fn read(context: &Context, visitor: &Visitor, id: &str, form: Form) -> Result<Self, Problem> {
        let (host, gateways) = for_admin(context, &visitor.user, id, "draining a host").await?;
        let jobs = Scene::read(context, &visitor.user).await?.views.jobs_on(&visitor.user, &host.id);
        let mut hindrances = host::check(context, &visitor.user, id).await?;
        hindrances.retain(|finding| finding.effect != Effect::Mended);
        Ok(Self { form, host, jobs, gateways, hindrances, has_store: context.config.has_store() })
    }
}

pub(super) async fn dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    answer::part(&DrainDialog::read(&context, &visitor, address.id(), Form::default()).await?)
}

pub(super) async fn drain(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let request = DrainRequest { within: form.text("within").trim().to_owned() };
    match host::drain(&context, &visitor.user, address.id(), &request).await {
        Ok(_) => Ok(answer::done("The host is being drained")),
        Err(error) => {
            if request.within.is_empty() {
                return Err(error.into());
            }
            form.refused_at("within", error);
            answer::invalid(&DrainDialog::read(&context, &visitor, address.id(), form).await?)
        }
    }
}

pub(super) async fn undrain(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    host::undrain(&context, &visitor.user, address.id()).await?;
    Ok(answer::done("The host takes jobs again"))
}

#[cfg(test)]
mod tests {
    use mooring_types::finding::FindingKind;

    use super::*;
    use crate::web::sample;

    #[test]
    fn dialogue_says_what_a_drain_does() {
        let finding = FindingView {
            job_id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
            job_name: "notebook".into(),
            kind: FindingKind::Traced,
            effect: Effect::Refuses,
            pid: Some(7),
            program: sample::MARKUP.into(),
            text: format!("{} is traced", sample::MARKUP),
        };
        let mut form = Form::with("within", "soon");
        form.refuse("within", "no duration");
        let dialog = DrainDialog {
            form,
            host: sample::host(),
            jobs: Vec::new(),
            gateways: vec!["lab".into()],
            hindrances: vec![finding],
            has_store: false,
        };
        let text = dialog.render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
        for expected in ["no duration", "value=\"soon\"", "lab", "notebook", "/hosts/host-1/drain"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
