//! Hosts: join, report, drain.

use std::collections::BTreeSet;

use mooring_api::ErrorCode;
use mooring_api::view::{DrainRequest, FindingView};
use mooring_api::watch::{HostReport, JoinAnswer, JoinRequest};
use mooring_store::{Drain, Extent, HostKey, HostRow, Joined, Tx};
use mooring_types::duration::parse_duration;
use mooring_types::{Clock, HostId};

use crate::auth::User;
use crate::decide::drain;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};
use crate::usecase::usage;
use crate::view::finding::findings_on;

/// The staleness of the recorded last report of a host.
const LAST_SEEN_STALENESS: std::time::Duration = std::time::Duration::from_secs(30);

/// Registers a host. A host that joined before keeps its id and overlay address, and gets a new
/// token.
pub(crate) async fn join(context: &Context, request: JoinRequest) -> ApiResult<JoinAnswer> {
    // Hashes are compared: the time that a comparison takes reveals nothing of the token.
    if hash_token(&request.join_token) != hash_token(&context.join_token) {
        return Err(ApiError::new(ErrorCode::Unauthenticated, "wrong join token")
            .hint("it is in the file `join-token` of OpCenter's state directory"));
    }
    let mut tx = context.store.begin().await?;
    let hosts = tx.host_list().await?;
    let host_before = hosts.iter().find(|host| host.name == request.name);
    if let Some(host_before) = host_before.filter(|host_before| !has_key_of(&request, host_before)) {
        return Err(refused_join(host_before));
    }
    let used: BTreeSet<_> = hosts.iter().map(|host| host.overlay).collect();
    let overlay =
        match host_before {
            Some(host) => host.overlay,
            None => context.config.overlay.free_host_address(&used).ok_or_else(|| {
                ApiError::new(ErrorCode::ResourceExhausted, "every overlay address for hosts is taken")
            })?,
        };
    let (id, token) =
        (host_before.map_or_else(|| HostId::random(&mut rand::rng()), |host| host.id.clone()), new_token());
    let host = HostRow {
        id: id.clone(),
        name: request.name,
        overlay,
        token_hash: hash_token(&token),
        key: HostKey::Hash(hash_token(&request.host_key)),
        joined: Joined {
            role: request.role,
            address: request.address,
            public_address: request.public_address,
            migration_port: request.migration_port,
            certificate: request.certificate,
            wireguard_key: request.wireguard_key,
            facts: match host_before {
                Some(host_before) => request.facts.clone().after(&host_before.joined.facts),
                None => request.facts.clone(),
            },
        },
        last_seen: Some(context.clock.now()),
        drain_by_hand: None,
        drain_by_notice: None,
    };
    tx.host_put(&host).await?;
    tx.commit().await?;
    tracing::info!(host = %id, "host {} ({id}) has joined", host.name);
    let report =
        HostReport { sequence: 0, facts: request.facts, jobs: request.jobs, problems: Vec::new(), notice: None };
    context.observed().host_put(id.clone(), report);
    context.wake();
    Ok(JoinAnswer { host: id, token })
}

/// Returns whether a join under the name of a known host comes from that host.
///
/// A host of a database without keys is recognized by its certificate, once.
fn has_key_of(request: &JoinRequest, host: &HostRow) -> bool {
    match &host.key {
        HostKey::Hash(hash) => *hash == hash_token(&request.host_key),
        HostKey::Awaited => true,
        HostKey::Unrecorded => host.joined.certificate == request.certificate,
    }
}

fn refused_join(host: &HostRow) -> ApiError {
    tracing::warn!(host = %host.id, "refused a join as host {} without its key", host.name);
    let message = format!("a host named `{}` has joined before, with another key", host.name);
    ApiError::new(ErrorCode::AlreadyExists, message).hint(format!(
        "give another machine a `--name` of its own; if this host lost its state directory, \
         an admin runs `float hosts rejoin {}`",
        host.name
    ))
}

/// Lets a host that lost its state directory join again under its name, with a new key.
///
/// Until then everybody with the join token can take the name.
pub(crate) async fn rejoin(context: &Context, user: &User, id: &str) -> ApiResult<HostId> {
    user.refuse_unless_admin("letting a host join again")?;
    let mut tx = context.store.begin().await?;
    let host = find(&mut tx, id).await?;
    tx.host_put(&HostRow { key: HostKey::Awaited, ..host.clone() }).await?;
    tx.commit().await?;
    tracing::info!(host = %host.id, user = user.name, "host {} may join again with a new key", host.name);
    Ok(host.id)
}

/// Returns what matters to the migrations of the jobs on a host.
pub(crate) async fn check(context: &Context, user: &User, id: &str) -> ApiResult<Vec<FindingView>> {
    user.refuse_unless_admin("looking at all jobs of a host")?;
    let mut tx = context.store.begin().await?;
    let host = find(&mut tx, id).await?;
    let jobs = tx.job_list_live().await?;
    Ok(findings_on(&context.observed(), &host.id, &jobs))
}

/// Takes a report. Only changes that have to outlive a restart are written to the database.
pub(crate) async fn report(context: &Context, host: HostRow, report: HostReport) -> ApiResult<()> {
    let now = context.clock.now();
    let facts = report.facts.clone().after(&host.joined.facts);
    let last = context.observed().host(&host.id).cloned();
    let is_known = |problem: &&String| last.as_ref().is_some_and(|last| last.problems.contains(problem));
    for problem in report.problems.iter().filter(|problem| !is_known(problem)) {
        tracing::warn!(host = %host.id, "host {}: {problem}", host.name);
    }
    usage::take_in(context, last.as_ref(), &report).await?;
    take_notice(context, &host, &report).await?;
    context.observed().host_put(host.id.clone(), report);
    context.wake();
    if host.joined.facts != facts || host.last_seen.is_none_or(|seen| seen + LAST_SEEN_STALENESS < now) {
        let mut tx = context.store.begin().await?;
        // A host that has joined again meanwhile has another token, and reports with that.
        let current = tx.host_list().await?.into_iter().find(|current| current.token_hash == host.token_hash);
        if let Some(current) = current {
            let joined = Joined { facts, ..current.joined };
            tx.host_put(&HostRow { joined, last_seen: Some(now), ..current }).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Drains a host that its cloud reclaims, and ends the drain when the notice is withdrawn.
async fn take_notice(context: &Context, host: &HostRow, report: &HostReport) -> ApiResult<()> {
    let Some(notice) = report.notice else { return Ok(()) };
    let drain_of = |host: &HostRow| {
        drain::by_notice(host.name.as_str(), notice, host.drain_by_notice.as_ref(), context.clock.now())
    };
    if drain_of(host) == host.drain_by_notice {
        return Ok(());
    }
    let mut tx = context.store.begin().await?;
    // Read again: an admin may have drained the host meanwhile.
    let Some(host) = tx.host_list().await?.into_iter().find(|row| row.id == host.id) else { return Ok(()) };
    let drain = drain_of(&host);
    tx.host_drain_set(&host.id, host.drain_by_hand.as_ref(), drain.as_ref()).await?;
    tx.commit().await?;
    match drain {
        Some(drain) => tracing::warn!(host = %host.id, "{}; its jobs leave", drain.reason),
        None => tracing::info!(host = %host.id, "host {} is no longer reclaimed", host.name),
    }
    Ok(())
}

/// Drains a host, or changes the deadline of a drain by hand.
pub(crate) async fn drain(context: &Context, user: &User, id: &str, request: &DrainRequest) -> ApiResult<HostId> {
    user.refuse_unless_admin("draining a host")?;
    let now = context.clock.now();
    let deadline = match request.within.as_str() {
        "" => None,
        text => {
            let within = parse_duration(text).map_err(|error| ApiError::invalid(error.to_string()))?;
            Some(now.checked_add(within).map_err(|_| ApiError::invalid(format!("`{text}` is too long")))?)
        }
    };
    let mut tx = context.store.begin().await?;
    let host = find(&mut tx, id).await?;
    let since = host.drain_by_hand.as_ref().map_or(now, |drain| drain.since);
    let reason = format!("host {} is drained by {}", host.name, user.name);
    let by_hand = Drain { since, deadline, extent: Extent::Everything, reason };
    tx.host_drain_set(&host.id, Some(&by_hand), host.drain_by_notice.as_ref()).await?;
    tx.commit().await?;
    tracing::info!(host = %host.id, user = user.name, "{}", by_hand.reason);
    context.wake();
    Ok(host.id)
}

/// Ends a drain; migrations under way continue.
pub(crate) async fn undrain(context: &Context, user: &User, id: &str) -> ApiResult<HostId> {
    user.refuse_unless_admin("ending the drain of a host")?;
    let mut tx = context.store.begin().await?;
    let host = find(&mut tx, id).await?;
    let stands = context.observed().host(&host.id).is_some_and(|report| report.notice.is_some());
    if let Some(notice) = host.drain_by_notice.as_ref().filter(|_| stands) {
        return Err(ApiError::new(ErrorCode::WrongStatus, notice.reason.clone())
            .hint("it takes jobs again when its cloud withdraws the notice"));
    }
    tx.host_drain_set(&host.id, None, None).await?;
    tx.commit().await?;
    tracing::info!(host = %host.id, user = user.name, "host {} takes jobs again", host.name);
    context.wake();
    Ok(host.id)
}

/// Returns the host with that id or name.
pub(crate) async fn find(tx: &mut Tx, id: &str) -> ApiResult<HostRow> {
    let mut hosts = tx.host_list().await?.into_iter();
    hosts
        .find(|host| host.id.as_str() == id || host.name.as_str() == id)
        .ok_or_else(|| ApiError::not_found(format!("no host `{id}`")).hint("`float hosts` shows the hosts"))
}
