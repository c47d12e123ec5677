//! The output of jobs: what their hosts have sent of it, one file for each job, which survives every move.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mooring_types::JobId;

use crate::error::Error;

/// The largest piece that is given at once.
const PIECE_MAX: u64 = 256 * 1024;

fn file(state_dir: &Path, job: &JobId) -> PathBuf {
    state_dir.join("logs").join(job.as_str()).join("stdout.autosave")
}

/// Takes in a piece that starts at `offset`; gives back the offset wanted next. What is there already is skipped, what would leave a
/// gap is not taken.
pub(crate) fn append(state_dir: &Path, job: &JobId, offset: u64, piece: &[u8]) -> Result<u64, Error> {
    let path = file(state_dir, job);
    let write = || -> io::Result<u64> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        let length = file.metadata()?.len();
        let known = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
        if offset > length || known >= piece.len() {
            return Ok(length);
        }
        file.write_all(&piece[known..])?;
        Ok(offset + piece.len() as u64)
    };
    write().map_err(|source| Error::System { attempt: format!("keep the output of job {job}"), source })
}

/// A piece that starts at `offset`; empty at the end.
pub(crate) fn read(state_dir: &Path, job: &JobId, offset: u64) -> Result<Vec<u8>, Error> {
    let path = file(state_dir, job);
    let read = || -> io::Result<Vec<u8>> {
        let mut file = match fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut piece = Vec::new();
        file.take(PIECE_MAX).read_to_end(&mut piece)?;
        Ok(piece)
    };
    read().map_err(|source| Error::System { attempt: format!("read the output of job {job}"), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_one_text_whatever_is_sent_twice() {
        let world = tempfile::tempdir().unwrap();
        let job = JobId::random(&mut rand::rng());
        assert_eq!(append(world.path(), &job, 0, b"").unwrap(), 0);
        assert_eq!(append(world.path(), &job, 0, b"hello ").unwrap(), 6);
        assert_eq!(append(world.path(), &job, 0, b"hello ").unwrap(), 6);
        assert_eq!(append(world.path(), &job, 3, b"lo world").unwrap(), 11);
        assert_eq!(append(world.path(), &job, 40, b"a gap").unwrap(), 11);
        assert_eq!(read(world.path(), &job, 6).unwrap(), b"world");
        assert_eq!(read(world.path(), &job, 90).unwrap(), b"");
    }
}
