//! Jobs and their migrations, as users read them.

use std::time::Duration;

use mooring_api::Submission;
use mooring_api::view::{EventView, JobView, MigrationView};
use mooring_store::{ConnectionRow, EventRow, HostRow, JobRow, MigrationRow, Tx};
use mooring_types::duration::format_duration;
use mooring_types::host::Purchase;
use mooring_types::job::{Image, JobStatus, OutputFile, Publish, Volume};
use mooring_types::usage::Usage;
use mooring_types::{JobId, Timestamp};

use super::masked::{MASK, masked};
use super::{Views, request, texts, usage, without_query};
use crate::auth::User;
use crate::decide::slices;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::state::db_state::capacity;

/// A job where only its name and status matter.
#[derive(Debug, Clone)]
pub(crate) struct NamedJob {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) status: JobStatus,
}

impl NamedJob {
    /// Returns jobs by name.
    pub(crate) fn all<'a>(rows: impl Iterator<Item = &'a JobRow>) -> Vec<Self> {
        let named = rows.map(|row| Self {
            id: row.id.clone(),
            name: row.spec.name.to_string(),
            user: row.user_name.clone(),
            status: row.status,
        });
        let mut jobs: Vec<Self> = named.collect();
        jobs.sort_unstable_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        jobs
    }
}

impl Views {
    /// Returns the view of a job with its migrations.
    pub(crate) fn job(&self, job: &JobRow, migrations: &[MigrationRow]) -> JobView {
        let ended = job.status.is_final();
        let is_ours = job.spec.image != Image::External;
        let submission = request::of_job(job, &self.group_names(&job.security_groups));
        let host = job.host.as_ref().filter(|_| !ended).and_then(|host| self.state.host(host));
        let end = job.end_time.unwrap_or(self.now);
        let ran = self.ran(job);
        let waited = between(job.submit_time, job.exec_time.unwrap_or(end));
        let used = self.used(job).filter(|_| !ended);
        let activity = self.observed.activity(job).filter(|_| !ended).cloned().unwrap_or_default();
        JobView {
            id: job.id.clone(),
            name: job.spec.name.to_string(),
            working_host: host.map_or_else(String::new, working_host),
            host_name: host.map_or_else(String::new, |host| host.name.to_string()),
            user: job.user_name.clone(),
            image: job.spec.image.to_string(),
            image_digest: job.image_digest.clone().unwrap_or_default(),
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
            input_args: if is_ours { shown(submission).arguments() } else { String::new() },
            vm_policy: job.policy.vm_policy,
            migrate_policy: job.policy.migrate_policy.to_string(),
            time_limit: job.policy.time_limit.map(format_duration).unwrap_or_default(),
            idle: job.policy.idle.map(|idle| format_duration(idle.after)).unwrap_or_default(),
            awake_limit: job.policy.idle.map(|idle| format_duration(idle.awake_limit)).unwrap_or_default(),
            in_use: activity.uses.iter().map(|used| format!("in use: {used}")).collect(),
            outward: activity.outward.iter().map(ToString::to_string).collect(),
            resume_on_connect: job.policy.resume_on_connect,
            wake_on: job.policy.wake_on,
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
            port_mappings: self.open_connections(job).filter_map(|row| self.port_mapping(row)).collect(),
            unserved_ports: self.unserved_ports(job),
            access_urls: self.open_connections(job).filter_map(|row| Some(self.connection(row)?.access_url)).collect(),
            publish: job.spec.publish.iter().map(ToString::to_string).collect(),
            security_groups: texts(&self.group_names(&job.security_groups)),
            endpoints: self.endpoints(&job.id),
            data_volumes: job.spec.volumes.iter().map(|volume| volume.redacted().to_string()).collect(),
            env: masked(&job.spec.env),
            migrations: migrations.iter().map(|row| self.migration(row)).collect(),
        }
    }

    /// Returns the connections of a job whose port is its gateway's own. Another program there
    /// would get what it is sent, a token among it.
    fn open_connections<'a>(&'a self, job: &'a JobRow) -> impl Iterator<Item = &'a ConnectionRow> {
        let fails = |row: &ConnectionRow| self.observed.connection(row).any(|seen| seen.problem.is_some());
        self.state.connections.iter().filter(move |row| row.job == job.id && row.opened && !fails(row))
    }

    /// Describes a connection as the users' scripts know it: `8888 -> 198.18.0.2:10000`.
    fn port_mapping(&self, row: &ConnectionRow) -> Option<String> {
        let address = self.gateway_address(&row.gateway)?;
        Some(format!("{} -> {address}:{}", row.target_port, row.gateway_port))
    }

    /// Returns the reason of a job's status; while the job waits for its host, the host's progress.
    fn reason(&self, job: &JobRow) -> String {
        let waits = matches!(
            job.status,
            JobStatus::Initializing | JobStatus::Starting | JobStatus::Floating | JobStatus::Resuming
        );
        if !waits {
            return job.status_reason.clone();
        }
        let mut progress = self.observed.holders(&job.id).map(|(_, report)| &report.progress);
        progress.find(|progress| !progress.is_empty()).unwrap_or(&job.status_reason).clone()
    }

    /// Returns the sentences about the published ports that a job does not serve.
    fn unserved_ports(&self, job: &JobRow) -> Vec<String> {
        let text = |publish: &Publish| slices::unserved(&self.state, &self.observed, job, publish.host);
        job.spec.publish.iter().filter_map(text).collect()
    }

    /// Returns the last measurement of a job.
    fn used(&self, job: &JobRow) -> Option<Usage> {
        Some(self.observed.job(job.host.as_ref()?, &job.id, job.generation)?.usage?.usage)
    }

    /// Returns the time from a job's first execution to its end, or to now.
    fn ran(&self, job: &JobRow) -> Duration {
        job.exec_time.map_or(Duration::ZERO, |began| between(began, job.end_time.unwrap_or(self.now)))
    }

    fn endpoints(&self, job: &JobId) -> Vec<String> {
        let external = self.state.externals.get(job);
        external.map(|row| row.endpoints.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    fn migration(&self, row: &MigrationRow) -> MigrationView {
        MigrationView {
            id: row.id.clone(),
            kind: row.kind,
            from: self.state.end_name(row.from.as_ref()),
            to: self.state.end_name(row.to.as_ref()),
            start_time: row.start_time,
            reason: row.reason.clone(),
            outcome: row.outcome.clone(),
            phases: row.phases.clone(),
            pause_seconds: row.pause_seconds,
            bytes_moved: row.bytes_moved,
        }
    }
}

/// Returns the view of the job with that id.
pub(crate) async fn job(context: &Context, id: &JobId) -> ApiResult<JobView> {
    let mut tx = context.store.begin().await?;
    let job = tx.job_get(id).await?.ok_or_else(|| ApiError::not_found(format!("no job {id}")))?;
    job_of(context, &mut tx, &job).await
}

/// Returns the view of a job that was read in a transaction.
pub(crate) async fn job_of(context: &Context, tx: &mut Tx, job: &JobRow) -> ApiResult<JobView> {
    let migrations = tx.migration_list_of_job(&job.id).await?;
    Ok(Views::read_for_job(context, tx, job).await?.job(job, &migrations))
}

/// Hides from a member of the owner's groups all that would let it into the job.
pub(crate) fn as_seen_by(user: &User, mut job: JobView) -> JobView {
    if !user.may_change(&job.user) {
        job.access_urls.iter_mut().for_each(|url| *url = without_query(url));
        job.env.values_mut().for_each(|value| MASK.clone_into(value));
        job.input_args.clear();
        job.in_use.clear();
        job.outward.clear();
    }
    job
}

/// Returns the view of an event.
pub(crate) fn event(row: EventRow) -> EventView {
    EventView { time: row.time, event: row.event }
}

/// Describes a host as the users' scripts know it: `198.18.0.2 (4Core8GB/Spot)`.
fn working_host(host: &HostRow) -> String {
    let all = capacity(host);
    let purchase = match host.joined.facts.purchase() {
        Purchase::Spot => "Spot",
        Purchase::OnDemand => "OnDemand",
    };
    format!("{} ({}Core{}GB/{purchase})", host.joined.address, all.cpu, all.mem_gb)
}

/// Formats a time as the users' scripts know it, in whole seconds: `3m5s`.
fn duration(time: Duration) -> String {
    format_duration(Duration::from_secs(time.as_secs()))
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Returns cores times hours, to four places.
fn core_hours(cores: u32, executed: Duration) -> f64 {
    (f64::from(cores) * executed.as_secs_f64() / 3600.0 * 1e4).round() / 1e4
}

/// Returns a submission with its secrets masked.
fn shown(mut submission: Submission) -> Submission {
    submission.env.0 = masked(&submission.env.0);
    submission.data_volumes = submission.data_volumes.iter().map(Volume::redacted).collect();
    submission
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_match_scripts() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (185, "3m5s"), (3600, "1h0m0s")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
