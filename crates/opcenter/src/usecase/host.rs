//! Hosts: join, report.

use std::collections::BTreeSet;

use mooring_api::ErrorCode;
use mooring_api::watch::{HostReport, JoinAnswer, JoinRequest};
use mooring_store::{HostRow, Joined};
use mooring_types::{Clock, HostId};

use crate::auth::{hash_token, new_token};
use crate::center::Center;
use crate::error::{ApiError, ApiResult};
use crate::usage;

/// How exactly it is kept when a host was last heard from.
const SEEN_AFTER: std::time::Duration = std::time::Duration::from_secs(30);

/// Takes a host in. One of that name that joined before keeps its id and its overlay address, and gets a new token.
pub(crate) async fn join(center: &Center, request: JoinRequest) -> ApiResult<JoinAnswer> {
    // Equal hashes: how long it takes to compare them tells nothing of the token.
    if hash_token(&request.join_token) != hash_token(&center.join_token) {
        return Err(ApiError::new(ErrorCode::Unauthenticated, "wrong join token")
            .hint("it is in the file `join-token` of OpCenter's state directory"));
    }
    let mut tx = center.store.begin().await?;
    let hosts = tx.host_list().await?;
    let known = hosts.iter().find(|host| host.name == request.name);
    let used: BTreeSet<_> = hosts.iter().map(|host| host.overlay).collect();
    let overlay =
        match known {
            Some(host) => host.overlay,
            None => center.config.overlay.free_host_address(&used).ok_or_else(|| {
                ApiError::new(ErrorCode::ResourceExhausted, "every overlay address for hosts is taken")
            })?,
        };
    let (id, token) = (known.map_or_else(|| HostId::random(&mut rand::rng()), |host| host.id.clone()), new_token());
    let host = HostRow {
        id: id.clone(),
        name: request.name,
        overlay,
        token_hash: hash_token(&token),
        joined: Joined {
            role: request.role,
            address: request.address,
            public_address: request.public_address,
            move_port: request.move_port,
            certificate: request.certificate,
            wireguard_key: request.wireguard_key,
            facts: request.facts.clone(),
        },
        last_seen: Some(center.clock.now()),
        drain_by_hand: None,
        drain_by_notice: None,
    };
    tx.host_put(&host).await?;
    tx.commit().await?;
    tracing::info!(host = %id, "host {} ({id}) has joined", host.name);
    let report =
        HostReport { sequence: 0, facts: request.facts, jobs: request.jobs, problems: Vec::new(), notice: None };
    center.observed().host_put(id.clone(), report);
    center.wake();
    Ok(JoinAnswer { host: id, token })
}

/// Takes a report in. Only what outlives a restart is written, and only when it has changed.
pub(crate) async fn report(center: &Center, host: HostRow, report: HostReport) -> ApiResult<()> {
    let now = center.clock.now();
    let facts = report.facts.clone();
    let known = center.observed().host(&host.id).map(|last| last.problems.clone()).unwrap_or_default();
    for problem in report.problems.iter().filter(|problem| !known.contains(problem)) {
        tracing::warn!(host = %host.id, "host {}: {problem}", host.name);
    }
    let last = center.observed().host(&host.id).cloned();
    usage::take_in(center, last.as_ref(), &report).await?;
    center.observed().host_put(host.id.clone(), report);
    center.wake();
    if host.joined.facts != facts || host.last_seen.is_none_or(|seen| seen + SEEN_AFTER < now) {
        let mut tx = center.store.begin().await?;
        // Unless it has joined anew meanwhile.
        if tx.host_list().await?.iter().any(|now| now.token_hash == host.token_hash) {
            let joined = Joined { facts, ..host.joined };
            tx.host_put(&HostRow { joined, last_seen: Some(now), ..host }).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}
