//! System calls that another, frozen process makes.
//!
//! Some state belongs to a process alone and can be set by no other, such as its record locks. The
//! first thread of the frozen process is stopped by ptrace, makes the call and is frozen again. It
//! executes nothing else, and all other threads of its job stay frozen.
//!
//! With version 1 of control groups a frozen thread can't stop, so the thread leaves the frozen
//! group for the call. With version 2 it can.
//!
//! The call is made at a `syscall` instruction of the vDSO, which every process has. Its data lies
//! below the thread's stack for that time; the bytes there are put back.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::{Error, Result};

/// The time limit of a stop. A thread that is not scheduled needs a moment.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
const STOP_POLL_INTERVAL: Duration = Duration::from_micros(100);
/// The `syscall` instruction of x86-64.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// The distance of the data from the stack pointer: beyond the bytes that a leaf function may use.
const BELOW_STACK: u64 = 1024;

/// An argument of a call.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    Value(u64),
    /// The address of these bytes in the other process.
    Bytes(&'a [u8]),
}

/// Makes the first thread of a frozen process of `group` do system calls; returns their results in
/// order. A result is that of the kernel: an error is negative.
///
/// # Errors
/// The process is gone, another process traces it, or it does not stop.
#[cfg(target_arch = "x86_64")]
pub fn call(group: &Cgroup, pid: i32, calls: &[(i64, &[Argument<'_>])]) -> Result<Vec<i64>> {
    let instruction = syscall_instruction(pid)?;
    let path = format!("/proc/{pid}/mem");
    let memory = OpenOptions::new().read(true).write(true).open(&path);
    let memory = memory.map_err(Error::system(format!("open {path}")))?;
    let traced = Traced::stop(group, pid)?;
    let before = traced.registers()?;
    let outcome = calls.iter().map(|(number, arguments)| {
        let call = Call { memory: &memory, instruction, number: *number, arguments };
        call.make(&traced, &before)
    });
    let outcome = outcome.collect::<Result<Vec<_>>>();
    traced.set_registers(before)?;
    traced.release()?;
    outcome
}

/// Makes the first thread of a frozen process do system calls.
///
/// # Errors
/// Only x86-64 is supported.
#[cfg(not(target_arch = "x86_64"))]
pub fn call(_group: &Cgroup, pid: i32, _calls: &[(i64, &[Argument<'_>])]) -> Result<Vec<i64>> {
    let reason = "only x86-64 is supported".to_owned();
    Err(Error::Refused { attempt: format!("have process {pid} make a system call"), reason })
}

/// A thread in a ptrace stop. It goes on, frozen, when this value is dropped.
struct Traced<'a> {
    group: &'a Cgroup,
    pid: Pid,
    released: bool,
}

impl<'a> Traced<'a> {
    fn stop(group: &'a Cgroup, pid: i32) -> Result<Self> {
        let attempt = |what: &str| Error::errno(format!("{what} process {pid}"));
        let pid = Pid::from_raw(pid);
        ptrace::seize(pid, ptrace::Options::empty()).map_err(attempt("trace"))?;
        let traced = Self { group, pid, released: false };
        ptrace::interrupt(pid).map_err(attempt("stop"))?;
        group.let_thread_stop(pid.as_raw())?;
        traced.wait()?;
        Ok(traced)
    }

    /// Waits until the thread is stopped.
    fn wait(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
            match waitpid(self.pid, Some(flags)).map_err(Error::errno(format!("wait for process {}", self.pid)))? {
                WaitStatus::StillAlive if started.elapsed() < STOP_TIMEOUT => thread::sleep(STOP_POLL_INTERVAL),
                WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => return Ok(()),
                other => {
                    let attempt = format!("wait for a stop of process {}", self.pid);
                    return Err(Error::Refused { attempt, reason: format!("it is {other:?}") });
                }
            }
        }
    }

    fn registers(&self) -> Result<libc::user_regs_struct> {
        ptrace::getregs(self.pid).map_err(Error::errno(format!("read the registers of process {}", self.pid)))
    }

    fn set_registers(&self, registers: libc::user_regs_struct) -> Result<()> {
        let set = ptrace::setregs(self.pid, registers);
        set.map_err(Error::errno(format!("set the registers of process {}", self.pid)))
    }

    fn step(&self) -> Result<()> {
        ptrace::step(self.pid, None).map_err(Error::errno(format!("step process {}", self.pid)))?;
        self.wait()
    }

    /// Freezes the thread again and ends the trace.
    fn release(mut self) -> Result<()> {
        self.released = true;
        self.end()
    }

    fn end(&self) -> Result<()> {
        let back = self.group.take_thread_back(self.pid.as_raw());
        let detached = ptrace::detach(self.pid, None);
        back.and(detached.map_err(Error::errno(format!("let process {} go", self.pid))))
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        if !self.released {
            // The call has failed with an error already.
            let _ = self.end();
        }
    }
}

/// One call of a stopped thread.
struct Call<'a> {
    memory: &'a File,
    instruction: u64,
    number: i64,
    arguments: &'a [Argument<'a>],
}

impl Call<'_> {
    fn make(&self, traced: &Traced<'_>, before: &libc::user_regs_struct) -> Result<i64> {
        let failed = || Error::system(format!("write the memory of process {}", traced.pid));
        let mut bytes = Vec::new();
        let sizes = self.arguments.iter().map(|argument| match argument {
            Argument::Value(_) => 0,
            Argument::Bytes(bytes) => bytes.len().next_multiple_of(16) as u64,
        });
        let start = (before.rsp - BELOW_STACK - sizes.sum::<u64>()) & !15;
        let mut values = [0; 6];
        for (value, argument) in values.iter_mut().zip(self.arguments) {
            *value = match argument {
                Argument::Value(value) => *value,
                Argument::Bytes(data) => {
                    let address = start + bytes.len() as u64;
                    bytes.extend_from_slice(data);
                    bytes.resize(bytes.len().next_multiple_of(16), 0);
                    address
                }
            };
        }
        let mut saved = vec![0; bytes.len()];
        self.memory.read_exact_at(&mut saved, start).map_err(failed())?;
        self.memory.write_all_at(&bytes, start).map_err(failed())?;
        let registers = libc::user_regs_struct {
            rip: self.instruction,
            rax: self.number.cast_unsigned(),
            // The thread may have been stopped within a call, which is not to be made again now.
            orig_rax: u64::MAX,
            rdi: values[0],
            rsi: values[1],
            rdx: values[2],
            r10: values[3],
            r8: values[4],
            r9: values[5],
            ..*before
        };
        let result = traced.set_registers(registers).and_then(|()| traced.step()).and_then(|()| traced.registers());
        self.memory.write_all_at(&saved, start).map_err(failed())?;
        Ok(result?.rax.cast_signed())
    }
}

/// Returns the address of a `syscall` instruction in the vDSO of a process.
fn syscall_instruction(pid: i32) -> Result<u64> {
    let missing = || Error::Refused {
        attempt: format!("have process {pid} make a system call"),
        reason: "it has no vDSO with a system call".to_owned(),
    };
    let path = format!("/proc/{pid}/maps");
    let maps = fs::read(&path).map_err(Error::system(format!("read {path}")))?;
    let line = maps.split(|byte| *byte == b'\n').find(|line| line.ends_with(b"[vdso]")).ok_or_else(missing)?;
    let line = String::from_utf8_lossy(line);
    let range = line.split(' ').next().and_then(|range| range.split_once('-'));
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.and_then(|(start, end)| Some((number(start)?, number(end)?))).ok_or_else(missing)?;
    let mut code = vec![0; usize::try_from(end - start).map_err(|_| missing())?];
    let path = format!("/proc/{pid}/mem");
    let memory = File::open(&path).map_err(Error::system(format!("open {path}")))?;
    memory.read_exact_at(&mut code, start).map_err(Error::system(format!("read {path}")))?;
    let at = code.windows(SYSCALL.len()).position(|window| window == SYSCALL).ok_or_else(missing)?;
    Ok(start + at as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A control group of a test, with a process that counts in it.
    struct Counting {
        group: Cgroup,
        child: Child,
    }

    impl Counting {
        fn start() -> Self {
            let group = Cgroup::open(&format!("mooring-test/injection-{}", std::process::id()));
            group.make_limited(1, 1 << 30).unwrap();
            let program = "import os, time\nwhile True: os.write(1, b'x'); time.sleep(0.001)";
            let mut child = Command::new("python3").args(["-c", program]).stdout(Stdio::piped()).spawn().unwrap();
            group.add(i32::try_from(child.id()).unwrap()).unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 10]).unwrap();
            Self { group, child }
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.child.id()).unwrap()
        }
    }

    impl Drop for Counting {
        fn drop(&mut self) {
            let _ = self.group.kill_all();
            let _ = self.child.wait();
            let _ = self.group.remove();
        }
    }

    #[test]
    fn frozen_process_makes_a_call_and_goes_on_when_it_is_thawed() {
        let mut counting = Counting::start();
        counting.group.freeze().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made");
        let name = [path.to_str().unwrap().as_bytes(), b"\0"].concat();
        let calls: [(i64, &[Argument<'_>]); 3] = [
            (libc::SYS_getpid, &[]),
            (libc::SYS_mkdir, &[Argument::Bytes(&name), Argument::Value(0o700)]),
            (libc::SYS_mkdir, &[Argument::Bytes(&name), Argument::Value(0o700)]),
        ];
        let results = call(&counting.group, counting.pid(), &calls).unwrap();
        assert_eq!(results, [i64::from(counting.pid()), 0, -i64::from(libc::EEXIST)]);
        assert!(path.is_dir());
        assert!(counting.group.is_frozen() && counting.group.pids() == [counting.pid()]);
        counting.group.thaw().unwrap();
        // More than a pipe holds: it counts on.
        counting.child.stdout.as_mut().unwrap().read_exact(&mut [0; 100]).unwrap();
        assert!(counting.child.try_wait().unwrap().is_none());
    }
}
