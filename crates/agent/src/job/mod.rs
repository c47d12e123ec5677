//! The jobs of this host, each with a driver that has it follow its directive.
//!
//! * [`state`]: the state of a job, with the connections that belong to it.
//! * [`record`]: the part of the state on disk.
//! * [`held`]: a job with its state; each state is on disk before it is entered.
//! * [`policy`]: the next action, as a pure function of the recorded state and the directive.
//! * [`driver`]: the task that performs it. The steps of a migration are in
//!   [`migrate`](crate::migrate).
//! * [`disk_guard`]: the freeze of jobs that fill the disk.
//! * [`directives`]: the watch of a job's directive; [`furnish`]: image, bundle and network of a
//!   job.
//! * [`recovery`]: the state of a job after the agent was killed or stopped.
//! * [`log`]: a job's output on its way to OpCenter; [`out_of_memory`]: the processes that the
//!   kernel has killed.

pub(crate) mod directives;
pub(crate) mod disk_guard;
mod driver;
pub(crate) mod furnish;
pub(crate) mod held;
pub(crate) mod log;
mod out_of_memory;
pub(crate) mod policy;
pub(crate) mod record;
mod recovery;
pub(crate) mod state;

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use mooring_api::watch::{JobDirective, JobObservation, JobState, UsageSample};
use mooring_ops::log::chain;
use mooring_types::finding::Finding;
use mooring_types::job::{Activity, Unserved};
use mooring_types::{Generation, JobId, Port};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::directives::Directives;
use self::driver::Driver;
use self::held::{HeldJob, Observation};
use self::out_of_memory::KillLog;
use self::record::Record;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::runtime::job_dir::JobDir;

#[derive(Debug)]
struct Driven {
    /// The address of the job, which never changes.
    address: Ipv4Addr,
    directive: watch::Sender<Option<JobDirective>>,
    observation: Observation,
    /// The last sample of the job's usage.
    usage: Option<(Generation, UsageSample)>,
    /// The findings of the last look at the job.
    findings: Option<(Generation, Vec<Finding>)>,
    /// The published ports that the job does not serve.
    unserved: Option<(Generation, Unserved)>,
    /// The activity of the job on its own.
    activity: Option<(Generation, Activity)>,
    task: JoinHandle<Option<Result<()>>>,
}

/// The jobs of this host.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    host: Arc<Host>,
    driven: Arc<Mutex<HashMap<JobId, Driven>>>,
    kills: Arc<Mutex<KillLog>>,
}

impl Jobs {
    /// Takes up every job that this host holds. Jobs run on while an agent is restarted.
    ///
    /// # Errors
    /// The directory of jobs can't be read.
    pub(crate) async fn open(host: Arc<Host>) -> Result<Self> {
        let kills = Arc::new(Mutex::new(KillLog::open()));
        let jobs = Self { host, driven: Arc::default(), kills };
        let directory = jobs.host.jobs();
        let failed = || format!("read {}", directory.display());
        fs::create_dir_all(&directory).map_err(Error::system(failed()))?;
        // Records and bundles have the jobs' environments, with secrets.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).map_err(Error::system(failed()))?;
        for entry in fs::read_dir(&directory).map_err(Error::system(failed()))? {
            let path = entry.map_err(Error::system(failed()))?.path();
            match Record::load(&path) {
                Ok(Some(record)) => {
                    let job = recovery::recover(&jobs.host, record).await;
                    jobs.driven().insert(job.id().clone(), jobs.spawn(job, None));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error = %chain(&error), "leaving {} alone: its record can't be read", path.display());
                }
            }
        }
        Ok(jobs)
    }

    /// Passes each job its directive. A job without one is left alone.
    pub(crate) fn apply(&self, directives: &[JobDirective]) {
        let mut jobs = self.driven();
        jobs.retain(|_, driven| !driven.directive.is_closed());
        for directive in directives {
            if !jobs.contains_key(&directive.job) {
                jobs.insert(directive.job.clone(), self.spawn_absent(directive));
            }
        }
        for (job, driven) in jobs.iter() {
            let newest = directives.iter().find(|directive| directive.job == *job);
            driven.directive.send_if_modified(|now| {
                let same = match (now.as_ref(), newest) {
                    (Some(now), Some(newest)) => {
                        now.order == newest.order
                            && now.generation == newest.generation
                            && now.recoverable == newest.recoverable
                            && now.grant == newest.grant
                    }
                    (None, None) => true,
                    _ => false,
                };
                if !same {
                    *now = newest.cloned();
                }
                !same
            });
        }
    }

    /// The observations of all jobs.
    pub(crate) fn observe(&self) -> Vec<JobObservation> {
        let read = |driven: &Driven| {
            let mut observed = driven.observed()?;
            let measured =
                driven.usage.filter(|(generation, _)| *generation == observed.generation && executes(&observed.state));
            observed.usage = measured.map(|(_, sample)| sample);
            let looked = driven.findings.as_ref().filter(|(generation, _)| *generation == observed.generation);
            let looked = looked.filter(|_| executes(&observed.state));
            observed.findings = looked.map(|(_, findings)| findings.clone()).unwrap_or_default();
            let unserved = driven.unserved.as_ref().filter(|(generation, _)| *generation == observed.generation);
            let unserved = unserved.filter(|_| executes(&observed.state));
            observed.unserved = unserved.map(|(_, unserved)| unserved.clone());
            let acts = driven.activity.as_ref().filter(|(generation, _)| *generation == observed.generation);
            observed.activity = acts.filter(|_| executes(&observed.state)).map(|(_, activity)| activity.clone());
            let job_dir = self.host.job_dir(&observed.job, observed.generation, driven.address);
            observed.out_of_memory = self.kills.lock().of(&job_dir);
            observed.is_short_of_disk = job_dir.short_of_disk().exists();
            Some(observed)
        };
        self.driven().values().filter_map(read).collect()
    }

    /// Notes the processes of all jobs, and returns the number of their kills for lack of memory.
    pub(crate) fn note_processes(&self) -> u64 {
        let job_dir = |(job, driven): (&JobId, &Driven)| {
            Some(self.host.job_dir(job, driven.observed()?.generation, driven.address))
        };
        let jobs: Vec<JobDir> = self.driven().iter().filter_map(job_dir).collect();
        self.kills.lock().note(&jobs);
        jobs.iter().map(|job_dir| job_dir.cgroup().memory_kills()).sum()
    }

    /// The jobs that execute here, each with its directory.
    pub(crate) fn executing(&self) -> Vec<(JobId, Generation, JobDir)> {
        let read = |(job, driven): (&JobId, &Driven)| {
            let observed = driven.observed().filter(|observed| executes(&observed.state))?;
            Some((job.clone(), observed.generation, self.host.job_dir(job, observed.generation, driven.address)))
        };
        self.driven().iter().filter_map(read).collect()
    }

    /// Takes a sample of a job's usage for the next reports.
    pub(crate) fn measured(&self, job: &JobId, generation: Generation, sample: UsageSample) {
        if let Some(driven) = self.driven().get_mut(job) {
            driven.usage = Some((generation, sample));
        }
    }

    /// Takes the findings of a look at a job. Says whether they are others than before.
    pub(crate) fn looked_at(&self, job: &JobId, generation: Generation, findings: Vec<Finding>) -> bool {
        let mut jobs = self.driven();
        let Some(driven) = jobs.get_mut(job) else { return false };
        let found = Some((generation, findings));
        let changed = driven.findings != found;
        driven.findings = found;
        changed
    }

    /// The ports that a job publishes, as it knows them; none before its directive has come.
    pub(crate) fn published(&self, job: &JobId) -> Vec<Port> {
        let jobs = self.driven();
        let Some(driven) = jobs.get(job) else { return Vec::new() };
        let directive = driven.directive.borrow();
        directive.iter().flat_map(|directive| &directive.spec.publish).map(|port| port.container).collect()
    }

    /// Takes the published ports that a job does not serve. Says whether they are others than
    /// before.
    pub(crate) fn unserved(&self, job: &JobId, generation: Generation, unserved: Option<Unserved>) -> bool {
        let mut jobs = self.driven();
        let Some(driven) = jobs.get_mut(job) else { return false };
        let found = unserved.map(|unserved| (generation, unserved));
        let changed = driven.unserved != found;
        driven.unserved = found;
        changed
    }

    /// Takes what a job does on its own. Says whether it is something else than before.
    pub(crate) fn acts(&self, job: &JobId, generation: Generation, activity: Activity) -> bool {
        let mut jobs = self.driven();
        let Some(driven) = jobs.get_mut(job) else { return false };
        let found = Some((generation, activity));
        let changed = driven.activity != found;
        driven.activity = found;
        changed
    }

    /// Waits until every driver has ended, after the agent was asked to stop.
    ///
    /// # Errors
    /// Jobs should have been parked, and could not be.
    pub(crate) async fn closed(&self) -> Result<()> {
        let mut unparked = Vec::new();
        let all: Vec<(JobId, Driven)> = self.driven().drain().collect();
        // The channels stay open until the drivers have ended: a closed one would wake them.
        for (job, driven) in all {
            // A task that can't be awaited has panicked, which the lifecycle reports.
            if let Ok(Some(Err(_))) = driven.task.await {
                unparked.push(job.to_string());
            }
        }
        if unparked.is_empty() { Ok(()) } else { Err(Error::NotParked(unparked.join(", "))) }
    }

    /// Starts a driver for a job of which nothing is held.
    fn spawn_absent(&self, directive: &JobDirective) -> Driven {
        self.spawn(HeldJob::absent(self.host.clone(), directive), Some(directive.clone()))
    }

    fn spawn(&self, job: HeldJob, directive: Option<JobDirective>) -> Driven {
        let (sender, watch) = watch::channel(directive);
        let (address, observation) = (job.journal.address, job.observation());
        let (jobs, id) = (self.clone(), job.id().clone());
        let driver = Driver::new(job, Directives::new(watch));
        let task = self.host.tasks.spawn("job", async move {
            let outcome = driver.run().await;
            jobs.revisit(&id);
            outcome
        });
        Driven {
            address,
            directive: sender,
            observation,
            usage: None,
            findings: None,
            unserved: None,
            activity: None,
            task,
        }
    }

    /// Starts a new driver for an order that came while the driver of a gone job was ending.
    fn revisit(&self, job: &JobId) {
        let mut jobs = self.driven();
        let ended = jobs.get(job).filter(|driven| driven.directive.is_closed() && !self.host.stop.is_cancelled());
        let missed = ended.and_then(|driven| driven.directive.borrow().clone());
        if let Some(missed) = missed {
            jobs.insert(job.clone(), self.spawn_absent(&missed));
        }
    }

    fn driven(&self) -> parking_lot::MutexGuard<'_, HashMap<JobId, Driven>> {
        self.driven.lock()
    }
}

impl Driven {
    fn observed(&self) -> Option<JobObservation> {
        self.observation.lock().clone()
    }
}

/// Returns whether a job in this state may execute.
fn executes(state: &JobState) -> bool {
    matches!(
        state,
        JobState::Running | JobState::PreCopied { .. } | JobState::SnapshotTaken { .. } | JobState::Restored { .. }
    )
}
