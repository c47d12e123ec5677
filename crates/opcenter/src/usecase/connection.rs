//! Connections: connect and disconnect.

use std::collections::BTreeSet;

use mooring_api::ErrorCode;
use mooring_api::view::ConnectRequest;
use mooring_store::{ConnectionRow, GatewayRow, JobRow, Tx};
use mooring_types::gateway::{Access, Cookies, HoldLimits, Protocol, WakeOn, Widget};
use mooring_types::{ConnectionId, Port};

use super::{allowed, find_gateway, find_job, parse};
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};

/// The longest hold in seconds: a week.
const HOLD_SECONDS_MAX: u32 = 7 * 24 * 3600;
/// The most held requests: each costs a socket and its headers.
const HELD_REQUESTS_MAX: u32 = 1_000_000;

/// The most users with whom a connection is shared.
const SHARES_MAX: usize = 100;

/// A new connection.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) id: ConnectionId,
    /// The secret of its link, which is kept nowhere.
    pub(crate) link: Option<String>,
}

/// Connects ports of a job to a gateway, all or none. Returns the new connections.
pub(crate) async fn connect(
    context: &Context,
    user: &User,
    gateway: &str,
    request: &ConnectRequest,
) -> ApiResult<Vec<Connected>> {
    let manner = Manner {
        protocol: request.protocol,
        hold_limits: hold_limits(request)?,
        wake_on: request.wake_on,
        widget: request.widget,
        cookies: request.cookies,
        access: request.access,
        shares: request.shares.clone(),
    };
    let mut tx = context.store.begin().await?;
    check_access(&mut tx, request).await?;
    let gateway = find_gateway(&mut tx, &parse(gateway).at("gateway")?).await.at("gateway")?;
    let job = find_job(&mut tx, user, request.job_id.as_str()).await.at("jobId")?;
    allowed::connect(&job).at("jobId")?;
    let connections = insert_with(&mut tx, &gateway, &job, &request.target_ports, manner).await?;
    tx.commit().await?;
    context.wake();
    Ok(connections)
}

/// The options of a connection.
#[derive(Debug, Clone, Default)]
struct Manner {
    protocol: Protocol,
    hold_limits: HoldLimits,
    wake_on: Option<WakeOn>,
    widget: Widget,
    cookies: Cookies,
    access: Access,
    shares: Vec<String>,
}

/// Checks who is to be let in.
async fn check_access(tx: &mut Tx, request: &ConnectRequest) -> ApiResult<()> {
    let access = request.access;
    if access.is_guarded() && !request.protocol.speaks_http() {
        return Err(ApiError::invalid(format!("access `{access}` takes a browser, and the protocol is `tcp`"))
            .hint("connect with the protocol `http`, or restrict a security group")
            .at("access"));
    }
    if !access.is_guarded() && !request.shares.is_empty() {
        return Err(ApiError::invalid("a connection that is open is shared with everybody")
            .hint("choose the access `private`")
            .at("shares"));
    }
    if request.shares.len() > SHARES_MAX {
        return Err(ApiError::invalid(format!("a connection is shared with at most {SHARES_MAX} users")).at("shares"));
    }
    for name in &request.shares {
        if tx.user_get(name).await?.is_none() {
            return Err(ApiError::not_found(format!("no user `{name}`")).at("shares"));
        }
    }
    Ok(())
}

/// Returns the hold limits that are requested, or the defaults, after checking them.
fn hold_limits(request: &ConnectRequest) -> ApiResult<HoldLimits> {
    let usual = HoldLimits::default();
    Ok(HoldLimits {
        hold_seconds: hold_seconds(request.hold_limit.unwrap_or(usual.hold_seconds))?,
        page_seconds: page_seconds(request.page_patience.unwrap_or(usual.page_seconds))?,
        held_max: held_max(request.held_max.unwrap_or(usual.held_max))?,
    })
}

/// Checks the longest wait of a new request, in seconds.
pub(crate) fn hold_seconds(value: u32) -> ApiResult<u32> {
    within("a hold limit in seconds", value, 1, HOLD_SECONDS_MAX).at("holdLimit")
}

/// Checks the longest wait of a page load, in seconds.
pub(crate) fn page_seconds(value: u32) -> ApiResult<u32> {
    within("a page wait in seconds", value, 0, HOLD_SECONDS_MAX).at("pagePatience")
}

/// Checks the most requests that wait at once.
pub(crate) fn held_max(value: u32) -> ApiResult<u32> {
    within("a number of held requests", value, 0, HELD_REQUESTS_MAX).at("heldMax")
}

fn within(what: &str, value: u32, least: u32, most: u32) -> ApiResult<u32> {
    let refused = || ApiError::invalid(format!("{what} of {value}: it takes at least {least} and at most {most}"));
    (least..=most).contains(&value).then_some(value).ok_or_else(refused)
}

/// Adds connections with default options.
pub(crate) async fn insert(
    tx: &mut Tx,
    gateway: &GatewayRow,
    job: &JobRow,
    targets: &[u16],
) -> ApiResult<Vec<ConnectionId>> {
    let connected = insert_with(tx, gateway, job, targets, Manner::default()).await?;
    Ok(connected.into_iter().map(|connected| connected.id).collect())
}

async fn insert_with(
    tx: &mut Tx,
    gateway: &GatewayRow,
    job: &JobRow,
    targets: &[u16],
    manner: Manner,
) -> ApiResult<Vec<Connected>> {
    let targets = published(job, targets).at("targetPorts")?;
    let all = tx.connection_list().await?;
    let of_gateway: Vec<&ConnectionRow> = all.iter().filter(|connection| connection.gateway == gateway.id).collect();
    if let Some(connection) =
        of_gateway.iter().find(|connection| connection.job == job.id && targets.contains(&connection.target_port))
    {
        let (target, port) = (connection.target_port, connection.gateway_port);
        return Err(ApiError::new(
            ErrorCode::AlreadyExists,
            format!("port {target} of the job is connected to gateway `{}` already, at port {port}", gateway.spec.name),
        )
        .hint("`float gateway info` shows the connections")
        .at("targetPorts"));
    }
    let used: BTreeSet<Port> = of_gateway.iter().map(|connection| connection.gateway_port).collect();
    let range = gateway.spec.port_range;
    let last = tx.gateway_port_uses(&gateway.id, &job.user_name).await?;
    let ports = range.assign(&used, &last, targets.len()).ok_or_else(|| {
        let free = range.size().saturating_sub(used.len());
        ApiError::new(
            ErrorCode::ResourceExhausted,
            format!("gateway `{}` has {free} free ports in {range}, needed: {}", gateway.spec.name, targets.len()),
        )
        .hint("disconnect a job, or create another gateway")
        .at("gateway")
    })?;
    let mut connections = Vec::new();
    for (target_port, gateway_port) in targets.into_iter().zip(ports) {
        let link = (manner.access == Access::Link).then(new_token);
        let connection = ConnectionRow {
            id: ConnectionId::random(&mut rand::rng()),
            gateway: gateway.id.clone(),
            job: job.id.clone(),
            target_port,
            gateway_port,
            opened: false,
            protocol: manner.protocol,
            hold_limits: manner.hold_limits,
            wake_on: manner.wake_on,
            widget: manner.widget,
            cookies: manner.cookies,
            access: manner.access,
            shares: manner.shares.clone(),
            link_hash: link.as_deref().map(hash_token),
        };
        tx.connection_insert(&connection).await?;
        connections.push(Connected { id: connection.id, link });
    }
    Ok(connections)
}

/// Returns the published ports to connect: the requested ones, or all.
fn published(job: &JobRow, targets: &[u16]) -> ApiResult<Vec<Port>> {
    let published: Vec<Port> = job.spec.publish.iter().map(|publish| publish.host).collect();
    if published.is_empty() {
        return Err(ApiError::invalid("the job publishes no port").hint("submit it with `--publish <port>`"));
    }
    if targets.is_empty() {
        return Ok(published);
    }
    let distinct: BTreeSet<u16> = targets.iter().copied().collect();
    if distinct.len() != targets.len() {
        return Err(ApiError::invalid("a target port is named twice"));
    }
    let all: Vec<String> = published.iter().map(ToString::to_string).collect();
    let check = |target: &u16| {
        published.iter().copied().find(|port| port.get() == *target).ok_or_else(|| {
            ApiError::invalid(format!("the job does not publish port {target}"))
                .hint(format!("it publishes {}", all.join(", ")))
        })
    };
    targets.iter().map(check).collect()
}

/// Disconnects all ports of a job from a gateway, or one.
pub(crate) async fn disconnect(
    context: &Context,
    user: &User,
    gateway: &str,
    job: &str,
    target: Option<u16>,
) -> ApiResult<()> {
    let mut tx = context.store.begin().await?;
    let gateway = find_gateway(&mut tx, &parse(gateway)?).await?;
    let job = find_job(&mut tx, user, job).await?;
    let all = tx.connection_list().await?;
    let targeted: Vec<&ConnectionRow> = all
        .iter()
        .filter(|connection| connection.gateway == gateway.id && connection.job == job.id)
        .filter(|connection| target.is_none_or(|port| connection.target_port.get() == port))
        .collect();
    if targeted.is_empty() {
        let what = target.map_or_else(|| "the job".to_owned(), |port| format!("port {port} of the job"));
        return Err(ApiError::not_found(format!("{what} is not connected to gateway `{}`", gateway.spec.name))
            .hint("`float gateway info` shows the connections"));
    }
    for connection in targeted {
        tx.connection_delete(&connection.id).await?;
    }
    tx.commit().await?;
    context.wake();
    Ok(())
}
