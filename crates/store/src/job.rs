//! Jobs.

use std::net::Ipv4Addr;
use std::time::Duration;

use mooring_types::host::Resources;
use mooring_types::job::{JobSpec, JobStatus, Volume};
use mooring_types::placement::Asked;
use mooring_types::policy::JobPolicy;
use mooring_types::{Event, GatewayId, Generation, HostId, JobId, Name, SecurityGroupId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, StoreError, Tx, json, parsed, parsed_option, to_json, unsigned};

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    pub id: JobId,
    /// The user that submitted it.
    pub user_name: String,
    pub spec: JobSpec,
    /// The digest of its image, from when a host first pulled it; `None` for images without one.
    pub image_digest: Option<String>,
    pub policy: JobPolicy,
    pub status: JobStatus,
    /// The reason of the status; may be empty.
    pub status_reason: String,
    /// Its overlay address, until it has ended and no host holds anything of it.
    pub address: Option<Ipv4Addr>,
    /// The generation that owns it; 0 before its placement.
    pub generation: Generation,
    /// The host that owns it.
    pub host: Option<HostId>,
    /// Grows when the job's open connections can't go on.
    pub epoch: u64,
    /// The host that the user insists on.
    pub requested_host: Option<Name>,
    /// The gateway that the job was submitted for.
    pub requested_gateway: Option<GatewayId>,
    /// The target ports of the submission; empty for all published ports.
    pub target_ports: Vec<u16>,
    /// The groups that admit clients to its published ports on its host.
    pub security_groups: Vec<SecurityGroupId>,
    pub exit_code: Option<i32>,
    pub submit_time: Timestamp,
    /// The time at which it first executed.
    pub exec_time: Option<Timestamp>,
    pub end_time: Option<Timestamp>,
    /// The time of the row's last change.
    pub last_update: Timestamp,
    /// The time of the last change of status.
    pub status_time: Timestamp,
    /// The execution time by [`JobRow::status_time`]; see [`JobRow::executed`].
    pub executed_before: Duration,
    /// The size of the submission, if a migration has changed the size since.
    pub size_submitted: Option<Resources>,
    /// True when the job was suspended for lack of a host, and is resumed as soon as one fits.
    pub awaits_host: bool,
    /// True when the job was suspended because nobody used it.
    pub is_idle: bool,
    /// The key of its capsules, sealed by OpCenter; `None` for external jobs.
    pub capsule_key: Option<Vec<u8>>,
}

impl JobRow {
    /// Makes the row of a new job with default options.
    #[must_use]
    pub fn submitted(id: JobId, user_name: &str, spec: JobSpec, now: Timestamp) -> Self {
        Self {
            id,
            user_name: user_name.to_owned(),
            spec,
            image_digest: None,
            policy: JobPolicy::default(),
            status: JobStatus::Submitted,
            status_reason: String::new(),
            address: None,
            generation: Generation(0),
            epoch: 0,
            host: None,
            requested_host: None,
            requested_gateway: None,
            target_ports: Vec::new(),
            security_groups: Vec::new(),
            exit_code: None,
            submit_time: now,
            exec_time: None,
            end_time: None,
            last_update: now,
            status_time: now,
            executed_before: Duration::ZERO,
            size_submitted: None,
            awaits_host: false,
            is_idle: false,
            capsule_key: None,
        }
    }

    /// Returns the size of the submission.
    #[must_use]
    pub fn size_asked_for(&self) -> Resources {
        self.size_submitted.unwrap_or(self.spec.resources)
    }

    /// Returns the requirements on a host.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked::of(self.policy.vm_policy.policy, self.spec.resources)
            .with(self.spec.volumes.iter().filter_map(Volume::scheme).collect())
    }

    /// Returns the time for which the job has executed; waiting, migrating and suspended time does
    /// not count.
    #[must_use]
    pub fn executed(&self, now: Timestamp) -> Duration {
        let executes = matches!(self.status, JobStatus::Executing | JobStatus::Capturing);
        // A clock that was set back counts as no time.
        let since = Duration::try_from(now.duration_since(self.status_time)).unwrap_or_default();
        self.executed_before + if executes { since } else { Duration::ZERO }
    }
}

/// The query for jobs, with a condition.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT job.*, size_submitted.cpu AS cpu_submitted, size_submitted.mem_gb AS mem_gb_submitted
             FROM job LEFT JOIN size_submitted ON size_submitted.job_id = job.id ",
            $which
        )
    };
}
pub(crate) use select;

impl Tx {
    /// Adds a job with the event of its submission.
    pub async fn job_insert(&mut self, job: &JobRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO job (id, user_name, spec, policy, status, address, generation, requested_host, requested_gateway,
                target_ports, security_groups, submit_time, last_update, status_time, capsule_key)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(job.id.as_str())
        .bind(&job.user_name)
        .bind(to_json(&job.spec)?)
        .bind(to_json(&job.policy)?)
        .bind(job.status.to_string())
        .bind(job.address.map(|address| address.to_string()))
        .bind(job.generation.0.cast_signed())
        .bind(job.requested_host.as_ref().map(Name::as_str))
        .bind(job.requested_gateway.as_ref().map(GatewayId::as_str))
        .bind(to_json(&job.target_ports)?)
        .bind(to_json(&job.security_groups)?)
        .bind(job.submit_time.to_string())
        .bind(job.last_update.to_string())
        .bind(job.status_time.to_string())
        .bind(job.capsule_key.as_deref())
        .execute(&mut *self.inner)
        .await?;
        let event = Event::StatusChanged { status: job.status, reason: String::new() };
        self.event_append(&job.id, &event, job.submit_time).await
    }

    /// Returns the job with that id.
    pub async fn job_get(&mut self, id: &JobId) -> Result<Option<JobRow>> {
        let row = sqlx::query(select!("WHERE id = ?")).bind(id.as_str()).fetch_optional(&mut *self.inner).await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists all jobs, oldest first.
    pub async fn job_list(&mut self) -> Result<Vec<JobRow>> {
        let rows = sqlx::query(select!("ORDER BY submit_time, id")).fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Lists the jobs that have not ended or still have an address, oldest first.
    pub async fn job_list_live(&mut self) -> Result<Vec<JobRow>> {
        let rows = sqlx::query(select!("WHERE end_time IS NULL OR address IS NOT NULL ORDER BY submit_time, id"))
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Returns whether a host was given the current generation of a job: it owns the job, or is an
    /// end of the job's latest migration.
    pub async fn job_was_given_to(&mut self, id: &JobId, host: &HostId) -> Result<bool> {
        let query = "SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND host_id = ?2)
             OR EXISTS (SELECT 1 FROM (SELECT from_host, to_host FROM migration WHERE job_id = ?1 ORDER BY rowid DESC LIMIT 1)
                        WHERE from_host = ?2 OR to_host = ?2)";
        let given = sqlx::query_scalar(query).bind(id.as_str()).bind(host.as_str());
        Ok(given.fetch_one(&mut *self.inner).await?)
    }

    /// Lists the sealed capsule keys of all jobs, ended ones included.
    pub async fn job_capsule_key_list(&mut self) -> Result<Vec<(JobId, Vec<u8>)>> {
        let rows = sqlx::query("SELECT id, capsule_key FROM job WHERE capsule_key IS NOT NULL ORDER BY id")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(|row| Ok((parsed(row, "id")?, row.try_get("capsule_key")?))).collect()
    }

    /// Sets the key of a job's capsules.
    pub async fn job_capsule_key_set(&mut self, id: &JobId, sealed: &[u8]) -> Result<()> {
        sqlx::query("UPDATE job SET capsule_key = ? WHERE id = ?")
            .bind(sealed)
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Sets the generation of a job on no host, whose last owner is not known.
    pub async fn job_generation_set(&mut self, id: &JobId, generation: Generation) -> Result<()> {
        sqlx::query("UPDATE job SET generation = ? WHERE id = ?")
            .bind(generation.0.cast_signed())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Gives a job to a host: its placement, or the commit of a migration.
    pub async fn job_own(&mut self, id: &JobId, host: &HostId, generation: Generation, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE job SET host_id = ?, generation = ?, last_update = ? WHERE id = ?")
            .bind(host.as_str())
            .bind(generation.0.cast_signed())
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Takes a suspended job from its host.
    pub async fn job_disown(&mut self, id: &JobId, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE job SET host_id = NULL, last_update = ? WHERE id = ?")
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Changes the size of a job.
    pub async fn job_resources_set(&mut self, id: &JobId, resources: Resources, now: Timestamp) -> Result<()> {
        let Some(mut job) = self.job_get(id).await? else { return Ok(()) };
        self.size_submitted_keep(id, job.spec.resources).await?;
        job.spec.resources = resources;
        sqlx::query("UPDATE job SET spec = ?, last_update = ? WHERE id = ?")
            .bind(to_json(&job.spec)?)
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Starts a new epoch: open connections can't go on.
    pub async fn job_epoch_next(&mut self, id: &JobId) -> Result<()> {
        sqlx::query("UPDATE job SET epoch = epoch + 1 WHERE id = ?")
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Changes a job's status with the times that follow from it, and appends the event. A job that
    /// ends frees its ports; its address it keeps until [`Tx::job_address_free`].
    ///
    /// Fails with [`StoreError::Transition`] if the state machine has no such transition.
    pub async fn job_status_set(&mut self, job: &JobRow, to: JobStatus, reason: &str, now: Timestamp) -> Result<()> {
        if !job.status.may_become(to) {
            return Err(StoreError::Transition { job: job.id.clone(), from: job.status, to });
        }
        self.job_status_write(job, to, reason, now).await
    }

    /// Declares the status of an external job, with the same effects.
    ///
    /// Fails with [`StoreError::Transition`] if the job has ended or the status can't be declared.
    pub async fn job_status_declare(
        &mut self,
        job: &JobRow,
        to: JobStatus,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        if job.status.is_final() || !to.may_be_declared() {
            return Err(StoreError::Transition { job: job.id.clone(), from: job.status, to });
        }
        self.job_status_write(job, to, reason, now).await
    }

    /// Sets the reason that a job's status shows, without a change of the status.
    pub async fn job_status_reason_set(&mut self, id: &JobId, reason: &str, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE job SET status_reason = ?, last_update = ? WHERE id = ?")
            .bind(reason)
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Marks a suspended job to be resumed as soon as a host fits.
    pub async fn job_await_host(&mut self, id: &JobId) -> Result<()> {
        sqlx::query("UPDATE job SET awaits_host = 1 WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Marks a job that is suspended because nobody uses it.
    pub async fn job_idle(&mut self, id: &JobId) -> Result<()> {
        sqlx::query("UPDATE job SET is_idle = 1 WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Keeps a suspended job until a user resumes it.
    pub async fn job_await_user(&mut self, id: &JobId, reason: &str, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE job SET awaits_host = 0, status_reason = ?, last_update = ? WHERE id = ?")
            .bind(reason)
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        self.event_append(id, &Event::StaysSuspended { reason: reason.to_owned() }, now).await
    }

    async fn job_status_write(&mut self, job: &JobRow, to: JobStatus, reason: &str, now: Timestamp) -> Result<()> {
        let executes = to == JobStatus::Executing;
        // A job that executes or has ended awaits no host, and is not suspended for want of use.
        let is_away = matches!(to, JobStatus::Suspending | JobStatus::Suspended | JobStatus::Resuming);
        sqlx::query(
            "UPDATE job SET status = ?, status_reason = ?, last_update = ?, status_time = ?, executed_ms = ?,
                exec_time = CASE WHEN ? THEN COALESCE(exec_time, ?) ELSE exec_time END,
                end_time = CASE WHEN ? THEN ? ELSE end_time END,
                awaits_host = CASE WHEN ? THEN awaits_host ELSE 0 END,
                is_idle = CASE WHEN ? THEN is_idle ELSE 0 END
             WHERE id = ?",
        )
        .bind(to.to_string())
        .bind(reason)
        .bind(now.to_string())
        .bind(now.to_string())
        .bind(i64::try_from(job.executed(now).as_millis()).unwrap_or(i64::MAX))
        .bind(executes)
        .bind(now.to_string())
        .bind(to.is_final())
        .bind(now.to_string())
        .bind(is_away)
        .bind(is_away)
        .bind(job.id.as_str())
        .execute(&mut *self.inner)
        .await?;
        if to.is_final() {
            self.farewell_begin(&job.id).await?;
            self.connection_delete_of_job(&job.id).await?;
        }
        self.event_append(&job.id, &Event::StatusChanged { status: to, reason: reason.to_owned() }, now).await
    }

    /// Frees an ended job's address.
    pub async fn job_address_free(&mut self, id: &JobId) -> Result<()> {
        sqlx::query("UPDATE job SET address = NULL WHERE id = ? AND end_time IS NOT NULL")
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Changes a job's name.
    pub async fn job_name_set(&mut self, id: &JobId, name: &Name, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE job SET spec = json_set(spec, '$.name', ?), last_update = ? WHERE id = ?")
            .bind(name.as_str())
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Changes a job's policy.
    pub async fn job_policy_set(&mut self, id: &JobId, policy: &JobPolicy, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE job SET policy = ?, last_update = ? WHERE id = ?")
            .bind(to_json(policy)?)
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Sets the digest of a job's image.
    pub async fn job_image_digest_set(&mut self, id: &JobId, digest: &str) -> Result<()> {
        sqlx::query("UPDATE job SET image_digest = ? WHERE id = ?")
            .bind(digest)
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Sets a job's exit code.
    pub async fn job_exit_code_set(&mut self, id: &JobId, code: i32) -> Result<()> {
        sqlx::query("UPDATE job SET exit_code = ? WHERE id = ?")
            .bind(code)
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

pub(crate) fn read(row: &SqliteRow) -> Result<JobRow> {
    Ok(JobRow {
        id: parsed(row, "id")?,
        user_name: row.try_get("user_name")?,
        spec: json(row, "spec")?,
        image_digest: row.try_get("image_digest")?,
        policy: json(row, "policy")?,
        status: parsed(row, "status")?,
        status_reason: row.try_get("status_reason")?,
        address: parsed_option(row, "address")?,
        generation: Generation(unsigned(row, "generation")?),
        host: parsed_option(row, "host_id")?,
        epoch: unsigned(row, "epoch")?,
        requested_host: parsed_option(row, "requested_host")?,
        requested_gateway: parsed_option(row, "requested_gateway")?,
        target_ports: json(row, "target_ports")?,
        security_groups: json(row, "security_groups")?,
        exit_code: row.try_get("exit_code")?,
        submit_time: parsed(row, "submit_time")?,
        exec_time: parsed_option(row, "exec_time")?,
        end_time: parsed_option(row, "end_time")?,
        last_update: parsed(row, "last_update")?,
        status_time: parsed(row, "status_time")?,
        executed_before: Duration::from_millis(unsigned(row, "executed_ms")?),
        size_submitted: match row.try_get("mem_gb_submitted")? {
            Some(mem_gb) => Some(Resources { cpu: unsigned(row, "cpu_submitted")?, mem_gb }),
            None => None,
        },
        awaits_host: row.try_get("awaits_host")?,
        is_idle: row.try_get("is_idle")?,
        capsule_key: row.try_get("capsule_key")?,
    })
}
