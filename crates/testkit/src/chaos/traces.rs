//! The traces of jobs on this machine: processes, directories, mounts, control groups, interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use mooring_linux::netns;
use nix::net::if_::if_nameindex;

use crate::world::World;

/// The variable in the environment of every process of a job.
const JOB: &str = "FLOAT_JOB_ID=";
/// The control groups' file system.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The traces of one job, each with its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trace {
    /// Running copies of the job, by process namespace.
    pub(super) copies: BTreeSet<(u64, String)>,
    pub(super) directories: BTreeSet<String>,
    pub(super) mounts: BTreeSet<String>,
    pub(super) cgroups: BTreeSet<String>,
}

/// The traces of all jobs.
#[derive(Debug, Default)]
pub(super) struct Traces {
    jobs: BTreeMap<String, Trace>,
    /// The interfaces of jobs on each host.
    interfaces: BTreeMap<String, BTreeSet<String>>,
}

impl Trace {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether exactly one copy runs, on `host`, and no other host has a trace.
    pub(super) fn is_only_on(&self, host: &str) -> bool {
        let only = |hosts: &BTreeSet<String>| hosts.len() == 1 && hosts.contains(host);
        let copy = self.copies.len() == 1 && self.copies.iter().all(|(_, on)| on == host);
        copy && only(&self.directories) && only(&self.mounts) && only(&self.cgroups)
    }
}

impl Traces {
    /// Collects all traces.
    pub(super) fn collect(world: &World, hosts: u32) -> Result<Self> {
        let mut traces = Self::default();
        traces.processes();
        traces.directories(&world.directory(), hosts);
        traces.mounts(&world.directory());
        traces.cgroups(hosts);
        for number in 1..=hosts {
            let namespace = world.directory().join(format!("run/host-{number}.netns"));
            let names = netns::run_in(&namespace, || {
                let all = if_nameindex()?;
                Ok::<_, nix::Error>(all.iter().map(|one| one.name().to_string_lossy().into_owned()).collect::<Vec<_>>())
            })?;
            let prefix = format!("mh{number}j");
            let of_jobs =
                names.context("list the interfaces of a host")?.into_iter().filter(|name| name.starts_with(&prefix));
            traces.interfaces.insert(format!("host-{number}"), of_jobs.collect());
        }
        Ok(traces)
    }

    pub(super) fn of(&self, job: &str) -> Trace {
        self.jobs.get(job).cloned().unwrap_or_default()
    }

    /// Returns the interfaces that no job in `needed` has; a job is its host and address.
    pub(super) fn interfaces_beyond(&self, needed: &[(String, Ipv4Addr)]) -> Vec<String> {
        let name = |(host, address): &(String, Ipv4Addr)| {
            let [_, b, c, d] = address.octets();
            format!("{}j{b:02x}{c:02x}{d:02x}", host.replace("host-", "mh"))
        };
        let needed: BTreeSet<String> = needed.iter().map(name).collect();
        self.interfaces.values().flatten().filter(|known| !needed.contains(*known)).cloned().collect()
    }

    fn job(&mut self, job: &str) -> &mut Trace {
        self.jobs.entry(job.to_owned()).or_default()
    }

    fn processes(&mut self) {
        for entry in entries(Path::new("/proc")) {
            // A process may end meanwhile.
            let Ok(environment) = fs::read(entry.join("environ")) else { continue };
            let job = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(JOB.as_bytes()));
            let Some(job) = job.map(|job| String::from_utf8_lossy(job).into_owned()) else { continue };
            let Ok(namespace) = fs::metadata(entry.join("ns/pid")) else { continue };
            let group = fs::read_to_string(entry.join("cgroup")).unwrap_or_default();
            let host = group.lines().find_map(|line| {
                let names: Vec<&str> = line.split('/').collect();
                let at = names
                    .iter()
                    .position(|name| name.strip_prefix(job.as_str()).is_some_and(|rest| rest.starts_with('-')))?;
                names.get(at.checked_sub(1)?).map(|host| (*host).to_owned())
            });
            self.job(&job).copies.insert((namespace.ino(), host.unwrap_or_default()));
        }
    }

    fn directories(&mut self, up: &Path, hosts: u32) {
        for host in (1..=hosts).map(|number| format!("host-{number}")) {
            for job in entries(&up.join("hosts").join(&host).join("jobs")) {
                if entries(&job).iter().any(|place| place.is_dir()) {
                    self.job(&name(&job)).directories.insert(host.clone());
                }
            }
        }
    }

    fn mounts(&mut self, up: &Path) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for place in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            let Ok(below) = Path::new(place).strip_prefix(up.join("hosts")) else { continue };
            let names: Vec<&str> = below.iter().filter_map(|name| name.to_str()).collect();
            if let [host, "jobs", job, _, ..] = names[..] {
                self.job(job).mounts.insert(host.to_owned());
            }
        }
    }

    fn cgroups(&mut self, hosts: u32) {
        let roots = entries(Path::new(CGROUPS)).into_iter().chain([CGROUPS.into()]);
        let worlds: Vec<_> = roots.flat_map(|root| entries(&root.join("mooring"))).collect();
        for host in (1..=hosts).map(|number| format!("host-{number}")) {
            for group in worlds.iter().flat_map(|world| entries(&world.join(&host))) {
                if let Some((job, _)) = name(&group).split_once('-').filter(|_| group.is_dir()) {
                    self.job(job).cgroups.insert(host.clone());
                }
            }
        }
    }
}

fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
