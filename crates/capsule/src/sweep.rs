//! What was begun and never ended is removed here.
//!
//! | left behind | by |
//! |---|---|
//! | a stream that no manifest names | a writer that died between the two |
//! | parts of an upload, and their mark | a writer that died earlier; in a directory its parts are a file `….stream#1` |
//! | a probe | a prober that died |
//!
//! Nothing tells a writer that died from one that is slow but how long ago it last did something, so the caller says what counts as long ago.

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
use crate::store::{CapsuleStore, Entry, Place};
use crate::upload::abort_upload;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Streams without a manifest, whole or in parts.
    pub streams: u64,
    /// How many bytes they had, as far as the store says.
    pub bytes: u64,
}

impl CapsuleStore {
    /// Removes what was begun before a time and is no part of a capsule. The time has to be so long ago that no writer takes longer.
    ///
    /// # Errors
    /// The store failed; what was not removed is left for the next sweep.
    pub async fn sweep(&self, before: Timestamp) -> Result<Swept> {
        let mut swept = Swept::default();
        let mut kept = HashMap::new();
        for object in self.objects(self.backend().prefix()).await? {
            if object.last_modified.timestamp() >= before.as_second() {
                continue;
            }
            let removed = match Entry::parse(self.backend(), &object.location) {
                Some(Entry::Stream(place)) => !self.is_of_capsule(&place, &mut kept).await?,
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
        if let (Kind::S3(bucket), Some(Entry::Mark(place))) = (&self.backend().kind, Entry::parse(self.backend(), path))
            && let Some(id) = self.backend().get(path).await?
        {
            let id = String::from_utf8_lossy(&id).into_owned();
            return abort_upload(self.backend(), bucket, &place.stream(self.backend()), &id, path).await;
        }
        self.backend().delete(path).await
    }

    /// Whether a capsule's manifest names this stream. One that can't be read here may be another key's, and keeps everything.
    async fn is_of_capsule(
        &self,
        place: &Place,
        known: &mut HashMap<CapsuleName, Option<Result<Manifest>>>,
    ) -> Result<bool> {
        if !known.contains_key(&place.name) {
            let manifest = match self.manifest(&place.name).await {
                Err(Error::NotFound { .. }) => None,
                Err(error @ (Error::Damaged { .. } | Error::WrongKey { .. } | Error::Version { .. })) => {
                    Some(Err(error))
                }
                Err(error) => return Err(error),
                Ok(manifest) => Some(Ok(manifest)),
            };
            known.insert(place.name.clone(), manifest);
        }
        Ok(match known.get(&place.name) {
            None | Some(None) => false,
            Some(Some(Err(_))) => true,
            Some(Some(Ok(manifest))) => manifest.attempt == place.attempt,
        })
    }
}

impl Swept {
    fn count(&mut self, object: &ObjectMeta) {
        self.streams += 1;
        self.bytes += object.size;
    }
}

/// Removes the files of uploads that nobody ended, which a listing does not show; gives their number and their bytes.
fn sweep_files(root: &File, before: Timestamp) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for directory in std::fs::read_dir(root)? {
        let directory = directory?;
        let named = directory.file_name().to_str().is_some_and(|name| name.parse::<CapsuleName>().is_ok());
        if !named || !directory.file_type()?.is_dir() {
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
        // It is left alone unless it is empty.
        if directory.metadata()?.modified().is_ok_and(|at| Timestamp::try_from(at).is_ok_and(|at| at < before))
            || files > 0
        {
            drop(std::fs::remove_dir(directory.path()));
        }
    }
    Ok((files, bytes))
}

/// Whether a file is what the library writes a stream or a manifest to before it has its name.
fn is_part(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
