use std::process;

use super::*;

/// A terminal of this process, and its two ends as a program uses them.
struct Pair {
    master: File,
    slave: File,
}

impl Pair {
    fn new() -> Self {
        let (mut master, mut slave) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: the call writes two ints, which live for the call, and takes nothing else.
        done(unsafe { libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), none.cast()) }).unwrap();
        // SAFETY: the kernel has just made these descriptors, and nobody else has them.
        let [master, slave] = [master, slave].map(|number| unsafe { OwnedFd::from_raw_fd(number) }.into());
        Self { master, slave }
    }

    /// The terminal as the agent finds it.
    fn found(&self) -> Terminal {
        let own = number_of(self.master.as_raw_fd(), libc::TIOCGPTN).unwrap();
        let pid = i32::try_from(process::id()).unwrap();
        find(&[pid], &[]).into_iter().find(|terminal| terminal.index == own).unwrap()
    }

    /// Changes the settings.
    fn set(&self, change: impl FnOnce(&mut Settings)) -> Settings {
        let terminal = self.found();
        let mut settings = terminal.settings().unwrap();
        change(&mut settings);
        terminal.set(&settings).unwrap();
        settings
    }

    /// Takes everything out, checks that nothing is left, and puts it back.
    fn through(&self) -> Waiting {
        let terminal = self.found();
        settle(std::slice::from_ref(&terminal));
        let settings = terminal.settings().unwrap();
        let (output, is_stopped) = terminal.take_output().unwrap();
        let waiting = Waiting { output, is_stopped, input: terminal.take_input(&settings).unwrap() };
        assert_eq!(terminal.take_output().unwrap().0, b"");
        assert_eq!(terminal.take_input(&settings).unwrap(), Input::default());
        // An agent that is killed meanwhile leaves other settings, and has put back a part.
        terminal.set(&settings.unprocessed()).unwrap();
        write_pieces(&terminal.slave, &waiting.output[..waiting.output.len() / 2], 0).unwrap();
        assert_eq!(terminal.put_back(&settings, waiting.clone()).unwrap(), 0);
        assert_eq!(terminal.put_back(&settings, waiting.clone()).unwrap(), 0);
        assert_eq!(terminal.settings().unwrap(), settings);
        waiting
    }

    /// Reads what a program gets by one `read`.
    fn read(&self) -> Vec<u8> {
        assert!(self.found().has_input());
        let mut buffer = [0; 8192];
        let count = (&self.slave).read(&mut buffer).unwrap();
        buffer[..count].to_vec()
    }

    fn shown(&self) -> Vec<u8> {
        read_all(&self.master).unwrap()
    }
}

/// Writes until nothing fits.
fn fill(mut to: &File, text: impl Fn(usize) -> String) -> String {
    let flags = OFlag::from_bits_retain(fcntl(to, FcntlArg::F_GETFL).unwrap());
    fcntl(to, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    let mut all = String::new();
    for number in 0.. {
        let line = text(number);
        match to.write(line.as_bytes()) {
            Ok(count) => all.push_str(&line[..count]),
            Err(_) => break,
        }
    }
    fcntl(to, FcntlArg::F_SETFL(flags)).unwrap();
    all
}

#[test]
fn a_full_terminal_is_as_it_was() {
    for length in [1, 7, 64, 100, 1000, 1792, 5000] {
        let pair = Pair::new();
        let written = fill(&pair.slave, |number| format!("{number:0length$}\n"));
        assert!(written.len() > 4096, "{length}: {}", written.len());
        let waiting = pair.through();
        let shown = String::from_utf8(pair.shown()).unwrap();
        assert_eq!(shown.as_bytes(), waiting.output, "{length}");
        assert_eq!(shown.replace("\r\n", "\n"), written, "{length}");
    }
}

#[test]
fn typed_lines_stay_lines() {
    let pair = Pair::new();
    (&pair.master).write_all(b"one\rtwo\r\x04last\x04hal").unwrap();
    let waiting = pair.through();
    assert_eq!((waiting.input.processed.as_slice(), waiting.input.lines), (&b"one\ntwo\n\0last\0hal"[..], 14));
    assert_eq!([(); 4].map(|()| pair.read()), [&b"one\n"[..], b"two\n", b"", b"last"]);
    assert!(!pair.found().has_input());
    // The beginning of a line can be erased still.
    (&pair.master).write_all(b"\x7f\x7f\x7fwhole\r").unwrap();
    assert_eq!(pair.read(), b"whole\n");
    // The echo is there once.
    assert_eq!(pair.shown(), b"one\r\ntwo\r\nlasthal\x08 \x08\x08 \x08\x08 \x08whole\r\n");
}

#[test]
fn more_than_a_queue_is_typed() {
    for is_canonical in [true, false] {
        let pair = Pair::new();
        pair.set(|settings| {
            settings.local &= !libc::ECHO;
            if !is_canonical {
                settings.local &= !(libc::ICANON | libc::ISIG);
                settings.input &= !(libc::ICRNL | libc::IXON);
            }
        });
        // Without lines these would be an interrupt and a stop.
        let text = if is_canonical { "word" } else { "\x03\x13\x04\0d" };
        let typed = fill(&pair.master, |_| format!("{text}\r"));
        let waiting = pair.through();
        assert_eq!(waiting.input.processed.len(), QUEUE_BYTES);
        assert!(waiting.input.unprocessed.contains(&b'\r'));
        assert!(waiting.input.unprocessed.len() > 4096);
        let mut got = Vec::new();
        while pair.found().has_input() {
            got.extend(pair.read());
        }
        let expected = if is_canonical { typed.replace('\r', "\n") } else { typed };
        // The end of what was typed is no line.
        assert!(expected.as_bytes().starts_with(&got) && expected.len() - got.len() < 5, "{}", got.len());
    }
}

#[test]
fn packets_and_a_stop_stay() {
    let pair = Pair::new();
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one int, which lives for the call.
    done(unsafe { libc::ioctl(pair.master.as_raw_fd(), libc::TIOCPKT, &raw const on) }).unwrap();
    (&pair.slave).write_all(b"before\n").unwrap();
    (&pair.master).write_all(b"\x13").unwrap();
    let waiting = pair.through();
    assert_eq!((waiting.output.as_slice(), waiting.is_stopped), (&b"before\r\n"[..], true));
    let terminal = pair.found();
    assert!(terminal.is_stopped());
    (&pair.master).write_all(b"\x11").unwrap();
    let began = Instant::now();
    while terminal.is_stopped() && began.elapsed() < Duration::from_secs(5) {
        thread::yield_now();
    }
    (&pair.slave).write_all(b"after\n").unwrap();
    assert_eq!(terminal.take_output().unwrap().0, b"before\r\nafter\r\n");
}

#[test]
fn output_outlives_its_program() {
    let Pair { master, slave } = Pair::new();
    (&slave).write_all(b"good bye\n").unwrap();
    drop(slave);
    let pair = Pair { slave: File::open("/dev/null").unwrap(), master };
    pair.through();
    assert_eq!(pair.shown(), b"good bye\r\n");
    assert_ne!(ready(&pair.master, 0) & libc::POLLHUP, 0);
    // To find a terminal whose program is still to come does not hang it up.
    let early = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let own = number_of(early.as_raw_fd(), libc::TIOCGPTN).unwrap();
    let found = find(&[i32::try_from(process::id()).unwrap()], &[]);
    assert!(found.iter().all(|terminal| terminal.index != own));
    assert_eq!(ready(&early, 0) & libc::POLLHUP, 0);
}
