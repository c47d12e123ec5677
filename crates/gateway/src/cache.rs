//! The newest slice on disk. It is replaced as a whole: a reader finds the old slice or the new
//! one, never a part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mooring_api::watch::GatewaySlice;
use mooring_ops::file::{Durability, Mode, replace};

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
    fs::create_dir_all(state_dir).map_err(failed)?;
    replace(&path, Durability::Synced, Mode::Private, &bytes).map_err(failed)
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("slice.json")
}
