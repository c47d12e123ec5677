//! Publishes the slices that follow from the decisions.

use std::sync::Arc;

use bytes::Bytes;
use mooring_api::watch::{AgentSlice, GatewaySlice};
use mooring_types::Clock;
use serde::Serialize;

use crate::decide::slices::{self, Inputs, Secrets};
use crate::state::context::{Context, Published, SliceLine};
use crate::state::db_state::DbState;
use crate::state::observed::Observed;

/// Sends every host and gateway its slice, if it differs from the last one.
pub(super) fn publish(context: &Context, state: &DbState, observed: &Observed) {
    let previous = context.published.borrow().clone();
    let mut next = Published { sequence: previous.sequence, ..Published::default() };
    // Sequences grow over restarts as well: they start from the clock.
    let sequence = u64::try_from(context.clock.now().as_microsecond()).unwrap_or(0).max(previous.sequence + 1);
    let mut holdings = observed.holdings();
    // A newer generation than the database knows is left alone until its owner is found.
    holdings.retain(|(host, job), held| {
        let newer = held.filter(|held| state.jobs.get(job).is_some_and(|known| *held > known.generation));
        let report = newer.and_then(|held| observed.job(host, job, held));
        !report.is_some_and(|report| context.vault.has_granted(host, job, report.generation, &report.grant))
    });
    let secrets = Secrets(context.vault.unseal_all(&state.secrets));
    let lapses = observed.lapses();
    let inputs = Inputs {
        config: &context.config,
        state,
        holdings: &holdings,
        lapses: &lapses,
        secrets: &secrets,
        vault: &context.vault,
    };
    for host in &state.hosts {
        let slice = slices::for_host(&inputs, host);
        let line = line(previous.hosts.get(&host.id), slice, sequence, |slice: &mut AgentSlice, sequence| {
            slice.sequence = sequence;
        });
        next.hosts.insert(host.id.clone(), line);
    }
    for gateway in &state.gateways {
        let Some(slice) = slices::for_gateway(&inputs, observed, gateway) else { continue };
        let line = line(previous.gateways.get(&gateway.id), slice, sequence, |slice: &mut GatewaySlice, sequence| {
            slice.sequence = sequence;
        });
        next.gateways.insert(gateway.id.clone(), line);
    }
    if next.hosts != previous.hosts || next.gateways != previous.gateways {
        next.sequence = sequence;
        context.published.send_replace(Arc::new(next));
    }
}

/// Returns the line of a slice: the previous one if only the sequence differs.
fn line<T: Serialize>(previous: Option<&SliceLine>, mut slice: T, sequence: u64, number: fn(&mut T, u64)) -> SliceLine {
    let unnumbered = to_line(&slice);
    match previous {
        Some(line) if line.unnumbered == unnumbered => line.clone(),
        _ => {
            number(&mut slice, sequence);
            SliceLine { unnumbered, numbered: to_line(&slice) }
        }
    }
}

fn to_line(slice: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(slice).unwrap_or_else(|error| {
        tracing::error!(%error, "a slice can't be written as JSON");
        Vec::new()
    });
    line.push(b'\n');
    line.into()
}
