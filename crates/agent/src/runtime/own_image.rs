//! The agent's own images of a checkpoint, beside those of CRIU. Each has what the kernel holds of
//! a job and CRIU does not keep, as JSON.
//!
//! What was taken out of a frozen job is in a record in the job directory as well. A job that goes
//! on here gets it back from there.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// An image, by its name among those of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnImage(pub(crate) &'static str);

impl OwnImage {
    /// Writes the image into the directory of a checkpoint.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn write(self, images: &Path, value: &impl Serialize) -> Result<()> {
        write(&images.join(self.0), value)
    }

    /// Writes the image, and the record at `record`.
    ///
    /// # Errors
    /// One of them can't be written.
    pub(crate) fn write_with_record(self, images: &Path, record: &Path, value: &impl Serialize) -> Result<()> {
        self.write(images, value)?;
        write(record, value)
    }

    /// Reads the image from the directory of a checkpoint; `None` without one.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn read<T: DeserializeOwned>(self, images: &Path) -> Result<Option<T>> {
        read(&images.join(self.0))
    }
}

/// Reads a record; `None` without one, or where it can't be read, which is logged.
pub(crate) fn record<T: DeserializeOwned>(record: &Path) -> Option<T> {
    read(record).inspect_err(|error| tracing::error!(error = %error.chain(), "something of a job is lost")).ok()?
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let written = serde_json::to_vec(value).map_err(io::Error::from).and_then(|bytes| fs::write(path, bytes));
    written.map_err(Error::system(format!("write {}", path.display())))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let failed = || Error::system(format!("read {}", path.display()));
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from).map_err(failed()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed()(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: OwnImage = OwnImage("test.img");

    #[test]
    fn image_and_record_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let (images, path) = (directory.path(), directory.path().join("record"));
        assert_eq!(IMAGE.read::<Vec<u8>>(images).unwrap(), None);
        assert_eq!(record::<Vec<u8>>(&path), None);
        IMAGE.write_with_record(images, &path, &[1, 2]).unwrap();
        assert_eq!(IMAGE.read(images).unwrap(), Some(vec![1, 2]));
        assert_eq!(record(&path), Some(vec![1, 2]));
        fs::write(images.join("test.img"), "[1,").unwrap();
        assert!(IMAGE.read::<Vec<u8>>(images).is_err(), "a damaged image is no empty one");
    }
}
