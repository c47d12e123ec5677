//! The target of a source's frames: another host, or a capsule in the store.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use mooring_capsule::{CapsuleWriter, Position};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufStream, BufWriter};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The size of the output buffer.
pub(crate) const OUTPUT_BUFFER_BYTES: usize = 512 << 10;

/// The target of a source's frames.
#[derive(Debug)]
pub(crate) enum Sink {
    /// Another host, which confirms.
    Host(Box<BufStream<TlsStream<TcpStream>>>),
    /// A capsule, which confirms at its end only.
    Capsule {
        writer: Box<BufWriter<CapsuleWriter>>,
        /// The start of the job's memory in the capsule.
        memory: Option<Position>,
    },
}

impl Sink {
    pub(crate) fn capsule(writer: CapsuleWriter) -> Self {
        Self::Capsule { writer: Box::new(BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, writer)), memory: None }
    }

    /// The attempt to write, as an error names it.
    pub(crate) fn attempt(&self) -> &'static str {
        match self {
            Self::Host(_) => "send to the destination",
            Self::Capsule { .. } => "write the capsule",
        }
    }

    /// Returns `true` if readers receive memory last, independent of the order of writing.
    pub(crate) fn defers_memory(&self) -> bool {
        matches!(self, Self::Capsule { .. })
    }

    /// Opens the memory section, which readers of a capsule receive last.
    pub(crate) async fn begin_memory(&mut self) -> io::Result<()> {
        if let Self::Capsule { writer, memory } = self {
            writer.flush().await?;
            *memory = Some(writer.get_ref().position());
        }
        Ok(())
    }

    /// Closes the memory section.
    pub(crate) async fn end_memory(&mut self) -> io::Result<()> {
        if let Self::Capsule { writer, memory } = self {
            writer.flush().await?;
            if let Some(start) = memory.take() {
                writer.get_mut().defer_since(start);
            }
        }
        Ok(())
    }

    fn inner(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Host(stream) => Pin::new(stream.as_mut()),
            Self::Capsule { writer, .. } => Pin::new(writer.as_mut()),
        }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(context)
    }
}
