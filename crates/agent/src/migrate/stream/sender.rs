//! The sending end of a capsule: to another host, or into the capsule store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mooring_capsule::{CapsuleStore, Facts, Manifest};
use mooring_linux::directory_changes::{Changes, Touch};
use mooring_linux::pages;
use mooring_types::CapsuleName;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;

use super::FRAME_DATA_BYTES;
use super::frame::{self, Frame, Hello, Seal};
use super::sink::{OUTPUT_BUFFER_BYTES, Sink};
use super::tls::{Identity, PeerHost};
use crate::error::{Error, Result, StreamError};
use crate::migrate::changes::Follower;
use crate::migrate::files::{self, Unreadable};
use crate::migrate::listing::{Difference, Listing};
use crate::migrate::mapped::{self, MappedFile};
use crate::migrate::memory::encoder::{BaseSnapshot, MemoryEncoder};
use crate::migrate::memory::page_index::PageIndex;
use crate::migrate::socket_files;
use crate::runtime::checkpoint::{Checkpoint, is_memory, memory_name, memory_number};
use crate::runtime::inode_list;
use crate::runtime::job_dir::JobDir;
use crate::runtime::removed_names::{self, Links};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// The interval at which the images that CRIU writes are checked for new bytes.
const IMAGE_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// The memory that processes share from which on each page is sent to another host once. Finding
/// equal pages takes time while the job is frozen.
const SHARED_MIN_BYTES: u64 = 32 << 20;
/// The most rounds in which files are sent again that the job has changed meanwhile.
const ROUNDS_MAX: usize = 6;
/// The bytes of files, and the names, that are left for the time in which the job is frozen.
const LEFT_MAX_BYTES: u64 = 1 << 20;
const LEFT_MAX_NAMES: usize = 500;
/// The number of page batches that are read ahead of the sink.
const QUEUED_PAGE_BATCHES: usize = 4;

/// A complete capsule in the store.
#[derive(Debug)]
pub(crate) struct StoredCapsule {
    pub(crate) manifest: Manifest,
    /// The base for the job's next snapshot.
    pub(crate) base_snapshot: Option<BaseSnapshot>,
}

/// The stream to the destination of one migration.
#[derive(Debug)]
pub(crate) struct CapsuleSender {
    sink: Sink,
    /// The pre-copied files.
    files: Listing,
    /// Follows what changes in them; `None` where the kernel can't.
    follower: Option<Follower>,
    /// Files that may be missing at the destination.
    missing: BTreeSet<PathBuf>,
    /// The files that were mapped for writing when they were pre-copied.
    mapped: Vec<MappedFile>,
    memory: MemoryEncoder,
    /// The bytes sent of each image.
    images: BTreeMap<String, u64>,
    bytes: u64,
    /// `true` while the memory section of the stream is open.
    memory_started: bool,
}

impl CapsuleSender {
    /// Connects to the destination and sends the hello. `from` is the address by which the
    /// destination knows this host.
    ///
    /// # Errors
    /// The destination can't be reached, or has another certificate.
    pub(crate) async fn open(
        identity: &Identity,
        from: Ipv4Addr,
        to: SocketAddr,
        peer: &PeerHost,
        hello: Hello,
    ) -> Result<Self> {
        let (config, name) = (identity.client()?, peer.server_name()?);
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            let stream = socket.connect(to).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, stream).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| Error::TimedOut(format!("connecting to the destination at {to}")))?
            .map_err(Error::system(format!("connect to the destination at {to}")))?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if certificates.first().and_then(PeerHost::of).as_ref() != Some(peer) {
            return Err(StreamError::Stranger.into());
        }
        let stream = BufStream::with_capacity(16 << 10, OUTPUT_BUFFER_BYTES, stream);
        let mut outgoing = Self::over(Sink::Host(Box::new(stream)));
        outgoing.send(&Frame::Hello(hello)).await?;
        Ok(outgoing)
    }

    /// Creates a capsule in the store.
    ///
    /// # Errors
    /// The store can't be reached, or has a capsule of that name.
    pub(crate) async fn create_capsule(store: &CapsuleStore, name: &CapsuleName) -> Result<Self> {
        Ok(Self::over(Sink::capsule(store.create(name).await?)))
    }

    fn over(sink: Sink) -> Self {
        Self {
            sink,
            files: Listing::default(),
            follower: None,
            missing: BTreeSet::new(),
            mapped: Vec::new(),
            memory: MemoryEncoder::default(),
            images: BTreeMap::new(),
            bytes: 0,
            memory_started: false,
        }
    }

    /// The number of bytes sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pre-copies the job's files while it executes, and those that it changes meanwhile until few
    /// are left.
    ///
    /// # Errors
    /// A file can't be read, or the destination can't receive it.
    pub(crate) async fn pre_copy_files(&mut self, job_dir: &JobDir) -> Result<()> {
        self.follower = Follower::start(job_dir);
        let root = self.root(job_dir);
        self.files = self.list(&root)?;
        // A mapping that is made later changes the file's time with its first write.
        let pids = job_dir.cgroup().pids();
        self.mapped = mapped::find(&pids);
        if !self.sink.defers_memory() && pages::shared(&pids) > SHARED_MIN_BYTES {
            self.memory = MemoryEncoder::once();
        }
        self.bytes += files::send_all(&mut self.sink, &root, &self.files).await?;
        self.await_answer().await?;
        self.send_rounds(job_dir, &root).await
    }

    /// Sends the files that have changed since, as long as that leaves less to send.
    async fn send_rounds(&mut self, job_dir: &JobDir, root: &Path) -> Result<()> {
        let mut sent_before = u64::MAX;
        for _ in 0..ROUNDS_MAX {
            if self.follower.is_none() {
                return Ok(());
            }
            let changes = self.follower.as_ref().and_then(Follower::take);
            // After the changes were taken: a file that is unmapped and closed later is told again.
            self.mapped.extend(mapped::find(&job_dir.cgroup().pids()));
            let difference = self.difference(root, changes)?;
            if difference.is_empty() {
                return Ok(());
            }
            let sent = files::send_difference(&mut self.sink, root, &difference, Unreadable::IsLeftOut).await?;
            self.bytes += sent.bytes;
            self.await_answer().await?;
            if sent.lacks_files {
                self.missing.extend(difference.changed);
                return Ok(());
            }
            let names = difference.changed.len() + difference.removed.len();
            let is_little = sent.bytes <= LEFT_MAX_BYTES && names <= LEFT_MAX_NAMES;
            if is_little || sent.bytes > sent_before / 2 {
                return Ok(());
            }
            sent_before = sent.bytes;
        }
        Ok(())
    }

    /// The directory of the job's files: without links where the job executes.
    fn root(&self, job_dir: &JobDir) -> PathBuf {
        self.follower.as_ref().map_or_else(|| job_dir.upper(), Follower::root)
    }

    fn list(&self, root: &Path) -> Result<Listing> {
        Listing::read_with(root, &mut |below, device| {
            self.follower.iter().for_each(|follower| follower.enter(below, device));
        })
    }

    /// Brings the listing up to date and returns the difference. Without known changes it reads
    /// everything again.
    fn difference(&mut self, root: &Path, changes: Option<Changes>) -> Result<Difference> {
        let mut difference = Difference::default();
        if let Some(changes) = changes {
            let follower = &self.follower;
            let mut enter = |below: &Path, device| follower.iter().for_each(|follower| follower.enter(below, device));
            let (found, is_whole) = self.files.look_again(root, &changes, &mut enter)?;
            difference = found;
            if is_whole {
                return Ok(difference);
            }
        }
        let now = self.list(root)?;
        difference.extend(now.since(&self.files));
        self.files = now;
        difference.changed.retain(|path| self.files.contains(path));
        Ok(difference)
    }

    /// The names of the socket files that were there at the pre-copy.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        self.files.sockets().map(Path::to_owned).collect()
    }

    /// Makes the capsule incremental to a base, or without one a base for later snapshots.
    pub(crate) fn build_on(&mut self, base_snapshot: Option<BaseSnapshot>) {
        self.memory = MemoryEncoder::upon(base_snapshot);
    }

    /// Pre-copies memory into the capsule while the job executes. Pages that are unchanged at the
    /// freeze are not sent again.
    ///
    /// # Errors
    /// The store can't receive it.
    pub(crate) async fn pre_copy_memory(&mut self, pids: Vec<i32>) -> Result<()> {
        self.begin_memory().await?;
        let (give, mut pieces) = mpsc::channel(QUEUED_PAGE_BATCHES);
        let read = spawn_blocking(move || PageIndex::read_processes(&pids, &give));
        while let Some(piece) = pieces.recv().await {
            self.send(&Frame::Pages(piece)).await?;
        }
        self.memory = read.await.map(MemoryEncoder::after).unwrap_or_default();
        self.flush().await
    }

    /// Sends memory while CRIU writes it, until `dumped` is true.
    ///
    /// # Errors
    /// The destination can't receive it. The dump continues.
    pub(crate) async fn send_memory_during_dump(
        &mut self,
        checkpoint: &Checkpoint,
        dumped: watch::Receiver<bool>,
    ) -> Result<()> {
        self.begin_checkpoint(checkpoint).await?;
        let mut known = 0;
        while !*dumped.borrow() {
            // CRIU appends to these images only; all others are sent when they are complete. CRIU
            // numbers them from 1. Each is opened by name: listing the directory would block CRIU's
            // file creation.
            while checkpoint.images().join(memory_name(known + 1)).exists() {
                known += 1;
            }
            let mut sent = false;
            for number in 1..=known {
                sent |= self.send_new(checkpoint, &memory_name(number)).await?;
            }
            if !sent {
                self.flush().await?;
                tokio::time::sleep(IMAGE_POLL_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Sends the rest of all images.
    ///
    /// # Errors
    /// An image can't be read, or the destination can't receive it.
    pub(crate) async fn send_images(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.begin_checkpoint(checkpoint).await?;
        let (memory, others): (Vec<_>, Vec<_>) = checkpoint.names()?.into_iter().partition(|name| is_memory(name));
        for name in memory {
            self.send_new(checkpoint, &name).await?;
        }
        self.sink.end_memory().await.map_err(Error::system(self.sink.attempt()))?;
        self.send_inode_list(checkpoint).await?;
        for frame in self.memory.placed() {
            self.send(&frame).await?;
        }
        for name in others {
            self.send_new(checkpoint, &name).await?;
        }
        self.flush().await
    }

    /// Starts sending the checkpoint. To a host the inode list goes first, since preparing it takes
    /// 40 ms; in a capsule it follows memory, which readers receive last.
    async fn begin_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if !self.sink.defers_memory() {
            self.send_inode_list(checkpoint).await?;
        }
        self.begin_memory().await
    }

    /// Sends the inode list, at most once.
    async fn send_inode_list(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.send_new(checkpoint, inode_list::INODE_LIST).await?;
        self.flush().await
    }

    /// Opens the memory section of the stream; idempotent.
    async fn begin_memory(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.memory_started, true) {
            return Ok(());
        }
        self.sink.begin_memory().await.map_err(Error::system(self.sink.attempt()))
    }

    /// Sends the files that changed since the pre-copy, and those that were or are mapped for
    /// writing. The job is frozen.
    ///
    /// # Errors
    /// A file can't be read, or the destination can't receive it.
    pub(crate) async fn send_changed_files(&mut self, job_dir: &JobDir, mapped: &[MappedFile]) -> Result<()> {
        let (root, upper) = (self.root(job_dir), job_dir.upper());
        let changes = self.follower.as_ref().and_then(Follower::take).map(|mut changes| {
            for file in mapped::open_for_writing(&job_dir.cgroup().pids()) {
                if let Some(hint) = file.hint() {
                    changes.names.entry(hint.to_owned()).or_insert(Touch::Closed);
                }
            }
            changes
        });
        let mut difference = self.difference(&root, changes)?;
        for mapped in [mapped, &self.mapped] {
            difference.changed.extend(self.files.names_of(mapped, &upper, &job_dir.root()));
        }
        let missing = std::mem::take(&mut self.missing).into_iter().filter(|path| self.files.contains(path));
        difference.changed.extend(missing);
        let noted = removed_names::noted(job_dir);
        difference.changed.extend(self.files.names_behind(&noted));
        let links = Links::make(&upper, self.files.remap_links(noted))?;
        difference.changed.extend(links.paths().map(Path::to_owned));
        self.bytes += files::send_difference(&mut self.sink, &root, &difference, Unreadable::Fails).await?.bytes;
        if let Some(list) = socket_files::list(job_dir, self.files.sockets())? {
            self.images.insert(socket_files::IMAGE.to_owned(), list.len() as u64);
            self.send(&Frame::Chunk { image: socket_files::IMAGE.to_owned(), bytes: list.into() }).await?;
        }
        self.flush().await
    }

    /// Sends the seal and waits for the destination's confirmation.
    ///
    /// # Errors
    /// The destination refused, or did not answer: whether it has the capsule is unknown.
    pub(crate) async fn seal(&mut self) -> Result<()> {
        self.send(&Frame::Seal(self.image_sizes())).await?;
        self.await_answer().await
    }

    /// Sends the seal and completes the capsule in the store.
    ///
    /// # Errors
    /// The store does not have the capsule; its parts are removed.
    pub(crate) async fn store(mut self, store: &CapsuleStore, facts: Facts) -> Result<StoredCapsule> {
        self.send(&Frame::Seal(self.image_sizes())).await?;
        self.flush().await?;
        let Sink::Capsule { writer, .. } = self.sink else {
            return Err(StreamError::NotIntoStore.into());
        };
        let facts = Facts { base: self.memory.base().cloned(), ..facts };
        let manifest = writer.into_inner().finish(facts).await?;
        store.confirm(&manifest).await?;
        Ok(StoredCapsule { base_snapshot: self.memory.base_snapshot(&manifest), manifest })
    }

    fn image_sizes(&self) -> Seal {
        Seal { images: self.images.iter().map(|(name, size)| (name.clone(), *size)).collect() }
    }

    /// Sends the bytes appended to an image; returns whether there were any.
    async fn send_new(&mut self, checkpoint: &Checkpoint, name: &str) -> Result<bool> {
        let path = checkpoint.images().join(name);
        let start = *self.images.entry(name.to_owned()).or_default();
        let mut offset = start;
        // The image was just written and comes from the page cache: reading takes microseconds.
        let file = File::open(&path).map_err(Error::system(format!("open {}", path.display())))?;
        loop {
            let length = file.metadata().map_err(Error::system(format!("look at {}", path.display())))?.len();
            let wanted = usize::try_from(length.saturating_sub(offset))
                .map_or(FRAME_DATA_BYTES, |left| left.min(FRAME_DATA_BYTES));
            if wanted == 0 {
                return Ok(offset > start);
            }
            let mut bytes = vec![0; wanted];
            let count = file.read_at(&mut bytes, offset).map_err(Error::system(format!("read {}", path.display())))?;
            bytes.truncate(count);
            offset += count as u64;
            self.images.insert(name.to_owned(), offset);
            let (at, bytes) = (offset - count as u64, bytes.into());
            match memory_number(name) {
                Some(image) => {
                    for frame in self.memory.frames(image, at, bytes) {
                        self.send(&frame).await?;
                    }
                }
                None => self.send(&Frame::Chunk { image: name.to_owned(), bytes }).await?,
            }
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<()> {
        if let Frame::Chunk { bytes, .. } | Frame::Part { bytes, .. } | Frame::Pages(bytes) = frame {
            self.bytes += bytes.len() as u64;
        }
        frame::send(&mut self.sink, frame).await.map_err(Error::system(self.sink.attempt()))
    }

    async fn flush(&mut self) -> Result<()> {
        self.sink.flush().await.map_err(Error::system(self.sink.attempt()))
    }

    async fn await_answer(&mut self) -> Result<()> {
        self.flush().await?;
        // The store confirms at the end of the capsule only.
        let Sink::Host(stream) = &mut self.sink else { return Ok(()) };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, frame::receive(stream.as_mut()))
            .await
            .map_err(|_| Error::TimedOut("the destination's answer".into()))??;
        match answer {
            Frame::Answer(Ok(())) => Ok(()),
            Frame::Answer(Err(reason)) => Err(StreamError::Refused { reason }.into()),
            _ => Err(StreamError::NoAnswer.into()),
        }
    }
}
