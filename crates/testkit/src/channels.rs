//! The WebSocket of a kernel: requests go out numbered, messages come in with the time of their
//! arrival.
//!
//! The protocol is Jupyter's messaging in its default form, a JSON text for each message. The
//! parent of a message names its request. Requests are numbered from 0 for each WebSocket, so that
//! a test can count the replies.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<TcpStream>;

/// A kernel's WebSocket. The two halves are apart so that one may wait while the other works.
#[derive(Debug)]
pub struct Channels {
    /// The sending half.
    pub requests: Requests,
    /// The receiving half.
    pub messages: Messages,
}

/// The half that sends.
#[derive(Debug)]
pub struct Requests {
    sink: SplitSink<Socket, Frame>,
    session: String,
    next: u64,
}

/// The half that receives.
#[derive(Debug)]
pub struct Messages {
    stream: SplitStream<Socket>,
    session: String,
}

/// A message of the kernel.
#[derive(Debug, Clone)]
pub struct Message {
    /// When it arrived.
    pub arrived: Instant,
    /// `shell`, `control`, `iopub`, ….
    pub channel: String,
    /// Its type, like `stream` or `kernel_info_reply`.
    pub kind: String,
    /// The number of the request that it belongs to, if that came over this WebSocket.
    pub request: Option<u64>,
    /// The content.
    pub content: Value,
}

/// The end of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code, if the other side closed it properly.
    pub code: Option<u16>,
    /// The server's reason, or the error.
    pub reason: String,
}

impl std::error::Error for Closed {}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "closed with {code}")?,
            None => write!(f, "broken")?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl Channels {
    /// Opens the channels of kernel `id`; `base` ends with a slash.
    pub(crate) async fn open(base: &Url, token: &str, id: &str) -> Result<Self> {
        let session = format!("{:032x}", rand::random::<u128>());
        let mut url = base.join(&format!("api/kernels/{id}/channels"))?;
        url.query_pairs_mut().append_pair("session_id", &session).append_pair("token", token);
        let host = base.host_str().context("a URL without a host")?;
        let port = base.port_or_known_default().context("a URL without a port")?;
        if url.set_scheme("ws").is_err() {
            bail!("no WebSocket URL can be made of {base}");
        }
        let open = async {
            let tcp = TcpStream::connect((host, port)).await?;
            tcp.set_nodelay(true)?;
            anyhow::Ok(tokio_tungstenite::client_async(url.as_str(), tcp).await?.0)
        };
        let attempt = || format!("open the channels of kernel {id} at {base}");
        let socket = tokio::time::timeout(OPEN_TIMEOUT, open).await.with_context(attempt)?.with_context(attempt)?;
        let (sink, stream) = socket.split();
        Ok(Self {
            requests: Requests { sink, session: session.clone(), next: 0 },
            messages: Messages { stream, session },
        })
    }

    /// Executes `code` and gives back what it printed, both streams as one text.
    pub async fn run(&mut self, code: &str, limit: Duration) -> Result<String> {
        let request = self.requests.execute(code).await?;
        let output = async {
            let (mut printed, mut idle, mut replied) = (String::new(), false, false);
            while !(idle && replied) {
                let message = self.messages.next().await?;
                if message.request != Some(request) {
                    continue;
                }
                match message.kind.as_str() {
                    "stream" => printed.push_str(message.text()),
                    "status" => idle = message.content["execution_state"] == "idle",
                    "error" => bail!("{}: {}", message.content["ename"], message.content["evalue"]),
                    "execute_reply" => replied = true,
                    _ => {}
                }
            }
            Ok(printed)
        };
        tokio::time::timeout(limit, output).await.context("the cell did not end in time")?
    }
}

impl Requests {
    /// Asks the kernel to execute `code`; gives back the request's number.
    pub async fn execute(&mut self, code: &str) -> Result<u64, Closed> {
        let content = json!({
            "code": code, "silent": false, "store_history": true, "user_expressions": {}, "allow_stdin": false, "stop_on_error": true,
        });
        self.send("shell", "execute_request", content).await
    }

    /// Asks the kernel about itself on the control channel, which answers while a cell executes;
    /// gives back the request's number.
    pub async fn kernel_info(&mut self) -> Result<u64, Closed> {
        self.send("control", "kernel_info_request", json!({})).await
    }

    async fn send(&mut self, channel: &str, kind: &str, content: Value) -> Result<u64, Closed> {
        let number = self.next;
        self.next += 1;
        let header = json!({
            "msg_id": format!("{}_{number}", self.session), "session": self.session, "msg_type": kind, "version": "5.3",
            "username": "testkit", "date": "2000-01-01T00:00:00Z",
        });
        let message = json!({
            "channel": channel, "header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": [],
        });
        self.sink.send(Frame::text(message.to_string())).await.map_err(Closed::because)?;
        Ok(number)
    }
}

impl Messages {
    /// The next message. Nothing is lost when this is dropped while it waits.
    pub async fn next(&mut self) -> Result<Message, Closed> {
        loop {
            let frame = self.stream.next().await;
            let arrived = Instant::now();
            match frame {
                Some(Ok(Frame::Text(text))) => return self.read(arrived, &text),
                Some(Ok(Frame::Close(frame))) => {
                    let (code, reason) = frame.map(|frame| (frame.code.into(), frame.reason.to_string())).unzip();
                    return Err(Closed { code, reason: reason.unwrap_or_default() });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Closed::because(error)),
                None => return Err(Closed { code: None, reason: "the connection ended".into() }),
            }
        }
    }

    fn read(&self, arrived: Instant, text: &str) -> Result<Message, Closed> {
        let mut message: Value = serde_json::from_str(text)
            .map_err(|error| Closed { code: None, reason: format!("a message that is not JSON: {error}") })?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parent = word(&message["parent_header"]["msg_id"]);
        let ours = parent.strip_prefix(self.session.as_str()).and_then(|rest| rest.strip_prefix('_'));
        Ok(Message {
            arrived,
            channel: word(&message["channel"]),
            kind: word(&message["header"]["msg_type"]),
            request: ours.and_then(|number| number.parse().ok()),
            content: message["content"].take(),
        })
    }
}

impl Message {
    /// The text of a `stream` message; empty for any other.
    #[must_use]
    pub fn text(&self) -> &str {
        self.content["text"].as_str().unwrap_or_default()
    }
}

impl Closed {
    fn because(error: tungstenite::Error) -> Self {
        Self { code: None, reason: error.to_string() }
    }
}
