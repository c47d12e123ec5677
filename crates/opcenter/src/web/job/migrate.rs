//! The dialogue of a migration: the host, and the size there.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{FindingView, MigrateRequest};
use mooring_types::finding::Effect;
use mooring_types::host::{Purchase, Resources};

use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::find_job;
use crate::usecase::migration::{self, Destination};
use crate::view::finding::findings;
use crate::web::address::Address;
use crate::web::answer;
use crate::web::dialog::Dialog;
use crate::web::form::{Form, Places};
use crate::web::gateways::fields;
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::ui::{self, Tone};
use crate::web::visitor::Visitor;

/// The fields at which refusals stand.
const PLACES: &Places = &[("host", "host"), ("cpu", "cpu"), ("memGB", "mem")];

/// The dialogue.
#[derive(Template)]
#[template(path = "job/migrate.html")]
pub(super) struct MigrateDialog {
    job: String,
    name: String,
    form: Form,
    size: Resources,
    hosts: Vec<Destination>,
    /// The host that OpCenter would choose, or the reason why there is none.
    chosen: Result<String, String>,
    findings: Vec<FindingView>,
}

impl MigrateDialog {
    async fn with(context: &Context, user: &User, job: &str, form: Form) -> ApiResult<Self> {
        let (hosts, chosen) = migration::destinations(context, user, job).await?;
        let mut tx = context.store.begin().await?;
        let row = find_job(&mut tx, user, job).await?;
        Ok(Self {
            findings: findings(&context.observed(), &row),
            job: row.id.to_string(),
            name: row.spec.name.to_string(),
            size: row.spec.resources,
            form,
            hosts,
            chosen: chosen.map_err(|refusal| refusal.to_string()),
        })
    }

    fn cores(&self) -> String {
        self.size.cpu.to_string()
    }

    fn memory(&self) -> String {
        self.size.mem_gb.to_string()
    }

    fn free(size: &Resources) -> String {
        format!("{} cores and {:.1} GB free", size.cpu, size.mem_gb)
    }

    fn purchase(purchase: &Purchase) -> &'static str {
        match purchase {
            Purchase::Spot => "Spot",
            Purchase::OnDemand => "On-demand",
        }
    }
}

impl Dialog for MigrateDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        Self::with(&scene.context, &scene.user, address.id(), Form::with("host", "")).await
    }
}

pub(super) async fn migrate(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let (cpu, mem_gb) = (fields::cores(&mut form), fields::memory(&mut form));
    if form.is_valid() {
        let request = MigrateRequest { host: form.text("host").to_owned(), cpu, mem_gb };
        match migration::migrate(&context, &visitor.user, address.id(), request).await {
            Ok(_) => return Ok(answer::done("Migrate request has been submitted")),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let refusal = form.refusal().cloned();
    match MigrateDialog::with(&context, &visitor.user, address.id(), form).await {
        Ok(dialog) => answer::invalid(&dialog),
        // The job has ended or migrates meanwhile: the first refusal says so.
        Err(error) => Err(refusal.map_or(error, ApiError).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    #[test]
    fn dialogue_offers_hosts_with_room_and_says_what_the_others_lack() {
        let host = |name: &str, refusal: Option<&str>| Destination {
            name: name.into(),
            purchase: Purchase::Spot,
            free: Resources { cpu: 3, mem_gb: 5.5 },
            refusal: refusal.map(str::to_owned),
        };
        let dialog = MigrateDialog {
            job: "j".into(),
            name: sample::MARKUP.into(),
            form: Form::with("host", "host-2"),
            size: Resources { cpu: 2, mem_gb: 4.0 },
            hosts: vec![host("host-2", None), host("host-3", Some(sample::MARKUP))],
            chosen: Ok("host-2".into()),
            findings: vec![sample::finding()],
        };
        let text = dialog.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("3 cores and 5.5 GB free"), "{text}");
        assert_eq!((text.matches(" disabled").count(), text.matches(" checked").count()), (1, 1), "{text}");
    }
}
