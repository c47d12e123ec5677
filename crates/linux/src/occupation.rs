//! The occupation of processes, as the kernel shows it: the foreground of their terminals, and the
//! system call in which their first thread waits.

use std::fs;

/// The calls in which an event loop waits for something to do.
const EVENT_CALLS: [libc::c_long; 7] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
];

/// A process with its place in sessions and terminals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupation {
    /// The kernel's id, as this process sees it.
    pub pid: i32,
    /// The name of its program, at most 15 bytes.
    pub program: String,
    /// Its process group and its session.
    group: i32,
    session: i32,
    /// The process group in the foreground of its terminal; absent without a terminal.
    foreground: Option<i32>,
}

impl Occupation {
    /// Reads it; `None` where the process is gone.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Returns the process group in the foreground of its terminal, if this is the terminal's shell
    /// and another group than its own is there.
    fn gave_away(&self) -> Option<i32> {
        let foreground = self.foreground.filter(|foreground| *foreground > 0)?;
        (self.pid == self.session && foreground != self.group).then_some(foreground)
    }
}

/// Returns the processes that lead the foreground of a terminal whose shell waits for them.
#[must_use]
pub fn in_foreground(processes: &[Occupation]) -> Vec<&Occupation> {
    let groups: Vec<i32> = processes.iter().filter_map(Occupation::gave_away).collect();
    let first = |group: &i32| {
        let members = || processes.iter().filter(|process| process.group == *group);
        members().find(|process| process.pid == *group).or_else(|| members().next())
    };
    groups.iter().filter_map(first).collect()
}

/// Says whether the first thread of a process waits for events, and has nothing else to do. `None`
/// where the process is gone or the kernel does not tell.
#[must_use]
pub fn waits_for_events(pid: i32) -> Option<bool> {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    // A thread on a processor is `running`.
    let call = text.split_whitespace().next()?.parse::<libc::c_long>();
    Some(call.is_ok_and(|call| EVENT_CALLS.contains(&call)))
}

/// Returns the arguments of a process; none where it is gone.
#[must_use]
pub fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// Reads `/proc/<pid>/stat`. The program's name may have blanks and brackets.
fn parse(stat: &str) -> Option<Occupation> {
    let (pid, rest) = stat.split_once(" (")?;
    let (program, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let [_state, _parent, group, session, terminal, foreground, ..] = fields[..] else { return None };
    Some(Occupation {
        pid: pid.parse().ok()?,
        program: program.to_owned(),
        group: group.parse().ok()?,
        session: session.parse().ok()?,
        foreground: if terminal == "0" { None } else { foreground.parse().ok() },
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_program_in_the_foreground_of_a_shell_is_found() {
        let line = |pid: i32, name: &str, group: i32, terminal: i32, foreground: i32| {
            parse(&format!("{pid} ({name}) S 1 {group} 10 {terminal} {foreground} 4194304 0")).unwrap()
        };
        let shell = |foreground| line(10, "b) ash (", 10, 34816, foreground);
        let at_prompt = [shell(10), line(12, "sleep", 12, 34816, 10)];
        assert!(in_foreground(&at_prompt).is_empty());
        let busy = [shell(12), line(13, "tee", 12, 34816, 12), line(12, "make", 12, 34816, 12)];
        assert_eq!(in_foreground(&busy).iter().map(|process| process.program.as_str()).collect::<Vec<_>>(), ["make"]);
        assert_eq!(busy[0].program, "b) ash (");
        let without = [line(10, "daemon", 10, 0, -1), line(12, "worker", 12, 0, -1)];
        assert!(in_foreground(&without).is_empty());
        assert_eq!(parse("7 (broken"), None);
    }

    #[test]
    fn a_process_that_sleeps_does_not_wait_for_events() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let began = Instant::now();
        // It begins to sleep after its start.
        while waits_for_events(pid) != Some(false) && began.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert_eq!(waits_for_events(pid), Some(false));
        assert_eq!(arguments(pid)[..2], ["sleep", "60"]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(waits_for_events(pid), None);
    }
}
