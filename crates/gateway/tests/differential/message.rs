//! Messages of HTTP/1 as they are on the wire, read without a library.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line, without its end.
    pub(crate) start: String,
    /// Names and values as Latin-1, in their order.
    pub(crate) lines: Vec<(String, String)>,
    /// The content, without its framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) framing: Framing,
}

/// The way in which the end of a content is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length,
    Chunks,
    /// By the end of the connection.
    End,
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Answer { to_head: bool },
}

/// Returns bytes as text, each byte one character.
pub(crate) fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

impl Message {
    /// Reads a message whole.
    pub(crate) async fn read(stream: &mut BufReader<TcpStream>, kind: Kind) -> io::Result<Self> {
        let mut message = Self::read_head(stream).await?;
        message.read_body(stream, kind).await?;
        Ok(message)
    }

    /// Reads the head of a message.
    pub(crate) async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let start = line(stream).await?;
        let lines = headers(stream).await?;
        Ok(Self { start, lines, body: Vec::new(), trailers: Vec::new(), framing: Framing::None })
    }

    /// Reads what follows the head.
    pub(crate) async fn read_body(&mut self, stream: &mut BufReader<TcpStream>, kind: Kind) -> io::Result<()> {
        self.framing = self.expected_framing(kind);
        match self.framing {
            Framing::None => {}
            Framing::Length => {
                let length = self.values("content-length")[0].trim().parse().map_err(io::Error::other)?;
                self.body = vec![0; length];
                stream.read_exact(&mut self.body).await?;
            }
            Framing::Chunks => {
                loop {
                    let size = line(stream).await?;
                    let size = size.split(';').next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
                    if size == 0 {
                        break;
                    }
                    let mut chunk = vec![0; size + 2];
                    stream.read_exact(&mut chunk).await?;
                    self.body.extend_from_slice(&chunk[..size]);
                }
                self.trailers = headers(stream).await?;
            }
            Framing::End => {
                stream.read_to_end(&mut self.body).await?;
            }
        }
        Ok(())
    }

    fn expected_framing(&self, kind: Kind) -> Framing {
        let is_bodiless = match kind {
            Kind::Request => false,
            Kind::Answer { to_head } => to_head || matches!(self.status(), 100..=199 | 204 | 304),
        };
        let is_chunked =
            self.values("transfer-encoding").iter().any(|coding| coding.trim().eq_ignore_ascii_case("chunked"));
        match (is_bodiless, is_chunked, self.values("content-length").is_empty()) {
            (true, ..) => Framing::None,
            (false, true, _) => Framing::Chunks,
            (false, false, false) => Framing::Length,
            (false, false, true) if kind == Kind::Request => Framing::None,
            (false, false, true) => Framing::End,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The values of all lines of a header, by its name in lower case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.lines
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.lines.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.lines.push((name.to_owned(), value.to_owned()));
    }

    /// The lines of each header in their order; that of different headers does not count.
    pub(crate) fn by_name(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &self.lines {
            all.entry(name).or_default().push(value);
        }
        all
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes).await?;
    match bytes.strip_suffix(b"\n") {
        Some(line) => Ok(latin(line.strip_suffix(b"\r").unwrap_or(line))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn headers(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<(String, String)>> {
    let mut lines = Vec::new();
    loop {
        let line = line(stream).await?;
        if line.is_empty() {
            return Ok(lines);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("no header: {line:?}")))?;
        // One space is how a line is written; more are the value's.
        lines.push((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()));
    }
}
