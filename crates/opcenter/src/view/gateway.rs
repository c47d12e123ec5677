//! Gateways and connections, as users read them.

use mooring_api::view::{ConnectionState, ConnectionView, GatewayCertificateView, GatewayView};
use mooring_api::watch::{ConnectionObservation, Flow};
use mooring_store::{ConnectionRow, GatewayCertificateRow, GatewayRow};
use mooring_types::external_url::ExternalUrl;
use mooring_types::gateway::{Exposure, GatewayStatus};
use mooring_types::{ConnectionId, GatewayId, Port};

use super::{Views, texts, without_query};
use crate::auth::User;
use crate::decide::slices;
use crate::error::{ApiError, ApiResult};
use crate::usecase::connection::Connected;

/// Splits a URL into origin and path.
fn split_url(url: &str) -> (&str, &str) {
    let begin = url.find("://").map_or(0, |at| at + 3);
    url.split_at(url[begin..].find('/').map_or(url.len(), |at| begin + at))
}

impl Views {
    /// Returns all gateways with the connections that a user may see.
    pub(crate) fn gateways(&self, user: &User) -> Vec<GatewayView> {
        self.state.gateways.iter().map(|gateway| self.gateway(user, gateway)).collect()
    }

    /// Returns a gateway with the connections that a user may see.
    pub(crate) fn gateway(&self, user: &User, gateway: &GatewayRow) -> GatewayView {
        let reported = self.observed.gateway_is_known(&gateway.id);
        let status = match (self.observed.gateway_is_reachable(&gateway.id), reported) {
            (true, _) => GatewayStatus::Running,
            (false, true) => GatewayStatus::Unreachable,
            (false, false) => GatewayStatus::Starting,
        };
        let is_visible =
            |row: &&ConnectionRow| self.state.jobs.get(&row.job).is_some_and(|job| user.may_see(&job.user_name));
        let connections = self.state.connections.iter().filter(|row| row.gateway == gateway.id).filter(is_visible);
        let shown = |row: &ConnectionRow| {
            let owner = self.state.jobs.get(&row.job).map(|job| job.user_name.as_str()).unwrap_or_default();
            let mut view = self.connection(row)?;
            if !user.may_change(owner) {
                view.access_url = without_query(&view.access_url);
            }
            Some(view)
        };
        GatewayView {
            id: gateway.id.clone(),
            name: gateway.spec.name.to_string(),
            status,
            address: self.gateway_address(&gateway.id).unwrap_or_default(),
            no_public_ip: gateway.spec.exposure == Exposure::Private,
            port_range: gateway.spec.port_range.to_string(),
            security_groups: texts(&self.group_names(&gateway.spec.security_groups)),
            tls: gateway.spec.tls,
            trusted_proxies: gateway.spec.trusted_proxies.clone(),
            external_url: gateway.spec.external_url.as_ref().map(ToString::to_string).unwrap_or_default(),
            certificates: self
                .state
                .certificates
                .iter()
                .filter(|row| row.gateway == gateway.id)
                .filter_map(certificate)
                .collect(),
            cpu: gateway.spec.resources.cpu,
            mem_gb: gateway.spec.resources.mem_gb,
            host_name: self.state.host_name(&gateway.host),
            create_time: gateway.create_time,
            user: gateway.user_name.clone(),
            ports_used: self.state.connections.iter().filter(|row| row.gateway == gateway.id).count(),
            connections: connections.filter_map(shown).collect(),
        }
    }

    /// Returns the gateway with that id.
    pub(crate) fn gateway_of_id(&self, user: &User, id: &GatewayId) -> ApiResult<GatewayView> {
        let found = self.state.gateways.iter().find(|gateway| gateway.id == *id);
        found.map(|gateway| self.gateway(user, gateway)).ok_or_else(|| ApiError::not_found(format!("no gateway {id}")))
    }

    /// Returns new connections. The Access URL of one with a link is the link.
    pub(crate) fn connected(&self, connected: &[Connected]) -> Vec<ConnectionView> {
        let ids: Vec<ConnectionId> = connected.iter().map(|connected| connected.id.clone()).collect();
        let with_link = |row: &ConnectionRow| {
            let mut view = self.connection(row)?;
            let link = connected.iter().find(|connected| connected.id == row.id).and_then(|made| made.link.as_ref());
            if let Some(secret) = link {
                let gateway = self.state.gateways.iter().find(|gateway| gateway.id == row.gateway)?;
                let base = self.port_url(gateway, row.gateway_port)?;
                let (_, path) = split_url(&view.access_url);
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.append_pair("key", secret).append_pair("to", path);
                view.access_url = format!("{base}/.mooring/enter?{}", query.finish());
            }
            Some(view)
        };
        self.state.connections.iter().filter(|row| ids.contains(&row.id)).filter_map(with_link).collect()
    }

    /// Returns the URL by which browsers reach a gateway port, without a `/` at its end.
    pub(crate) fn port_url(&self, gateway: &GatewayRow, port: Port) -> Option<String> {
        if let Some(url) = slices::external_url(&self.state, gateway, port) {
            return Some(url.to_string());
        }
        let address = self.gateway_address(&gateway.id)?;
        Some(format!("{}://{address}:{port}", gateway.spec.tls.scheme()))
    }

    /// Returns the URL by which browsers reach a gateway port through a proxy, if there is one.
    pub(crate) fn external_url(&self, gateway: &GatewayId, port: Port) -> Option<ExternalUrl> {
        let gateway = self.state.gateways.iter().find(|row| row.id == *gateway)?;
        slices::external_url(&self.state, gateway, port)
    }

    pub(super) fn connection(&self, connection: &ConnectionRow) -> Option<ConnectionView> {
        let job = self.state.jobs.get(&connection.job)?;
        let gateway = self.state.gateways.iter().find(|gateway| gateway.id == connection.gateway)?;
        // During a restart a gateway has several processes, each with its own clients.
        let observations: Vec<&ConnectionObservation> = self.observed.connection(connection).collect();
        let state = match observations.iter().find_map(|seen| seen.problem.as_ref()) {
            Some(problem) => ConnectionState::Failed { problem: problem.clone() },
            None if observations.is_empty() || slices::flow(&self.state, job) != Flow::Open => ConnectionState::Waiting,
            None => match slices::unserved(&self.state, &self.observed, job, connection.target_port) {
                Some(problem) => ConnectionState::Unserved { problem },
                None => ConnectionState::Open,
            },
        };
        Some(ConnectionView {
            job_id: job.id.clone(),
            job_name: job.spec.name.to_string(),
            target_port: connection.target_port.get(),
            gateway_port: connection.gateway_port.get(),
            access_url: format!("{}{}", self.port_url(gateway, connection.gateway_port)?, job.spec.access_path),
            state,
            protocol: connection.protocol,
            hold_limits: connection.hold_limits,
            wake_on: slices::wake_on(job, connection),
            widget: connection.widget,
            cookies: connection.cookies,
            access: connection.access,
            shares: connection.shares.clone(),
            held: observations.iter().map(|report| report.held).sum(),
            clients: observations.iter().flat_map(|report| report.clients.iter().cloned()).collect(),
        })
    }
}

/// Returns what users read of a certificate.
fn certificate(row: &GatewayCertificateRow) -> Option<GatewayCertificateView> {
    let (names, expire_time) = mooring_tls::names_and_end(&row.certificate)?;
    Some(GatewayCertificateView { names, expire_time, set_time: row.set_time })
}
