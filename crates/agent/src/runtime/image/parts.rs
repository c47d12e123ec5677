//! The list of the parts of the image cache that a job needs, in each of its job directories.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file with the list, beside the bundle.
const PARTS_FILE: &str = "image-parts.json";

/// Records the parts of the cache that a generation of a job needs, in its job directory.
pub(crate) fn write_needed(directory: &Path, parts: &BTreeSet<String>) -> io::Result<()> {
    fs::write(directory.join(PARTS_FILE), serde_json::to_vec_pretty(parts)?)
}

/// Reads the parts that all jobs of this host need, in every generation.
///
/// # Errors
/// A list can't be read, or a bundle of an older agent has none: then every part may be needed.
pub(crate) fn needed_by_jobs(jobs: &Path) -> Result<BTreeSet<String>> {
    let below = |directory: &Path| -> Result<Vec<PathBuf>> {
        let failed = || format!("read {}", directory.display());
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(Error::system(failed())(error)),
        };
        let paths = entries.map(|entry| Ok(entry.map_err(Error::system(failed()))?.path()));
        paths.collect()
    };
    let mut needed = BTreeSet::new();
    for job in below(jobs)? {
        for generation in below(&job)? {
            let path = generation.join(PARTS_FILE);
            let failed = |error: io::Error| Error::system(format!("read {}", path.display()))(error);
            match fs::read(&path) {
                Ok(bytes) => {
                    let parts: BTreeSet<String> =
                        serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
                    needed.extend(parts);
                }
                Err(_) if !generation.join("bundle/config.json").exists() => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(needed)
}
