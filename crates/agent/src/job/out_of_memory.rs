//! Processes of jobs that the kernel has killed for lack of memory.
//!
//! The control group counts them, and the kernel's log names them by its own ids. The job knows
//! them by others, so the ids of processes are noted while they live.

use std::collections::{BTreeMap, HashMap};

use mooring_api::watch::OutOfMemory;
use mooring_linux::kernel_log::{KernelLog, MemoryKill};
use mooring_linux::process_tree;

use crate::runtime::job_dir::JobDir;

/// The kills that were read from the kernel's log, and the processes that may be killed next.
#[derive(Debug)]
pub(crate) struct KillLog {
    log: Option<KernelLog>,
    /// The last kill by control group.
    last: HashMap<String, Named>,
    /// For each control group, the ids in the job by the kernel's ids.
    living: HashMap<String, BTreeMap<i32, i32>>,
}

/// A killed process.
#[derive(Debug, Clone)]
struct Named {
    pid: Option<i32>,
    program: String,
}

impl KillLog {
    pub(crate) fn open() -> Self {
        Self { log: KernelLog::open(), last: HashMap::new(), living: HashMap::new() }
    }

    /// Notes the ids of the processes of these jobs. Others are forgotten.
    pub(crate) fn note(&mut self, jobs: &[JobDir]) {
        self.read();
        let noted = |job_dir: &JobDir| {
            let group = job_dir.cgroup_path();
            let before = self.living.get(&group);
            let pids = job_dir.cgroup().pids().into_iter().filter_map(|pid| {
                let known = before.and_then(|before| before.get(&pid).copied());
                Some((pid, known.or_else(|| process_tree::own_pid(pid))?))
            });
            (group, pids.collect())
        };
        let living = jobs.iter().map(noted).collect();
        self.living = living;
    }

    /// Returns the kills of a job; `None` without any.
    pub(crate) fn of(&mut self, job_dir: &JobDir) -> Option<OutOfMemory> {
        let kills = job_dir.cgroup().memory_kills();
        if kills == 0 {
            return None;
        }
        self.read();
        let named = self.last.get(&job_dir.cgroup_path());
        let (pid, program) = named.map(|named| (named.pid, named.program.clone())).unwrap_or_default();
        Some(OutOfMemory { kills, pid, program })
    }

    fn read(&mut self) {
        let Some(log) = &mut self.log else { return };
        for MemoryKill { cgroup, program, pid } in log.memory_kills() {
            // The kernel names the group from the root of all, the agent from its own root.
            let known = self.living.iter().find(|(group, _)| cgroup.ends_with(group.as_str()));
            let Some((group, living)) = known else { continue };
            let program = program.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
            self.last.insert(group.clone(), Named { pid: living.get(&pid).copied(), program });
        }
        let living = &self.living;
        self.last.retain(|group, _| living.contains_key(group));
    }
}
