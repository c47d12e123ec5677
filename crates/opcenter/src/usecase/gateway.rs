//! Gateways: create, destroy.

use mooring_api::ErrorCode;
use mooring_api::view::GatewayCreateRequest;
use mooring_store::{GatewayRow, JobRow};
use mooring_types::gateway::GatewaySpec;
use mooring_types::placement::choose;
use mooring_types::{Clock, GatewayId, PortRange};

use super::{find_gateway, job::resources, parse, taken};
use crate::auth::{User, new_token};
use crate::center::Center;
use crate::error::{ApiError, ApiResult};
use crate::snapshot::Snapshot;

const CPU_DEFAULT: u32 = 1;
const MEM_DEFAULT: f64 = 1.0;

/// Creates a gateway on the host with the most room; its agent starts it.
pub(crate) async fn create(center: &Center, request: GatewayCreateRequest) -> ApiResult<GatewayId> {
    let port_range = match request.port_range.as_str() {
        "" => PortRange::DEFAULT,
        text => parse(text)?,
    };
    let spec = GatewaySpec {
        name: parse(&request.name)?,
        resources: resources(request.cpu.unwrap_or(CPU_DEFAULT), request.mem_gb.unwrap_or(MEM_DEFAULT))?,
        port_range,
    };
    let observed = center.observed().clone();
    let mut tx = center.store.begin().await?;
    let all = Snapshot::read(&mut tx, &observed).await?;
    let chosen = choose(&all.gateway_candidates(&observed), spec.resources, None)?.id.clone();
    let address = |host| all.host(host).map(|host| host.joined.public_address);
    let overlapping = all
        .gateways
        .iter()
        .find(|other| address(&other.host) == address(&chosen) && other.spec.port_range.overlaps(port_range));
    if let Some(other) = overlapping.filter(|other| other.spec.name != spec.name) {
        let (name, range) = (&other.spec.name, other.spec.port_range);
        return Err(ApiError::invalid(format!(
            "port range {port_range} overlaps {range} of gateway `{name}` on the same address"
        ))
        .hint("choose another range with `--portRange`"));
    }
    let gateway = GatewayRow {
        id: GatewayId::random(&mut rand::rng()),
        spec,
        host: chosen,
        token: new_token(),
        create_time: center.clock.now(),
    };
    let name = gateway.spec.name.clone();
    tx.gateway_insert(&gateway).await.map_err(|error| {
        taken(error, || format!("a gateway is named `{name}` already")).hint("choose another name, or use that gateway")
    })?;
    tx.commit().await?;
    tracing::info!(gateway = %gateway.id, "gateway {} ({name}) is created", gateway.id);
    center.wake();
    Ok(gateway.id)
}

/// Destroys a gateway; the jobs connected to it keep running.
pub(crate) async fn destroy(center: &Center, user: &User, id: &str) -> ApiResult<()> {
    let mut tx = center.store.begin().await?;
    let gateway = find_gateway(&mut tx, id).await?;
    let connections = tx.connection_list().await?;
    let owners: Vec<JobRow> = tx.job_list_live().await?;
    let foreign = |job: &JobRow| {
        !user.may_see(&job.user_name)
            && connections.iter().any(|known| known.gateway == gateway.id && known.job == job.id)
    };
    if owners.iter().any(foreign) {
        return Err(ApiError::new(ErrorCode::PermissionDenied, "jobs of other users are connected to the gateway")
            .hint("ask an admin, or those users"));
    }
    tx.gateway_delete(&gateway.id).await?;
    tx.commit().await?;
    tracing::info!(gateway = %gateway.id, "gateway {} ({}) is destroyed", gateway.id, gateway.spec.name);
    center.wake();
    Ok(())
}
