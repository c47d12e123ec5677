//! The newest slice on disk. It is replaced as a whole: a reader finds the old slice or the new
//! one, never a part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mooring_api::watch::GatewaySlice;

/// A failed read or write of the cache.
#[derive(Debug, thiserror::Error)]
#[error("can't {attempt} {}", path.display())]
pub struct CacheError {
    attempt: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Reads the slice in `state_dir`, if there is one.
///
/// # Errors
/// The slice exists and can't be read.
pub fn load(state_dir: &Path) -> Result<Option<GatewaySlice>, CacheError> {
    let path = file(state_dir);
    let failed = |source| CacheError { attempt: "read", path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Writes a slice to `state_dir`.
///
/// # Errors
/// The slice can't be written.
pub fn save(state_dir: &Path, slice: &GatewaySlice) -> Result<(), CacheError> {
    let path = file(state_dir);
    let failed = |source| CacheError { attempt: "write", path: path.clone(), source };
    let bytes = serde_json::to_vec(slice).map_err(|error| failed(error.into()))?;
    let replace = || {
        fs::create_dir_all(state_dir)?;
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(state_dir)?.sync_all()
    };
    replace().map_err(failed)
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("slice.json")
}
