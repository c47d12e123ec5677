//! The bytes that wait in terminals, taken out of them and put back.
//!
//! ```text
//!   program ── output ──► terminal driver ──► output queue ──► master's reader
//!   program ◄── input queue ◄── terminal driver ◄── unprocessed ◄── what is typed at the master
//! ```
//!
//! The driver processes output on its way into its queue, and input when it gets into the input
//! queue, which holds 4,095 bytes. What is typed beyond that waits unprocessed. Bytes that were
//! processed are put back with all processing off, the others with the terminal's own settings.
//!
//! All processes with a descriptor of the terminal have to be frozen. Nothing here blocks.

#![expect(unsafe_code, reason = "terminals are polled and set by system calls")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};

use crate::connections::{pidfd_getfd, pidfd_open};

/// The device of masters, and the major number of terminals (Linux's devices.txt).
const MASTER: (u64, u64) = (5, 2);
const TERMINALS: u64 = 136;
/// The capacity of a queue that a program reads (`N_TTY_BUF_SIZE - 1`).
const QUEUE_BYTES: usize = 4095;
/// The least number of bytes in a queue behind which others may wait: an unread byte takes up to
/// three.
const FULL_BYTES: usize = QUEUE_BYTES - 2;
/// The kernel allocates what is behind a queue by the piece: small ones leave no gaps. The last
/// allocation may exceed the limit, so a large piece (`TTY_BUFFER_PAGE`) makes room at the end.
const PIECE: usize = 64;
const LAST_PIECE: usize = 1792;
/// The steps by which the large pieces begin earlier, and the number of tries.
const STEP: usize = 256;
const TRIES: usize = 10;
/// The longest wait for the kernel to move bytes into an empty queue; it takes microseconds.
const MOVE_TIMEOUT: Duration = Duration::from_millis(50);
/// The time for which the driver gets to process what was typed. The kernel answers for it only
/// while nothing is there to be read.
const SETTLE_TIME: Duration = Duration::from_millis(2);
/// The longest data that is read: several times what a terminal can hold.
const READ_MAX: usize = 1 << 20;
/// The character that stops output, where a terminal has none of its own.
const CTRL_S: u8 = 0x13;

/// A terminal of frozen processes.
#[derive(Debug)]
pub struct Terminal {
    /// Its number: N of `/dev/pts/N`.
    pub index: u32,
    /// Set when all programs have closed it.
    pub is_hung_up: bool,
    master: File,
    slave: File,
}

/// The settings of a terminal that change while bytes are taken out and put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    characters: Vec<u8>,
    input_speed: u32,
    output_speed: u32,
    /// Set when reads and writes at the master block.
    is_master_blocking: bool,
}

/// Bytes that were typed and not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// The input queue.
    pub processed: Vec<u8>,
    /// The length of the complete lines at its begin. A zero in them marks an end of file.
    pub lines: usize,
    /// The bytes behind the queue, as they were typed.
    pub unprocessed: Vec<u8>,
}

/// All that waits in a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The output of programs, as the driver has processed it.
    pub output: Vec<u8>,
    /// The input.
    pub input: Input,
    /// Set when output is stopped, as by Ctrl-S.
    pub is_stopped: bool,
}

impl Waiting {
    /// Returns whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what was found in the terminal before this is put back. A prefix is what an interrupted
    /// call had put back already; anything else is newer.
    fn followed_by(mut self, found: Self) -> Self {
        if !self.output.starts_with(&found.output) {
            self.output.extend(found.output);
        }
        let typed = [found.input.processed, found.input.unprocessed].concat();
        if !self.input.processed.starts_with(&typed) {
            let known = [self.input.processed.as_slice(), &self.input.unprocessed].concat();
            if !known.starts_with(&typed) {
                self.input.unprocessed.extend(typed);
            }
        }
        self
    }
}

/// Finds the terminals whose master one of these processes has open. One that nobody has opened yet
/// has nothing to keep. It is left out, unless it is among those that `were_open` before a restore.
#[must_use]
pub fn find(pids: &[i32], were_open: &[u32]) -> Vec<Terminal> {
    let (mut masters, mut open) = (BTreeMap::new(), BTreeSet::new());
    for pid in pids {
        let Ok(process) = pidfd_open(*pid) else { continue };
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(device) = fs::metadata(entry.path()).map(|found| found.rdev()) else { continue };
            let device = (u64::from(libc::major(device)), u64::from(libc::minor(device)));
            if device.0 == TERMINALS {
                open.insert(device.1);
            } else if device == MASTER
                && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok())
                && let Ok(master) = pidfd_getfd(&process, number)
                && let Ok(index) = number_of(master.as_raw_fd(), libc::TIOCGPTN)
            {
                masters.entry(index).or_insert(master);
            }
        }
    }
    let mut terminals = Vec::new();
    for (index, master) in masters {
        let is_hung_up = ready(&master, libc::POLLIN) & libc::POLLHUP != 0;
        // To open and close a terminal that nobody has opened yet hangs up its master.
        if (is_hung_up || open.contains(&u64::from(index)) || were_open.contains(&index))
            && let Ok(slave) = peer(&master)
        {
            terminals.push(Terminal { index, is_hung_up, master: master.into(), slave: slave.into() });
        }
    }
    terminals
}

/// Waits until the drivers of these terminals have processed what was typed just now.
pub fn settle(terminals: &[Terminal]) {
    if terminals.iter().filter(|terminal| terminal.has_input()).count() > 0 {
        thread::sleep(SETTLE_TIME);
    }
}

impl Terminal {
    /// The settings.
    pub fn settings(&self) -> io::Result<Settings> {
        // SAFETY: a termios2 is a C struct of integers, for which all zeros is a value.
        let mut found: libc::termios2 = unsafe { mem::zeroed() };
        // SAFETY: the kernel writes one termios2, which lives for the call.
        done(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TCGETS2, &raw mut found) })?;
        let flags = fcntl(&self.master, FcntlArg::F_GETFL)?;
        Ok(Settings {
            input: found.c_iflag,
            output: found.c_oflag,
            control: found.c_cflag,
            local: found.c_lflag,
            line: found.c_line,
            characters: found.c_cc.to_vec(),
            input_speed: found.c_ispeed,
            output_speed: found.c_ospeed,
            is_master_blocking: !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK),
        })
    }

    /// Returns whether something was typed that a program could read. If not, the driver has
    /// processed all that was typed.
    fn has_input(&self) -> bool {
        ready(&self.slave, libc::POLLIN) & libc::POLLIN != 0
    }

    /// Takes the output that the master's reader has not read, and finds whether output is stopped.
    pub fn take_output(&self) -> io::Result<(Vec<u8>, bool)> {
        let is_packet = number_of(self.master.as_raw_fd(), libc::TIOCGPKT)? != 0;
        let (mut output, mut buffer) = (Vec::new(), [0; QUEUE_BYTES + 1]);
        // The poll makes the kernel move what is behind the queue into it.
        while ready(&self.master, libc::POLLIN) & libc::POLLIN != 0 && output.len() < READ_MAX {
            let count = match (&self.master).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                // The terminal is hung up.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
                Err(error) => return Err(error),
            };
            match &buffer[..count] {
                // In packet mode a zero precedes output, and any other first byte is a status.
                [0, rest @ ..] if is_packet => output.extend(rest),
                [_, ..] if is_packet => {}
                read => output.extend(read),
            }
        }
        Ok((output, self.is_stopped()))
    }

    /// Takes what was typed and not read. The settings are those of before.
    pub fn take_input(&self, settings: &Settings) -> io::Result<Input> {
        let is_canonical = settings.local & libc::ICANON != 0;
        // What is in the queue of a full line discipline counts once lines do not matter.
        ready(&self.slave, libc::POLLIN);
        let lines = number_of(self.slave.as_raw_fd(), libc::FIONREAD)?;
        if is_canonical {
            self.set(&Settings { local: settings.local & !libc::ICANON, ..settings.clone() })?;
        }
        let count = number_of(self.slave.as_raw_fd(), libc::FIONREAD)?;
        let mut input = Input::default();
        if count > 0 {
            let mut raw = settings.unprocessed();
            if count as usize >= FULL_BYTES {
                raw = raw.without_stop();
            }
            raw.local &= !libc::ICANON;
            raw.characters[libc::VMIN] = 1;
            raw.characters[libc::VTIME] = 0;
            self.set(&raw)?;
            let mut all = read_all(&self.slave)?;
            input.unprocessed = all.split_off(all.len().min(count as usize));
            if is_canonical {
                input.lines = lines_end(&all, lines as usize);
            }
            input.processed = all;
        }
        self.set(settings)?;
        Ok(input)
    }

    /// Puts back what was taken, and the settings. Returns the number of bytes that did not fit.
    ///
    /// An interrupted call may be repeated.
    pub fn put_back(&self, settings: &Settings, waiting: Waiting) -> io::Result<usize> {
        self.set(settings)?;
        let (output, _) = self.take_output()?;
        let found = Waiting { output, input: self.take_input(settings)?, is_stopped: false };
        let waiting = waiting.followed_by(found);
        if waiting.is_empty() {
            return Ok(0);
        }
        if self.is_stopped() {
            self.flow(libc::TCOOFF)?;
            self.flow(libc::TCOON)?;
        }
        self.set(&settings.unprocessed())?;
        let shown = self.put_output(&waiting.output)?;
        self.set(settings)?;
        let typed = self.put_input(settings, &waiting.input)?;
        if waiting.is_stopped {
            self.stop(settings)?;
        }
        Ok(waiting.output.len() - shown + waiting.input.unprocessed.len() - typed)
    }

    /// Writes output, and returns how much of it fitted. All processing is off.
    fn put_output(&self, output: &[u8]) -> io::Result<usize> {
        let (queue, behind) = output.split_at(output.len().min(QUEUE_BYTES));
        let fitted = fit(behind.len(), |attempt| {
            if attempt.is_again {
                self.take_output()?;
            }
            let queued = write_pieces(&self.slave, queue, queue.len())?;
            let began = Instant::now();
            while (number_of(self.master.as_raw_fd(), libc::FIONREAD)? as usize) < queued
                && began.elapsed() < MOVE_TIMEOUT
            {
                thread::yield_now();
            }
            if queued < queue.len() { Ok(0) } else { write_pieces(&self.slave, behind, attempt.switch) }
        })?;
        Ok(queue.len() + fitted)
    }

    /// Fills the input queue, and types what is behind it. Returns how much of that fitted.
    fn put_input(&self, settings: &Settings, input: &Input) -> io::Result<usize> {
        fit(input.unprocessed.len(), |attempt| {
            if attempt.is_again {
                self.take_input(settings)?;
            }
            self.put_processed(settings, input)?;
            self.put_unprocessed(settings, &input.unprocessed, attempt.switch)
        })
    }

    fn put_processed(&self, settings: &Settings, input: &Input) -> io::Result<()> {
        let Input { processed, lines, .. } = input;
        if processed.is_empty() {
            return Ok(());
        }
        let mut plain = settings.unprocessed();
        if [libc::VSTART, libc::VSTOP].iter().any(|stop| processed.contains(&plain.characters[*stop])) {
            plain = plain.without_stop();
        }
        let mut end_of_file = 0;
        if processed[..*lines].contains(&0) {
            end_of_file = (1..=u8::MAX).find(|byte| plain.is_free(*byte) && !processed.contains(byte)).unwrap_or(0);
            plain.characters[libc::VEOF] = end_of_file;
        }
        self.set(&plain)?;
        for (at, byte) in processed.iter().enumerate() {
            self.type_in(if at < *lines && *byte == 0 { end_of_file } else { *byte })?;
        }
        self.set(settings)
    }

    fn put_unprocessed(&self, settings: &Settings, typed: &[u8], switch: usize) -> io::Result<usize> {
        if typed.is_empty() {
            return Ok(0);
        }
        let flags = OFlag::from_bits_retain(fcntl(&self.master, FcntlArg::F_GETFL)?);
        fcntl(&self.master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let written = write_pieces(&self.master, typed, switch);
        self.set_blocking(settings)?;
        written
    }

    fn set(&self, settings: &Settings) -> io::Result<()> {
        if self.settings()? == *settings {
            return Ok(());
        }
        // SAFETY: a termios2 is a C struct of integers, for which all zeros is a value.
        let mut wanted: libc::termios2 = unsafe { mem::zeroed() };
        wanted.c_iflag = settings.input;
        wanted.c_oflag = settings.output;
        wanted.c_cflag = settings.control;
        wanted.c_lflag = settings.local;
        wanted.c_line = settings.line;
        wanted.c_ispeed = settings.input_speed;
        wanted.c_ospeed = settings.output_speed;
        for (to, from) in wanted.c_cc.iter_mut().zip(&settings.characters) {
            *to = *from;
        }
        // SAFETY: the kernel reads one termios2, which lives for the call.
        done(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TCSETS2, &raw const wanted) })?;
        self.set_blocking(settings)
    }

    fn set_blocking(&self, settings: &Settings) -> io::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(&self.master, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, !settings.is_master_blocking);
        fcntl(&self.master, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Returns whether output is stopped. The output queue has to be empty.
    fn is_stopped(&self) -> bool {
        ready(&self.slave, libc::POLLOUT) & (libc::POLLOUT | libc::POLLHUP) == 0
    }

    fn stop(&self, settings: &Settings) -> io::Result<()> {
        if settings.input & libc::IXON == 0 {
            return self.flow(libc::TCOOFF);
        }
        let mut stopping = settings.clone();
        stopping.characters[libc::VSTOP] = CTRL_S;
        self.set(&stopping)?;
        self.type_in(CTRL_S)?;
        self.set(settings)
    }

    fn flow(&self, action: libc::c_int) -> io::Result<()> {
        // SAFETY: the call takes two integers.
        done(unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TCXONC, action) })
    }

    /// Gives one byte to the terminal's driver, as if it were typed, without a queue in between.
    fn type_in(&self, byte: u8) -> io::Result<()> {
        // SAFETY: the kernel reads one byte, which lives for the call.
        done(unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TIOCSTI, &raw const byte) })
    }
}

impl Settings {
    /// These settings without any processing of bytes. Lines stay what they are.
    fn unprocessed(&self) -> Self {
        let mut plain = self.clone();
        // Without IXON the driver would start output that is stopped.
        plain.input &= libc::IXON | libc::IUTF8;
        plain.output &= !libc::OPOST;
        plain.local &= !(libc::ISIG | libc::ECHO | libc::ECHOE | libc::ECHOK | libc::ECHONL | libc::ECHOCTL);
        let special = [
            libc::VINTR,
            libc::VQUIT,
            libc::VSUSP,
            libc::VERASE,
            libc::VKILL,
            libc::VWERASE,
            libc::VREPRINT,
            libc::VLNEXT,
            libc::VEOF,
        ];
        for character in special {
            plain.characters[character] = 0;
        }
        plain
    }

    /// These settings without characters that start and stop output. In packet mode the master's
    /// reader is told of such a change.
    fn without_stop(mut self) -> Self {
        self.characters[libc::VSTART] = 0;
        self.characters[libc::VSTOP] = 0;
        self
    }

    /// Returns whether a byte neither ends a line nor stands for anything else.
    fn is_free(&self, byte: u8) -> bool {
        byte != b'\n' && byte != self.characters[libc::VEOL] && byte != self.characters[libc::VEOL2]
    }
}

/// One attempt to write all bytes: in small pieces up to `switch`.
struct Attempt {
    switch: usize,
    is_again: bool,
}

/// Writes `length` bytes until all of them fit, or none of the places to switch helps. Returns the
/// number of bytes of the last attempt.
fn fit(length: usize, mut write: impl FnMut(&Attempt) -> io::Result<usize>) -> io::Result<usize> {
    let mut attempt = Attempt { switch: length, is_again: false };
    let mut written = write(&attempt)?;
    attempt = Attempt { switch: written, is_again: true };
    for _ in 1..TRIES {
        if written == length {
            break;
        }
        attempt.switch = attempt.switch.saturating_sub(STEP);
        written = write(&attempt)?;
    }
    Ok(written)
}

/// Returns the end of the complete lines, which have `count` bytes besides marks of an end of file.
fn lines_end(queue: &[u8], count: usize) -> usize {
    let mut left = count;
    let within = |byte: &&u8| {
        let is_within = **byte == 0 || left > 0;
        left = left.saturating_sub(usize::from(**byte != 0));
        is_within
    };
    queue.iter().take_while(within).count()
}

/// Writes in small pieces up to `switch` and in large ones from there, until nothing fits.
fn write_pieces(mut to: &File, bytes: &[u8], switch: usize) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        let piece = if written < switch { PIECE.min(switch - written) } else { LAST_PIECE };
        match to.write(&bytes[written..bytes.len().min(written + piece)]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // The other end is closed, and nobody can read it.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn read_all(mut from: &File) -> io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), [0; QUEUE_BYTES + 1]);
    while ready(from, libc::POLLIN) & libc::POLLIN != 0 && all.len() < READ_MAX {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Returns which of these events a descriptor is ready for now, and hang-ups.
fn ready(of: &impl AsRawFd, events: libc::c_short) -> libc::c_short {
    let mut poll = libc::pollfd { fd: of.as_raw_fd(), events, revents: 0 };
    // SAFETY: the kernel reads and writes one pollfd, which lives for the call.
    if unsafe { libc::poll(&raw mut poll, 1, 0) } < 0 { 0 } else { poll.revents }
}

/// Opens the terminal of a master, without making it the controlling one.
fn peer(master: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the call takes two integers.
    let answer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    done(answer)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// Asks by an ioctl that answers with one unsigned int.
fn number_of(descriptor: RawFd, request: libc::Ioctl) -> io::Result<u32> {
    let mut value: libc::c_uint = 0;
    // SAFETY: the kernel writes one int, which lives for the call.
    done(unsafe { libc::ioctl(descriptor, request, &raw mut value) })?;
    Ok(value)
}

fn done(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
