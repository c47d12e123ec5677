//! A capsule that is read from the store.
//!
//! Memory is the largest part and comes last, so that the restore runs while memory arrives.
//! Everything that is read was authenticated first.

use std::pin::{Pin, pin};

use bytes::{Bytes, BytesMut};
use mooring_capsule::{CapsuleReader, CapsuleStore};
use mooring_types::CapsuleName;
use tokio::sync::{oneshot, watch};

use super::frame::{self, Frame, HEADER_BYTES};
use super::receiver::{CapsuleReceiver, Received};
use crate::error::{Error, Result, StreamError};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::job_dir::JobDir;

/// A restore starts when at most this many bytes of memory are missing: the slowest supported store
/// delivers them before CRIU's hook times out.
const RESTORE_START_MISSING_MAX_BYTES: u64 = 256 << 20;

/// A capsule that is being unpacked into a job directory. It makes progress only while one of its
/// methods is awaited.
pub(crate) struct Unpacking<'a> {
    rest: Rest<'a>,
    /// True once a restore can start.
    restorable: watch::Receiver<bool>,
}

/// The rest of the capsule.
enum Rest<'a> {
    Coming(Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>),
    None,
    /// The capsule failed and never becomes complete.
    Lost,
}

impl<'a> Unpacking<'a> {
    pub(crate) fn new(frames: FrameReader, job_dir: &JobDir, checkpoint: &'a Checkpoint) -> Self {
        let (here, restorable) = watch::channel(false);
        Self {
            rest: Rest::Coming(Box::pin(unpack(frames, CapsuleReceiver::new(job_dir, checkpoint), here))),
            restorable,
        }
    }

    /// Unpacks while `other` runs, and returns its result.
    ///
    /// # Errors
    /// `other` fails; or, converted by `lost`, the capsule can't be read, is damaged or can't be
    /// written.
    pub(crate) async fn alongside<T, E>(
        &mut self,
        other: impl Future<Output = Result<T, E>>,
        lost: impl FnOnce(Error) -> E,
    ) -> Result<T, E> {
        let mut other = pin!(other);
        tokio::select! {
            done = &mut other => return done,
            come = self.complete() => come.map_err(lost)?,
        }
        other.await
    }

    /// Unpacks until a restore can start.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged or can't be written.
    pub(crate) async fn restorable(&mut self) -> Result<()> {
        let mut restorable = self.restorable.clone();
        tokio::select! {
            Ok(_) = restorable.wait_for(|here| *here) => Ok(()),
            whole = self.complete() => whole,
        }
    }

    /// Unpacks and checks the whole capsule.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged or can't be written.
    pub(crate) async fn complete(&mut self) -> Result<()> {
        let outcome = match &mut self.rest {
            Rest::Coming(rest) => rest.await,
            Rest::None => Ok(()),
            Rest::Lost => Err(StreamError::Failed.into()),
        };
        self.rest = if outcome.is_ok() { Rest::None } else { Rest::Lost };
        outcome
    }
}

/// Reads a capsule to its end, and checks every piece of it.
///
/// # Errors
/// The capsule can't be read, or is damaged.
pub(crate) async fn read_back(store: &CapsuleStore, name: &CapsuleName) -> Result<()> {
    let mut frames = FrameReader::open(store, name).await?;
    while frames.next_if_any().await?.is_some() {}
    Ok(())
}

/// Unpacks a capsule: everything but memory first, then memory, while files and inode numbers are
/// prepared.
async fn unpack(mut frames: FrameReader, mut receiver: CapsuleReceiver<'_>, here: watch::Sender<bool>) -> Result<()> {
    while receiver.accept(frames.next().await?).await? != Received::Sealed {}
    let prerequisites = receiver.prerequisites()?;
    let (enough, enough_is_here) = oneshot::channel();
    let memory = async {
        let mut enough = Some(enough);
        let mut is_enough = |receiver: &CapsuleReceiver<'_>| {
            if receiver.missing_memory_bytes() <= RESTORE_START_MISSING_MAX_BYTES {
                // Without a receiver the restore has failed, and the unpacking with it.
                enough.take().map(|enough| enough.send(()));
            }
        };
        is_enough(&receiver);
        while let Some(frame) = frames.next_if_any().await? {
            receiver.accept(frame).await?;
            is_enough(&receiver);
        }
        if let Some(mut base) = frames.open_base().await? {
            while receiver.missing_memory_bytes() > 0 {
                receiver.accept_base_frame(base.next().await?).await?;
                is_enough(&receiver);
            }
        }
        receiver.complete().await
    };
    let prerequisites = async {
        prerequisites.await?;
        if enough_is_here.await.is_ok() {
            here.send_replace(true);
        }
        Ok(())
    };
    tokio::try_join!(memory, prerequisites).map(|_| ())
}

/// Reads a capsule frame by frame. A frame inside one piece is not copied.
#[derive(Debug)]
pub(crate) struct FrameReader {
    store: CapsuleStore,
    reader: CapsuleReader,
    /// The unread rest of the last piece.
    rest: Bytes,
}

impl FrameReader {
    /// Opens a capsule.
    ///
    /// # Errors
    /// The store can't be reached, or has no capsule of that name.
    pub(crate) async fn open(store: &CapsuleStore, name: &CapsuleName) -> Result<Self> {
        Ok(Self { reader: store.open_capsule(name).await?, store: store.clone(), rest: Bytes::new() })
    }

    /// Opens the base of an incremental capsule, to read its memory.
    ///
    /// # Errors
    /// The store can't be reached, or the base is gone.
    async fn open_base(&self) -> Result<Option<Self>> {
        let Some(base) = &self.reader.manifest().base else { return Ok(None) };
        let reader = self.store.open_base(base).await?;
        Ok(Some(Self { reader, store: self.store.clone(), rest: Bytes::new() }))
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged or ends here.
    async fn next(&mut self) -> Result<Frame> {
        let head = self.take(HEADER_BYTES).await?;
        let (kind, length) = frame::parse_header(&head)?;
        frame::parse(kind, self.take(length).await?)
    }

    /// Reads the next frame; `None` at the end, when the whole capsule was checked.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged or ends within a frame.
    async fn next_if_any(&mut self) -> Result<Option<Frame>> {
        if self.rest.is_empty() {
            match self.piece().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(None),
            }
        }
        self.next().await.map(Some)
    }

    async fn take(&mut self, length: usize) -> Result<Bytes> {
        if length <= self.rest.len() {
            return Ok(self.rest.split_to(length));
        }
        let mut whole = BytesMut::with_capacity(length);
        while whole.len() < length {
            if self.rest.is_empty() {
                let ended = || StreamError::Truncated;
                self.rest = self.piece().await?.ok_or_else(ended)?;
            }
            let taken = self.rest.len().min(length - whole.len());
            whole.extend_from_slice(&self.rest.split_to(taken));
        }
        Ok(whole.freeze())
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.reader.piece().await.map_err(Error::system("read the capsule"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::net::Ipv4Addr;
    use std::process::{Child, Command, Stdio};

    use mooring_capsule::{CapsuleKey, Facts, Location};
    use mooring_linux::pages::{self, Memory, PAGE};
    use mooring_types::{Generation, JobId, MigrationId, Timestamp};

    use super::*;
    use crate::migrate::stream::sender::{CapsuleSender, StoredCapsule};

    /// A process with 3 MiB of pages that are all different.
    fn process() -> Child {
        let program =
            "import os, sys, time; a = os.urandom(3 << 20); sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)";
        let mut child = Command::new("python3").args(["-c", program]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    fn job_dir(world: &std::path::Path, generation: u64) -> JobDir {
        let job = JobId::random(&mut rand::rng());
        let job_dir = JobDir::new(world, "mooring", "m", &job, Generation(generation), Ipv4Addr::LOCALHOST);
        job_dir.make_upper().unwrap();
        fs::create_dir_all(job_dir.root()).unwrap();
        job_dir
    }

    fn store(world: &std::path::Path) -> CapsuleStore {
        CapsuleStore::open(&Location::Dir(world.join("capsules")), CapsuleKey::random()).unwrap()
    }

    /// The memory of a process, one page of each of its ranges.
    fn memory_of(child: &Child) -> Vec<u8> {
        let pid = i32::try_from(child.id()).unwrap();
        let mut memory = Vec::new();
        for range in pages::own(pid).unwrap() {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
            let length = Memory::open(pid).unwrap().read(range.start, &mut bytes).unwrap_or(0);
            memory.extend_from_slice(&bytes[..length]);
        }
        memory
    }

    fn checkpoint_of(job_dir: &JobDir, images: &[(&str, Vec<u8>)]) -> Checkpoint {
        let checkpoint = job_dir.checkpoint(&MigrationId::random(&mut rand::rng()));
        checkpoint.make().unwrap();
        for (image, bytes) in images {
            fs::write(checkpoint.images().join(image), bytes).unwrap();
        }
        fs::write(checkpoint.images().join("inodes.img"), "{}").unwrap();
        checkpoint
    }

    async fn store_images(
        store: &CapsuleStore,
        mut outgoing: CapsuleSender,
        from: &JobDir,
        checkpoint: &Checkpoint,
    ) -> StoredCapsule {
        outgoing.send_images(checkpoint).await.unwrap();
        outgoing.send_changed_files(from, &[]).await.unwrap();
        let (job, created) = (JobId::random(&mut rand::rng()), Timestamp::UNIX_EPOCH);
        let facts = Facts { job, generation: Generation(1), created, base: None, about: serde_json::Value::Null };
        let stored = outgoing.store(store, facts).await.unwrap();
        checkpoint.remove().unwrap();
        stored
    }

    /// Takes a capsule out of the store and compares.
    async fn comes_out_as(store: &CapsuleStore, name: &CapsuleName, job_dir: &JobDir, images: &[(&str, Vec<u8>)]) {
        let restored = job_dir.checkpoint(&MigrationId::random(&mut rand::rng()));
        restored.make().unwrap();
        let frames = FrameReader::open(store, name).await.unwrap();
        let mut unpacking = Unpacking::new(frames, job_dir, &restored);
        unpacking.restorable().await.unwrap();
        assert_eq!(fs::read(restored.images().join("core-1.img")).unwrap(), b"a core");
        unpacking.complete().await.unwrap();
        for (image, bytes) in images {
            assert!(fs::read(restored.images().join(image)).unwrap() == *bytes, "{image} is not what it was");
        }
        drop(unpacking);
        restored.remove().unwrap();
    }

    fn noise(pages: usize) -> Vec<u8> {
        (0..pages * PAGE).map(|_| rand::random()).collect()
    }

    #[tokio::test]
    async fn memory_that_went_ahead_is_where_the_checkpoint_has_it() {
        let world = tempfile::tempdir().unwrap();
        let store = store(world.path());
        let name: CapsuleName = "c".parse().unwrap();
        let (left, arrives) = (job_dir(world.path(), 1), job_dir(world.path(), 2));

        let mut child = process();
        let mut outgoing = CapsuleSender::create_capsule(&store, &name).await.unwrap();
        outgoing.pre_copy_files(&left).await.unwrap();
        outgoing.pre_copy_memory(vec![i32::try_from(child.id()).unwrap()]).await.unwrap();
        let ahead = outgoing.bytes();

        // What CRIU writes: pages that have gone, in another order and some of them twice, with
        // others between them.
        let memory = memory_of(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        let (one, two) = memory.split_at(memory.len() / PAGE / 2 * PAGE);
        let fresh = noise(3);
        let images = [
            ("pages-1.img", [&fresh[..PAGE], two, &fresh[PAGE..], &one[..100 * PAGE]].concat()),
            ("pages-2.img", one.to_vec()),
            ("pages-3.img", b"less than a page".to_vec()),
            ("pages-4.img", Vec::new()),
            ("core-1.img", b"a core".to_vec()),
        ];
        let checkpoint = checkpoint_of(&left, &images);
        let stored = store_images(&store, outgoing, &left, &checkpoint).await;
        let again = stored.manifest.plain_bytes - ahead;
        assert!(again < 100 * PAGE as u64, "{again} bytes of {ahead} went again");
        assert!(stored.base_snapshot.is_none());
        comes_out_as(&store, &name, &arrives, &images).await;
    }

    #[tokio::test]
    async fn capsules_that_build_on_an_earlier_one_are_small_and_whole_and_nothing_without_it() {
        let world = tempfile::tempdir().unwrap();
        let store = store(world.path());
        let (left, arrives) = (job_dir(world.path(), 1), job_dir(world.path(), 2));
        let core = || ("core-1.img", b"a core".to_vec());
        let mut memory = noise(1000);
        memory.extend_from_slice(&vec![0; 20 * PAGE]);
        let mut base_snapshot = None;
        let mut sizes = Vec::new();
        for (number, written) in [0, 10, 20, 900, 5].into_iter().enumerate() {
            // The job writes some pages, and gets two more at the start, so that none is where it
            // was.
            memory[100 * PAGE..(100 + written) * PAGE].copy_from_slice(&noise(written));
            memory = [noise(2), memory].concat();
            let (one, two) = memory.split_at(300 * PAGE);
            let images = [("pages-1.img", one.to_vec()), ("pages-2.img", two.to_vec()), core()];
            let name: CapsuleName = format!("c-{number}").parse().unwrap();
            let mut outgoing = CapsuleSender::create_capsule(&store, &name).await.unwrap();
            outgoing.pre_copy_files(&left).await.unwrap();
            outgoing.build_on(base_snapshot.take());
            let checkpoint = checkpoint_of(&left, &images);
            let stored = store_images(&store, outgoing, &left, &checkpoint).await;
            sizes.push((
                stored.manifest.base.map(|base| base.name.to_string()),
                stored.manifest.plain_bytes / PAGE as u64,
            ));
            base_snapshot = stored.base_snapshot;
            comes_out_as(&store, &name, &arrives, &images).await;
        }
        let on_first = Some("c-0".to_owned());
        let full = |size: &(Option<String>, u64)| size.0.is_none() && size.1 > 1000;
        assert!(full(&sizes[0]), "{sizes:?}");
        assert!(sizes[1..3].iter().all(|size| size.0 == on_first && size.1 < 60), "{sizes:?}");
        // So much was written that it was of no use to build on the first any more: the next one
        // stands alone.
        assert!(sizes[3].0 == on_first && sizes[3].1 > 900, "{sizes:?}");
        assert!(full(&sizes[4]), "{sizes:?}");

        store.remove(&"c-0".parse().unwrap()).await.unwrap();
        let restored = arrives.checkpoint(&MigrationId::random(&mut rand::rng()));
        restored.make().unwrap();
        let frames = FrameReader::open(&store, &"c-2".parse().unwrap()).await.unwrap();
        let mut unpacking = Unpacking::new(frames, &arrives, &restored);
        let failed = unpacking.complete().await.unwrap_err();
        assert!(failed.chain().contains("c-0"), "{}", failed.chain());
        assert!(unpacking.complete().await.is_err(), "what has failed is never whole");
        drop(unpacking);
        restored.remove().unwrap();
    }
}
