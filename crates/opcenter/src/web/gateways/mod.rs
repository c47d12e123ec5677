//! Gateways: the list, and the dialogue that creates one.

mod create;
pub(super) mod fields;

use std::collections::BTreeSet;

use askama::Template;
use mooring_api::view::GatewayView;
use mooring_types::PortRange;

use super::address::Address;
use super::page::{Page, Scene};
use super::routes::Routes;
use super::shell::Section;
use super::ui;
use crate::error::ApiResult;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<GatewaysPage>("/gateways")
        .dialog::<create::CreateDialog>("/gateways/new")
        .post("/gateways/new/group", create::add_group)
        .post("/gateways", create::create)
}

/// The list.
#[derive(Template)]
#[template(path = "gateways/gateways.html")]
struct GatewaysPage {
    gateways: Vec<GatewayView>,
    /// The reason why the visitor changes nothing; empty without one.
    refusal: String,
}

impl Page for GatewaysPage {
    const SECTION: Section = Section::Gateways;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        Ok(Self { gateways: scene.views.gateways(&scene.user), refusal: scene.user.refusal() })
    }

    fn title(&self) -> String {
        "Gateways".into()
    }
}

/// The ports of a gateway that are assigned, and all that it may assign.
pub(super) fn ports(gateway: &GatewayView) -> (u32, u32) {
    let all = gateway.port_range.parse().map_or(0, PortRange::size);
    (u32::try_from(gateway.ports_used).unwrap_or(u32::MAX), u32::try_from(all).unwrap_or(u32::MAX))
}

/// Returns the bar of the ports that are assigned.
pub(super) fn port_meter(gateway: &GatewayView) -> ui::Meter<'static> {
    let (used, all) = ports(gateway);
    ui::meter(used, all, "", "ports used")
}

/// Counts the connected jobs.
fn jobs(gateway: &GatewayView) -> usize {
    gateway.connections.iter().map(|connection| &connection.job_id).collect::<BTreeSet<_>>().len()
}

/// Counts the connected clients.
fn clients(gateway: &GatewayView) -> usize {
    gateway.connections.iter().map(|connection| connection.clients.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn templates_render() {
        let marked = GatewayView { name: sample::MARKUP.into(), ..sample::gateway() };
        let text = GatewaysPage { gateways: vec![marked, sample::gateway()], refusal: String::new() }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("Create Gateway"), "{text}");
        assert!(text.contains("1 of 501") && text.contains(">campus<"), "{text}");
        assert!(
            GatewaysPage { gateways: Vec::new(), refusal: "viewers look".into() }
                .render()
                .unwrap()
                .contains("No gateways")
        );
    }

    #[test]
    fn ports_and_jobs_are_counted() {
        let mut gateway = sample::gateway();
        let mut second = gateway.connections[0].clone();
        second.target_port = 6006;
        gateway.connections.push(second);
        gateway.ports_used = 5;
        assert_eq!((ports(&gateway), jobs(&gateway), clients(&gateway)), ((5, 501), 1, 2));
    }
}
