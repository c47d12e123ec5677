//! The dialogue with the certificates that a gateway was given for its ports.
//!
//! A key that was typed is sent on, and is in no answer.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{GatewayCertificateRequest, GatewayView};
use mooring_types::gateway::Tls;

use super::find;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{gateway, gateway_certificate};
use crate::web::address::Address;
use crate::web::dialog::Dialog;
use crate::web::form::{Form, Places};
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The fields at which refusals stand.
const PLACES: &Places = &[("certificate", "certificate"), ("key", "key")];

/// The dialogue.
#[derive(Template)]
#[template(path = "gateway/certificate.html")]
pub(super) struct CertificateDialog {
    gateway: GatewayView,
    form: Form,
}

impl Dialog for CertificateDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let row = find(scene, address.id())?;
        gateway::may_change(&scene.user, row)?;
        Ok(Self { gateway: scene.views.gateway(&scene.user, row), form: Form::default() })
    }
}

/// Gives the gateway a certificate.
pub(super) async fn set(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let request = GatewayCertificateRequest {
        certificate: form.text("certificate").to_owned(),
        key: form.text("key").to_owned(),
    };
    form.replace("key", "");
    match gateway_certificate::set(&context, &visitor.user, address.id(), &request).await {
        Ok(_) => Ok(answer::done("The certificate is in force for new connections")),
        Err(error) => {
            form.refused_in(PLACES, error);
            let scene = Scene::read(&context, &visitor.user).await?;
            let row = find(&scene, address.id())?;
            // A visitor who may not change it gets no form.
            gateway::may_change(&visitor.user, row)?;
            answer::invalid(&CertificateDialog { gateway: scene.views.gateway(&visitor.user, row), form })
        }
    }
}

/// Removes a certificate of the gateway.
pub(super) async fn remove(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let name = address.one("name");
    gateway_certificate::remove(&context, &visitor.user, address.id(), name).await?;
    Ok(answer::done(&format!("The certificate for {name} is removed")))
}

#[cfg(test)]
mod tests {
    use mooring_api::view::GatewayCertificateView;

    use super::*;
    use crate::web::sample;

    #[test]
    fn dialog_lists_certificates_and_shows_no_key() {
        let mut gateway = sample::gateway();
        let now = gateway.create_time;
        gateway.certificates = vec![GatewayCertificateView {
            names: vec![sample::MARKUP.into(), "192.0.2.1".into()],
            expire_time: now,
            set_time: now,
        }];
        let mut form = Form::default();
        form.refuse("key", "the key does not fit the certificate");
        let text = CertificateDialog { gateway, form }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("192.0.2.1"), "{text}");
        assert!(text.contains("does not fit") && text.contains("ports are plain"), "{text}");
    }
}
