//! The terminals of processes, and their foreground.
//!
//! A terminal has one process group in the foreground. A shell makes each command a group and gives
//! it the terminal. After the command ends, the foreground is an empty group until the shell takes
//! the terminal back.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// Says whether each terminal of these processes has a process in its foreground group. Zombies
/// count.
#[must_use]
pub fn are_in_use(pids: &[i32]) -> bool {
    let mut groups: Vec<i32> = pids.iter().filter_map(|pid| foreground(*pid)).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.into_iter().all(|group| killpg(Pid::from_raw(group), None) != Err(Errno::ESRCH))
}

/// Returns the foreground group of a process's terminal. Returns `None` where the process has no
/// terminal or is gone.
fn foreground(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, so fields are counted from its end: the group
    // is field 8.
    let group = stat[stat.rfind(')')? + 1..].split_whitespace().nth(5)?.parse().ok()?;
    (group > 0).then_some(group)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// Reports a command in its terminal, then the end of the command; waits for a line after each.
    const SCRIPT: &str = r#"
import fcntl, os, pty, signal, sys, termios
master, terminal = pty.openpty()
os.setsid()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
command = os.fork()
if command == 0:
    signal.pause()
os.setpgid(command, command)
os.tcsetpgrp(terminal, command)
print('runs', flush=True)
sys.stdin.readline()
os.kill(command, signal.SIGKILL)
os.waitid(os.P_PID, command, os.WEXITED | os.WNOWAIT)
print('has ended', flush=True)
sys.stdin.readline()
os.wait()
print('is gone', flush=True)
sys.stdin.readline()
os.tcsetpgrp(terminal, os.getpgrp())
print('is followed', flush=True)
sys.stdin.readline()
"#;

    #[test]
    fn nobody_is_in_the_foreground_between_two_commands() {
        use std::io::Write;
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut stdin = shell.stdin.take().unwrap();
        for (stage, in_use) in [("runs", true), ("has ended", true), ("is gone", false), ("is followed", true)] {
            assert_eq!(said.next().unwrap().unwrap(), stage);
            assert_eq!(are_in_use(&[pid, i32::MAX]), in_use, "{stage}");
            stdin.write_all(b"\n").unwrap();
        }
        shell.wait().unwrap();
        assert!(are_in_use(&[pid]));
    }
}
