//! Gateways: create, modify, restart, destroy.
//!
//! Everybody may see a gateway and connect jobs to it. Its creator and admins may change it.

use std::net::IpAddr;

use mooring_api::ErrorCode;
use mooring_api::view::{GatewayCreateRequest, GatewayModifyRequest};
use mooring_store::{ConnectionRow, GatewayRow, StoreError, Tx};
use mooring_tls::Daemon;
use mooring_types::external_url::ExternalUrl;
use mooring_types::gateway::{Exposure, GatewaySpec};
use mooring_types::host::Resources;
use mooring_types::host_name;
use mooring_types::placement::{Asked, choose};
use mooring_types::quota::Holding;
use mooring_types::{Clock, GatewayId, HostId, Name, Port, PortRange, SecurityGroupId};

use super::resources::{no_room, resources};
use super::{find_gateway, parse, quota, security_group, taken};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::db_state::DbState;

/// The size of a gateway that names none.
const DEFAULT: Resources = Resources { cpu: 1, mem_gb: 1.0 };

/// Creates a gateway on the host with the most room; its agent starts it.
pub(crate) async fn create(context: &Context, user: &User, request: GatewayCreateRequest) -> ApiResult<GatewayId> {
    let port_range = match request.port_range.as_str() {
        "" => PortRange::DEFAULT,
        text => parse(text).at("portRange")?,
    };
    let name = gateway_name(&request.name).at("name")?;
    let exposure = if request.no_public_ip { Exposure::Private } else { Exposure::Public };
    let resources = resources(request.cpu.unwrap_or(DEFAULT.cpu), request.mem_gb.unwrap_or(DEFAULT.mem_gb))?;
    let observed = context.observed().clone();
    let mut tx = context.store.begin().await?;
    user.present(&mut tx).await?;
    let security_groups = security_group::resolve(&mut tx, &request.security_groups).await.at("securityGroups")?;
    quota::admit(&mut tx, &user.name, Holding::gateway(resources)).await?;
    let state = DbState::read(&mut tx, &observed).await?;
    let spec = GatewaySpec {
        name,
        resources,
        port_range,
        exposure,
        security_groups,
        tls: request.tls,
        trusted_proxies: request.trusted_proxies,
        external_url: external_url(&request.external_url)?,
    };
    let candidates = state.gateway_candidates(&observed);
    let chosen = choose(&candidates, Asked::of_any(spec.resources), None)
        .map_err(|error| no_room(error, DEFAULT, spec.resources))?
        .id
        .clone();
    // The gateway's own name is refused below, with a better message.
    let others = state.gateways.iter().filter(|other| other.spec.name != spec.name);
    refuse_overlap(&state, others, &chosen, &spec)?;
    refuse_foreign_host(context, user, &spec, state.gateway_address(&chosen, exposure))?;
    let gateway = GatewayRow {
        id: GatewayId::random(&mut rand::rng()),
        spec,
        host: chosen,
        public_key: None,
        create_time: context.clock.now(),
        restart: 0,
        user_name: user.name.clone(),
    };
    let name = gateway.spec.name.clone();
    tx.gateway_insert(&gateway).await.map_err(|error| name_taken(error, &gateway.spec))?;
    tx.commit().await?;
    audit::about(Kind::Gateway, gateway.id.as_str(), name.as_str());
    tracing::info!(gateway = %gateway.id, user = user.name, "gateway {} ({name}) is created", gateway.id);
    context.wake();
    Ok(gateway.id)
}

/// Changes a gateway, all of the request or nothing. Its process and its connections go on.
pub(crate) async fn modify(
    context: &Context,
    user: &User,
    id: &str,
    request: &GatewayModifyRequest,
) -> ApiResult<GatewayId> {
    modify_from(context, user, id, None, request).await
}

/// Changes a gateway unless it was changed since `began`, the spec that the change starts from.
pub(crate) async fn modify_from(
    context: &Context,
    user: &User,
    id: &str,
    began: Option<&GatewaySpec>,
    request: &GatewayModifyRequest,
) -> ApiResult<GatewayId> {
    if *request == GatewayModifyRequest::default() {
        return Err(ApiError::invalid("nothing to change").hint("see `float gateway modify --help`"));
    }
    let observed = context.observed().clone();
    let mut tx = context.store.begin().await?;
    let gateway = find_gateway(&mut tx, &parse(id)?).await?;
    let mut state = DbState::read(&mut tx, &observed).await?;
    may_change(user, &gateway)?;
    if began.is_some_and(|began| *began != gateway.spec) {
        return Err(ApiError::new(
            ErrorCode::WrongStatus,
            format!("gateway `{}` was changed meanwhile", gateway.spec.name),
        )
        .hint("look at it again, then repeat the change"));
    }
    state.gateways.retain(|other| other.id != gateway.id);
    let old = &gateway.spec;
    let spec = GatewaySpec {
        name: if request.name.is_empty() { old.name.clone() } else { gateway_name(&request.name).at("name")? },
        resources: resources(request.cpu.unwrap_or(old.resources.cpu), request.mem_gb.unwrap_or(old.resources.mem_gb))?,
        port_range: match request.port_range.as_str() {
            "" => old.port_range,
            text => parse(text).at("portRange")?,
        },
        exposure: old.exposure,
        security_groups: changed_groups(&mut tx, old, request).await?,
        tls: request.tls.unwrap_or(old.tls),
        trusted_proxies: request.trusted_proxies.clone().unwrap_or_else(|| old.trusted_proxies.clone()),
        external_url: match &request.external_url {
            None => old.external_url.clone(),
            Some(text) => external_url(text)?,
        },
    };
    if spec.external_url != old.external_url {
        refuse_foreign_host(context, user, &spec, state.gateway_address(&gateway.host, spec.exposure))?;
    }
    quota::admit(&mut tx, &gateway.user_name, Holding::growth(old.resources, spec.resources)).await?;
    if spec.port_range != old.port_range {
        refuse_overlap(&state, state.gateways.iter(), &gateway.host, &spec)?;
        refuse_ports_in_use(&state, &gateway, spec.port_range)?;
    }
    if spec.resources.cpu > old.resources.cpu || spec.resources.mem_gb > old.resources.mem_gb {
        // Checked without the gateway's present share, which it would return.
        let candidates = state.gateway_candidates(&observed);
        let host = candidates.iter().find(|host| host.id == gateway.host);
        host.ok_or_else(|| ApiError::not_found("the gateway's host no longer takes gateways"))?
            .admits(Asked::of_any(spec.resources))
            .map_err(|error| no_room(error, old.resources, spec.resources))?;
    }
    tx.gateway_update(&gateway.id, &spec).await.map_err(|error| name_taken(error, &spec))?;
    tx.commit().await?;
    tracing::info!(gateway = %gateway.id, user = user.name, "gateway {} ({}) is modified", gateway.id, spec.name);
    context.wake();
    Ok(gateway.id)
}

/// Parses an external URL; empty is none.
fn external_url(text: &str) -> ApiResult<Option<ExternalUrl>> {
    if text.is_empty() { Ok(None) } else { parse::<ExternalUrl>(text).at("externalUrl").map(Some) }
}

/// Refuses an external URL at a host that a user may not give a gateway.
///
/// OpCenter sends browsers to it with codes that let them into jobs, also into those that others
/// have connected. So a host that is neither the gateway's address nor declared takes an admin.
fn refuse_foreign_host(context: &Context, user: &User, spec: &GatewaySpec, address: Option<IpAddr>) -> ApiResult<()> {
    let Some(url) = &spec.external_url else { return Ok(()) };
    let host = url.host().trim_matches(['[', ']']);
    let is_own = address.is_some_and(|address| host.parse() == Ok(address));
    let sample = url.of_port(Port::MAX);
    if user.is_admin() || is_own || host_name::is_declared(sample.host(), &context.config.gateway_hosts) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("no admin has declared the host `{}`", url.host()))
        .hint("ask an admin to set the URL, or to start OpCenter with `--gateway-host` and the host")
        .at("externalUrl"))
}

/// Parses a name. An id is refused, since a gateway is found by either.
pub(crate) fn gateway_name(text: &str) -> ApiResult<Name> {
    let name: Name = parse(text)?;
    match text.parse::<GatewayId>() {
        Ok(_) => Err(ApiError::invalid(format!("`{name}` is an id and can't be a name"))),
        Err(_) => Ok(name),
    }
}

/// Returns the gateway's security groups after a request.
async fn changed_groups(
    tx: &mut Tx,
    old: &GatewaySpec,
    request: &GatewayModifyRequest,
) -> ApiResult<Vec<SecurityGroupId>> {
    let mut groups = old.security_groups.clone();
    for name in &request.remove_security_groups {
        let group = security_group::find(tx, name).await.at("removeSecurityGroups")?;
        let place = groups.iter().position(|id| *id == group.id).ok_or_else(|| {
            ApiError::not_found(format!("gateway `{}` has no security group `{}`", old.name, group.spec.name))
                .hint("`float gateway info` shows those that it has")
                .at("removeSecurityGroups")
        })?;
        groups.remove(place);
    }
    for name in &request.add_security_groups {
        let group = security_group::find(tx, name).await.at("addSecurityGroups")?;
        if groups.contains(&group.id) {
            let message = format!("gateway `{}` has security group `{}` already", old.name, group.spec.name);
            return Err(ApiError::new(ErrorCode::AlreadyExists, message)
                .hint("`float gateway info` shows those that it has")
                .at("addSecurityGroups"));
        }
        groups.push(group.id);
    }
    Ok(groups)
}

/// Refuses a port range that overlaps one of another gateway at the same address.
fn refuse_overlap<'a>(
    state: &DbState,
    mut others: impl Iterator<Item = &'a GatewayRow>,
    host: &HostId,
    spec: &GatewaySpec,
) -> ApiResult<()> {
    let address = state.gateway_address(host, spec.exposure);
    let overlapping = others.find(|other| {
        state.gateway_address(&other.host, other.spec.exposure) == address
            && other.spec.port_range.overlaps(spec.port_range)
    });
    let Some(other) = overlapping else { return Ok(()) };
    let (asked, name, range) = (spec.port_range, &other.spec.name, other.spec.port_range);
    Err(ApiError::invalid(format!("port range {asked} overlaps {range} of gateway `{name}` on the same address"))
        .hint("choose another range with `--portRange`")
        .at("portRange"))
}

/// Refuses a port range without ports in use: a connection keeps its port for its life.
fn refuse_ports_in_use(state: &DbState, gateway: &GatewayRow, range: PortRange) -> ApiResult<()> {
    let is_left_out =
        |connection: &&ConnectionRow| connection.gateway == gateway.id && !range.contains(connection.gateway_port);
    let named = |connection: &ConnectionRow| {
        let job = state.jobs.get(&connection.job).map_or_else(String::new, |job| format!(" ({})", job.spec.name));
        format!("{}{job}", connection.gateway_port)
    };
    let in_use: Vec<String> = state.connections.iter().filter(is_left_out).map(named).collect();
    if in_use.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::WrongStatus,
        format!("port range {range} leaves out ports in use: {}", in_use.join(", ")),
    )
    .hint("choose a range that holds them, or disconnect those jobs first")
    .at("portRange"))
}

/// Checks that a user may modify, restart or destroy a gateway: it is the user's. Others who
/// connect their jobs do not take that right away.
pub(crate) fn may_change(user: &User, gateway: &GatewayRow) -> ApiResult<()> {
    let owner = &gateway.user_name;
    if user.may_change(owner) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("gateway `{}` belongs to {owner}", gateway.spec.name))
        .hint(format!("ask {owner} or an admin, or create one of your own")))
}

fn name_taken(error: StoreError, spec: &GatewaySpec) -> ApiError {
    taken(error, || format!("a gateway is named `{}` already", spec.name))
        .hint("choose another name, or use that gateway")
        .at("name")
}

/// Replaces a gateway's process; its connections stay.
pub(crate) async fn restart(context: &Context, user: &User, id: &str) -> ApiResult<GatewayId> {
    let mut tx = context.store.begin().await?;
    let gateway = find_gateway(&mut tx, &parse(id)?).await?;
    may_change(user, &gateway)?;
    tx.gateway_restart(&gateway.id).await?;
    tx.commit().await?;
    tracing::info!(gateway = %gateway.id, "gateway {} ({}) is to be restarted", gateway.id, gateway.spec.name);
    context.wake();
    Ok(gateway.id)
}

/// Destroys a gateway; the jobs connected to it keep running.
pub(crate) async fn destroy(context: &Context, user: &User, id: &str) -> ApiResult<()> {
    let mut tx = context.store.begin().await?;
    let gateway = find_gateway(&mut tx, &parse(id)?).await?;
    may_change(user, &gateway)?;
    tx.gateway_delete(&gateway.id).await?;
    tx.commit().await?;
    context.daemons.end(&Daemon::Gateway(gateway.id.clone()));
    context.traffic.forget(&gateway.id);
    tracing::info!(gateway = %gateway.id, "gateway {} ({}) is destroyed", gateway.id, gateway.spec.name);
    context.wake();
    Ok(())
}
