//! The store: capsules by their names.

use std::num::NonZero;

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
use crate::format::{HEADER, StreamKey};
use crate::key::{SealKey, random};
use crate::location::Location;
use crate::manifest::{Base, Manifest};
use crate::reader::{CapsuleReader, Reading};
use crate::writer::CapsuleWriter;

/// The name of the object that makes a capsule exist.
const MANIFEST: &str = "manifest.json";
/// What the name of a stream ends with, after the attempt.
const STREAM: &str = "stream";
/// What the name of an upload's mark ends with, after the attempt.
const MARK: &str = "upload";
/// What the name of a probe starts with; no capsule has such a name.
pub(crate) const PROBE: &str = "_probe-";

/// A place where capsules are kept. Its clones are the same store.
#[derive(Debug, Clone)]
pub struct CapsuleStore {
    backend: Backend,
    key: SealKey,
    tasks: TaskTracker,
}

impl CapsuleStore {
    /// The store at a location. Makes the directory when it is missing, its parents not; asks nothing of an object store yet: that
    /// is what [`CapsuleStore::probe`] is for.
    ///
    /// # Errors
    /// The location is not usable: no such place, no permission, options that contradict each other.
    pub fn open(location: &Location, key: SealKey) -> Result<Self> {
        Ok(Self { backend: Backend::open(location)?, key, tasks: TaskTracker::new() })
    }

    /// Where the store is, for people.
    #[must_use]
    pub fn at(&self) -> &str {
        self.backend.at()
    }

    /// Begins a capsule. It does not exist before [`CapsuleWriter::finish`].
    ///
    /// # Errors
    /// There is one of this name already, or the store failed.
    pub async fn create(&self, name: &CapsuleName) -> Result<CapsuleWriter> {
        match self.backend.get(&Place::manifest(&self.backend, name)).await? {
            Some(_) => Err(Error::Exists { capsule: name.clone() }),
            None => Ok(CapsuleWriter::new(self, Place { name: name.clone(), attempt: hex::encode(random::<8>()) })),
        }
    }

    /// Begins to read a capsule.
    ///
    /// # Errors
    /// There is none, its manifest is damaged or made with another key, or the store failed.
    pub async fn open_capsule(&self, name: &CapsuleName) -> Result<CapsuleReader> {
        Ok(CapsuleReader::new(self, self.manifest(name).await?, Reading::DeferredLast))
    }

    /// Begins to read what was deferred of a capsule that another builds on, and nothing else of it.
    ///
    /// # Errors
    /// It is not there any more, its manifest is damaged or made with another key, or the store failed.
    pub async fn open_base(&self, base: &Base) -> Result<CapsuleReader> {
        let manifest = self.manifest(&base.name).await?;
        if manifest.attempt != base.attempt {
            return Err(Error::Damaged { capsule: base.name.clone(), damage: Damage::Base });
        }
        Ok(CapsuleReader::new(self, manifest, Reading::Deferred))
    }

    /// What is known about a capsule.
    ///
    /// # Errors
    /// There is none, its manifest is damaged or made with another key, or the store failed.
    pub async fn manifest(&self, name: &CapsuleName) -> Result<Manifest> {
        match self.backend.get(&Place::manifest(&self.backend, name)).await? {
            Some(stored) => Manifest::check(&stored, name, &self.key),
            None => Err(Error::NotFound { capsule: name.clone() }),
        }
    }

    /// Reads a whole capsule from the store and checks all of it. From a directory it is read from the disk again, not from memory.
    ///
    /// # Errors
    /// It can't be read in full, and the error says why.
    pub async fn verify(&self, name: &CapsuleName) -> Result<Manifest> {
        let manifest = self.manifest(name).await?;
        self.forget_cached(&manifest).await;
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

    /// Sees that the store has what [`CapsuleWriter::finish`] gave: the manifest as it was put, the stream in its full length and
    /// under its own key. That is enough right after it: a store has checked every part against a hash that its request carried and
    /// was signed with, and a directory has been told to write to its disk and has not failed. What happens to a capsule
    /// later, only [`CapsuleStore::verify`] finds.
    ///
    /// # Errors
    /// The store does not have it like that.
    pub async fn confirm(&self, manifest: &Manifest) -> Result<()> {
        let name = &manifest.name;
        let damaged = |damage| Error::Damaged { capsule: name.clone(), damage };
        if self.manifest(name).await? != *manifest {
            return Err(damaged(Damage::Manifest));
        }
        self.stream_key(manifest).await.map(drop)
    }

    /// The key of a capsule's stream and the header that it is in, of a stream that has its full length.
    pub(crate) async fn stream_key(&self, manifest: &Manifest) -> Result<(StreamKey, [u8; HEADER])> {
        let damaged = |damage| Error::Damaged { capsule: manifest.name.clone(), damage };
        let stream = Place::of(manifest).stream(&self.backend);
        let got = self.backend.get_range(&stream, 0..HEADER as u64).await?;
        let (header, found) = got.ok_or_else(|| damaged(Damage::NoStream))?;
        if found != manifest.stored_bytes {
            return Err(damaged(Damage::Length { expected: manifest.stored_bytes, found }));
        }
        let header = (&*header).try_into().map_err(|_| damaged(Damage::Header))?;
        let key = StreamKey::open(&header, &manifest.name, &manifest.attempt, &self.key)?;
        Ok((key, header))
    }

    /// Removes a capsule, or finds that there is none.
    ///
    /// # Errors
    /// The store failed; the capsule may be gone then and its stream left for a sweep.
    pub async fn remove(&self, name: &CapsuleName) -> Result<()> {
        self.backend.delete(&Place::manifest(&self.backend, name)).await?;
        let below = self.backend.prefix().clone().join(name.as_str());
        for object in self.objects(&below).await? {
            self.discard(&object.location).await?;
        }
        Ok(())
    }

    /// The names of all capsules, in order.
    ///
    /// # Errors
    /// The store failed.
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

    /// Whether the store is usable: writes a small object, reads it back, removes it.
    ///
    /// # Errors
    /// It is not, and the error says why.
    pub async fn probe(&self) -> Result<()> {
        let nonce = hex::encode(random::<8>());
        let path = self.backend.prefix().clone().join(format!("{PROBE}{nonce}"));
        self.backend.put(&path, PutPayload::from(nonce.clone().into_bytes())).await?;
        let read = self.backend.get(&path).await?;
        self.backend.delete(&path).await?;
        if read.as_deref() == Some(nonce.as_bytes()) {
            return Ok(());
        }
        Err(Error::Failed { at: self.at().to_owned(), source: "it does not give back what was put into it".into() })
    }

    /// Has the system forget what it remembers of a stream's file, so that reading it is a test of the disk.
    async fn forget_cached(&self, manifest: &Manifest) {
        let Some(path) = self.backend.file(&Place::of(manifest).stream(&self.backend)) else { return };
        let forgotten = spawn_blocking(move || {
            let file = std::fs::File::open(path)?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(std::io::Error::from)
        });
        // It is an advice; without it, what is read may come from memory.
        drop(forgotten.await);
    }

    /// Waits until no task of a writer or a reader runs any more, and so until writers that were dropped or have failed have taken back
    /// what they had begun.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn key(&self) -> &SealKey {
        &self.key
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let text = manifest
            .sign(&self.key)
            .map_err(|error| Error::Failed { at: self.at().to_owned(), source: error.into() })?;
        self.backend.put(&Place::manifest(&self.backend, &manifest.name), text.into()).await
    }

    /// All objects below a path.
    pub(crate) async fn objects(&self, below: &Path) -> Result<Vec<ObjectMeta>> {
        let below = (!below.as_ref().is_empty()).then_some(below);
        // A listing gives a thousand objects for each request, as many requests as there are thousands.
        let listed = self.backend.bounded(64 << 20, self.backend.objects().list(below).try_collect());
        Ok(absent_is_none(listed.await)?.unwrap_or_default())
    }
}

/// The place of one attempt at a capsule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: CapsuleName,
    pub(crate) attempt: String,
}

impl Place {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self { name: manifest.name.clone(), attempt: manifest.attempt.clone() }
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
        backend.prefix().clone().join(self.name.as_str()).join(format!("{}.{suffix}", self.attempt))
    }
}

/// What an object in the store is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Manifest(CapsuleName),
    Stream(Place),
    Mark(Place),
    Probe,
}

impl Entry {
    /// What the object at a path is; nothing when it is not ours.
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
        let (attempt, suffix) = second.as_ref().split_once('.')?;
        let place = Place { name, attempt: attempt.to_owned() };
        match suffix {
            STREAM => Some(Self::Stream(place)),
            MARK => Some(Self::Mark(place)),
            _ => None,
        }
    }
}

/// How many pieces of one stream are worked on at once.
pub(crate) fn breadth() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get).clamp(2, 4)
}
