//! A job as its driver holds it: its state, and the journal in which each state is written first.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::{JobDirective, JobObservation, JobState, StoreAccess, Unaccepted};
use mooring_capsule::CapsuleStore;
use mooring_linux::process::ProcessId;
use mooring_types::job::JobSpec;
use mooring_types::migration::{Phase, PhaseTime};
use mooring_types::{Generation, JobId, MigrationId};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::log::{LogPump, Results};
use super::policy::UnderLease;
use super::record::{Record, RecordedState};
use super::state::{Inbound, LocalState, Outbound, Running};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::migrate::stream::sender::CapsuleSender;
use crate::runtime::fence;
use crate::runtime::image::Image;
use crate::runtime::job_dir::JobDir;

/// The observation of a job for the reports; `None` when nothing is held.
pub(crate) type Observation = Arc<Mutex<Option<JobObservation>>>;

/// A job that a driver holds.
#[derive(Debug)]
pub(crate) struct HeldJob {
    pub(crate) journal: Journal,
    pub(crate) state: LocalState,
    /// The access to the capsule store that came with the order.
    store: Option<StoreAccess>,
    /// The image of a job that is received, from its preparation until the restore. To find it
    /// again would be part of the pause.
    pub(crate) image: Option<Image>,
}

/// Writes a job's states to disk and into the reports.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) host: Arc<Host>,
    pub(crate) job: JobId,
    pub(crate) generation: Generation,
    pub(crate) address: Ipv4Addr,
    pub(crate) spec: JobSpec,
    pub(crate) log: LogPump,
    /// The time that each phase of the current migration took on this host.
    phases: Vec<PhaseTime>,
    /// The differences that the last restore has made.
    pub(crate) differences: Vec<String>,
    bytes_moved: u64,
    /// The connections that the job lacks since it was restored here.
    pub(crate) unaccepted: Option<Unaccepted>,
    /// OpCenter's proof that the job was given to this host; empty until then.
    grant: String,
    observation: Observation,
}

impl HeldJob {
    /// A job of which nothing is held yet.
    pub(crate) fn absent(host: Arc<Host>, directive: &JobDirective) -> Self {
        let journal = Journal {
            job: directive.job.clone(),
            generation: directive.generation,
            address: directive.address,
            spec: directive.spec.clone(),
            phases: Vec::new(),
            differences: Vec::new(),
            bytes_moved: 0,
            unaccepted: None,
            grant: directive.grant.clone(),
            observation: Observation::default(),
            log: LogPump::start(host.clone(), directive.job.clone()),
            host,
        };
        Self { journal, state: LocalState::Absent, store: None, image: None }
    }

    /// A job that an earlier agent has recorded, in the state in which it was found.
    pub(crate) fn found(host: Arc<Host>, record: Record, state: LocalState) -> Self {
        let journal = Journal {
            log: LogPump::start(host.clone(), record.job.clone()),
            host,
            job: record.job,
            generation: record.generation,
            address: record.address,
            spec: record.spec,
            phases: record.phases,
            differences: record.differences,
            bytes_moved: record.bytes_moved,
            unaccepted: record.unaccepted,
            grant: record.grant,
            observation: Observation::default(),
        };
        let found = Self { journal, state, store: None, image: None };
        found.publish();
        found
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.journal.host
    }

    pub(crate) fn id(&self) -> &JobId {
        &self.journal.job
    }

    pub(crate) fn observation(&self) -> Observation {
        self.journal.observation.clone()
    }

    pub(crate) fn job_dir(&self) -> JobDir {
        let journal = &self.journal;
        journal.host.job_dir(&journal.job, journal.generation, journal.address)
    }

    /// Opens the capsule store for the capsules of this job.
    ///
    /// # Errors
    /// The order has named no store, or it can't be used from this host.
    pub(crate) fn capsule_store(&self) -> Result<CapsuleStore> {
        self.host().capsules.store(self.store.as_ref().ok_or(Error::NoStore)?)
    }

    /// Takes the access to the store and the grant from a directive. As long as the job is not
    /// made, takes its generation, address and specification as well.
    ///
    /// # Errors
    /// The record with the grant can't be written.
    pub(crate) fn adopt(&mut self, directive: &JobDirective) -> Result<()> {
        self.store.clone_from(&directive.store);
        let same = directive.generation == self.journal.generation;
        if matches!(self.state, LocalState::Absent) || (same && matches!(self.state, LocalState::Starting)) {
            self.journal.generation = directive.generation;
            self.journal.address = directive.address;
            self.journal.spec = directive.spec.clone();
            self.journal.forget_measures();
        }
        let is_granted = directive.generation == self.journal.generation && !directive.grant.is_empty();
        if !is_granted || directive.grant == self.journal.grant {
            return Ok(());
        }
        self.journal.grant.clone_from(&directive.grant);
        // What is not held has no record.
        if matches!(self.state, LocalState::Absent) { Ok(()) } else { self.save() }
    }

    /// Puts the job under the lease of this host while OpCenter may recover it elsewhere.
    ///
    /// A snapshot and a restore have put it there before OpCenter hears of them. It is taken out
    /// only when OpCenter has decided on them.
    ///
    /// # Errors
    /// The file that says so can't be written or removed.
    pub(crate) fn set_fence(&self, directive: &JobDirective) -> Result<()> {
        if directive.generation != self.journal.generation {
            return Ok(());
        }
        let is_decided = match &self.state {
            LocalState::Running(Running { outbound, .. }) => match outbound {
                Outbound::None | Outbound::PreCopied { .. } | Outbound::Failed { .. } => true,
                Outbound::SnapshotTaken(_) | Outbound::Stored { .. } => false,
            },
            LocalState::Freezing { .. }
            | LocalState::Frozen { .. }
            | LocalState::Restored { .. }
            | LocalState::Parked => false,
            LocalState::Absent
            | LocalState::Starting
            | LocalState::Exited { .. }
            | LocalState::FailedToStart { .. }
            | LocalState::Lost { .. }
            | LocalState::Receiving { .. }
            | LocalState::ReceiveFailed { .. }
            | LocalState::Gone => return Ok(()),
        };
        if directive.recoverable || is_decided {
            fence::set(&self.job_dir(), self.host().lease.path(), directive.recoverable)?;
        }
        Ok(())
    }

    /// Returns how the lease of this host concerns the job.
    pub(crate) fn under_lease(&self, is_confirmed: bool) -> UnderLease {
        let job_dir = self.job_dir();
        UnderLease { is_fenced: fence::is_set(&job_dir), is_frozen: fence::is_closed(&job_dir), is_confirmed }
    }

    /// Enters a state: on disk, then in memory and in the reports.
    ///
    /// # Errors
    /// The record can't be written. The state is as before then.
    pub(crate) fn enter(&mut self, state: LocalState) -> Result<()> {
        self.enter_quietly(state)?;
        self.publish();
        Ok(())
    }

    /// Enters a state that is not to be reported yet.
    ///
    /// # Errors
    /// The record can't be written. The state is as before then.
    pub(crate) fn enter_quietly(&mut self, state: LocalState) -> Result<()> {
        self.journal.write(state.recorded())?;
        self.state = state;
        Ok(())
    }

    /// Enters a state that the job has reached already. It holds also when the record can't be
    /// written.
    ///
    /// # Errors
    /// The record can't be written.
    pub(crate) fn enter_reached(&mut self, state: LocalState) -> Result<()> {
        let written = self.journal.write(state.recorded());
        self.state = state;
        self.publish();
        written
    }

    /// Gives up a migration of the executing job, also when the record can't be written.
    ///
    /// # Errors
    /// The record can't be written, or the job does not execute.
    pub(crate) fn fail_outbound(&mut self, failed: Outbound) -> Result<()> {
        let LocalState::Running(running) = &mut self.state else { return Err(self.wrong_state("migrate")) };
        running.outbound = failed;
        self.publish();
        self.save()
    }

    /// Writes the state once more, as it is.
    ///
    /// # Errors
    /// The record can't be written.
    pub(crate) fn save(&self) -> Result<()> {
        self.journal.write(self.state.recorded())
    }

    /// Closes the connections of a migration before the job is removed: its other host learns of it
    /// now. The record is written at the end of the removal.
    pub(crate) fn close_handles(&mut self) {
        match &mut self.state {
            LocalState::Running(running) => {
                running.base = None;
                if let Outbound::PreCopied { .. } = running.outbound {
                    running.outbound = Outbound::None;
                }
            }
            LocalState::Receiving { inbound, .. } => *inbound = Inbound::Preparing,
            LocalState::Absent
            | LocalState::Starting
            | LocalState::Exited { .. }
            | LocalState::FailedToStart { .. }
            | LocalState::Lost { .. }
            | LocalState::Freezing { .. }
            | LocalState::Frozen { .. }
            | LocalState::ReceiveFailed { .. }
            | LocalState::Restored { .. }
            | LocalState::Parked
            | LocalState::Gone => {}
        }
    }

    /// Records the progress of a migration of the executing job.
    ///
    /// # Errors
    /// The record can't be written, or the job does not execute. The state is as before then.
    pub(crate) fn set_outbound(&mut self, outbound: Outbound) -> Result<()> {
        let LocalState::Running(running) = &mut self.state else { return Err(self.wrong_state("migrate")) };
        let process = running.process;
        self.journal.write(RecordedState::Running { process, outbound: outbound.recorded() })?;
        running.outbound = outbound;
        self.publish();
        Ok(())
    }

    /// Records that the job is about to be frozen, and takes the connection of its pre-copy.
    ///
    /// # Errors
    /// The record can't be written, or the migration has no pre-copy. The state is as before then.
    pub(crate) fn begin_freeze(&mut self, migration: &MigrationId) -> Result<(ProcessId, CapsuleSender)> {
        match std::mem::replace(&mut self.state, LocalState::Absent) {
            LocalState::Running(Running {
                process,
                outbound: Outbound::PreCopied { migration: copied, sender },
                base,
            }) if copied == *migration => {
                let written = self.journal.write(RecordedState::Freezing { process, migration: copied.clone() });
                if let Err(error) = written {
                    let outbound = Outbound::PreCopied { migration: copied, sender };
                    self.state = LocalState::Running(Running { process, outbound, base });
                    return Err(error);
                }
                self.state = LocalState::Freezing { process, migration: copied, base };
                self.publish();
                Ok((process, *sender))
            }
            other => {
                self.state = other;
                Err(self.wrong_state("freeze"))
            }
        }
    }

    /// Names the image by its digest from now on: its tag may come to name another one.
    ///
    /// # Errors
    /// The record can't be written.
    pub(crate) fn pin_image(&mut self, digest: &str) -> Result<()> {
        self.journal.spec.image = self.journal.spec.image.pinned(digest);
        self.save()
    }

    /// Sets the progress of a long step for the next report.
    pub(crate) fn report_progress(&self, progress: String) {
        self.journal.report_progress(self.state.recorded(), progress);
    }

    /// Publishes the state for the next report, and the upper layer from which output is sent.
    pub(crate) fn publish(&self) {
        self.journal.publish(self.state.recorded());
        let upper = match &self.state {
            LocalState::Absent | LocalState::Starting | LocalState::Gone => None,
            LocalState::Running(_)
            | LocalState::Exited { .. }
            | LocalState::FailedToStart { .. }
            | LocalState::Lost { .. }
            | LocalState::Freezing { .. }
            | LocalState::Frozen { .. }
            | LocalState::Receiving { .. }
            | LocalState::ReceiveFailed { .. }
            | LocalState::Restored { .. }
            | LocalState::Parked => Some(self.job_dir().upper()),
        };
        self.journal.log.follow(upper);
    }

    /// Sends the job's output before its end is reported: users look at the output then.
    pub(crate) async fn send_output(&self) {
        self.journal.log.follow(Some(self.job_dir().upper()));
        self.journal.log.flush(Results::Included).await;
    }

    /// The error of an action for which the job is in the wrong state.
    pub(crate) fn wrong_state(&self, action: &'static str) -> Error {
        Error::WrongState { action, state: self.state.recorded().name() }
    }
}

impl Journal {
    /// The directory of the job's record and of all its generations.
    pub(crate) fn directory(&self) -> PathBuf {
        self.host.jobs().join(self.job.as_str())
    }

    fn record(&self, state: RecordedState) -> Record {
        Record {
            job: self.job.clone(),
            generation: self.generation,
            address: self.address,
            spec: self.spec.clone(),
            state,
            phases: self.phases.clone(),
            differences: self.differences.clone(),
            bytes_moved: self.bytes_moved,
            unaccepted: self.unaccepted.clone(),
            grant: self.grant.clone(),
        }
    }

    fn write(&self, state: RecordedState) -> Result<()> {
        self.record(state).save(&self.directory())
    }

    fn publish(&self, state: RecordedState) {
        let observed = self.record(state).observe();
        let mut observation = self.observation.lock();
        if *observation != observed {
            *observation = observed;
            self.host.observed.notify_one();
        }
    }

    fn report_progress(&self, state: RecordedState, progress: String) {
        let Some(mut observed) = self.record(state).observe() else { return };
        let mut observation = self.observation.lock();
        if observation.as_ref().map_or("", |observation| &observation.progress) != progress {
            // The record may be one step ahead of what was done.
            observed.state = JobState::Starting;
            observed.progress = progress;
            *observation = Some(observed);
            self.host.observed.notify_one();
        }
    }

    /// Notes the time of a phase and the bytes that the migration has moved so far.
    pub(crate) fn measure(&mut self, phase: Phase, since: Instant, bytes: u64) {
        self.set_time(phase, since.elapsed());
        self.bytes_moved = self.bytes_moved.max(bytes);
    }

    /// Adds to the time of a phase.
    pub(crate) fn measure_more(&mut self, phase: Phase, time: Duration) {
        let before = self.phases.iter().find(|known| known.name == phase).map_or(0.0, |known| known.seconds);
        self.set_time(phase, Duration::from_secs_f64(before) + time);
    }

    /// Forgets what was measured of a migration that has ended. The next record is without it.
    pub(crate) fn forget_measures(&mut self) {
        self.phases.clear();
        self.differences.clear();
        self.bytes_moved = 0;
    }

    fn set_time(&mut self, name: Phase, time: Duration) {
        self.phases.retain(|known| known.name != name);
        self.phases.push(PhaseTime { name, seconds: time.as_secs_f64() });
    }
}

#[cfg(test)]
mod tests;
