//! Removing the remains of uploads that never ended.
//!
//! | remains | of |
//! |---|---|
//! | a stream that no manifest names | a writer that died between the two |
//! | parts of an upload, and their mark | a writer that died earlier |
//! | a probe | a prober that died |
//!
//! In a directory, the parts of an upload are a file `….stream#1`.
//!
//! Only age tells the remains of a dead writer from the upload of a slow one. So the caller decides
//! which age is old enough.

use std::collections::HashMap;
use std::io;
use std::path::Path as File;

use jiff::Timestamp;
use mooring_types::CapsuleName;
use object_store::ObjectMeta;
use object_store::path::Path;
use tokio::task::spawn_blocking;

use crate::backend::Kind;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::store::{Attempt, CapsuleStore, Entry};
use crate::upload::abort_upload;

/// The remains that a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// The number of streams without a manifest, whole or in parts.
    pub streams: u64,
    /// Their size in bytes, as far as the store knows it.
    pub bytes: u64,
}

impl CapsuleStore {
    /// Removes objects that were written before a time and are not part of a capsule. No writer may
    /// be at work for longer. After an error the rest is left for the next sweep.
    pub async fn sweep(&self, before: Timestamp) -> Result<Swept> {
        let mut swept = Swept::default();
        let mut kept = HashMap::new();
        for object in self.objects(self.backend().prefix()).await? {
            if object.last_modified.timestamp() >= before.as_second() {
                continue;
            }
            let removed = match Entry::parse(self.backend(), &object.location) {
                Some(Entry::Stream(attempt)) => !self.is_of_capsule(&attempt, &mut kept).await?,
                Some(Entry::Mark(_)) => true,
                Some(Entry::Probe) => {
                    self.discard(&object.location).await?;
                    false
                }
                Some(Entry::Manifest(_)) | None => false,
            };
            if removed {
                self.discard(&object.location).await?;
                swept.count(&object);
            }
        }
        if let Kind::Dir { root, .. } = &self.backend().kind {
            let root = root.clone();
            let files = spawn_blocking(move || sweep_files(&root, before)).await;
            let files = files.map_err(io::Error::from).and_then(|files| files);
            let (streams, bytes) =
                files.map_err(|error| Error::Failed { at: self.at().to_owned(), source: error.into() })?;
            swept.streams += streams;
            swept.bytes += bytes;
        }
        Ok(swept)
    }

    /// Removes an object, and with a mark the upload that it stands for.
    pub(crate) async fn discard(&self, path: &Path) -> Result<()> {
        if let (Kind::S3(bucket), Some(Entry::Mark(attempt))) =
            (&self.backend().kind, Entry::parse(self.backend(), path))
            && let Some(id) = self.backend().get(path).await?
        {
            let id = String::from_utf8_lossy(&id).into_owned();
            return abort_upload(self.backend(), bucket, &attempt.stream(self.backend()), &id, path).await;
        }
        self.backend().delete(path).await
    }

    /// Says whether a capsule's manifest names this stream. A manifest that can't be read may be
    /// sealed with another key: its streams stay.
    async fn is_of_capsule(
        &self,
        attempt: &Attempt,
        manifests: &mut HashMap<CapsuleName, Option<Result<Manifest>>>,
    ) -> Result<bool> {
        if !manifests.contains_key(&attempt.name) {
            let manifest = match self.manifest(&attempt.name).await {
                Err(Error::NotFound { .. }) => None,
                Err(error @ (Error::Damaged { .. } | Error::WrongKey { .. } | Error::Version { .. })) => {
                    Some(Err(error))
                }
                Err(error) => return Err(error),
                Ok(manifest) => Some(Ok(manifest)),
            };
            manifests.insert(attempt.name.clone(), manifest);
        }
        Ok(match manifests.get(&attempt.name) {
            None | Some(None) => false,
            Some(Some(Err(_))) => true,
            Some(Some(Ok(manifest))) => manifest.attempt == attempt.id,
        })
    }
}

impl Swept {
    fn count(&mut self, object: &ObjectMeta) {
        self.streams += 1;
        self.bytes += object.size;
    }
}

/// Removes the files of unfinished uploads, which a listing does not show. Returns their number and
/// size.
fn sweep_files(root: &File, before: Timestamp) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for directory in std::fs::read_dir(root)? {
        let directory = directory?;
        let is_capsule = directory.file_name().to_str().is_some_and(|name| name.parse::<CapsuleName>().is_ok());
        if !is_capsule || !directory.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(directory.path())? {
            let file = file?;
            let meta = file.metadata()?;
            if is_part(&file.file_name().to_string_lossy())
                && Timestamp::try_from(meta.modified()?).is_ok_and(|at| at < before)
            {
                std::fs::remove_file(file.path())?;
                files += 1;
                bytes += meta.len();
            }
        }
        // This removes only an empty directory.
        if directory.metadata()?.modified().is_ok_and(|at| Timestamp::try_from(at).is_ok_and(|at| at < before))
            || files > 0
        {
            drop(std::fs::remove_dir(directory.path()));
        }
    }
    Ok((files, bytes))
}

/// Returns `true` for a temporary file of the library: a stream or manifest without its final name.
fn is_part(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
