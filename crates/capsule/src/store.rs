//! The store: capsules by name, and the paths of their objects.

use std::num::NonZero;
use std::time::Duration;

use futures_util::TryStreamExt;
use mooring_types::CapsuleName;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use object_store::path::Path;
use object_store::{ObjectMeta, PutPayload};
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use crate::backend::{Backend, absent_is_none};
use crate::error::{Damage, Error, Result};
use crate::format::{HEADER_BYTES, StreamKey};
use crate::key::{CapsuleKey, random};
use crate::location::Location;
use crate::manifest::{Base, Manifest};
use crate::patience::PATIENCE;
use crate::reader::{CapsuleReader, Reading};
use crate::writer::CapsuleWriter;

/// The name of the object that makes a capsule exist.
const MANIFEST: &str = "manifest.json";
/// The suffix of a stream, after the attempt.
const STREAM: &str = "stream";
/// The suffix of an upload's mark, after the attempt.
const MARK: &str = "upload";
/// The prefix of a probe; no capsule has such a name.
pub(crate) const PROBE: &str = "_probe-";

/// A directory or a part of a bucket with capsules. Clones are the same store.
#[derive(Debug, Clone)]
pub struct CapsuleStore {
    backend: Backend,
    key: CapsuleKey,
    tasks: TaskTracker,
}

impl CapsuleStore {
    /// Opens the store at a location. Makes the directory where it is missing, but not its parents.
    /// Contacts no object store: that is up to [`CapsuleStore::probe`].
    pub fn open(location: &Location, key: CapsuleKey) -> Result<Self> {
        Self::open_patiently(location, key, PATIENCE)
    }

    /// Opens a store like [`CapsuleStore::open`], with another bound for the time that an object
    /// store may be away.
    pub fn open_patiently(location: &Location, key: CapsuleKey, patience: Duration) -> Result<Self> {
        Ok(Self { backend: Backend::open(location, patience)?, key, tasks: TaskTracker::new() })
    }

    /// Returns the error of a store that is away.
    #[must_use]
    pub fn unreachable(&self) -> Error {
        self.backend.unreachable("it does not answer a request")
    }

    /// Resolves when the store has not answered for some time, as long as it does not.
    pub async fn away(&self, longer_than: Duration) {
        self.backend.patience().away(longer_than).await;
    }

    /// Returns the same store, whose capsules have another key.
    #[must_use]
    pub fn with_key(&self, key: CapsuleKey) -> Self {
        Self { key, ..self.clone() }
    }

    /// Returns the location of the store, for people.
    #[must_use]
    pub fn at(&self) -> &str {
        self.backend.at()
    }

    /// Begins a capsule, which exists only after [`CapsuleWriter::finish`].
    pub async fn create(&self, name: &CapsuleName) -> Result<CapsuleWriter> {
        match self.backend.get(&Attempt::manifest(&self.backend, name)).await? {
            Some(_) => Err(Error::Exists { capsule: name.clone() }),
            None => Ok(CapsuleWriter::new(self, Attempt { name: name.clone(), id: hex::encode(random::<8>()) })),
        }
    }

    /// Begins to read a capsule.
    pub async fn open_capsule(&self, name: &CapsuleName) -> Result<CapsuleReader> {
        Ok(CapsuleReader::new(self, self.manifest(name).await?, Reading::DeferredLast))
    }

    /// Begins to read the deferred part of a capsule that another builds on.
    pub async fn open_base(&self, base: &Base) -> Result<CapsuleReader> {
        let manifest = self.manifest(&base.name).await?;
        if manifest.attempt != base.attempt {
            return Err(Error::Damaged { capsule: base.name.clone(), damage: Damage::Base });
        }
        Ok(CapsuleReader::new(self, manifest, Reading::Deferred))
    }

    /// Reads the manifest of a capsule.
    pub async fn manifest(&self, name: &CapsuleName) -> Result<Manifest> {
        match self.backend.get(&Attempt::manifest(&self.backend, name)).await? {
            Some(stored) => Manifest::check(&stored, name, &self.key),
            None => Err(Error::NotFound { capsule: name.clone() }),
        }
    }

    /// Reads a whole capsule and checks all of it. In a directory it reads from the disk, not from
    /// the page cache.
    pub async fn verify(&self, name: &CapsuleName) -> Result<Manifest> {
        let manifest = self.manifest(name).await?;
        self.drop_page_cache(&manifest).await;
        let mut reader = CapsuleReader::new(self, manifest, Reading::Verifying);
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => return Ok(reader.manifest().clone()),
                Ok(_) => {}
                Err(error) => {
                    return Err(Error::from_inside(error)
                        .unwrap_or_else(|other| Error::Failed { at: self.at().to_owned(), source: other.into() }));
                }
            }
        }
    }

    /// Checks that the store has the capsule that [`CapsuleWriter::finish`] returned: the same
    /// manifest, and a stream of full length under its own key.
    ///
    /// Right after `finish` that is enough. An object store has checked each part against a hash in
    /// the signed request, and a directory has synced each file. Later damage is found by
    /// [`CapsuleStore::verify`] alone.
    pub async fn confirm(&self, manifest: &Manifest) -> Result<()> {
        let name = &manifest.name;
        let damaged = |damage| Error::Damaged { capsule: name.clone(), damage };
        if self.manifest(name).await? != *manifest {
            return Err(damaged(Damage::Manifest));
        }
        self.stream_key(manifest).await.map(drop)
    }

    /// Returns the data key of a stream and its header, having checked the length of the stream.
    pub(crate) async fn stream_key(&self, manifest: &Manifest) -> Result<(StreamKey, [u8; HEADER_BYTES])> {
        let damaged = |damage| Error::Damaged { capsule: manifest.name.clone(), damage };
        let stream = Attempt::of(manifest).stream(&self.backend);
        let got = self.backend.get_range(&stream, 0..HEADER_BYTES as u64).await?;
        let (header, found) = got.ok_or_else(|| damaged(Damage::NoStream))?;
        if found != manifest.stored_bytes {
            return Err(damaged(Damage::Length { expected: manifest.stored_bytes, found }));
        }
        let header = (&*header).try_into().map_err(|_| damaged(Damage::Header))?;
        let key = StreamKey::open(&header, &manifest.name, &manifest.attempt, &self.key)?;
        Ok((key, header))
    }

    /// Removes a capsule, if it exists. After an error the capsule may be gone and its stream left
    /// for a sweep.
    pub async fn remove(&self, name: &CapsuleName) -> Result<()> {
        self.backend.delete(&Attempt::manifest(&self.backend, name)).await?;
        let below = self.backend.prefix().clone().join(name.as_str());
        for object in self.objects(&below).await? {
            self.discard(&object.location).await?;
        }
        Ok(())
    }

    /// Returns the names of all capsules, sorted.
    pub async fn list(&self) -> Result<Vec<CapsuleName>> {
        let mut names: Vec<_> = self
            .objects(self.backend.prefix())
            .await?
            .iter()
            .filter_map(|object| match Entry::parse(&self.backend, &object.location)? {
                Entry::Manifest(name) => Some(name),
                _ => None,
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Checks that the store is usable: writes a small object, reads it back and removes it.
    pub async fn probe(&self) -> Result<()> {
        let nonce = hex::encode(random::<8>());
        let path = self.backend.prefix().clone().join(format!("{PROBE}{nonce}"));
        self.backend.put(&path, PutPayload::from(nonce.clone().into_bytes())).await?;
        let read = self.backend.get(&path).await?;
        self.backend.delete(&path).await?;
        if read.as_deref() == Some(nonce.as_bytes()) {
            return Ok(());
        }
        Err(Error::Failed { at: self.at().to_owned(), source: "it returned other bytes than were stored".into() })
    }

    /// Drops a stream's file from the page cache, so that reading it tests the disk.
    async fn drop_page_cache(&self, manifest: &Manifest) {
        let Some(path) = self.backend.file(&Attempt::of(manifest).stream(&self.backend)) else { return };
        let dropped = spawn_blocking(move || {
            let file = std::fs::File::open(path)?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(std::io::Error::from)
        });
        // The kernel may ignore this advice and serve the file from memory.
        drop(dropped.await);
    }

    /// Waits until no task of a writer or a reader runs any more. Uploads of writers that were
    /// dropped or have failed are aborted then.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn key(&self) -> &CapsuleKey {
        &self.key
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let text = manifest
            .sign(&self.key)
            .map_err(|error| Error::Failed { at: self.at().to_owned(), source: error.into() })?;
        self.backend.put(&Attempt::manifest(&self.backend, &manifest.name), text.into()).await
    }

    /// Returns all objects below a path.
    pub(crate) async fn objects(&self, below: &Path) -> Result<Vec<ObjectMeta>> {
        let below = (!below.as_ref().is_empty()).then_some(below);
        // A listing takes one request per thousand objects.
        let listed = self.backend.bounded(64 << 20, self.backend.objects().list(below).try_collect());
        Ok(absent_is_none(listed.await)?.unwrap_or_default())
    }
}

/// One attempt at writing a capsule, which determines the paths of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) name: CapsuleName,
    pub(crate) id: String,
}

impl Attempt {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self { name: manifest.name.clone(), id: manifest.attempt.clone() }
    }

    pub(crate) fn manifest(backend: &Backend, name: &CapsuleName) -> Path {
        backend.prefix().clone().join(name.as_str()).join(MANIFEST)
    }

    pub(crate) fn stream(&self, backend: &Backend) -> Path {
        self.object(backend, STREAM)
    }

    pub(crate) fn mark(&self, backend: &Backend) -> Path {
        self.object(backend, MARK)
    }

    fn object(&self, backend: &Backend, suffix: &str) -> Path {
        backend.prefix().clone().join(self.name.as_str()).join(format!("{}.{suffix}", self.id))
    }
}

/// The kind of an object in the store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Manifest(CapsuleName),
    Stream(Attempt),
    Mark(Attempt),
    Probe,
}

impl Entry {
    /// Returns the kind of the object at a path, or `None` where the object is foreign.
    pub(crate) fn parse(backend: &Backend, path: &Path) -> Option<Self> {
        let mut parts = path.prefix_match(backend.prefix())?;
        let first = parts.next()?;
        let Some(second) = parts.next() else {
            return first.as_ref().starts_with(PROBE).then_some(Self::Probe);
        };
        if parts.next().is_some() {
            return None;
        }
        let name: CapsuleName = first.as_ref().parse().ok()?;
        if second.as_ref() == MANIFEST {
            return Some(Self::Manifest(name));
        }
        let (id, suffix) = second.as_ref().split_once('.')?;
        let attempt = Attempt { name, id: id.to_owned() };
        match suffix {
            STREAM => Some(Self::Stream(attempt)),
            MARK => Some(Self::Mark(attempt)),
            _ => None,
        }
    }
}

/// Returns how many pieces of one stream are processed at once.
pub(crate) fn pieces_at_once() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get).clamp(2, 4)
}
