//! The OCI bundle: the configuration of runc and CRIU for one container.
//!
//! Everything that CRIU checks is equal on all hosts. Each tmpfs costs several milliseconds of the
//! pause for a `tar`, so there are only those that programs need. What a job must not see of the
//! machine is masked file by file, or by an empty directory. What it must not change is read-only.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mooring_linux::cgroup::{self, PROCESSES_PER_CORE};
use mooring_types::JobId;
use mooring_types::host::Resources;
use mooring_types::job::JobSpec;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use super::image::{Image, parts};
use super::job_dir::JobDir;
use super::name_servers;
use super::own;
use super::program;
use super::seccomp;
use super::volume;
use crate::error::{Error, Result};

/// The host's part of a bundle.
#[derive(Debug, Clone)]
pub(crate) struct HostPart<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// OpCenter's address.
    pub(crate) opcenter: &'a str,
    /// The certificates by which OpCenter is believed, as `--ca` takes them.
    pub(crate) trust: &'a str,
    /// The host's own address.
    pub(crate) address: Ipv4Addr,
    /// The offset of a new job's monotonic clock to the kernel's.
    pub(crate) clock_offset_seconds: i64,
    /// The path of the `float` program.
    pub(crate) float: &'a Path,
    /// The directory of the agent's state.
    pub(crate) state_dir: &'a Path,
    /// The socket of CRIU's hooks.
    pub(crate) hook_socket: &'a Path,
}

/// The capabilities of a container: those that a web server, a notebook, a package manager or an
/// SSH server needs. There are none for device files and raw sockets.
const CAPABILITIES: [&str; 12] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The files that read as empty.
const MASKED: [&str; 6] =
    ["/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list"];

/// The directories that are empty, as far as this machine has them.
const EMPTY: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];

/// The files and directories that can't be changed, as far as this machine has them. Over a
/// directory of `/proc`, runc mounts nothing but a tmpfs.
const READ_ONLY: [&str; 8] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// CRIU's name of the hook before it reads memory.
pub(crate) const BEFORE_MEMORY: &str = "post-setup-namespaces";

/// CRIU's name of the hook after a dump, before it removes what it has made for the dump.
pub(crate) const AFTER_DUMP: &str = "post-dump";

/// The largest open file without a name that is checkpointed, in bytes on disk. It is copied while
/// the job is frozen.
const REMOVED_FILE_MAX: u64 = 16 << 30;

/// Writes the bundle and its helper files.
///
/// # Errors
/// A file can't be written, or the job has no command.
pub(crate) fn write(job_dir: &JobDir, spec: &JobSpec, image: &Image, host: &HostPart<'_>) -> Result<()> {
    let config = config(job_dir, spec, image, host)?;
    let failed = |error: io::Error| Error::system(format!("write bundle {}", job_dir.bundle().display()))(error);
    let write = || {
        for directory in [job_dir.root(), job_dir.upper(), job_dir.work(), job_dir.empty()] {
            fs::create_dir_all(directory)?;
        }
        parts::write_needed(job_dir.directory(), &image.parts)?;
        program::give(host.state_dir, job_dir)?;
        fs::write(job_dir.bundle().join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        fs::write(job_dir.criu_hook(), hook_script(job_dir, host))?;
        fs::set_permissions(job_dir.criu_hook(), fs::Permissions::from_mode(0o700))?;
        fs::write(job_dir.criu_config(), criu_config(job_dir))
    };
    write().map_err(failed)
}

/// Writes the files of a new job into its upper layer: its output, its script and name resolution.
pub(crate) fn furnish(job_dir: &JobDir, spec: &JobSpec, image: &Image) -> Result<()> {
    let upper = job_dir.upper();
    let failed = |error: io::Error| Error::system(format!("furnish {}", upper.display()))(error);
    let write = || {
        own::make(job_dir, spec, &own::user(spec, image))?;
        fs::create_dir_all(upper.join("etc"))?;
        name_servers::give(&upper)?;
        let name = &spec.name;
        fs::write(
            upper.join("etc/hosts"),
            format!("127.0.0.1 localhost\n::1 localhost\n{} {name}\n", job_dir.address()),
        )
    };
    write().map_err(failed)
}

fn config(job_dir: &JobDir, spec: &JobSpec, image: &Image, host: &HostPart<'_>) -> Result<Value> {
    let Some(arguments) = own::arguments(spec, image) else {
        let reason = "it names no command of its own: give one after `--`".to_owned();
        return Err(Error::Image { image: spec.image.to_string(), reason });
    };
    let user = own::user(spec, image);
    let capabilities: &[&str] = if user.is_root() { &CAPABILITIES } else { &[] };
    let working_dir = match spec.working_dir.to_str() {
        Some("") | None => image.working_dir.as_str(),
        Some(directory) => directory,
    };
    let seconds = host.clock_offset_seconds;
    Ok(json!({
        "ociVersion": "1.2.0",
        "hostname": spec.name,
        "root": { "path": job_dir.root() },
        "annotations": { "org.criu.config": job_dir.criu_config() },
        "process": {
            "terminal": false,
            "cwd": working_dir,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
            "args": arguments,
            "env": environment(spec, image, host),
            "noNewPrivileges": false,
            "rlimits": [descriptors()],
            "capabilities": {
                "bounding": CAPABILITIES, "effective": capabilities, "permitted": capabilities,
            },
        },
        "mounts": mounts(job_dir, spec),
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "time" },
                { "type": "cgroup" }, { "type": "network", "path": job_dir.namespace() },
            ],
            "timeOffsets": { "monotonic": { "secs": seconds }, "boottime": { "secs": seconds } },
            "cgroupsPath": job_dir.cgroup_path(),
            "resources": resources(&spec.resources),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": seccomp::profile(),
        },
    }))
}

/// The limits of a job's control group. A job has no memory in swap, and its share of the disks is
/// as large as that of the processors.
fn resources(resources: &Resources) -> Value {
    let cores = u64::from(resources.cpu);
    let memory = (resources.mem_gb * 1e9) as i64;
    let mut limits = json!({
        "cpu": { "period": 100_000, "quota": cores * 100_000 },
        "memory": { "limit": memory },
        "pids": { "limit": cores * PROCESSES_PER_CORE },
        "devices": [{ "allow": false, "access": "rwm" }],
    });
    if cgroup::limits_swap() {
        limits["memory"]["swap"] = memory.into();
    }
    if cgroup::weighs_disk_use() {
        limits["blockIO"] = json!({ "weight": (cores * 100).clamp(10, 1000) });
    }
    limits
}

/// The limit of open files: enough for thousands of sockets, independent of the agent's own limit,
/// where the machine allows it. The soft limit is bounded, since some programs close all numbers up
/// to it.
fn descriptors() -> Value {
    const SOFT: u64 = 65_536;
    const HARD: u64 = 1_048_576;
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(HARD, |(_, hard)| hard);
    json!({ "type": "RLIMIT_NOFILE", "soft": SOFT.min(allowed), "hard": HARD.min(allowed) })
}

fn mounts(job_dir: &JobDir, spec: &JobSpec) -> Vec<Value> {
    let usual = [
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"] }),
    ];
    let empty = EMPTY.into_iter().filter(|directory| Path::new(directory).is_dir()).map(|directory| {
        json!({ "destination": directory, "type": "bind", "source": job_dir.empty(),
                "options": ["bind", "ro", "nosuid", "noexec", "nodev"] })
    });
    let program = std::iter::once(program::mount(job_dir));
    usual.into_iter().chain(empty).chain(program).chain(volume::mounts(job_dir, &spec.volumes)).collect()
}

fn environment(spec: &JobSpec, image: &Image, host: &HostPart<'_>) -> Vec<String> {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut environment =
        vec![PATH.to_owned(), format!("HOME={}", own::user(spec, image).home), "LANG=C.UTF-8".to_owned()];
    environment.extend(image.env.iter().cloned());
    environment.extend(spec.env.iter().map(|(key, value)| format!("{key}={value}")));
    environment.extend(own::environment(host.job, host.opcenter, host.trust, host.address));
    // The later of two values for a key wins.
    let mut last: Vec<String> = Vec::new();
    for entry in environment {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key).to_owned();
        last.retain(|known| known.split_once('=').is_none_or(|(other, _)| other != key));
        last.push(entry);
    }
    last
}

/// CRIU's configuration. The agent's own packet rule replaces CRIU's network lock: it is in force
/// from before the freeze until the restored job executes. Connections that are not accepted are
/// the agent's concern.
fn criu_config(job_dir: &JobDir) -> String {
    format!(
        "network-lock skip\nskip-in-flight\nlink-remap\nghost-limit {REMOVED_FILE_MAX}\naction-script {}\n",
        job_dir.criu_hook().display()
    )
}

/// The script that CRIU calls at every step. Most steps need nothing, and a shell exits fastest.
fn hook_script(job_dir: &JobDir, host: &HostPart<'_>) -> String {
    let (seized, unfrozen, gate) = (job_dir.criu_seized(), job_dir.criu_unfrozen(), job_dir.criu_gate());
    let asked_if = |file: &Path| format!("[ -e '{}' ] || exit 0", file.display());
    format!(
        "#!/bin/sh\ncase \"$CRTOOLS_SCRIPT_ACTION\" in\npre-dump|pre-resume) ;;\n\
         network-lock) : >'{}'; {} ;;\nnetwork-unlock) {} ;;\n{BEFORE_MEMORY}) {} ;;\n{AFTER_DUMP}) {} ;;\n*) exit 0 ;;\nesac\n\
         exec '{}' criu-hook '{}' '{}' \"$CRTOOLS_SCRIPT_ACTION\"\n",
        seized.display(),
        asked_if(&unfrozen),
        asked_if(&unfrozen),
        asked_if(&gate),
        asked_if(&job_dir.criu_links()),
        host.float.display(),
        host.hook_socket.display(),
        job_dir.container(),
    )
}
