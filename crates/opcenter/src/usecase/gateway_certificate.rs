//! The certificates of gateway ports: those that users give, and the one of the authority.
//!
//! A certificate is known by the first of its names. Its key is sealed, and opened for the slice of
//! its gateway alone. Nobody reads it back.

use mooring_api::ErrorCode;
use mooring_api::view::GatewayCertificateRequest;
use mooring_api::watch::{CertificateAnswer, CertificateRequest};
use mooring_store::{GatewayCertificateRow, GatewayRow};
use mooring_tls::PortCertificate;
use mooring_types::gateway::Tls;
use mooring_types::{Clock, GatewayId, SystemClock};

use super::gateway::may_change;
use super::{find_gateway, parse};
use crate::auth::User;
use crate::decide::port_names;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::db_state::DbState;

/// The most bytes of a certificate with its chain, and of a key.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The most certificates of a gateway.
const CERTIFICATES_MAX: usize = 100;

/// Gives a gateway a certificate. One with the same first name is replaced.
pub(crate) async fn set(
    context: &Context,
    user: &User,
    id: &str,
    request: &GatewayCertificateRequest,
) -> ApiResult<GatewayId> {
    let mut tx = context.store.begin().await?;
    let gateway = find_gateway(&mut tx, &parse(id)?).await?;
    may_change(user, &gateway)?;
    for (field, text) in [("certificate", &request.certificate), ("key", &request.key)] {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("a {field} is PEM of at most {TEXT_BYTES_MAX} bytes");
            return Err(ApiError::invalid(message).at(field));
        }
    }
    let unusable = |error: mooring_tls::Unusable| {
        let field = if error.is_of_key() { "key" } else { "certificate" };
        ApiError::invalid(error.to_string()).at(field)
    };
    let read = PortCertificate::read(&request.certificate, &request.key).map_err(unusable)?;
    // Browsers check it by the machine's clock.
    read.check(SystemClock.now()).map_err(unusable)?;
    let name = read.names().first().cloned().unwrap_or_default();
    let row = GatewayCertificateRow {
        sealed_key: context.vault.seal_port_key(&gateway.id, &name, &request.key)?,
        gateway: gateway.id.clone(),
        name: name.clone(),
        certificate: request.certificate.clone(),
        set_time: context.clock.now(),
    };
    tx.gateway_certificate_put(&row).await?;
    let all = tx.gateway_certificate_list().await?;
    if all.iter().filter(|row| row.gateway == gateway.id).count() > CERTIFICATES_MAX {
        let message = format!("a gateway has at most {CERTIFICATES_MAX} certificates");
        return Err(ApiError::new(ErrorCode::ResourceExhausted, message)
            .hint("remove some with `float gateway certificate remove`"));
    }
    tx.commit().await?;
    tracing::info!(gateway = %gateway.id, user = user.name, "gateway {} has a certificate for {name}", gateway.spec.name);
    context.wake();
    Ok(gateway.id)
}

/// Removes a certificate of a gateway.
pub(crate) async fn remove(context: &Context, user: &User, id: &str, name: &str) -> ApiResult<GatewayId> {
    let mut tx = context.store.begin().await?;
    let gateway = find_gateway(&mut tx, &parse(id)?).await?;
    may_change(user, &gateway)?;
    if !tx.gateway_certificate_delete(&gateway.id, &name.to_ascii_lowercase()).await? {
        let message = format!("gateway `{}` has no certificate whose first name is `{name}`", gateway.spec.name);
        return Err(ApiError::not_found(message).hint("`float gateway info` shows those that it has").at("name"));
    }
    tx.commit().await?;
    tracing::info!(gateway = %gateway.id, user = user.name, "gateway {} loses its certificate for {name}", gateway.spec.name);
    context.wake();
    Ok(gateway.id)
}

/// Signs a gateway's request for the authority's certificate of its ports.
pub(crate) async fn issue(
    context: &Context,
    gateway: &GatewayRow,
    request: &CertificateRequest,
) -> ApiResult<CertificateAnswer> {
    if gateway.spec.tls == Tls::Off {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the ports of this gateway are plain"));
    }
    let observed = context.observed().clone();
    let mut tx = context.store.begin_read().await?;
    let state = DbState::read(&mut tx, &observed).await?;
    let names = port_names::of(&context.config, &state, gateway)
        .ok_or_else(|| ApiError::not_found("the gateway has no address"))?;
    let issued = context.authority.issue_for_ports(&names, &request.certificate_request, SystemClock.now());
    let certificate = issued.map_err(|error| {
        tracing::warn!(gateway = %gateway.id, %error, "gateway {} gets no certificate for its ports", gateway.spec.name);
        ApiError::invalid("the request for a certificate is not one, or is not signed by its key")
    })?;
    Ok(CertificateAnswer { certificate })
}
