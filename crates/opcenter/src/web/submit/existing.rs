//! The choices of a submission: the gateways, security groups, hosts and templates that exist.

use mooring_api::view::{GatewayView, HostStatus, HostView, SecurityGroupView, TemplateView};
use mooring_types::gateway::GatewayStatus;

use crate::error::ApiResult;
use crate::usecase::template;
use crate::web::page::Scene;
use crate::web::ui::Choice;

/// Choices of everything that exists.
#[derive(Debug, Default)]
pub(super) struct Existing {
    gateways: Vec<Choice>,
    groups: Vec<Choice>,
    hosts: Vec<Choice>,
    templates: Vec<Choice>,
}

impl Existing {
    /// Reads what exists and the visitor may use.
    pub(super) async fn read(scene: &Scene) -> ApiResult<Self> {
        let templates = template::list(&scene.context, &scene.user).await?;
        Ok(Self {
            gateways: scene.views.gateways(&scene.user).iter().map(gateway).collect(),
            groups: scene.views.security_groups(&scene.user).iter().map(group).collect(),
            hosts: scene.views.hosts(&scene.user).iter().filter(|host| host.role.takes_jobs()).map(host).collect(),
            templates: templates.iter().map(of_template).collect(),
        })
    }

    /// Returns the choices of a field; `None` for a field that refers to nothing.
    pub(super) fn choices(&self, key: &str) -> Option<&[Choice]> {
        match key {
            "gateway" => Some(&self.gateways),
            "securityGroups" => Some(&self.groups),
            "host" => Some(&self.hosts),
            "template" => Some(&self.templates),
            _ => None,
        }
    }
}

fn gateway(view: &GatewayView) -> Choice {
    let label = match view.status {
        GatewayStatus::Running => format!("{} ({})", view.name, view.address),
        GatewayStatus::Starting => format!("{} (starting)", view.name),
        GatewayStatus::Unreachable => format!("{} (unreachable)", view.name),
    };
    Choice::new(view.name.clone(), label)
}

fn group(view: &SecurityGroupView) -> Choice {
    let label = match view.description.as_str() {
        "" => view.name.clone(),
        description => format!("{}: {description}", view.name),
    };
    Choice::new(view.name.clone(), label)
}

fn host(view: &HostView) -> Choice {
    let label = match view.status {
        HostStatus::Ready => {
            let free = view.cores.saturating_sub(view.cores_used);
            format!("{} ({free} of {} cores free)", view.name, view.cores)
        }
        HostStatus::Draining => format!("{} (draining)", view.name),
        HostStatus::Drained => format!("{} (drained)", view.name),
        HostStatus::NotReady { .. } => format!("{} (not ready)", view.name),
        HostStatus::Unreachable => format!("{} (unreachable)", view.name),
    };
    Choice::new(view.name.clone(), label)
}

fn of_template(view: &TemplateView) -> Choice {
    Choice::plain(view.name.clone())
}
