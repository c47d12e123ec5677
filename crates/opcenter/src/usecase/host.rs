//! Hosts: join, report, drain.

use std::collections::BTreeSet;

use mooring_api::ErrorCode;
use mooring_api::view::{DrainRequest, FindingView, HostRemoval};
use mooring_api::watch::{CertificateAnswer, CertificateRequest, HostReport, JoinAnswer, JoinRequest};
use mooring_ops::log::chain;
use mooring_store::{Drain, Extent, GatewayRow, HostKey, HostRow, JobRow, Joined, MigrationRow, StoreError, Tx};
use mooring_tls::Daemon;
use mooring_types::duration::parse_duration;
use mooring_types::{Clock, GatewayId, HostId, JobId};

use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::decide::drain;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::db_state::DbState;
use crate::state::observed::Observed;
use crate::state::token::hash_token;
use crate::usecase::certificate::{self, Issued};
use crate::usecase::{join_token, usage};
use crate::view::finding::findings_on;

/// The staleness of the recorded last report of a host.
const LAST_SEEN_STALENESS: std::time::Duration = std::time::Duration::from_secs(30);

/// Registers a host. A host that joined before shows its key, keeps its id and overlay address, and
/// gets a new certificate. Every other one needs a join token.
pub(crate) async fn join(context: &Context, request: JoinRequest) -> ApiResult<JoinAnswer> {
    audit::about(Kind::Host, request.name.as_str(), "");
    let mut tx = context.store.begin().await?;
    let (mut hosts, removed) = (tx.host_list().await?, tx.host_list_removed().await?);
    // The name of a removed host is free, as if an admin had let it join again.
    hosts.extend(removed.into_iter().map(|host| HostRow { key: HostKey::Awaited, ..host }));
    let host_before = hosts.iter().find(|host| host.name == request.name);
    let is_expected = host_before.is_some_and(|host| host.key != HostKey::Awaited && has_key_of(&request, host));
    if !is_expected {
        join_token::take(context, &mut tx, &request).await?;
        if let Some(host_before) = host_before.filter(|host_before| !has_key_of(&request, host_before)) {
            return Err(refused_join(host_before));
        }
    }
    let used: BTreeSet<_> = hosts.iter().map(|host| host.overlay).collect();
    let overlay =
        match host_before {
            Some(host) => host.overlay,
            None => context.config.overlay.free_host_address(&used).ok_or_else(|| {
                ApiError::new(ErrorCode::ResourceExhausted, "every overlay address for hosts is taken")
            })?,
        };
    let id = host_before.map_or_else(|| HostId::random(&mut rand::rng()), |host| host.id.clone());
    let daemon = Daemon::Host(id.clone());
    let Issued { certificate, key } = certificate::issue(context, &daemon, &request.certificate_request)?;
    let has_new_key = host_before.is_some_and(|host| host.public_key != key);
    let host = HostRow {
        id: id.clone(),
        name: request.name,
        overlay,
        public_key: key,
        key: HostKey::Hash(hash_token(&request.host_key)),
        joined: Joined {
            role: request.role,
            address: request.address,
            public_address: request.public_address,
            migration_port: request.migration_port,
            wireguard_key: request.wireguard_key,
            facts: match host_before {
                Some(host_before) => request.facts.clone().after(&host_before.joined.facts),
                None => request.facts.clone(),
            },
        },
        last_seen: Some(context.clock.now()),
        drain_by_hand: None,
        drain_by_notice: None,
        removed_at: None,
    };
    tx.host_put(&host).await.map_err(|error| key_taken(error, &host))?;
    tx.commit().await?;
    if has_new_key {
        context.daemons.end(&daemon);
    }
    audit::by(&format!("host {}", host.name));
    tracing::info!(host = %id, "host {} ({id}) has joined", host.name);
    let report = HostReport {
        sequence: 0,
        lapse: 0,
        facts: request.facts,
        jobs: request.jobs,
        problems: Vec::new(),
        notice: None,
    };
    context.observed().host_put(id.clone(), report);
    context.wake();
    Ok(JoinAnswer { host: id, certificate, authority: context.authority.pem().to_owned() })
}

/// Two hosts can't have one key: the state directory of one is a copy.
fn key_taken(error: StoreError, host: &HostRow) -> ApiError {
    if !error.is_taken() {
        return error.into();
    }
    let message = format!("another host has the key with which host {} wants to join", host.name);
    ApiError::new(ErrorCode::AlreadyExists, message)
        .hint("its state directory is a copy of another host's: remove it on one of the two machines")
}

/// Gives a host its next certificate.
pub(crate) async fn renew(
    context: &Context,
    host: &HostRow,
    request: &CertificateRequest,
) -> ApiResult<CertificateAnswer> {
    let daemon = Daemon::Host(host.id.clone());
    let Issued { certificate, key } = certificate::issue(context, &daemon, &request.certificate_request)?;
    if key != host.public_key {
        return Err(ApiError::new(
            ErrorCode::PermissionDenied,
            "a certificate is renewed for the key that the host joined with",
        ));
    }
    Ok(CertificateAnswer { certificate })
}

/// Gives a gateway a certificate, by the agent of the host that it is placed on.
pub(crate) async fn certify_gateway(
    context: &Context,
    host: &HostRow,
    gateway: &GatewayId,
    request: &CertificateRequest,
) -> ApiResult<CertificateAnswer> {
    let mut tx = context.store.begin().await?;
    let placed = tx.gateway_list().await?.into_iter().find(|row| row.id == *gateway && row.host == host.id);
    let Some(row) = placed else {
        tracing::warn!(host = %host.id, %gateway, "refused host {} a certificate for gateway {gateway}, which is not on it", host.name);
        return Err(ApiError::new(
            ErrorCode::PermissionDenied,
            format!("gateway `{gateway}` is not on host {}", host.name),
        ));
    };
    let daemon = Daemon::Gateway(gateway.clone());
    let Issued { certificate, key } = certificate::issue(context, &daemon, &request.certificate_request)?;
    if row.public_key.as_ref() != Some(&key) {
        tx.gateway_key_set(gateway, &key).await?;
        tx.commit().await?;
        context.daemons.end(&daemon);
    }
    Ok(CertificateAnswer { certificate })
}

/// Returns whether a join under the name of a known host comes from that host.
fn has_key_of(request: &JoinRequest, host: &HostRow) -> bool {
    match &host.key {
        HostKey::Hash(hash) => *hash == hash_token(&request.host_key),
        HostKey::Awaited => true,
        HostKey::Unrecorded => false,
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
    context.wake();
    tracing::info!(host = %host.id, user = user.name, "host {} may join again with a new key", host.name);
    Ok(host.id)
}

/// Removes a host. Its agent is not let in again without a join token.
///
/// A host without jobs and gateways is removed at once. One that is lost for ever is removed with
/// them: its gateways are destroyed, and its jobs are recovered from their snapshots or end.
pub(crate) async fn remove(context: &Context, user: &User, id: &str, removal: HostRemoval) -> ApiResult<()> {
    user.refuse_unless_admin("removing a host")?;
    let mut tx = context.store.begin().await?;
    let host = find(&mut tx, id).await?;
    let observed = context.observed().clone();
    let state = DbState::read(&mut tx, &observed).await?;
    let mut gateways = Vec::new();
    if removal.lost {
        refuse_as_lost(&state, &observed, &host)?;
        gateways = gateways_on(&state, &host).map(|gateway| gateway.id.clone()).collect();
        for gateway in &gateways {
            tx.gateway_delete(gateway).await?;
        }
    } else {
        refuse_removal(&state, &host)?;
    }
    tx.host_remove(&host.id, context.clock.now()).await?;
    tx.commit().await?;
    context.daemons.end(&Daemon::Host(host.id.clone()));
    for gateway in gateways {
        context.traffic.forget(&gateway);
        context.daemons.end(&Daemon::Gateway(gateway));
    }
    context.observed().host_forget(&host.id);
    context.wake();
    tracing::info!(host = %host.id, user = user.name, "host {} is removed", host.name);
    Ok(())
}

/// Refuses to remove a host as lost while it is there, or while a migration waits for it.
fn refuse_as_lost(state: &DbState, observed: &Observed, host: &HostRow) -> ApiResult<()> {
    if observed.host_is_reachable(&host.id) {
        let message = format!("host {} is not lost: its agent reports", host.name);
        return Err(ApiError::new(ErrorCode::WrongStatus, message)
            .hint(format!("let its jobs leave: `float hosts drain {} --wait`", host.name)));
    }
    let is_end = |row: &&MigrationRow| [&row.from, &row.to].into_iter().flatten().any(|end| *end == host.id);
    let moving: Vec<String> = state.migrations.values().filter(is_end).map(|row| row.job.to_string()).collect();
    if moving.is_empty() {
        return Ok(());
    }
    let message = format!("migrations from or to host {} have not ended: jobs {}", host.name, moving.join(", "));
    Err(ApiError::new(ErrorCode::WrongStatus, message).hint("they end by themselves: try again in a minute"))
}

fn gateways_on<'a>(state: &'a DbState, host: &'a HostRow) -> impl Iterator<Item = &'a GatewayRow> {
    state.gateways.iter().filter(|gateway| gateway.host == host.id)
}

/// Refuses to remove a host as long as something is on it.
pub(crate) fn refuse_removal(state: &DbState, host: &HostRow) -> ApiResult<()> {
    let is_here = |job: &&JobRow| {
        let row = state.migrations.get(&job.id);
        let ends = row.into_iter().flat_map(|row| [&row.from, &row.to]).chain([&job.host]);
        !job.status.is_final() && ends.into_iter().flatten().any(|end| *end == host.id)
    };
    let jobs: Vec<String> =
        state.jobs.values().filter(is_here).map(|job| format!("{} ({})", job.spec.name, job.id)).collect();
    if !jobs.is_empty() {
        let message = format!("host {} has jobs: {}", host.name, jobs.join(", "));
        return Err(ApiError::new(ErrorCode::WrongStatus, message).hint(format!(
            "let them leave: `float hosts drain {0} --wait`; {1}",
            host.name,
            if_lost(host)
        )));
    }
    let gateways: Vec<String> = gateways_on(state, host).map(|gateway| gateway.spec.name.to_string()).collect();
    if !gateways.is_empty() {
        let message = format!("host {} has gateways: {}", host.name, gateways.join(", "));
        return Err(ApiError::new(ErrorCode::WrongStatus, message)
            .hint(format!("destroy them first: `float gateway destroy`; {}", if_lost(host))));
    }
    Ok(())
}

fn if_lost(host: &HostRow) -> String {
    format!("if its machine never comes back: `float hosts remove {} --lost`", host.name)
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
    // First of all: the host is reachable, also where the rest fails.
    context.observed().host_put(host.id.clone(), report.clone());
    if let Err(error) = usage::take_in(context, &host.id, last.as_ref(), &report).await {
        tracing::error!(host = %host.id, error = %chain(&error), "the measurements of host {} can't be kept", host.name);
    }
    let noticed = take_notice(context, &host, &report).await;
    context.wake_for_report();
    noticed?;
    if host.joined.facts != facts || host.last_seen.is_none_or(|seen| seen + LAST_SEEN_STALENESS < now) {
        let mut tx = context.store.begin().await?;
        // A host that has joined again meanwhile with another key reports with that.
        let current = tx.host_list().await?.into_iter().find(|current| current.public_key == host.public_key);
        if let Some(current) = current {
            let joined = Joined { facts, ..current.joined };
            tx.host_put(&HostRow { joined, last_seen: Some(now), ..current }).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Refuses the output of a job that was not given to a host.
pub(crate) async fn refuse_unless_given(context: &Context, host: &HostRow, job: &JobId) -> ApiResult<()> {
    if context.store.begin().await?.job_was_given_to(job, &host.id).await? {
        return Ok(());
    }
    tracing::warn!(host = %host.id, job = %job, "refused output of job {job} from host {}, which does not have it", host.name);
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("job `{job}` is not on host {}", host.name)))
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
            let within = parse_duration(text).map_err(|error| ApiError::invalid(error.to_string()).at("within"))?;
            Some(now.checked_add(within).map_err(|_| ApiError::invalid(format!("`{text}` is too long")).at("within"))?)
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
    let hosts = tx.host_list().await?;
    let found = hosts.into_iter().find(|host| host.id.as_str() == id || host.name.as_str() == id);
    if let Some(host) = &found {
        audit::about(Kind::Host, host.id.as_str(), host.name.as_str());
    }
    found.ok_or_else(|| ApiError::not_found(format!("no host `{id}`")).hint("`float hosts` shows the hosts"))
}
