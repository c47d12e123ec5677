//! The memory of another process, read while the process executes.
//!
//! The process may write meanwhile, so that pages are from different moments. A caller that needs
//! to know whether a page has changed since has to compare it later.
//!
//! Memory is read through `/proc/PID/mem`. The alternative, `process_vm_readv`, pins what it reads.
//! The kernel copies a pinned page that forked processes share (`gup_must_unshare` in Linux's
//! `mm/internal.h`): a job would grow with each read.

#![expect(unsafe_code, reason = "the kernel is asked by ioctl which pages there are")]

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// The unit of memory: a page, or a part of one on machines with larger pages.
pub const PAGE: usize = 4096;

/// The number of ranges in one request to the kernel.
const REGIONS_PER_SCAN: usize = 512;

/// Categories of pages, `PAGE_IS_…` of `linux/fs.h`.
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const ZERO: u64 = 1 << 5;

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_length: u64,
    max_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    returned: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `PAGEMAP_SCAN` of `linux/fs.h`.
mod call {
    nix::ioctl_readwrite!(pagemap_scan, b'f', 16, super::Scan);
}

/// Returns the resident private memory of a process, sorted by address: pages that it has written,
/// not files, shared memory or untouched pages.
///
/// # Errors
/// The process has ended or may not be read, or the kernel is older than 6.7 and has no
/// `PAGEMAP_SCAN`.
pub fn own(pid: i32) -> io::Result<Vec<Range<u64>>> {
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut found = Vec::new();
    for mapping in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().filter_map(private) {
        scan(&pagemap, mapping, &mut found)?;
    }
    Ok(found)
}

/// Returns the addresses of a private, readable mapping, by its line in `maps`.
fn private(line: &str) -> Option<Range<u64>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    // These mappings are the kernel's own, and differ between kernels.
    let of_kernel = fields.nth(3).is_some_and(|name| name.starts_with("[v"));
    let ours = permissions.starts_with('r') && permissions.ends_with('p') && !of_kernel;
    ours.then_some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

fn scan(pagemap: &File, mapping: Range<u64>, found: &mut Vec<Range<u64>>) -> io::Result<()> {
    let mut regions = [Region::default(); REGIONS_PER_SCAN];
    let mut start = mapping.start;
    while start < mapping.end {
        let mut ask = Scan {
            size: size_of::<Scan>() as u64,
            start,
            end: mapping.end,
            regions: regions.as_mut_ptr() as u64,
            regions_length: REGIONS_PER_SCAN as u64,
            inverted: FILE | ZERO,
            all_of: PRESENT | FILE | ZERO,
            returned: PRESENT,
            ..Scan::default()
        };
        // SAFETY: the kernel writes into `ask`, and at most the given number of regions into
        // `regions`; both outlive the call.
        let count = unsafe { call::pagemap_scan(pagemap.as_raw_fd(), &raw mut ask) }.map_err(io::Error::from)?;
        let count = usize::try_from(count).unwrap_or(0);
        found.extend(regions.iter().take(count).map(|region| region.start..region.end));
        if ask.walk_end <= start {
            break;
        }
        start = ask.walk_end;
    }
    Ok(())
}

/// Returns how many bytes fewer processes have together than each of them has: memory that they
/// share since a fork. Skips a process that has ended.
#[must_use]
pub fn shared(pids: &[i32]) -> u64 {
    let of_one = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let kilobytes = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        Some(kilobytes("Anonymous:")?.saturating_sub(kilobytes("Pss_Anon:")?) * 1024)
    };
    pids.iter().filter_map(of_one).sum()
}

/// The memory of a process, open for reading. It is that of the program which the process executed
/// at the time of opening.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    /// Opens the memory of a process.
    ///
    /// # Errors
    /// The process has ended or may not be read.
    pub fn open(pid: i32) -> io::Result<Self> {
        Ok(Self(File::open(format!("/proc/{pid}/mem"))?))
    }

    /// Reads memory from an address on. Returns the number of bytes before the first that is not
    /// mapped.
    ///
    /// # Errors
    /// Not even the first byte could be read.
    pub fn read(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.0.read_at(&mut into[read..], address + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if read == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn own_memory_is_found_and_read_and_nothing_else() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut memory = vec![0_u8; 64 * PAGE];
        // Two of these pages are written, and only they become resident.
        for page in [20, 21] {
            memory[page * PAGE..(page + 1) * PAGE].fill(7);
        }
        let memory = black_box(memory);
        let start = (memory.as_ptr() as u64).next_multiple_of(PAGE as u64);
        let touched = memory.as_ptr() as u64 + 21 * PAGE as u64;
        let ranges = own(pid).unwrap();
        assert!(ranges.is_sorted_by_key(|range| range.start), "{ranges:?}");
        assert!(ranges.iter().any(|range| range.contains(&touched)), "{touched:x} {ranges:x?}");
        let untouched = start + 40 * PAGE as u64;
        assert!(!ranges.iter().any(|range| range.contains(&untouched)), "{untouched:x} {ranges:x?}");
        // The code of this test is mapped from a file.
        let code = own as *const () as u64;
        assert!(!ranges.iter().any(|range| range.contains(&code)));

        let memory = Memory::open(pid).unwrap();
        let mut page = [0; PAGE];
        assert_eq!(memory.read(touched, &mut page).unwrap(), PAGE);
        assert_eq!(page, [7; PAGE]);
        assert!(memory.read(0, &mut page).is_err());
    }

    #[test]
    fn memory_that_a_fork_shares_is_still_shared_once_it_was_read() {
        const SIZE: usize = 32 << 20;
        const PROGRAM: &str = "import mmap, os, time\n\
            block = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n\
            block.madvise(mmap.MADV_NOHUGEPAGE)\n\
            for at in range(0, 32 << 20, 4096): block[at] = 7\n\
            child = os.fork()\n\
            if child: print(child, flush=True)\n\
            time.sleep(60)";
        let mut parent = std::process::Command::new("python3")
            .args(["-c", PROGRAM])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(parent.stdout.as_mut().unwrap()), &mut line).unwrap();
        let pids = [i32::try_from(parent.id()).unwrap(), line.trim().parse().unwrap()];
        let of_their_own = |pid: i32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let field = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
            field.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
        };
        for pid in pids {
            let memory = Memory::open(pid).unwrap();
            let ranges = own(pid).unwrap();
            let read: usize = ranges
                .into_iter()
                .map(|range| memory.read(range.start, &mut vec![0; (range.end - range.start) as usize]).unwrap())
                .sum();
            assert!(read >= SIZE, "{read}");
        }
        let own_memory: Vec<usize> = pids.map(of_their_own).into();
        assert!(shared(&pids) >= SIZE as u64 * 9 / 10, "{}", shared(&pids));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[1]), nix::sys::signal::Signal::SIGKILL).unwrap();
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(own_memory.iter().all(|bytes| *bytes < SIZE / 2), "{own_memory:?}");
    }

    #[test]
    fn what_is_gone_has_no_memory() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert!(own(pid).is_err());
    }

    #[test]
    fn lines_of_mappings() {
        assert_eq!(private("1000-3000 rw-p 00000000 00:00 0 [heap]"), Some(0x1000..0x3000));
        assert_eq!(private("1000-3000 r--p 00000000 fd:00 12 /usr/lib/a b"), Some(0x1000..0x3000));
        for other in ["1000-3000 rw-s 00000000 00:00 0", "1000-3000 ---p 00000000 00:00 0", "nonsense", ""] {
            assert_eq!(private(other), None, "{other}");
        }
        assert_eq!(private("1000-3000 r--p 00000000 00:00 0 [vvar]"), None);
    }
}
