//! The tab of connections, and the dialogues that connect and disconnect the job.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{ConnectRequest, ConnectionState, ConnectionView, GatewayView};
use mooring_types::{GatewayId, JobId, Port, Reference};

use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{allowed, connection, find_job};
use crate::view::Views;
use crate::web::address::Address;
use crate::web::answer;
use crate::web::dialog::Dialog;
use crate::web::form::{Form, Places};
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::ui::{self, Choice, Tone};
use crate::web::visitor::Visitor;

/// The fields of the dialogue at which refusals stand.
const PLACES: &Places = &[("gateway", "gateway"), ("targetPorts", "port")];

/// A connection of the job, with its gateway.
#[derive(Clone)]
pub(super) struct Connected {
    gateway_id: GatewayId,
    gateway: String,
    pub(super) view: ConnectionView,
}

impl Connected {
    pub(super) fn tone(&self) -> Tone {
        match self.view.state {
            ConnectionState::Open => Tone::Good,
            ConnectionState::Waiting => Tone::Busy,
            ConnectionState::Unserved { .. } | ConnectionState::Failed { .. } => Tone::Bad,
        }
    }
}

/// Returns the connections of a job among those of all gateways.
pub(super) fn of_job(gateways: &[GatewayView], job: &JobId) -> Vec<Connected> {
    let of_gateway = |gateway: &GatewayView| {
        let own = gateway.connections.iter().filter(|view| view.job_id == *job);
        let connected = own.map(|view| Connected {
            gateway_id: gateway.id.clone(),
            gateway: gateway.name.clone(),
            view: view.clone(),
        });
        connected.collect::<Vec<_>>()
    };
    gateways.iter().flat_map(of_gateway).collect()
}

/// The tab.
#[derive(Template)]
#[template(path = "job/connections.html")]
pub(super) struct ConnectionsTab {
    job: JobId,
    connections: Vec<Connected>,
    publishes: bool,
    is_own: bool,
    /// The reason why the job can't be connected; empty if it can.
    refusal: String,
}

impl ConnectionsTab {
    pub(super) fn new(job: JobId, connections: Vec<Connected>, publishes: bool, is_own: bool, refusal: String) -> Self {
        Self { job, connections, publishes, is_own, refusal }
    }

    fn clients(&self) -> usize {
        self.connections.iter().map(|connected| connected.view.clients.len()).sum()
    }
}

/// The dialogue that connects the job.
#[derive(Template)]
#[template(path = "job/connect.html")]
pub(super) struct ConnectDialog {
    job: String,
    form: Form,
    gateways: Vec<Choice>,
    ports: Vec<Choice>,
}

impl ConnectDialog {
    async fn with(scene: &Scene, job: &str, mut form: Form) -> ApiResult<Self> {
        let row = find_job(&mut scene.context.store.begin().await?, &scene.user, job).await?;
        allowed::connect(&row)?;
        let gateways = scene.views.gateways(&scene.user);
        let label = |gateway: &GatewayView| {
            Choice::new(gateway.id.to_string(), format!("{} ({})", gateway.name, gateway.address))
        };
        let ports: Vec<Choice> =
            row.spec.publish.iter().map(|port| Choice::new(port.host.to_string(), port.to_string())).collect();
        if form.text("gateway").is_empty() {
            ports.iter().for_each(|port| form.set("port", port.value.clone()));
        }
        Ok(Self { job: row.id.to_string(), form, gateways: gateways.iter().map(label).collect(), ports })
    }
}

/// The dialogue that asks before the job is disconnected.
#[derive(Template)]
#[template(path = "job/disconnect.html")]
struct DisconnectDialog {
    job: String,
    connected: Connected,
}

impl Dialog for ConnectDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        Self::with(scene, address.id(), Form::default()).await
    }
}

pub(super) async fn connect(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let gateway: Option<Reference<GatewayId>> = form.require("gateway");
    let ports: Vec<Port> = form.parse_list("port");
    if let Some(gateway) = gateway.filter(|_| form.is_valid()) {
        let id: JobId = crate::usecase::parse(address.id())?;
        let mut request = ConnectRequest::new(id);
        request.target_ports = ports.into_iter().map(Port::get).collect();
        match connection::connect(&context, &visitor.user, &gateway.to_string(), &request).await {
            Ok(_) => return Ok(answer::done("The job is connected")),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let refusal = form.refusal().cloned();
    let scene = Scene::read(&context, &visitor.user).await?;
    match ConnectDialog::with(&scene, address.id(), form).await {
        Ok(dialog) => answer::invalid(&dialog),
        // The job has ended meanwhile: the first refusal says so.
        Err(error) => Err(refusal.map_or(error, ApiError).into()),
    }
}

pub(super) async fn disconnect_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, &visitor.user, address.id()).await?;
    let all = of_job(&Views::read(&context, &mut tx).await?.gateways(&visitor.user), &job.id);
    let port: Option<u16> = address.parse("port")?;
    let is_meant = |connected: &Connected| {
        connected.gateway_id.as_str() == address.one("gateway") && Some(connected.view.target_port) == port
    };
    let connected = all.into_iter().find(is_meant);
    let connected = connected.ok_or_else(|| ApiError::not_found("the job is not connected there any more"))?;
    answer::part(&DisconnectDialog { job: job.id.to_string(), connected })
}

pub(super) async fn disconnect(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let port: Option<Port> = form.require("port");
    let Some(port) = port else { return Err(ApiError::invalid("no target port").into()) };
    let gateway = form.text("gateway");
    connection::disconnect(&context, &visitor.user, gateway, address.id(), Some(port.get())).await?;
    Ok(answer::done(&format!("Port {port} of the job is disconnected")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    #[test]
    fn templates_render() {
        let connections = of_job(&[sample::gateway()], &sample::job().id);
        let connected = connections[0].clone();
        let tab = ConnectionsTab::new(sample::job().id, connections, true, true, String::new());
        let text = tab.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("198.18.0.9:51234"), "{text}");
        assert!(text.contains("hx-get=\"/jobs/uqaj8l6a407u88v0106ol/connect\""), "{text}");
        let mates = ConnectionsTab::new(sample::job().id, Vec::new(), true, false, String::new()).render().unwrap();
        assert!(mates.contains("Not connected") && !mates.contains("hx-get"), "{mates}");
        let ended = ConnectionsTab::new(sample::job().id, Vec::new(), true, true, sample::MARKUP.into());
        let ended = ended.render().unwrap();
        assert!(ended.contains("aria-disabled=\"true\"") && !ended.contains(sample::MARKUP), "{ended}");
        let text = DisconnectDialog { job: "j".into(), connected }.render().unwrap();
        assert!(text.contains("value=\"8888\"") && !text.contains(sample::MARKUP), "{text}");
        let (gateways, ports) = (vec![Choice::new("g-1", sample::MARKUP)], vec![Choice::plain("8888")]);
        let text = ConnectDialog { job: "j".into(), form: Form::with("port", "8888"), gateways, ports };
        let text = text.render().unwrap();
        assert!(text.contains("checked") && !text.contains(sample::MARKUP), "{text}");
    }
}
