//! Hundreds of requests, each sent to a server directly and through a gateway. What the server got
//! and what the client got are the same, but for what the guide says that a gateway changes.

mod differential {
    pub(crate) mod changes;
    pub(crate) mod corpus;
    pub(crate) mod message;
}
mod world;

use std::io;
use std::net::SocketAddr;

use differential::changes::{Change, Client, OF_ANSWERS, OF_REQUESTS};
use differential::corpus::{Exchange, exchanges};
use differential::message::{Kind, Message, latin};
use mooring_api::watch::Flow;
use mooring_types::gateway::Protocol;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use world::{PATIENCE, World};

const GUIDE: &str = include_str!("../../../docs/guide.md");
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A server that records what it gets, and answers with bytes that a test has chosen.
struct Recorder {
    address: SocketAddr,
    next: watch::Sender<Option<Exchange>>,
    got: mpsc::Receiver<io::Result<Message>>,
}

impl Recorder {
    async fn start(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (next, exchange) = watch::channel(None);
        let (send, got) = mpsc::channel(16);
        let (tasks, stop) = (world.lifecycle.tasks().clone(), world.lifecycle.soft().clone());
        world.lifecycle.tasks().spawn("recorder", async move {
            loop {
                let stream = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted.expect("a connection").0,
                };
                let (exchange, send, stop) = (exchange.clone(), send.clone(), stop.clone());
                tasks.spawn("recorded", async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = record(BufReader::new(stream), exchange, send) => {}
                    }
                });
            }
        });
        Self { address, next, got }
    }

    /// Sends an exchange's request to an address. Returns what the server and what the client got.
    async fn exchange(&mut self, exchange: &Exchange, to: SocketAddr) -> io::Result<(Message, Vec<Message>)> {
        self.next.send_replace(Some(exchange.clone()));
        let answers = timeout(PATIENCE, ask(exchange, to)).await??;
        let request = timeout(PATIENCE, self.got.recv()).await?.ok_or(io::ErrorKind::UnexpectedEof)??;
        Ok((request, answers))
    }
}

/// Serves the requests of one connection.
async fn record(
    mut stream: BufReader<TcpStream>,
    exchange: watch::Receiver<Option<Exchange>>,
    send: mpsc::Sender<io::Result<Message>>,
) {
    loop {
        let Ok(mut request) = Message::read_head(&mut stream).await else { return };
        let Some(exchange) = exchange.borrow().clone() else { return };
        let answered = async {
            if exchange.is_early {
                stream.write_all(&exchange.answer).await?;
            }
            if !request.values("expect").is_empty() {
                stream.write_all(CONTINUE).await?;
            }
            request.read_body(&mut stream, Kind::Request).await?;
            if !exchange.is_early {
                stream.write_all(&exchange.answer).await?;
            }
            stream.flush().await
        };
        let outcome = answered.await;
        let _ = send.send(outcome.map(|()| request)).await;
        if exchange.closes {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Sends a request over a new connection, and reads all answers to it.
async fn ask(exchange: &Exchange, to: SocketAddr) -> io::Result<Vec<Message>> {
    let mut stream = BufReader::new(TcpStream::connect(to).await?);
    stream.get_ref().set_nodelay(true)?;
    let kind = Kind::Answer { to_head: exchange.method == "HEAD" };
    stream.write_all(&[&exchange.head[..], b"\r\n"].concat()).await?;
    if exchange.asks_first {
        let asked = Message::read(&mut stream, kind).await?;
        assert_eq!(asked.status(), 100, "{asked:?}");
    }
    stream.write_all(&exchange.body).await?;
    let mut answers = Vec::new();
    loop {
        let answer = Message::read(&mut stream, kind).await?;
        let is_last = answer.status() >= 200;
        answers.push(answer);
        if is_last {
            return Ok(answers);
        }
    }
}

/// Returns the message that has to come of one that a gateway passes on.
fn changed(mut message: Message, changes: &[Change], client: &Client) -> Message {
    for change in changes {
        (change.apply)(&mut message, client);
    }
    message
}

/// Describes the first difference between a message and what it has to be.
fn difference(got: &Message, expected: &Message) -> Option<String> {
    let (names, others) = (got.by_name(), expected.by_name());
    let of_lines = names
        .keys()
        .chain(others.keys())
        .find(|name| names.get(*name) != others.get(*name))
        .map(|name| format!("{name}: {:?} and not {:?}", names.get(name), others.get(name)));
    let is = |what: &str, same: bool, got: String, expected: String| {
        (!same).then(|| format!("{what} {got} and not {expected}"))
    };
    is("the first line", got.start == expected.start, format!("{:?}", got.start), format!("{:?}", expected.start))
        .or(of_lines)
        .or(is(
            "framing",
            got.framing == expected.framing,
            format!("{:?}", got.framing),
            format!("{:?}", expected.framing),
        ))
        .or(is(
            "bytes of the body",
            got.body == expected.body,
            got.body.len().to_string(),
            expected.body.len().to_string(),
        ))
        .or(is(
            "trailers",
            got.trailers == expected.trailers,
            format!("{:?}", got.trailers),
            format!("{:?}", expected.trailers),
        ))
}

/// All differences of one exchange.
fn differences(
    exchange: &Exchange,
    direct: (Message, Vec<Message>),
    passed: (Message, Vec<Message>),
    port: u16,
) -> Vec<String> {
    let client = Client { gateway_port: port, is_old: exchange.is_old, asks_for_head: exchange.method == "HEAD" };
    let (request, answers) = passed;
    let mut all: Vec<String> = Vec::new();
    let expected = changed(direct.0, &OF_REQUESTS, &client);
    // What the gateway has passed on is in the form of a request already.
    let mut got = request;
    got.remove("transfer-encoding");
    all.extend(difference(&got, &expected).map(|text| format!("request: {text}")));
    if answers.len() != direct.1.len() {
        all.push(format!("{} answers and not {}", answers.len(), direct.1.len()));
    }
    for (mut got, direct) in answers.into_iter().zip(direct.1) {
        let mut expected = changed(direct, &OF_ANSWERS, &client);
        got.remove("transfer-encoding");
        got.remove("connection");
        expected.remove("connection");
        with_date(&got, &mut expected);
        all.extend(difference(&got, &expected).map(|text| format!("answer: {text}")));
    }
    all
}

/// Adds the date that a recipient with a clock has to add (RFC 9110, section 6.6.1).
fn with_date(got: &Message, expected: &mut Message) {
    if expected.status() >= 200
        && expected.values("date").is_empty()
        && let [date] = got.values("date")[..]
    {
        expected.add("date", date);
    }
}

#[tokio::test]
async fn gateway_changes_what_the_guide_says_and_nothing_else() {
    let mut world = World::new();
    let mut recorder = Recorder::start(&world).await;
    let port = world.connect(recorder.address, Protocol::Auto, Flow::Open).await;
    let all = exchanges();
    assert!(all.len() > 500, "{} exchanges", all.len());
    let mut found = Vec::new();
    for (number, exchange) in all.iter().enumerate() {
        let direct = recorder.exchange(exchange, recorder.address).await;
        let direct = direct.unwrap_or_else(|error| panic!("{number}: {error}: {exchange:?}"));
        let passed = match recorder.exchange(exchange, port).await {
            Ok(passed) => passed,
            Err(error) => {
                found.push(format!("{number}: {error}: {:?}", latin(&exchange.head)));
                continue;
            }
        };
        let differs = differences(exchange, direct, passed, port.port());
        found.extend(differs.into_iter().map(|text| {
            let head: String = latin(&exchange.head).chars().take(300).collect();
            let answer: String = latin(&exchange.answer).chars().take(300).collect();
            format!("{number}: {text}\n  {head:?}\n  {answer:?}")
        }));
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(60)].join("\n"));
    world.stop().await;
}

#[test]
fn each_change_is_stated_in_the_guide() {
    let guide = GUIDE.split_whitespace().collect::<Vec<_>>().join(" ");
    for change in OF_REQUESTS.iter().chain(&OF_ANSWERS) {
        assert!(guide.contains(change.stated), "the guide does not say: {}", change.stated);
    }
    // The test would see a change that is not stated.
    let client = Client { gateway_port: 1, is_old: false, asks_for_head: false };
    let message = Message {
        start: "GET / HTTP/1.1".to_owned(),
        lines: vec![("X-A".to_owned(), " b".to_owned())],
        body: Vec::new(),
        trailers: Vec::new(),
        framing: differential::message::Framing::None,
    };
    let expected = changed(message.clone(), &OF_REQUESTS, &client);
    let mut other = expected.clone();
    other.lines[0].1 = "c".to_owned();
    assert_eq!(difference(&expected, &expected), None);
    assert!(difference(&other, &expected).is_some());
}
