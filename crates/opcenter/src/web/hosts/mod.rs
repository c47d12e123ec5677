//! Hosts: the list, one host, drain, rejoin, and how another machine becomes one.

mod drain;
mod join;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{HostRemoval, HostStatus, HostView};
use mooring_types::host::HostRole;

use super::address::Address;
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::visitor::Visitor;
use super::{answer, ui};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::host;
use crate::view::job::NamedJob;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<HostsPage>("/hosts")
        .get("/hosts/join", join::dialog)
        .post("/hosts/join", join::create)
        .post("/hosts/join/{id}/revoke", join::revoke)
        .page::<HostPage>("/hosts/{id}")
        .get("/hosts/{id}/drain", drain::dialog)
        .post("/hosts/{id}/drain", drain::drain)
        .post("/hosts/{id}/undrain", drain::undrain)
        .get("/hosts/{id}/rejoin", rejoin_dialog)
        .post("/hosts/{id}/rejoin", rejoin)
        .get("/hosts/{id}/remove", remove_dialog)
        .post("/hosts/{id}/remove", remove)
}

/// The list.
#[derive(Template)]
#[template(path = "hosts/hosts.html")]
struct HostsPage {
    hosts: Vec<HostView>,
    is_admin: bool,
}

impl Page for HostsPage {
    const SECTION: Section = Section::Hosts;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        Ok(Self { hosts: scene.views.hosts(&scene.user), is_admin: scene.user.is_admin() })
    }

    fn title(&self) -> String {
        "Hosts".into()
    }
}

impl HostsPage {
    fn cores_in_use(&self) -> ui::Meter<'static> {
        let sum = |cores: fn(&HostView) -> u32| self.up().map(cores).sum::<u32>();
        ui::meter(sum(|host| host.cores_used), sum(|host| host.cores), "", "cores in use")
    }

    fn memory_in_use(&self) -> ui::Meter<'static> {
        let sum = |memory: fn(&HostView) -> f64| self.up().map(memory).sum::<f64>();
        ui::meter(sum(|host| host.mem_gb_used), sum(|host| host.mem_gb), " GB", "memory in use")
    }

    fn up(&self) -> impl Iterator<Item = &HostView> {
        self.hosts.iter().filter(|host| host.status != HostStatus::Unreachable)
    }

    fn ready(&self) -> usize {
        self.hosts.iter().filter(|host| host.status == HostStatus::Ready).count()
    }

    fn jobs(&self) -> u32 {
        self.hosts.iter().map(|host| host.jobs).sum()
    }
}

/// One host.
#[derive(Template)]
#[template(path = "hosts/host.html")]
struct HostPage {
    host: HostView,
    jobs: Vec<NamedJob>,
    gateways: Vec<String>,
    is_admin: bool,
}

impl Page for HostPage {
    const SECTION: Section = Section::Hosts;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let host = found(&scene.context, address.id()).await?;
        let answer = scene.views.drained(&scene.user, &host)?;
        Ok(Self {
            host: answer.host,
            gateways: answer.gateways,
            jobs: scene.views.jobs_on(&scene.user, &host),
            is_admin: scene.user.is_admin(),
        })
    }

    fn title(&self) -> String {
        format!("Host {}", self.host.name)
    }
}

impl HostPage {
    /// Returns the number of jobs that the visitor may not see.
    fn hidden(&self) -> usize {
        (self.host.jobs as usize).saturating_sub(self.jobs.len())
    }
}

/// Returns the id of a host, by id or name.
async fn found(context: &Context, id: &str) -> ApiResult<mooring_types::HostId> {
    Ok(host::find(&mut context.store.begin().await?, id).await?.id)
}

/// Returns the reason why a host is not as it should be; empty if it is.
fn reason(host: &HostView) -> String {
    match (&host.status, &host.drain) {
        (HostStatus::NotReady { reason }, _) => reason.clone(),
        (HostStatus::Unreachable, _) => "its reports have stopped".into(),
        (_, Some(drain)) => drain.reason.clone(),
        (_, None) => String::new(),
    }
}

fn cores(host: &HostView) -> ui::Meter<'static> {
    ui::meter(host.cores_used, host.cores, "", "cores in use")
}

fn memory(host: &HostView) -> ui::Meter<'static> {
    ui::meter(host.mem_gb_used, host.mem_gb, " GB", "memory in use")
}

fn jobs(host: &HostView) -> String {
    ui::count(host.jobs as usize, "job")
}

fn role(role: &HostRole) -> &'static str {
    match role {
        HostRole::Jobs => "jobs",
        HostRole::Gateways => "gateways",
        HostRole::Both => "jobs and gateways",
    }
}

/// The dialogue that asks before a host may join with a new key.
#[derive(Template)]
#[template(path = "hosts/rejoin.html")]
struct RejoinDialog {
    host: HostView,
}

/// Reads a host for a dialogue that takes an admin.
async fn for_admin(context: &Context, user: &User, id: &str, what: &str) -> ApiResult<(HostView, Vec<String>)> {
    user.refuse_unless_admin(what)?;
    let scene = Scene::read(context, user).await?;
    let answer = scene.views.drained(user, &found(context, id).await?)?;
    Ok((answer.host, answer.gateways))
}

/// The dialogue that asks before a host is removed, or says what is in the way.
#[derive(Template)]
#[template(path = "hosts/remove.html")]
struct RemoveDialog {
    host: HostView,
    refusal: String,
}

async fn remove_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let (host, _) = for_admin(&context, &visitor.user, address.id(), "removing a host").await?;
    let scene = Scene::read(&context, &visitor.user).await?;
    let row = host::find(&mut context.store.begin().await?, address.id()).await?;
    let refusal = match host::refuse_removal(scene.views.state(), &row) {
        Ok(()) => String::new(),
        Err(ApiError(body)) => [Some(body.message), body.hint].into_iter().flatten().collect::<Vec<_>>().join("; "),
    };
    answer::part(&RemoveDialog { host, refusal })
}

async fn remove(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    host::remove(&context, &visitor.user, address.id(), HostRemoval::default()).await?;
    Ok(answer::go("/hosts", "The host is removed"))
}

async fn rejoin_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let (host, _) = for_admin(&context, &visitor.user, address.id(), "letting a host join again").await?;
    answer::part(&RejoinDialog { host })
}

async fn rejoin(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    host::rejoin(&context, &visitor.user, address.id()).await?;
    Ok(answer::done("The host may join again with a new key"))
}

#[cfg(test)]
mod tests {
    use mooring_types::job::JobStatus;

    use super::*;
    use crate::web::sample;

    fn job() -> NamedJob {
        NamedJob {
            id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
            name: sample::MARKUP.into(),
            user: "ada".into(),
            status: JobStatus::Floating,
        }
    }

    #[test]
    fn list_tells_reasons_and_offers_nothing_to_users() {
        let lost = HostView {
            name: "host-2".into(),
            status: HostStatus::NotReady { reason: sample::MARKUP.into() },
            ..sample::host()
        };
        let page = |is_admin| HostsPage { hosts: vec![sample::host(), lost.clone()], is_admin }.render().unwrap();
        let text = page(true);
        assert!(
            !text.contains(sample::MARKUP) && text.contains("Add Host") && text.contains("/hosts/host-1/drain"),
            "{text}"
        );
        let text = page(false);
        assert!(!text.contains("Add Host") && !text.contains("/drain"), "{text}");
        let drained = HostsPage { hosts: vec![sample::drained_host()], is_admin: true }.render().unwrap();
        assert!(drained.contains("is traced by strace") && drained.contains("tried 2 times"), "{drained}");
        let empty = HostsPage { hosts: Vec::new(), is_admin: true }.render().unwrap();
        assert!(empty.contains("No hosts"), "{empty}");
    }

    #[test]
    fn host_shows_its_jobs_and_drain() {
        let mut page =
            HostPage { host: sample::host(), jobs: vec![job()], gateways: vec!["lab".into()], is_admin: true };
        let text = page.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("/jobs/uqaj8l6a407u88v0106ol"), "{text}");
        assert!(text.contains("/hosts/host-1/drain"), "{text}");
        page.host = sample::drained_host();
        let text = page.render().unwrap();
        assert!(text.contains("jobs left") && text.contains("/hosts/host-1/undrain"), "{text}");
        assert!(text.contains("is traced by strace") && text.contains("tried 2 times"), "{text}");
        assert!(RejoinDialog { host: sample::host() }.render().unwrap().contains("/hosts/host-1/rejoin"));
    }
}
