//! Gateway Details: a gateway's facts, its connected jobs and their clients.

mod certificate;
mod confirm;
mod connect;
mod modify;

use askama::Template;
use mooring_api::paths;
use mooring_api::view::{ConnectionState, ConnectionView, GatewayView};
use mooring_api::watch::ClientObservation;
use mooring_store::GatewayRow;
use mooring_types::gateway::{GatewayStatus, Protocol};
use mooring_types::job::JobStatus;
use mooring_types::{GatewayId, Reference};

use super::address::Address;
use super::gateways::port_meter;
use super::page::{Page, Scene};
use super::routes::Routes;
use super::shell::Section;
use super::ui;
use crate::error::{ApiError, ApiResult};
use crate::usecase::{gateway, parse};

/// The most clients that the page lists.
const CLIENTS_SHOWN: usize = 200;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<GatewayPage>("/gateways/{id}")
        .dialog::<modify::ModifyDialog>("/gateways/{id}/modify")
        .post("/gateways/{id}/modify", modify::modify)
        .dialog::<certificate::CertificateDialog>("/gateways/{id}/certificate")
        .post("/gateways/{id}/certificate", certificate::set)
        .post("/gateways/{id}/certificate/remove", certificate::remove)
        .post("/gateways/{id}/restart", confirm::restart)
        .get("/gateways/{id}/destroy", confirm::destroy_dialog)
        .post("/gateways/{id}/destroy", confirm::destroy)
        .dialog::<connect::ConnectDialog>("/gateways/{id}/connect")
        .post("/gateways/{id}/connect", connect::connect)
        .get("/gateways/{id}/disconnect", confirm::disconnect_dialog)
        .post("/gateways/{id}/disconnect", confirm::disconnect)
}

/// Returns the gateway with that id or name.
fn find<'a>(scene: &'a Scene, text: &str) -> ApiResult<&'a GatewayRow> {
    let reference: Reference<GatewayId> = parse(text)?;
    let all = &scene.views.state().gateways;
    all.iter().find(|gateway| reference.is_to(&gateway.id, &gateway.spec.name)).ok_or_else(|| {
        ApiError::not_found(format!("no gateway `{reference}`: it was destroyed, or never existed"))
            .hint("the jobs that were connected to it keep running; connect them to another gateway")
    })
}

/// Says how many clients a destroyed or disconnected port cuts.
fn clients_cut(clients: usize) -> String {
    match clients {
        0 => "No client is connected.".to_owned(),
        1 => "1 client is cut.".to_owned(),
        clients => format!("{clients} clients are cut."),
    }
}

/// A row of Connected Jobs.
#[derive(Debug, Clone)]
struct Connected {
    connection: ConnectionView,
    status: JobStatus,
    may_disconnect: bool,
}

impl Connected {
    fn problem(&self) -> &str {
        match &self.connection.state {
            ConnectionState::Unserved { problem } | ConnectionState::Failed { problem } => problem,
            ConnectionState::Open | ConnectionState::Waiting => "",
        }
    }

    /// Returns whether a browser can open the connection.
    fn is_for_browsers(&self) -> bool {
        self.connection.protocol.speaks_http()
    }

    /// Returns what clients connect to: a URL, or an address with a port.
    fn access(&self) -> &str {
        let url = &self.connection.access_url;
        if self.is_for_browsers() {
            return url;
        }
        let address = url.split_once("://").map_or(url.as_str(), |(_, address)| address);
        address.split_once('/').map_or(address, |(before, _)| before)
    }
}

/// A row of Connected Clients.
#[derive(Debug, Clone)]
struct Client<'a> {
    connection: &'a ConnectionView,
    client: &'a ClientObservation,
}

/// The page.
#[derive(Template)]
#[template(path = "gateway/gateway.html")]
struct GatewayPage {
    gateway: GatewayView,
    /// True where modify, restart and destroy are offered.
    may_change: bool,
    /// The reason why the visitor changes nothing; empty without one.
    refusal: String,
    connected: Vec<Connected>,
}

impl Page for GatewayPage {
    const SECTION: Section = Section::Gateways;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let row = find(scene, address.id())?;
        let gateway = scene.views.gateway(&scene.user, row);
        let connected = gateway.connections.iter().filter_map(|view| connected(scene, view)).collect();
        let refusal = scene.user.refusal();
        let may_change = refusal.is_empty() && gateway::may_change(&scene.user, row).is_ok();
        Ok(Self { may_change, refusal, connected, gateway })
    }

    fn title(&self) -> String {
        format!("Gateway Details - {}", self.gateway.name)
    }
}

fn connected(scene: &Scene, view: &ConnectionView) -> Option<Connected> {
    let job = scene.views.state().jobs.get(&view.job_id)?;
    let may_disconnect = scene.user.may_act_on(&job.user_name);
    Some(Connected { connection: view.clone(), status: job.status, may_disconnect })
}

impl GatewayPage {
    /// Tells of the ports that lead to jobs which the visitor may not see; empty without any.
    fn hidden(&self) -> String {
        match self.gateway.ports_used.saturating_sub(self.connected.len()) {
            0 => String::new(),
            1 => "1 port leads to a job of another user.".to_owned(),
            ports => format!("{ports} ports lead to jobs of other users."),
        }
    }

    fn connections_chart(&self) -> ui::Chart<'static> {
        ui::chart("connections", "Connections", self.metrics(), "connections:clients,held:held requests", "")
    }

    fn throughput_chart(&self) -> ui::Chart<'static> {
        const SERIES: &str = "receivedPerSecond:from clients,sentPerSecond:to clients";
        ui::chart("throughput", "Throughput", self.metrics(), SERIES, "bytes/s")
    }

    /// Returns the address of the gateway's measurements.
    fn metrics(&self) -> String {
        paths::fill(paths::GATEWAY_METRICS, &[self.gateway.id.as_str()])
    }

    fn size(&self) -> String {
        let cores = usize::try_from(self.gateway.cpu).unwrap_or(usize::MAX);
        format!("{}, {} GB", ui::count(cores, "core"), self.gateway.mem_gb)
    }

    fn clients(&self) -> impl Iterator<Item = Client<'_>> {
        let connections = self.connected.iter().map(|row| &row.connection);
        connections.flat_map(|connection| connection.clients.iter().map(move |client| Client { connection, client }))
    }

    fn shown_clients(&self) -> Vec<Client<'_>> {
        self.clients().take(CLIENTS_SHOWN).collect()
    }

    /// Returns the number of clients that are not listed.
    fn more_clients(&self) -> usize {
        self.clients().count().saturating_sub(CLIENTS_SHOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    fn page() -> GatewayPage {
        let gateway = sample::gateway();
        let row = |connection: &ConnectionView| Connected {
            connection: connection.clone(),
            status: JobStatus::Executing,
            may_disconnect: true,
        };
        let connected = gateway.connections.iter().map(row).collect();
        GatewayPage { may_change: true, refusal: String::new(), connected, gateway }
    }

    #[test]
    fn page_shows_what_is_connected() {
        let text = page().render().unwrap();
        for part in [
            "<h1>Gateway Details - lab</h1>",
            "Connected Jobs",
            "data-chart=\"/api/v1/gateways/g-sidlpgb7oi9p48kxycpmn/metrics\"",
            "data-label=\"Held requests\" class=\"number\">3</td>",
            "http://198.18.0.1:10000/lab?token=f00",
            "target=\"_blank\"",
            "198.18.0.7:51234",
            "1.23 kB",
            "Disconnect",
            "Destroy",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn names_stay_text() {
        let mut page = page();
        page.gateway.name = sample::MARKUP.into();
        page.connected[0].connection.job_name = sample::MARKUP.into();
        let text = page.render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
    }

    #[test]
    fn what_is_not_allowed_is_not_offered() {
        let mut page = page();
        page.may_change = false;
        page.refusal = "viewers look".into();
        page.connected[0].may_disconnect = false;
        page.gateway.ports_used = 3;
        let text = page.render().unwrap();
        assert!(text.contains("title=\"viewers look\""), "{text}");
        assert!(!text.contains("Destroy") && !text.contains("/disconnect"), "{text}");
        assert!(text.contains("2 ports lead to jobs of other users"), "{text}");
    }

    #[test]
    fn failed_port_and_plain_tcp_are_told() {
        let mut page = page();
        page.connected[0].connection.state = ConnectionState::Failed { problem: "port 10000 is taken".into() };
        page.connected[0].connection.protocol = Protocol::Tcp;
        page.gateway.status = GatewayStatus::Unreachable;
        let text = page.render().unwrap();
        assert!(text.contains("port 10000 is taken") && text.contains("<code>198.18.0.1:10000</code>"), "{text}");
        assert!(!text.contains("target=\"_blank\"") && text.contains("have stopped"), "{text}");
    }
}
