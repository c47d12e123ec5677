//! The output of jobs: the files that hosts have sent. It outlives migrations and the job itself.
//!
//! ```text
//!   logs/<job>/stdout.autosave   the standard output
//!             /stderr.autosave   the standard error
//!             /order             the order in which both came
//!             /results/<name>    the results
//! ```
//!
//! The order file lists the lengths of both streams after each piece, two 64-bit numbers each. It
//! is accurate to about half a second, within which standard output comes first. A file is cut at
//! [`OUTPUT_MAX`] and then ends with [`CUT_MARK`].
//!
//! [`Logs::follow`] tells of each piece that is appended to a job's files.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mooring_api::watch::OUTPUT_ENOUGH;
use mooring_ops::file;
use mooring_types::JobId;
use mooring_types::job::{OUTPUT_MAX, OutputFile, RESULTS_MAX};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::Error;

/// The largest piece of one answer.
const PIECE_BYTES_MAX: u64 = 256 * 1024;
/// The end of a file that was cut.
const CUT_MARK: &str = "\n[cut here: no more than 64 MiB are kept of each file of a job]\n";
const ORDER_FILE: &str = "order";
const ENTRY_BYTES: u64 = 16;

/// The output of all jobs.
#[derive(Debug)]
pub(crate) struct Logs {
    directory: PathBuf,
    /// Serializes writers: during a migration two hosts may send the same piece.
    writing: Mutex<()>,
    /// The jobs whose files somebody follows.
    followed: Mutex<BTreeMap<JobId, watch::Sender<()>>>,
}

/// The lengths of both streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lengths {
    stdout: u64,
    stderr: u64,
}

impl Lengths {
    fn sum(self) -> u64 {
        self.stdout + self.stderr
    }
}

impl Logs {
    /// The output below a state directory.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("logs"), writing: Mutex::default(), followed: Mutex::default() }
    }

    /// Appends a piece that starts at `offset`, and returns the offset to send next, or
    /// [`OUTPUT_ENOUGH`]. Known bytes are skipped; a piece that would leave a gap is refused.
    pub(crate) fn append(&self, job: &JobId, file: &OutputFile, offset: u64, piece: &[u8]) -> Result<u64, Error> {
        let _alone = self.writing.lock();
        let next = self
            .add(job, file, offset, piece)
            .map_err(|source| Error::System { attempt: format!("keep {file} of job {job}"), source })?;
        self.tell(job);
        Ok(next)
    }

    /// Returns what changes with each piece that is appended to a file of a job.
    pub(crate) fn follow(&self, job: &JobId) -> watch::Receiver<()> {
        let mut followed = self.followed.lock();
        followed.retain(|_, told| told.receiver_count() > 0);
        followed.entry(job.clone()).or_default().subscribe()
    }

    fn tell(&self, job: &JobId) {
        if let Some(told) = self.followed.lock().get(job) {
            told.send_replace(());
        }
    }

    fn add(&self, job: &JobId, file: &OutputFile, offset: u64, piece: &[u8]) -> io::Result<u64> {
        let path = self.path(job, file);
        if let Some(parent) = path.parent() {
            file::private_dir(parent)?;
        }
        if matches!(file, OutputFile::Result(_)) && !path.exists() && self.results(job)?.len() >= RESULTS_MAX {
            return Ok(OUTPUT_ENOUGH);
        }
        let before = self.lengths(job)?;
        let kept = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        let length = kept.metadata()?.len();
        if length > OUTPUT_MAX {
            return Ok(OUTPUT_ENOUGH);
        }
        let kept_bytes = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
        if offset > length || kept_bytes >= piece.len() {
            return Ok(length);
        }
        let fresh = &piece[kept_bytes..];
        let room = usize::try_from(OUTPUT_MAX - length).unwrap_or(usize::MAX);
        let next = if fresh.len() <= room {
            kept.write_all_at(fresh, length)?;
            length + fresh.len() as u64
        } else {
            kept.write_all_at(&fresh[..room], length)?;
            kept.write_all_at(CUT_MARK.as_bytes(), OUTPUT_MAX)?;
            OUTPUT_ENOUGH
        };
        if !matches!(file, OutputFile::Result(_)) {
            self.note_order(job, before)?;
        }
        Ok(next)
    }

    /// Returns a piece of a file from `offset` on; empty at the end.
    pub(crate) fn read(&self, job: &JobId, file: &OutputFile, offset: u64) -> Result<Vec<u8>, Error> {
        let mut piece = Vec::new();
        read_into(&mut piece, &self.path(job, file), offset, u64::MAX)
            .map_err(|source| Error::System { attempt: format!("read {file} of job {job}"), source })?;
        Ok(piece)
    }

    /// Returns a piece of both streams in the order of their arrival; empty at the end.
    pub(crate) fn read_both(&self, job: &JobId, offset: u64) -> Result<Vec<u8>, Error> {
        let _still = self.writing.lock();
        let read = || -> io::Result<Vec<u8>> {
            let (mut order, now) = (self.order(job)?, self.lengths(job)?);
            if order.last() != Some(&now) {
                order.push(now);
            }
            let first = order.partition_point(|lengths| lengths.sum() <= offset);
            let mut from = first.checked_sub(1).map_or(Lengths::default(), |before| order[before]);
            let (mut skip, mut piece) = (offset.saturating_sub(from.sum()), Vec::new());
            for to in &order[first..] {
                for (file, start, end) in
                    [(OutputFile::Stdout, from.stdout, to.stdout), (OutputFile::Stderr, from.stderr, to.stderr)]
                {
                    let part = end.saturating_sub(start);
                    let skipped = skip.min(part);
                    skip -= skipped;
                    read_into(&mut piece, &self.path(job, &file), start + skipped, part - skipped)?;
                    if piece.len() as u64 >= PIECE_BYTES_MAX {
                        return Ok(piece);
                    }
                }
                from = *to;
            }
            Ok(piece)
        };
        read().map_err(|source| Error::System { attempt: format!("read the output of job {job}"), source })
    }

    /// Returns the files of a job with their sizes.
    pub(crate) fn list(&self, job: &JobId) -> Result<Vec<(OutputFile, u64)>, Error> {
        let results = self.results(job);
        let results =
            results.map_err(|source| Error::System { attempt: format!("list the results of job {job}"), source })?;
        let all = [OutputFile::Stdout, OutputFile::Stderr].into_iter().chain(results);
        let sized = |file| (fs::metadata(self.path(job, &file)).map_or(0, |found| found.len()), file);
        Ok(all.map(sized).map(|(size, file)| (file, size)).collect())
    }

    fn results(&self, job: &JobId) -> io::Result<Vec<OutputFile>> {
        let entries = match fs::read_dir(self.directory.join(job.as_str()).join("results")) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |entry: fs::DirEntry| format!("results/{}", entry.file_name().to_string_lossy()).parse().ok();
        let mut results: Vec<OutputFile> = entries.filter_map(Result::ok).filter_map(name).collect();
        results.sort();
        Ok(results)
    }

    fn path(&self, job: &JobId, file: &OutputFile) -> PathBuf {
        self.directory.join(job.as_str()).join(file.to_string())
    }

    fn lengths(&self, job: &JobId) -> io::Result<Lengths> {
        let length = |file: OutputFile| -> io::Result<u64> {
            match fs::metadata(self.path(job, &file)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
                found => Ok(found?.len()),
            }
        };
        Ok(Lengths { stdout: length(OutputFile::Stdout)?, stderr: length(OutputFile::Stderr)? })
    }

    fn order(&self, job: &JobId) -> io::Result<Vec<Lengths>> {
        let bytes = match fs::read(self.directory.join(job.as_str()).join(ORDER_FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        Ok(bytes.chunks_exact(ENTRY_BYTES as usize).filter_map(entry).collect())
    }

    /// Records the lengths of both streams, which were `before` earlier. A piece that continues the
    /// last one extends its entry.
    fn note_order(&self, job: &JobId, before: Lengths) -> io::Result<()> {
        let path = self.directory.join(job.as_str()).join(ORDER_FILE);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
        let mut count = file.metadata()?.len() / ENTRY_BYTES;
        let at = |index: Option<u64>| -> io::Result<Lengths> {
            let Some(index) = index else { return Ok(Lengths::default()) };
            let mut bytes = [0; ENTRY_BYTES as usize];
            file.read_exact_at(&mut bytes, index * ENTRY_BYTES)?;
            Ok(entry(&bytes).unwrap_or_default())
        };
        let (last, earlier) = (at(count.checked_sub(1))?, at(count.checked_sub(2))?);
        let put = |count: u64, lengths: Lengths| {
            let bytes = [lengths.stdout.to_le_bytes(), lengths.stderr.to_le_bytes()].concat();
            file.write_all_at(&bytes, count * ENTRY_BYTES)
        };
        if last != before {
            // The process was killed between a piece and its entry.
            put(count, before)?;
            count += 1;
        }
        let now = self.lengths(job)?;
        let goes_on = (now.stderr == earlier.stderr) || (now.stdout == earlier.stdout);
        if last == before && count > 0 && goes_on { put(count - 1, now) } else { put(count, now) }
    }
}

fn entry(bytes: &[u8]) -> Option<Lengths> {
    let (stdout, stderr) = bytes.split_at_checked(8)?;
    Some(Lengths {
        stdout: u64::from_le_bytes(stdout.try_into().ok()?),
        stderr: u64::from_le_bytes(stderr.try_into().ok()?),
    })
}

/// Reads up to `length` bytes of a file from `offset` on, at most a piece; nothing if there is no
/// file.
fn read_into(piece: &mut Vec<u8>, path: &Path, offset: u64, length: u64) -> io::Result<()> {
    let start = piece.len();
    let room = usize::try_from(length.min(PIECE_BYTES_MAX.saturating_sub(start as u64))).unwrap_or(0);
    if room == 0 {
        return Ok(());
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    piece.resize(start + room, 0);
    let mut filled = start;
    while filled < piece.len() {
        match file.read_at(&mut piece[filled..], offset + (filled - start) as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::OutputFile::{Stderr, Stdout};
    use super::*;

    fn kept() -> (tempfile::TempDir, Logs, JobId) {
        let world = tempfile::tempdir().unwrap();
        let logs = Logs::new(world.path());
        (world, logs, JobId::random(&mut rand::rng()))
    }

    #[test]
    fn pieces_make_one_text_whatever_is_sent_twice() {
        let (_world, logs, job) = kept();
        for (offset, piece, next) in
            [(0, "", 0), (0, "hello ", 6), (0, "hello ", 6), (3, "lo world", 11), (40, "a gap", 11)]
        {
            assert_eq!(logs.append(&job, &Stdout, offset, piece.as_bytes()).unwrap(), next, "{piece}");
        }
        assert_eq!(logs.read(&job, &Stdout, 6).unwrap(), b"world");
        assert_eq!(logs.read(&job, &Stdout, 90).unwrap(), b"");
        assert_eq!(logs.read(&job, &Stderr, 0).unwrap(), b"");
        assert_eq!(logs.read_both(&job, 0).unwrap(), b"hello world");
    }

    #[test]
    fn both_streams_keep_their_order() {
        let (world, logs, job) = kept();
        let (mut ends, mut expected) = ([0, 0], String::new());
        for (file, text) in
            [(&Stderr, "one "), (&Stdout, "two "), (&Stdout, "three "), (&Stderr, "four "), (&Stdout, "five")]
        {
            let end = &mut ends[usize::from(*file == Stderr)];
            *end = logs.append(&job, file, *end, text.as_bytes()).unwrap();
            expected.push_str(text);
            for offset in 0..=expected.len() {
                let read = logs.read_both(&job, offset as u64).unwrap();
                assert_eq!(String::from_utf8(read).unwrap(), expected[offset..], "from {offset}");
            }
        }
        // Two pieces of one stream in a row are one entry.
        let order = world.path().join("logs").join(job.as_str()).join("order");
        assert_eq!(fs::metadata(&order).unwrap().len(), 4 * ENTRY_BYTES);
        // A piece without an entry comes last, and stays there.
        OpenOptions::new().write(true).open(&order).unwrap().set_len(3 * ENTRY_BYTES).unwrap();
        assert_eq!(String::from_utf8(logs.read_both(&job, 0).unwrap()).unwrap(), expected);
        logs.append(&job, &Stderr, ends[1], b" six").unwrap();
        assert_eq!(String::from_utf8(logs.read_both(&job, 0).unwrap()).unwrap(), expected + " six");
    }

    #[test]
    fn a_file_that_is_too_large_is_cut_with_a_mark() {
        let (_world, logs, job) = kept();
        let piece = vec![b'x'; 3 << 20];
        let (mut next, mut sent) = (0, 0);
        while next != OUTPUT_ENOUGH {
            assert!(sent < OUTPUT_MAX, "it takes in whatever comes");
            next = logs.append(&job, &Stdout, next, &piece).unwrap();
            sent += piece.len() as u64;
        }
        assert_eq!(logs.append(&job, &Stdout, 0, b"").unwrap(), OUTPUT_ENOUGH);
        assert_eq!(logs.list(&job).unwrap(), [(Stdout, OUTPUT_MAX + CUT_MARK.len() as u64), (Stderr, 0)]);
        let end = logs.read(&job, &Stdout, OUTPUT_MAX - 1).unwrap();
        assert_eq!(String::from_utf8(end).unwrap(), format!("x{CUT_MARK}"));
        assert!(CUT_MARK.contains(&format!("{} MiB", OUTPUT_MAX >> 20)));
        // The other stream has its own entry.
        logs.append(&job, &Stderr, 0, b"still").unwrap();
        assert_eq!(logs.read(&job, &Stderr, 0).unwrap(), b"still");
    }
}
