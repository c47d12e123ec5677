//! The dialogues that ask before a gateway is destroyed or a job is disconnected, and the restart.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{ConnectionView, GatewayView};
use mooring_types::Port;

use super::{clients_cut, find};
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{connection, gateway};
use crate::web::address::Address;
use crate::web::form::Form;
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The dialogue that asks before a gateway is destroyed.
#[derive(Template)]
#[template(path = "gateway/destroy.html")]
struct DestroyDialog {
    gateway: GatewayView,
    form: Form,
}

impl DestroyDialog {
    fn cut(&self) -> String {
        clients_cut(self.gateway.connections.iter().map(|connection| connection.clients.len()).sum())
    }
}

/// The dialogue that asks before a job is disconnected.
#[derive(Template)]
#[template(path = "gateway/disconnect.html")]
struct DisconnectDialog {
    gateway: GatewayView,
    connection: ConnectionView,
}

impl DisconnectDialog {
    fn cut(&self) -> String {
        clients_cut(self.connection.clients.len())
    }
}

/// Restarts the gateway.
pub(super) async fn restart(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    gateway::restart(&context, &visitor.user, address.id()).await?;
    Ok(answer::done("The gateway restarts; its connections stay"))
}

/// Asks before the gateway is destroyed.
pub(super) async fn destroy_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let scene = Scene::read(&context, &visitor.user).await?;
    let row = find(&scene, address.id())?;
    gateway::may_change(&visitor.user, row)?;
    answer::part(&DestroyDialog { gateway: scene.views.gateway(&visitor.user, row), form: Form::default() })
}

/// Destroys the gateway, if its name was typed.
pub(super) async fn destroy(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let scene = Scene::read(&context, &visitor.user).await?;
    let row = find(&scene, address.id())?;
    let name = row.spec.name.as_str();
    if form.text("confirm").trim() == name {
        match gateway::destroy(&context, &visitor.user, row.id.as_str()).await {
            Ok(()) => return Ok(answer::go("/gateways", &format!("Gateway {name} is destroyed"))),
            Err(error) => form.refused(error),
        }
    } else {
        form.refuse("confirm", format!("type `{name}`"));
    }
    answer::invalid(&DestroyDialog { gateway: scene.views.gateway(&visitor.user, row), form })
}

/// Asks before a port of a job is disconnected.
pub(super) async fn disconnect_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let scene = Scene::read(&context, &visitor.user).await?;
    let gateway = scene.views.gateway(&visitor.user, find(&scene, address.id())?);
    let port: Option<Port> = address.parse("port")?;
    let is_asked = |connection: &&ConnectionView| {
        connection.job_id.as_str() == address.one("job") && Some(connection.target_port) == port.map(Port::get)
    };
    let found = gateway.connections.iter().find(is_asked).cloned();
    let connection = found.ok_or_else(|| not_connected(&gateway, address.one("job")))?;
    answer::part(&DisconnectDialog { gateway, connection })
}

fn not_connected(gateway: &GatewayView, job: &str) -> ApiError {
    ApiError::not_found(format!("job {job} is not connected to gateway `{}` any more", gateway.name))
        .hint("it has ended, or somebody disconnected it")
}

/// Disconnects a port of a job.
pub(super) async fn disconnect(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    form: Form,
) -> Result<Response, Problem> {
    let target = target_port(&form)?;
    connection::disconnect(&context, &visitor.user, address.id(), form.text("job"), Some(target.get())).await?;
    Ok(answer::done(&format!("Port {target} of the job is disconnected")))
}

fn target_port(form: &Form) -> ApiResult<Port> {
    mooring_types::port::parse_port(form.text("port")).map_err(|error| ApiError::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn destroy_names_what_loses_its_address() {
        let mut gateway = sample::gateway();
        gateway.connections[0].job_name = sample::MARKUP.into();
        let text = DestroyDialog { gateway, form: Form::default() }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("198.18.0.1:10000"), "{text}");
        assert!(text.contains("1 client is cut") && text.contains("Type <code>lab</code>"), "{text}");
        let mut gateway = sample::gateway();
        gateway.connections.clear();
        let mut form = Form::default();
        form.refuse("confirm", "type `lab`");
        let text = DestroyDialog { gateway, form }.render().unwrap();
        assert!(text.contains("No job is connected") && text.contains("type `lab`"), "{text}");
    }

    #[test]
    fn disconnect_says_that_clients_are_cut() {
        let gateway = sample::gateway();
        let connection = gateway.connections[0].clone();
        let text = DisconnectDialog { gateway, connection }.render().unwrap();
        assert!(text.contains("1 client is cut") && text.contains("keeps running"), "{text}");
    }
}
