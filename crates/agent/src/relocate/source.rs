//! The source's side of a move.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::{self, Listing};
use super::frame::{self, Frame, Hello, PIECE, Seal};
use super::secure::Identity;
use crate::error::{Error, Result};
use crate::runtime::place::Place;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// How often a growing image is looked at.
const FOLLOW_PAUSE: Duration = Duration::from_millis(1);
const BUFFER: usize = 512 << 10;

/// A connection to the destination of an attempt.
#[derive(Debug)]
pub(crate) struct Outgoing {
    hello: Hello,
    stream: BufStream<TlsStream<TcpStream>>,
    ahead: Listing,
    /// How much of each image has been sent.
    images: BTreeMap<String, u64>,
    bytes: u64,
}

impl Outgoing {
    /// Connects and introduces itself.
    ///
    /// # Errors
    /// The destination can't be reached, or is not who it should be.
    pub(crate) async fn open(identity: &Identity, to: SocketAddr, certificate: String, hello: Hello) -> Result<Self> {
        let config = identity.client(certificate)?;
        let name = ServerName::try_from("mooring-host")
            .map_err(|error| Error::Secure { attempt: "name the destination", reason: error.to_string() })?;
        let connect = async {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, stream).await
        };
        let stream = tokio::time::timeout(CONNECT_LIMIT, connect)
            .await
            .map_err(|_| Error::TimedOut(format!("connecting to the destination at {to}")))?
            .map_err(Error::system(format!("connect to the destination at {to}")))?;
        let stream = BufStream::with_capacity(16 << 10, BUFFER, stream);
        let mut outgoing = Self { hello, stream, ahead: Listing::default(), images: BTreeMap::new(), bytes: 0 };
        let hello = Frame::Hello(outgoing.hello.clone());
        outgoing.send(&hello).await?;
        Ok(outgoing)
    }

    /// How much has been sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends the job's files while it executes.
    ///
    /// # Errors
    /// They can't be read, or the destination can't take them.
    pub(crate) async fn send_ahead(&mut self, place: &Place) -> Result<()> {
        self.ahead = Listing::take(&place.upper())?;
        self.bytes += files::send(&mut self.stream, &place.upper(), None).await?;
        self.answered().await
    }

    /// Sends memory while it is being written, until `dumped` says that all is written.
    ///
    /// # Errors
    /// The destination can't take it. What `dumped` waits for goes on.
    pub(crate) async fn follow(&mut self, images: &Path, dumped: watch::Receiver<bool>) -> Result<()> {
        let mut known = 0;
        while !*dumped.borrow() {
            // Only these grow at their end alone; all others are sent when they are whole. CRIU numbers them from 1. They are asked for
            // by name, since listing a directory keeps CRIU from making files in it.
            while images.join(memory(known + 1)).exists() {
                known += 1;
            }
            let mut sent = false;
            for number in 1..=known {
                sent |= self.send_new(images, &memory(number)).await?;
            }
            if !sent {
                self.flush().await?;
                tokio::time::sleep(FOLLOW_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Sends everything that is not there yet, but the seal.
    ///
    /// # Errors
    /// Something can't be read, or the destination can't take it.
    pub(crate) async fn send_rest(
        &mut self,
        images: &Path,
        place: &Place,
        mapped: &[std::path::PathBuf],
    ) -> Result<()> {
        for name in names(images)?.into_iter().filter(|name| name.ends_with(".img") || name == "descriptors.json") {
            self.send_new(images, &name).await?;
        }
        let now = Listing::take(&place.upper())?;
        let mut difference = now.since(&self.ahead);
        difference.changed.extend(mapped.iter().filter(|path| now.contains(path)).cloned());
        let removed = difference.removed.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        self.send(&Frame::Removed(removed)).await?;
        self.bytes += files::send(&mut self.stream, &place.upper(), Some(&difference.changed)).await?;
        self.flush().await
    }

    /// Gives the seal and waits for the destination's word that all is there.
    ///
    /// # Errors
    /// The destination did not take it, or is not heard from: it may have it or not.
    pub(crate) async fn seal(&mut self) -> Result<()> {
        let seal = Seal { images: self.images.iter().map(|(name, size)| (name.clone(), *size)).collect() };
        self.send(&Frame::Seal(seal)).await?;
        self.answered().await
    }

    /// Sends what has been added to an image; says whether there was anything.
    async fn send_new(&mut self, images: &Path, name: &str) -> Result<bool> {
        let path = images.join(name);
        let start = *self.images.entry(name.to_owned()).or_default();
        let mut offset = start;
        // Out of the page cache, into which it has just been written: this takes microseconds.
        let file = File::open(&path).map_err(Error::system(format!("open {}", path.display())))?;
        loop {
            let length = file.metadata().map_err(Error::system(format!("look at {}", path.display())))?.len();
            let wanted = usize::try_from(length.saturating_sub(offset)).map_or(PIECE, |left| left.min(PIECE));
            if wanted == 0 {
                return Ok(offset > start);
            }
            let mut bytes = vec![0; wanted];
            let count = file.read_at(&mut bytes, offset).map_err(Error::system(format!("read {}", path.display())))?;
            bytes.truncate(count);
            offset += count as u64;
            self.bytes += count as u64;
            self.images.insert(name.to_owned(), offset);
            self.send(&Frame::Chunk { image: name.to_owned(), bytes }).await?;
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<()> {
        frame::send(&mut self.stream, frame).await.map_err(Error::system("send to the destination"))
    }

    async fn flush(&mut self) -> Result<()> {
        self.stream.flush().await.map_err(Error::system("send to the destination"))
    }

    async fn answered(&mut self) -> Result<()> {
        self.flush().await?;
        let answer = tokio::time::timeout(ANSWER_LIMIT, frame::receive(&mut self.stream))
            .await
            .map_err(|_| Error::TimedOut("the destination's answer".into()))??;
        match answer {
            Frame::Answer(Ok(())) => Ok(()),
            Frame::Answer(Err(reason)) => Err(Error::Peer(format!("refused: {reason}"))),
            _ => Err(Error::Peer("answered with something else".into())),
        }
    }
}

/// The name of an image with memory.
fn memory(number: u32) -> String {
    format!("pages-{number}.img")
}

fn names(images: &Path) -> Result<Vec<String>> {
    let failed = || format!("read {}", images.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(images).map_err(Error::system(failed()))? {
        names.push(entry.map_err(Error::system(failed()))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
