//! What users read, made from what was decided and what is observed.

pub(crate) mod masked;
pub(crate) mod metrics;
pub(crate) mod request;
pub(crate) mod status;
pub(crate) mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::view::{
    ConnectionView, DrainAnswer, DrainView, EventView, GatewayView, HostView, JobView, MigrationView,
    SecurityGroupView, SubmitRequest,
};
use mooring_api::watch::{ConnectionObservation, Flow};
use mooring_store::{ConnectionRow, EventRow, GatewayRow, HostRow, JobRow, MigrationRow, SecurityGroupRow, Tx};
use mooring_types::duration::format_duration;
use mooring_types::filter::{Filter, Subject};
use mooring_types::gateway::{Exposure, GatewayStatus};
use mooring_types::host::{Purchase, Readiness};
use mooring_types::job::{Image, JobStatus, OutputFile};
use mooring_types::migration::Outcome;
use mooring_types::usage::Usage;
use mooring_types::{ConnectionId, GatewayId, HostId, JobId, SecurityGroupId, Timestamp};

use crate::auth::User;
use crate::decide::slices;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::state::db_state::{DbState, capacity};
use crate::state::moment::Moment;
use crate::state::observed::Observed;
use crate::usecase::security_group;
use crate::view::masked::{MASK, masked};

/// Makes views of one moment.
pub(crate) struct Views {
    all: Arc<DbState>,
    observed: Arc<Observed>,
    now: Timestamp,
}

impl Views {
    /// Looks at everything.
    pub(crate) async fn look(context: &Context, tx: &mut Tx) -> ApiResult<Self> {
        let observed = context.observed().clone();
        let all = DbState::read(tx, &observed).await?;
        Ok(Self { all: all.into(), observed: observed.into(), now: context.clock.now() })
    }

    /// Makes views of the state that a pass of the reconciler ended with.
    pub(crate) fn of(moment: Moment) -> Self {
        let Moment { all, observed, now } = moment;
        Self { all, observed, now }
    }

    /// One job, with its moves.
    pub(crate) fn job(&self, job: &JobRow, moves: &[MigrationRow]) -> JobView {
        let ended = job.status.is_final();
        let is_ours = job.spec.image != Image::External;
        let request = request::of_job(job, &self.group_names(&job.security_groups));
        let host = job.host.as_ref().filter(|_| !ended).and_then(|host| self.all.host(host));
        let end = job.end_time.unwrap_or(self.now);
        let ran = self.ran(job);
        let waited = between(job.submit_time, job.exec_time.unwrap_or(end));
        let used = self.used(job).filter(|_| !ended);
        let connections: Vec<ConnectionView> = self
            .all
            .connections
            .iter()
            .filter(|known| known.job == job.id)
            .filter_map(|known| self.connection(known))
            .collect();
        let addresses = self.all.connections.iter().filter(|known| known.job == job.id).filter_map(|known| {
            let address = self.gateway_address(&known.gateway)?;
            Some(format!("{} -> {address}:{}", known.target_port, known.gateway_port))
        });
        JobView {
            id: job.id.clone(),
            name: job.spec.name.to_string(),
            working_host: host.map_or_else(String::new, working_host),
            host_name: host.map_or_else(String::new, |host| host.name.to_string()),
            user: job.user_name.clone(),
            image: job.spec.image.to_string(),
            image_digest: job.image_digest.clone(),
            status: job.status,
            category: job.status.category(),
            status_reason: self.reason(job),
            submit_time: job.submit_time,
            exec_time: job.exec_time,
            end_time: job.end_time,
            last_update: job.last_update,
            duration: duration(ran),
            queue_time: duration(waited),
            rc: job.exit_code.map_or_else(String::new, |code| code.to_string()),
            stdout: if is_ours { OutputFile::Stdout.to_string() } else { String::new() },
            stderr: if is_ours { OutputFile::Stderr.to_string() } else { String::new() },
            input_args: if is_ours { request::arguments(&shown(job, request)) } else { String::new() },
            vm_policy: job.policy.vm_policy,
            migrate_policy: job.policy.migrate_policy.to_string(),
            time_limit: job.policy.time_limit.map(format_duration).unwrap_or_default(),
            idle: job.policy.idle.map(|idle| format_duration(idle.after)).unwrap_or_default(),
            resume_on_connect: job.policy.resume_on_connect,
            snapshot_interval: job.policy.snapshot_interval.map(format_duration).unwrap_or_default(),
            dump_mode: job.policy.dump_mode,
            egress: job.policy.egress,
            custom_tags: job.policy.custom_tags.clone(),
            cpu: job.spec.resources.cpu,
            cpu_max: job.policy.cpu_max.unwrap_or(job.spec.resources.cpu),
            mem_gb: job.spec.resources.mem_gb,
            mem_gb_max: job.policy.mem_gb_max.unwrap_or(job.spec.resources.mem_gb),
            mem_used: used.map(|usage| usage::gb(usage.mem_used)),
            cpu_used: used.map(|usage| usage::rounded(usage.cpu_used)),
            core_hours: core_hours(job.spec.resources.cpu, job.executed(self.now)),
            scheduler: if is_ours { "mooring".into() } else { "external".into() },
            address: job.address.map_or_else(String::new, |address| address.to_string()),
            generation: job.generation.0,
            port_mappings: addresses.collect(),
            access_urls: connections.into_iter().map(|connection| connection.access_url).collect(),
            publish: job.spec.publish.iter().map(ToString::to_string).collect(),
            security_groups: self.group_names(&job.security_groups),
            endpoints: self.endpoints(&job.id),
            data_volumes: job.spec.volumes.iter().map(|volume| volume.redacted().to_string()).collect(),
            env: masked(&job.spec.env),
            migrations: moves.iter().map(|row| self.migration(row)).collect(),
        }
    }

    /// Why its status is so, or how far its host has come with it.
    fn reason(&self, job: &JobRow) -> String {
        let waits = matches!(
            job.status,
            JobStatus::Initializing | JobStatus::Starting | JobStatus::Floating | JobStatus::Resuming
        );
        let mut told = self.observed.holders(&job.id).map(|(_, seen)| &seen.progress);
        match told.find(|progress| waits && !progress.is_empty()) {
            Some(progress) => progress.clone(),
            None => job.status_reason.clone(),
        }
    }

    /// What it used when its host last measured it.
    fn used(&self, job: &JobRow) -> Option<Usage> {
        Some(self.observed.job(job.host.as_ref()?, &job.id, job.generation)?.usage?.usage)
    }

    /// From its first execution to its end or now.
    fn ran(&self, job: &JobRow) -> Duration {
        job.exec_time.map_or(Duration::ZERO, |began| between(began, job.end_time.unwrap_or(self.now)))
    }

    /// Whether all filters hold for a job as it is shown.
    fn is_meant(&self, job: &JobRow, view: &JobView, filters: &[Filter]) -> bool {
        let subject = Subject {
            id: view.id.as_str(),
            name: &view.name,
            user: &view.user,
            image: &view.image,
            host: &view.host_name,
            tags: &view.custom_tags,
            status: view.status,
            submit: view.submit_time,
            update: view.last_update,
            duration: self.ran(job),
        };
        filters.iter().all(|filter| filter.holds(&subject, self.now))
    }

    fn endpoints(&self, job: &JobId) -> Vec<String> {
        let external = self.all.externals.get(job);
        external.map(|row| row.endpoints.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    fn migration(&self, row: &MigrationRow) -> MigrationView {
        MigrationView {
            id: row.id.clone(),
            kind: row.kind.to_string(),
            from: self.all.end_name(row.from.as_ref()),
            to: self.all.end_name(row.to.as_ref()),
            start_time: row.start_time,
            reason: row.reason.clone(),
            outcome: match &row.outcome {
                Outcome::Running => "running".into(),
                Outcome::Succeeded => "succeeded".into(),
                Outcome::Undoing { phase, reason } => format!("undoing: {phase}: {reason}"),
                Outcome::Failed { phase, reason } => format!("failed: {phase}: {reason}"),
            },
            phases: row.phases.clone(),
            pause_seconds: row.pause_seconds,
            bytes_moved: row.bytes_moved,
        }
    }

    /// All gateways, with those of their connections that are the user's business.
    pub(crate) fn gateways(&self, user: &User) -> Vec<GatewayView> {
        self.all.gateways.iter().map(|gateway| self.gateway(user, gateway)).collect()
    }

    /// One gateway, with those of its connections that are the user's business.
    pub(crate) fn gateway(&self, user: &User, gateway: &GatewayRow) -> GatewayView {
        let reported = self.observed.gateway_is_known(&gateway.id);
        let status = match (self.observed.gateway_is_reachable(&gateway.id), reported) {
            (true, _) => GatewayStatus::Running,
            (false, true) => GatewayStatus::Unreachable,
            (false, false) => GatewayStatus::Starting,
        };
        let seen =
            |known: &&ConnectionRow| self.all.jobs.get(&known.job).is_some_and(|job| user.may_see(&job.user_name));
        let connections = self.all.connections.iter().filter(|known| known.gateway == gateway.id).filter(seen);
        let shown = |known: &ConnectionRow| {
            let owner = self.all.jobs.get(&known.job).map(|job| job.user_name.as_str()).unwrap_or_default();
            let mut view = self.connection(known)?;
            if !user.may_change(owner) {
                view.access_url = without_query(&view.access_url);
            }
            Some(view)
        };
        GatewayView {
            id: gateway.id.clone(),
            name: gateway.spec.name.to_string(),
            status,
            address: self.gateway_address(&gateway.id).unwrap_or_default(),
            no_public_ip: gateway.spec.exposure == Exposure::Private,
            port_range: gateway.spec.port_range.to_string(),
            security_groups: self.group_names(&gateway.spec.security_groups),
            cpu: gateway.spec.resources.cpu,
            mem_gb: gateway.spec.resources.mem_gb,
            host_name: self.all.host_name(&gateway.host),
            create_time: gateway.create_time,
            connections: connections.filter_map(shown).collect(),
        }
    }

    /// The gateway of that id.
    pub(crate) fn gateway_of_id(&self, user: &User, id: &GatewayId) -> ApiResult<GatewayView> {
        let found = self.all.gateways.iter().find(|gateway| gateway.id == *id);
        found.map(|gateway| self.gateway(user, gateway)).ok_or_else(|| ApiError::not_found(format!("no gateway {id}")))
    }

    /// The connections of those ids.
    pub(crate) fn connections(&self, ids: &[ConnectionId]) -> Vec<ConnectionView> {
        let wanted = |known: &&ConnectionRow| ids.contains(&known.id);
        self.all.connections.iter().filter(wanted).filter_map(|known| self.connection(known)).collect()
    }

    fn connection(&self, connection: &ConnectionRow) -> Option<ConnectionView> {
        let job = self.all.jobs.get(&connection.job)?;
        let address = self.gateway_address(&connection.gateway)?;
        // While the gateway is restarted it has several processes, each with clients of its own.
        let reported = self.observed.gateway(&connection.gateway);
        let seen: Vec<&ConnectionObservation> = reported
            .flat_map(|report| report.connections.iter().find(|seen| seen.connection == connection.id))
            .collect();
        let state = match seen.iter().find_map(|seen| seen.problem.as_ref()) {
            Some(problem) => format!("failed: {problem}"),
            None if seen.is_empty() || slices::flow(&self.all, job) != Flow::Open => "waiting".into(),
            None => "open".into(),
        };
        Some(ConnectionView {
            job_id: job.id.clone(),
            job_name: job.spec.name.to_string(),
            target_port: connection.target_port.get(),
            gateway_port: connection.gateway_port.get(),
            access_url: format!("http://{address}:{}{}", connection.gateway_port, job.spec.access_path),
            state,
            protocol: connection.protocol,
            hold_limits: connection.hold_limits,
            widget: connection.widget,
            clients: seen.iter().flat_map(|seen| seen.clients.iter().cloned()).collect(),
        })
    }

    fn gateway_address(&self, id: &GatewayId) -> Option<String> {
        let gateway = self.all.gateways.iter().find(|gateway| gateway.id == *id)?;
        let address = self.all.gateway_address(&gateway.host, gateway.spec.exposure)?;
        Some(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
    }

    /// All security groups, with those of their users that are the user's business.
    pub(crate) fn security_groups(&self, user: &User) -> Vec<SecurityGroupView> {
        self.all.security_groups.iter().map(|group| self.security_group(user, group)).collect()
    }

    /// One security group.
    pub(crate) fn security_group(&self, user: &User, group: &SecurityGroupRow) -> SecurityGroupView {
        SecurityGroupView {
            id: group.id.clone(),
            name: group.spec.name.to_string(),
            description: group.spec.description.clone(),
            rules: group.spec.rules.iter().map(ToString::to_string).collect(),
            user: group.user_name.clone(),
            create_time: group.create_time,
            used_by: security_group::users(user, &group.id, &self.all.gateways, self.all.jobs.values()),
        }
    }

    fn group_names(&self, ids: &[SecurityGroupId]) -> Vec<String> {
        let known = ids.iter().filter_map(|id| self.all.security_groups.iter().find(|group| group.id == *id));
        known.map(|group| group.spec.name.to_string()).collect()
    }

    /// A host that is drained, and what stays on it.
    pub(crate) fn drained(&self, host: &HostId) -> ApiResult<DrainAnswer> {
        let on_it = self.all.gateways.iter().filter(|gateway| gateway.host == *host);
        let gateways = on_it.map(|gateway| gateway.spec.name.to_string()).collect();
        Ok(DrainAnswer { host: self.host_of_id(host)?, gateways })
    }

    /// One host.
    pub(crate) fn host_of_id(&self, host: &HostId) -> ApiResult<HostView> {
        self.all.host(host).map(|host| self.host(host)).ok_or_else(|| ApiError::not_found(format!("no host {host}")))
    }

    /// All hosts.
    pub(crate) fn hosts(&self) -> Vec<HostView> {
        self.all.hosts.iter().map(|host| self.host(host)).collect()
    }

    fn host(&self, host: &HostRow) -> HostView {
        let facts = &host.joined.facts;
        let used = self.all.used(&host.id);
        let carried =
            self.all.jobs.values().filter(|job| !job.status.is_final() && job.host.as_ref() == Some(&host.id));
        HostView {
            id: host.id.clone(),
            name: host.name.to_string(),
            address: host.joined.address.to_string(),
            status: match &facts.readiness {
                _ if !self.observed.host_is_reachable(&host.id) => "unreachable".into(),
                _ if host.drain().is_some() => if self.all.is_empty(&host.id) { "drained" } else { "draining" }.into(),
                Readiness::Ready => "ready".into(),
                Readiness::NotReady { reason } => format!("notReady: {reason}"),
            },
            role: host.joined.role,
            purchase: facts.purchase(),
            cores: facts.cores,
            mem_gb: facts.mem_gb,
            cores_used: used.cpu,
            mem_gb_used: used.mem_gb,
            kernel: facts.kernel.clone(),
            criu: facts.criu.clone(),
            runc: facts.runc.clone(),
            jobs: u32::try_from(carried.count()).unwrap_or(u32::MAX),
            last_seen: host.last_seen,
            problems: self.observed.host(&host.id).map(|report| report.problems.clone()).unwrap_or_default(),
            drain: host.drain().map(|drain| DrainView {
                since: drain.since,
                deadline: drain.deadline,
                reason: drain.reason.clone(),
            }),
        }
    }
}

/// One job as it is now.
pub(crate) async fn job(context: &Context, id: &JobId) -> ApiResult<JobView> {
    let mut tx = context.store.begin().await?;
    let job = tx.job_get(id).await?.ok_or_else(|| ApiError::not_found(format!("no job {id}")))?;
    let moves = tx.migration_list_of_job(id).await?;
    Ok(Views::look(context, &mut tx).await?.job(&job, &moves))
}

/// The jobs that are the user's business and for which all filters hold, newest last.
pub(crate) async fn jobs(context: &Context, user: &User, filters: &[Filter]) -> ApiResult<Vec<JobView>> {
    let mut tx = context.store.begin().await?;
    let rows = tx.job_list().await?;
    let mut moves: BTreeMap<JobId, Vec<MigrationRow>> = BTreeMap::new();
    for row in tx.migration_list().await? {
        moves.entry(row.job.clone()).or_default().push(row);
    }
    let views = Views::look(context, &mut tx).await?;
    let of = |job: &JobRow| moves.get(&job.id).map(Vec::as_slice).unwrap_or_default();
    let seen = rows.iter().filter(|job| user.may_see(&job.user_name));
    let shown = seen.map(|job| (job, views.job(job, of(job))));
    let meant = shown.filter(|(job, view)| views.is_meant(job, view, filters));
    Ok(meant.map(|(_, view)| as_seen_by(user, view)).collect())
}

/// What a user sees of a job: of one that belongs to a member of its groups nothing that opens it.
pub(crate) fn as_seen_by(user: &User, mut job: JobView) -> JobView {
    if !user.may_change(&job.user) {
        job.access_urls.iter_mut().for_each(|url| *url = without_query(url));
        job.env.values_mut().for_each(|value| MASK.clone_into(value));
        job.input_args.clear();
    }
    job
}

/// A URL without what may be a token.
fn without_query(url: &str) -> String {
    url.split_once('?').map_or(url, |(before, _)| before).to_owned()
}

/// An entry of a job's event log.
pub(crate) fn event(row: EventRow) -> EventView {
    EventView { time: row.time, kind: row.kind, message: row.message }
}

fn working_host(host: &HostRow) -> String {
    let all = capacity(host);
    let purchase = match host.joined.facts.purchase() {
        Purchase::Spot => "Spot",
        Purchase::OnDemand => "OnDemand",
    };
    format!("{} ({}Core{}GB/{purchase})", host.joined.address, all.cpu, all.mem_gb)
}

/// `3m5s`, as the users' scripts know it, in whole seconds.
fn duration(time: Duration) -> String {
    format_duration(Duration::from_secs(time.as_secs()))
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Cores times hours, to four places.
fn core_hours(cores: u32, executed: Duration) -> f64 {
    (f64::from(cores) * executed.as_secs_f64() / 3600.0 * 1e4).round() / 1e4
}

/// A request without what looks like a secret.
fn shown(job: &JobRow, mut request: SubmitRequest) -> SubmitRequest {
    request.env = masked(&job.spec.env).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    request.data_volumes = job.spec.volumes.iter().map(|volume| volume.redacted().to_string()).collect();
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_scripts_know_them() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (185, "3m5s"), (3600, "1h0m0s")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
