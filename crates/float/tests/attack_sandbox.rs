//! Attacks of a job on the kernel that it shares with others, before and after a migration. They
//! concern limits, system calls, capabilities, and files of `/proc` and `/sys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::migration::Outcome;

const LIMIT: Duration = Duration::from_secs(60);

/// Tries each attack in a process of its own and prints the outcomes in one line, again and again.
/// An outcome is the name of the system's error, or what was had.
const PROBE: &str = r#"
import ctypes, errno, os, socket, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    whole = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    if libc.syscall(ctypes.c_long(number), *whole) == -1:
        raise OSError(ctypes.get_errno(), "")
    return "had"
def sockets(*kind):
    socket.socket(*kind).close()
    return "had"
def write(path):
    os.close(os.open(path, os.O_WRONLY))
    return "had"
def node():
    os.mknod("/node", 0o600 | 0o020000, os.makedev(1, 1))
    return "had"
def namespace_by_clone():
    if libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) == 0: os._exit(0)
    if ctypes.get_errno(): raise OSError(ctypes.get_errno(), "")
    os.wait()
    return "had"
buffer = ctypes.create_string_buffer(256)
tries = {
    "user namespace": lambda: call(272, 0x10000000),
    "user namespace by clone": namespace_by_clone,
    "clone3": lambda: call(435, buffer, 88),
    "setns": lambda: call(308, os.open("/proc/self/ns/uts", os.O_RDONLY), 0),
    "keyring of root": lambda: call(250, 0, -4, 1),
    "key": lambda: call(248, b"user", b"attack", b"x", 1, -4),
    "key request": lambda: call(249, b"user", b"attack", 0, -4),
    "bpf": lambda: call(321, 0, buffer, 64),
    "performance events": lambda: call(298, buffer, 0, -1, -1, 0),
    "userfaultfd": lambda: call(323, 0),
    "file by handle": lambda: call(304, -100, buffer, 0),
    "mount": lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, 0),
    "new mount": lambda: call(430, b"tmpfs", 0),
    "open tree": lambda: call(428, -100, b"/", 1),
    "swap": lambda: call(167, b"/none", 0),
    "module": lambda: call(175, buffer, 1, b""),
    "kexec": lambda: call(246, 0, 0, 0, 0),
    "clock": lambda: call(227, 0, buffer),
    "kernel log": lambda: call(103, 3, buffer, 256),
    "memory policy": lambda: call(238, 0, 0, 0),
    "uring": lambda: call(425, 8, buffer),
    "number that no kernel has": lambda: call(700),
    "packet socket": lambda: sockets(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "raw socket": lambda: sockets(socket.AF_INET, socket.SOCK_RAW, 1),
    "vsock": lambda: sockets(40, socket.SOCK_STREAM, 0),
    "device file": node,
    "acpi": lambda: write("/proc/acpi/wakeup") if os.path.exists("/proc/acpi/wakeup") else "masked",
    "acpi directory": lambda: "changeable" if os.path.exists("/proc/acpi") and not os.statvfs("/proc/acpi").f_flag & 1 else "masked",
    "firmware": lambda: " ".join(os.listdir("/sys/firmware")) or "empty",
    "interrupts": lambda: open("/proc/interrupts").read().strip()[:4] or "empty",
    "groups": lambda: " ".join(sorted({line.strip().split(":")[2] for line in open("/proc/self/cgroup")})),
    "ping": lambda: sockets(socket.AF_INET, socket.SOCK_DGRAM, 1),
    "low port": lambda: (lambda s: (s.bind(("127.0.0.1", 81)), s.close(), "had")[2])(socket.socket()),
    "chroot": lambda: call(161, b"/"),
    "own memory": lambda: call(310, os.getpid(), buffer, 0, buffer, 0, 0),
    "capabilities": lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapBnd")),
    "filter": lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("Seccomp:")),
}
def attempt(name, what):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        ctypes.set_errno(0)
        try: outcome = what()
        except OSError as error: outcome = errno.errorcode.get(error.errno, str(error.errno))
        os.write(writer, str(outcome).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    outcome = os.read(reader, 4096).decode()
    os.close(reader)
    return name + "=" + outcome
while True:
    print("; ".join(attempt(*one) for one in tries.items()), flush=True)
    time.sleep(0.2)
"#;

/// The outcomes that the container has to have.
const EXPECTED: [(&str, &str); 37] = [
    ("user namespace", "EPERM"),
    ("user namespace by clone", "EPERM"),
    ("clone3", "ENOSYS"),
    ("setns", "EPERM"),
    ("keyring of root", "EPERM"),
    ("key", "EPERM"),
    ("key request", "EPERM"),
    ("bpf", "EPERM"),
    ("performance events", "EPERM"),
    ("userfaultfd", "EPERM"),
    ("file by handle", "EPERM"),
    ("mount", "EPERM"),
    ("new mount", "EPERM"),
    ("open tree", "EPERM"),
    ("swap", "EPERM"),
    ("module", "EPERM"),
    ("kexec", "EPERM"),
    ("clock", "EPERM"),
    ("kernel log", "EPERM"),
    ("memory policy", "EPERM"),
    ("uring", "ENOSYS"),
    ("number that no kernel has", "ENOSYS"),
    ("packet socket", "EPERM"),
    ("raw socket", "EPERM"),
    ("vsock", "EPERM"),
    ("device file", "EPERM"),
    ("acpi", "masked"),
    ("acpi directory", "masked"),
    ("firmware", "empty"),
    ("interrupts", "empty"),
    ("groups", "/"),
    // What programs in images use, and keep.
    ("ping", "had"),
    ("low port", "had"),
    ("chroot", "had"),
    ("own memory", "had"),
    // AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, NET_BIND_SERVICE, SETFCAP, SETGID,
    // SETPCAP, SETUID, SYS_CHROOT.
    ("capabilities", "00000000a00405fb"),
    ("filter", "2"),
];

async fn outcomes(client: &Client, job: &JobId, after: usize) -> Result<BTreeMap<String, String>> {
    let line = wait_for("the outcomes of the attacks", LIMIT, async || {
        let text = client.job_log(job, 0).await?.text;
        let whole = text.lines().skip(after).find(|line| line.contains("filter=")).map(str::to_owned);
        Ok(whole)
    });
    let line = line.await?;
    let pairs = line.split("; ").filter_map(|pair| pair.split_once('='));
    Ok(pairs.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect())
}

fn compare(found: &BTreeMap<String, String>) -> Result<()> {
    let differs = EXPECTED.iter().filter(|(name, expected)| found.get(*name).is_none_or(|outcome| outcome != expected));
    let differs: Vec<String> =
        differs.map(|(name, expected)| format!("{name}: {:?}, not {expected}", found.get(*name))).collect();
    ensure!(differs.is_empty(), "{}", differs.join("\n"));
    Ok(())
}

/// A file of the job's control group, of either version.
fn limit(job: &JobId, generation: u32, controller: &str, file: &str) -> Result<String> {
    let name = format!("{job}-{generation}");
    let root = Path::new("/sys/fs/cgroup");
    let hierarchy = if root.join("cgroup.controllers").exists() { root.to_owned() } else { root.join(controller) };
    let group = find(&hierarchy, &name).with_context(|| format!("the group of {name}"))?;
    Ok(fs::read_to_string(group.join(file))?.trim().to_owned())
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let below = fs::read_dir(directory).ok()?.flatten().filter(|entry| entry.path().is_dir());
    below
        .map(|entry| entry.path())
        .find_map(|path| if path.file_name()?.to_str()? == name { Some(path) } else { find(&path, name) })
}

fn has_limits(job: &JobId, generation: u32) -> Result<()> {
    let pids = limit(job, generation, "pids", "pids.max")?;
    ensure!(pids == "8192", "pids.max is {pids}");
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let swap = limit(job, generation, "", "memory.swap.max")?;
        ensure!(swap == "0", "memory.swap.max is {swap}");
    } else {
        let memory = limit(job, generation, "memory", "memory.limit_in_bytes")?;
        let with_swap = limit(job, generation, "memory", "memory.memsw.limit_in_bytes")?;
        ensure!(memory == with_swap, "memory {memory}, with swap {with_swap}");
    }
    Ok(())
}

/// S10: nothing of the sandbox is thinner than it has to be, nor thinner after a migration.
#[test]
fn job_has_no_more_of_the_kernel_than_it_needs() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let request = Submission {
            image: Some("dir:/".parse()?),
            command: ["/usr/bin/python3", "-c", PROBE].map(str::to_owned).to_vec(),
            cpu: Some(2),
            ..Submission::default()
        };
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, LIMIT).await?;
        compare(&outcomes(&client, &job, 0).await?)?;
        has_limits(&job, 1)?;
        let moved = move_once(&client, &job).await?;
        ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
        let lines = client.job_log(&job, 0).await?.text.lines().count();
        let mut found = outcomes(&client, &job, lines + 1).await?;
        // CRIU restores no namespace of control groups: the job reads its group's path then.
        found.insert("groups".into(), "/".into());
        compare(&found).context("after a migration")?;
        has_limits(&job, 2)
    });
    outcome.unwrap();
}
