//! Taking in a capsule of the store.
//!
//! Memory is most of it and comes last, so that a restore has begun when it arrives; what is read has been authenticated.

use std::pin::{Pin, pin};

use bytes::{Bytes, BytesMut};
use mooring_capsule::{CapsuleReader, CapsuleStore};
use mooring_types::CapsuleName;
use tokio::sync::{oneshot, watch};

use super::frame::{self, Frame, HEAD};
use super::intake::{Intake, Taken};
use crate::error::{Error, Result};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::place::Place;

/// How much of the memory may be missing when a restore begins, in bytes: the slowest store that is used at all gives that much while
/// CRIU waits.
const MISSING_MAX: u64 = 256 << 20;

/// A capsule on its way into a place. It comes while somebody waits for some of it.
pub(crate) struct Unpacking<'a> {
    /// What takes in the rest; nothing when there is none any more.
    rest: Option<Rest<'a>>,
    /// Whether all is there that a restore begins with.
    skeleton: watch::Receiver<bool>,
}

type Rest<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

impl<'a> Unpacking<'a> {
    pub(crate) fn new(frames: Frames, place: &Place, checkpoint: &'a Checkpoint) -> Self {
        let (here, skeleton) = watch::channel(false);
        Self { rest: Some(Box::pin(unpack(frames, Intake::new(place, checkpoint), here))), skeleton }
    }

    /// Takes in what comes while something else is done.
    ///
    /// # Errors
    /// What else is done fails, or, by `lost`, the capsule can't be read, is damaged, or can't be written to this host.
    pub(crate) async fn beside<T, E>(
        &mut self,
        other: impl Future<Output = std::result::Result<T, E>>,
        lost: impl FnOnce(Error) -> E,
    ) -> std::result::Result<T, E> {
        let mut other = pin!(other);
        tokio::select! {
            done = &mut other => return done,
            come = self.whole() => come.map_err(lost)?,
        }
        other.await
    }

    /// Returns when all is there that a restore begins with.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged, or can't be written to this host.
    pub(crate) async fn skeleton(&mut self) -> Result<()> {
        let mut skeleton = self.skeleton.clone();
        tokio::select! {
            Ok(_) = skeleton.wait_for(|here| *here) => Ok(()),
            whole = self.whole() => whole,
        }
    }

    /// Returns when all of the capsule is there and was checked.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged, or can't be written to this host.
    pub(crate) async fn whole(&mut self) -> Result<()> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let outcome = rest.await;
        self.rest = None;
        outcome
    }
}

/// Takes in a capsule: first all that is not memory, then that, while the rest becomes what a restore begins with.
async fn unpack(mut frames: Frames, mut intake: Intake<'_>, here: watch::Sender<bool>) -> Result<()> {
    while intake.take(frames.next().await?).await? != Taken::Sealed {}
    let skeleton = intake.skeleton()?;
    let (enough, enough_is_here) = oneshot::channel();
    let memory = async {
        while intake.memory_missing() > MISSING_MAX {
            intake.take(frames.next().await?).await?;
        }
        // Who does not wait for this has failed, and all of it with that.
        let _ = enough.send(());
        while intake.memory_missing() > 0 {
            intake.take(frames.next().await?).await?;
        }
        frames.end().await?;
        intake.whole().await
    };
    let skeleton = async {
        skeleton.await?;
        if enough_is_here.await.is_ok() {
            here.send_replace(true);
        }
        Ok(())
    };
    tokio::try_join!(memory, skeleton).map(|_| ())
}

/// A capsule read frame after frame. A frame that lies in one of its pieces is taken from there without a copy.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: CapsuleReader,
    /// What of the last piece was not taken yet.
    rest: Bytes,
}

impl Frames {
    /// Begins to read a capsule.
    ///
    /// # Errors
    /// There is none of that name, or the store can't be reached.
    pub(crate) async fn of(store: &CapsuleStore, name: &CapsuleName) -> Result<Self> {
        Ok(Self { reader: store.open_capsule(name).await?, rest: Bytes::new() })
    }

    /// The next frame.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged, or ends here.
    async fn next(&mut self) -> Result<Frame> {
        let head = self.take(HEAD).await?;
        let (kind, length) = frame::head(&head)?;
        frame::parse(kind, self.take(length).await?)
    }

    /// Reads on to the end, where all of the capsule has been checked.
    ///
    /// # Errors
    /// Something follows, or the capsule is damaged.
    async fn end(&mut self) -> Result<()> {
        if !self.rest.is_empty() || self.piece().await?.is_some() {
            return Err(Error::Peer("has a capsule that goes on after all of its memory".into()));
        }
        Ok(())
    }

    async fn take(&mut self, length: usize) -> Result<Bytes> {
        if length <= self.rest.len() {
            return Ok(self.rest.split_to(length));
        }
        let mut whole = BytesMut::with_capacity(length);
        while whole.len() < length {
            if self.rest.is_empty() {
                let ended = || Error::Peer("has a capsule that ends before all of it has come".into());
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

    use mooring_capsule::{Facts, Location, SealKey};
    use mooring_linux::pages::{self, PAGE};
    use mooring_types::{Generation, JobId, MigrationId, Timestamp};

    use super::*;
    use crate::relocate::source::Outgoing;

    /// A process with 3 MiB of pages that are all different.
    fn process() -> Child {
        let program =
            "import os, sys, time; a = os.urandom(3 << 20); sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)";
        let mut child = Command::new("python3").args(["-c", program]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    fn place(world: &std::path::Path, generation: u64) -> Place {
        let job = JobId::random(&mut rand::rng());
        let place = Place::new(world, "mooring", "m", &job, Generation(generation), Ipv4Addr::LOCALHOST);
        place.make_upper().unwrap();
        place
    }

    /// What of the process has a page each, by its range's first page.
    fn memory_of(child: &Child) -> Vec<u8> {
        let pid = i32::try_from(child.id()).unwrap();
        let mut memory = Vec::new();
        for range in pages::own(pid).unwrap() {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
            let length = pages::read(pid, range.start, &mut bytes).unwrap_or(0);
            memory.extend_from_slice(&bytes[..length]);
        }
        memory
    }

    #[tokio::test]
    async fn memory_that_went_ahead_is_where_the_checkpoint_has_it() {
        let world = tempfile::tempdir().unwrap();
        let location = Location::Dir(world.path().join("capsules"));
        let store = CapsuleStore::open(&location, SealKey::random()).unwrap();
        let name: CapsuleName = "c".parse().unwrap();
        let (left, arrives) = (place(world.path(), 1), place(world.path(), 2));

        let mut child = process();
        let mut outgoing = Outgoing::into_store(&store, &name).await.unwrap();
        outgoing.send_files(&left).await.unwrap();
        outgoing.send_memory(vec![i32::try_from(child.id()).unwrap()]).await.unwrap();
        let ahead = outgoing.bytes();

        // What CRIU writes: pages that have gone, in another order and some of them twice, with others between them.
        let memory = memory_of(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        let (pages_one, pages_two) = memory.split_at(memory.len() / PAGE / 2 * PAGE);
        let fresh: Vec<u8> = (0..3 * PAGE).map(|_| rand::random()).collect();
        let images = [
            ("pages-1.img", [&fresh[..PAGE], pages_two, &fresh[PAGE..], &pages_one[..100 * PAGE]].concat()),
            ("pages-2.img", pages_one.to_vec()),
            ("pages-3.img", b"less than a page".to_vec()),
            ("pages-4.img", Vec::new()),
            ("core-1.img", b"a core".to_vec()),
        ];
        let checkpoint = left.checkpoint(&MigrationId::random(&mut rand::rng()));
        checkpoint.make().unwrap();
        for (image, bytes) in &images {
            fs::write(checkpoint.images().join(image), bytes).unwrap();
        }
        fs::write(checkpoint.images().join("inodes.img"), "{}").unwrap();
        outgoing.send_images(&checkpoint).await.unwrap();
        outgoing.send_changes(&left, &[]).await.unwrap();
        let again = outgoing.bytes() - ahead;
        assert!(again < 64 * PAGE as u64, "{again} bytes of {ahead} went again");
        let job = JobId::random(&mut rand::rng());
        let facts =
            Facts { job, generation: Generation(1), created: Timestamp::UNIX_EPOCH, about: serde_json::Value::Null };
        outgoing.store(&store, facts).await.unwrap();
        checkpoint.remove().unwrap();

        let restored = arrives.checkpoint(&MigrationId::random(&mut rand::rng()));
        restored.make().unwrap();
        let frames = Frames::of(&store, &name).await.unwrap();
        let mut unpacking = Unpacking::new(frames, &arrives, &restored);
        unpacking.skeleton().await.unwrap();
        assert_eq!(fs::read(restored.images().join("core-1.img")).unwrap(), b"a core");
        unpacking.whole().await.unwrap();
        for (image, bytes) in &images {
            assert!(fs::read(restored.images().join(image)).unwrap() == *bytes, "{image} is not what it was");
        }
        drop(unpacking);
        restored.remove().unwrap();
    }
}
