//! The metrics of OpCenter for Prometheus, at [`paths::METRICS`](mooring_api::paths::METRICS).
//!
//! | name | meaning |
//! |---|---|
//! | `mooring_jobs` | jobs, by status |
//! | `mooring_hosts` | hosts, by readiness: `ready`, `notReady`, `unreachable` |
//! | `mooring_gateways` | gateways, by whether they are reachable |
//! | `mooring_migrations_total` | migrations that have ended, by kind and outcome |
//! | `mooring_migration_phase_seconds` | durations of the phases of migrations |
//!
//! All figures are computed from desired and observed state at each scrape, so that restarts do not
//! distort them. No label names a user, a job or a host.

use std::collections::BTreeMap;
use std::fmt;

use mooring_store::{MigrationRow, Stage};
use mooring_types::host::Readiness;
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::ApiResult;
use crate::state::context::Context;
use crate::state::db_state::DbState;
use crate::state::observed::Observed;

/// Bucket bounds in seconds, from a formal phase to the transfer of a large capsule.
const SECONDS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStatus {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReadiness {
    readiness: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    kind: KindLabel,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct KindLabel(MigrationKind);

impl EncodeLabelValue for KindLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        fmt::Write::write_fmt(encoder, format_args!("{}", self.0))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: PhaseLabel,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PhaseLabel(Phase);

impl EncodeLabelValue for PhaseLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        fmt::Write::write_fmt(encoder, format_args!("{}", self.0))
    }
}

/// Returns all metrics in the text format of Prometheus.
pub(crate) async fn text(context: &Context) -> ApiResult<String> {
    let observed = context.observed().clone();
    let mut tx = context.store.begin_read().await?;
    let state = DbState::read(&mut tx, &observed).await?;
    let counted = tx.job_count(None).await?.into_iter();
    let statuses = counted.map(|(status, jobs)| (status.to_string(), jobs.cast_signed())).collect();
    let migrations = tx.migration_list().await?;
    drop(tx);
    let mut registry = Registry::with_prefix("mooring");
    jobs(&mut registry, &statuses);
    hosts(&mut registry, &state, &observed);
    count_migrations(&mut registry, &migrations);
    let mut text = String::new();
    // Writing to a string can't fail.
    if let Err(error) = encode(&mut text, &registry) {
        tracing::error!(%error, "metrics can't be written");
    }
    Ok(text)
}

fn jobs(registry: &mut Registry, statuses: &BTreeMap<String, i64>) {
    let jobs = Family::<OfStatus, Gauge>::default();
    for (status, count) in statuses {
        jobs.get_or_create(&OfStatus { status: status.clone() }).set(*count);
    }
    registry.register("jobs", "jobs", jobs);
}

fn hosts(registry: &mut Registry, state: &DbState, observed: &Observed) {
    let (hosts, gateways) = (Family::<OfReadiness, Gauge>::default(), Family::<OfReadiness, Gauge>::default());
    for readiness in ["ready", "notReady", "unreachable"] {
        hosts.get_or_create(&OfReadiness { readiness }).set(0);
    }
    for readiness in ["ready", "unreachable"] {
        gateways.get_or_create(&OfReadiness { readiness }).set(0);
    }
    for host in &state.hosts {
        let readiness = match host.joined.facts.readiness {
            _ if !observed.host_is_reachable(&host.id) => "unreachable",
            Readiness::Ready => "ready",
            Readiness::NotReady { .. } => "notReady",
        };
        hosts.get_or_create(&OfReadiness { readiness }).inc();
    }
    for gateway in &state.gateways {
        let readiness = if observed.gateway_is_reachable(&gateway.id) { "ready" } else { "unreachable" };
        gateways.get_or_create(&OfReadiness { readiness }).inc();
    }
    registry.register("hosts", "hosts", hosts);
    registry.register("gateways", "gateways", gateways);
}

fn count_migrations(registry: &mut Registry, migrations: &[MigrationRow]) {
    let outcomes = Family::<OfOutcome, Counter>::default();
    let phases = Family::<OfPhase, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
    for kind in MigrationKind::ALL {
        for outcome in ["succeeded", "failed"] {
            outcomes.get_or_create(&OfOutcome { kind: KindLabel(kind), outcome }).inc_by(0);
        }
    }
    for row in migrations {
        let outcome = match row.outcome {
            Outcome::Succeeded => Some("succeeded"),
            Outcome::Failed { .. } => Some("failed"),
            Outcome::Running | Outcome::RollingBack { .. } => None,
        };
        if let Some(outcome) = outcome.filter(|_| row.stage == Stage::Ended) {
            outcomes.get_or_create(&OfOutcome { kind: KindLabel(row.kind), outcome }).inc();
        }
        for phase in &row.phases {
            phases.get_or_create(&OfPhase { phase: PhaseLabel(phase.name) }).observe(phase.seconds);
        }
    }
    registry.register("migrations", "migrations that have ended", outcomes);
    registry.register("migration_phase_seconds", "how long the phases of migrations took", phases);
}

#[cfg(test)]
mod tests {
    use mooring_types::migration::PhaseTime;
    use mooring_types::{Generation, HostId, JobId, MigrationId, Timestamp};

    use super::*;

    fn row(outcome: Outcome, stage: Stage) -> MigrationRow {
        let mut rng = rand::rng();
        MigrationRow {
            id: MigrationId::random(&mut rng),
            job: JobId::random(&mut rng),
            kind: MigrationKind::Migrate,
            generation: Generation(2),
            from_generation: Generation(1),
            from: Some(HostId::random(&mut rng)),
            to: Some(HostId::random(&mut rng)),
            capsule: None,
            destination_lost: false,
            resources: None,
            token: String::new(),
            reason: String::new(),
            start_time: Timestamp::UNIX_EPOCH,
            stage,
            stage_time: Timestamp::UNIX_EPOCH,
            freeze_time: None,
            outcome,
            phases: vec![PhaseTime { name: Phase::Freeze, seconds: 0.2 }],
            pause_seconds: 0.0,
            bytes_moved: 0,
        }
    }

    #[test]
    fn ended_migrations_and_all_phases_count() {
        let failed = Outcome::Failed { phase: Phase::Freeze, reason: "it broke".into() };
        let migrations = [
            row(Outcome::Succeeded, Stage::Ended),
            row(Outcome::Succeeded, Stage::Retiring),
            row(failed, Stage::Ended),
            row(Outcome::Running, Stage::Freezing),
        ];
        let mut registry = Registry::with_prefix("mooring");
        count_migrations(&mut registry, &migrations);
        jobs(&mut registry, &[("Executing".to_owned(), 3)].into());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "mooring_migrations_total{kind=\"migrate\",outcome=\"succeeded\"} 1",
            "mooring_migrations_total{kind=\"migrate\",outcome=\"failed\"} 1",
            "mooring_migrations_total{kind=\"suspend\",outcome=\"failed\"} 0",
            "mooring_migration_phase_seconds_count{phase=\"Freeze\"} 4",
            "mooring_migration_phase_seconds_bucket{le=\"0.1\",phase=\"Freeze\"} 0",
            "mooring_migration_phase_seconds_bucket{le=\"0.25\",phase=\"Freeze\"} 4",
            "mooring_jobs{status=\"Executing\"} 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }
}
