//! The widget in the pages of jobs, and its watch of the job.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, HeaderValue};
use hyper::{Request, Response};
use mooring_api::watch::Flow;
use mooring_types::gateway::{Protocol, Widget};
use mooring_types::job::JobStatus;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use world::{Body, GET, Job, PATIENCE, Received, Wire, World, text};

const NAVIGATION: &str =
    "Host: example\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\nAccept-Encoding: gzip, br\r\n";
const SCRIPT: &str = "<script src=\"/.mooring/widget.js\"";

/// Responses that are called pages, and are none or no whole ones.
const NO_PAGES: [(&str, &str); 4] =
    [("/row", "<tr><td>1</td></tr>"), ("/ok", "OK\n"), ("/one", "a"), ("/utf16", "\u{FE}\u{FF}\0<\0p\0>")];

/// Responds with a page that names the request's `Accept-Encoding`; at `/data` with JSON.
async fn page(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let coding = request.headers().get("accept-encoding").and_then(|value| value.to_str().ok()).unwrap_or("none");
    let page = format!("<html><head><title>{path}</title></head><body>{coding}</body></html>");
    let _ = request.into_body().collect().await;
    let no_page = NO_PAGES.iter().find(|(own, _)| path.ends_with(own));
    let bytes =
        no_page.map(|(_, body)| body.chars().map(|byte| u8::try_from(byte).expect("a byte")).collect::<Vec<_>>());
    let mut answer = text(bytes.unwrap_or_else(|| page.into_bytes()));
    answer.headers_mut().insert(ETAG, HeaderValue::from_static("\"1\""));
    if path.starts_with("/download") {
        let name = HeaderValue::from_bytes("attachment; filename=\"Ü.html\"".as_bytes()).expect("a value");
        answer.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    let kind = if path == "/data" { "application/json" } else { "text/html; charset=utf-8" };
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

async fn world() -> (World, Job, SocketAddr) {
    let mut world = World::new();
    let job = world.job(page).await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    world.change(|connection| connection.widget = Widget::Shown);
    (world, job, port)
}

async fn go_to(wire: &mut Wire, path: &str, more: &str) -> Received {
    wire.send(format!("GET {path} HTTP/1.1\r\n{NAVIGATION}{more}\r\n")).await;
    wire.receive_chunks().await
}

#[tokio::test]
async fn only_navigations_get_widget() {
    let (mut world, job, port) = world().await;
    let mut wire = Wire::connect(port).await;
    let got = go_to(&mut wire, "/lab", "").await;
    assert_eq!(got.status(), 200);
    assert!(got.body.contains(&format!("<head>{SCRIPT}")) && got.body.ends_with("<body>identity</body></html>"));
    assert!(got.header("content-length").is_none());
    for more in ["Sec-Fetch-Dest: iframe\r\n", "Sec-Fetch-Mode: cors\r\n", "X-Requested-With: XMLHttpRequest\r\n"] {
        let got = wire.ask(format!("GET /lab HTTP/1.1\r\n{NAVIGATION}{more}\r\n")).await;
        assert!(!got.body.contains(SCRIPT) && got.body.contains("gzip, br"), "{more}: {}", got.body);
    }
    let got = wire.ask(format!("GET /data HTTP/1.1\r\n{NAVIGATION}\r\n")).await;
    assert!(!got.body.contains(SCRIPT), "{}", got.body);
    let got = wire.ask(GET).await;
    assert!(!got.body.contains(SCRIPT), "{}", got.body);

    // Without the widget its paths belong to the job.
    let before = job.requests();
    let file = wire.ask("GET /.mooring/widget.js HTTP/1.1\r\nHost: example\r\n\r\n").await;
    assert!(file.header("content-type").is_some_and(|kind| kind.starts_with("text/javascript")), "{}", file.head);
    assert_eq!(job.requests(), before);
    world.change(|connection| connection.widget = Widget::Hidden);
    let got = wire.ask(format!("GET /lab HTTP/1.1\r\n{NAVIGATION}\r\n")).await;
    assert!(!got.body.contains(SCRIPT) && got.body.contains("gzip, br"), "{}", got.body);
    let got = wire.ask("GET /.mooring/widget.js HTTP/1.1\r\nHost: example\r\n\r\n").await;
    assert!(got.body.contains("<title>/.mooring/widget.js</title>"), "{}", got.body);
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_page_is_unchanged() {
    let (world, _job, port) = world().await;
    let ask = async |path: &str, headers: &str| {
        let mut wire = Wire::connect(port).await;
        wire.send(format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await;
        let head = wire.head().await;
        assert!(head.contains("etag: \"1\"") && head.contains("content-length: "), "{path}: {head}");
        wire.rest().await
    };
    for (path, body) in NO_PAGES {
        let bytes: Vec<u8> = body.chars().map(|byte| u8::try_from(byte).expect("a byte")).collect();
        assert_eq!(ask(path, NAVIGATION).await, bytes, "{path}");
    }
    let page = ask("/lab", "Host: example\r\n").await;
    for (path, headers) in [
        ("/lab", "Host: example\r\nAccept: text/html\r\n"),
        ("/lab", &format!("{NAVIGATION}Turbo-Frame: a\r\n")),
        ("/lab", "Host: example\r\nAccept: text/vnd.turbo-stream.html, text/html, application/xhtml+xml\r\n"),
    ] {
        assert!(ask(path, headers).await.len() >= page.len() - 4, "{headers}");
    }
    let download = ask("/download", NAVIGATION).await;
    assert!(!String::from_utf8_lossy(&download).contains(SCRIPT));
    world.stop().await;
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn watch(port: SocketAddr, origin: Option<&str>) -> Result<Socket, Error> {
    let mut request = format!("ws://{port}/.mooring/state").into_client_request()?;
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", HeaderValue::from_str(origin).expect("an origin"));
    }
    Ok(timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await.expect("in time")?.0)
}

async fn next_state(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("in time").expect("a message");
        if let Message::Text(text) = message.expect("a message") {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

#[tokio::test]
async fn page_watches_job() {
    let (mut world, job, port) = world().await;
    let mut page = watch(port, Some(&format!("http://{port}"))).await.unwrap();
    let first = next_state(&mut page).await;
    // Nobody has logged in.
    let id = world.slice.connections[0].job.as_str();
    assert!(!first.to_string().contains(id) && first["mark"].is_string(), "{first}");
    let told_of = |state: &Value| (state["status"].clone(), state["responsive"].clone(), state["possible"].clone());
    assert_eq!(told_of(&first), (json!("Executing"), json!(true), json!(["migrate", "suspend", "cancel"])));
    world.hold();
    let floating = next_state(&mut page).await;
    assert_eq!(told_of(&floating), (json!("Floating"), json!(false), json!(["cancel"])));
    // A page that is opened meanwhile gets the state at once.
    assert_eq!(next_state(&mut watch(port, None).await.unwrap()).await, floating);
    world.change(|connection| connection.job_status = JobStatus::Suspended);
    assert_eq!(told_of(&next_state(&mut page).await), (json!("Suspended"), json!(false), json!(["resume", "cancel"])));
    world.open();
    assert_eq!(next_state(&mut page).await, first);
    assert_eq!((job.accepted(), job.requests()), (0, 0));
    for origin in ["http://elsewhere.example", "null"] {
        let refused = watch(port, Some(origin)).await.unwrap_err();
        assert!(matches!(&refused, Error::Http(answer) if answer.status() == 403), "{refused}");
    }
    let client = &world.gateway.observe().connections[0].clients;
    assert!(client.iter().all(|client| client.bytes_in == 0 && client.bytes_out == 0), "{client:?}");

    // Another process serves.
    world.gateway.retire();
    let end = timeout(PATIENCE, page.next()).await.expect("in time").expect("a close").expect("a close");
    assert!(matches!(&end, Message::Close(Some(frame)) if u16::from(frame.code) == 1012), "{end:?}");
    world.stop().await;
}

#[tokio::test]
async fn person_at_an_open_page_is_a_caller() {
    let (mut world, _, port) = world().await;
    let mut page = watch(port, Some(&format!("http://{port}"))).await.unwrap();
    assert_eq!(next_state(&mut page).await["wakes"], json!(false));
    // A page of an executing job wakes nothing, nor does an open one that nobody uses.
    page.send(Message::text("used")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.suspend();
    assert_eq!(next_state(&mut page).await["wakes"], json!(true));
    page.send(Message::text("other")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.caller(), None);
    page.send(Message::text("used")).await.unwrap();
    world.until(|world| world.caller().as_deref() == Some("somebody at the open page from 127.0.0.1")).await;
    world.change(|connection| connection.job_status = JobStatus::Resuming);
    world.until(|world| world.caller().is_none()).await;
    // A job that waits for its user is not woken.
    world.change(|connection| connection.resumes = false);
    world.suspend();
    page.send(Message::text("used")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.caller(), None);
    world.stop().await;
}

#[tokio::test]
async fn sign_in_is_at_opcenter_and_differs_each_time() {
    let mut world = World::with_opcenter("https://192.0.2.1:8443");
    let job = world.job(page).await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    world.change(|connection| connection.widget = Widget::Shown);
    let mut wire = Wire::connect(port).await;
    let mut ask = async || {
        let got = wire.ask("GET /.mooring/api/sign-in HTTP/1.1\r\nHost: a\r\nOrigin: null\r\n\r\n").await;
        assert_eq!((got.status(), got.header("cache-control")), (200, Some("no-store")));
        serde_json::from_str::<Value>(&got.body).expect("JSON")
    };
    let first = ask().await;
    let text = |of: &Value, key: &str| of[key].as_str().expect("a text").to_owned();
    let challenge: String = Sha256::digest(text(&first, "verifier")).iter().map(|byte| format!("{byte:02x}")).collect();
    let (connection, state) = (world.slice.connections[0].connection.clone(), text(&first, "state"));
    let query = format!("connection={connection}&challenge={challenge}&state={state}");
    assert_eq!(text(&first, "url"), format!("https://192.0.2.1:8443/sign-in-for-job?{query}"));
    // A stranger asks.
    assert!(!first.to_string().contains(world.slice.connections[0].job.as_str()), "{first}");
    world.slice.opcenter = "https://float.example.org".into();
    world.change(|_| {});
    let second = ask().await;
    assert!(text(&second, "url").starts_with("https://float.example.org/sign-in-for-job?"), "{second}");
    assert!(second["state"] != first["state"] && second["verifier"] != first["verifier"]);
    assert_eq!(job.requests(), 0);
    world.stop().await;
}

#[tokio::test]
async fn panel_without_opcenter_gets_503() {
    let (world, job, port) = world().await;
    let mut wire = Wire::connect(port).await;
    let body = "{\"code\":\"a\",\"verifier\":\"b\",\"origin\":\"http://a\"}";
    let got = wire
        .ask(format!(
            "POST /.mooring/api/login HTTP/1.1\r\nHost: a\r\nOrigin: null\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!((got.status(), got.header("access-control-allow-origin")), (503, Some("null")));
    assert!(got.body.contains("\"code\":1009"), "{}", got.body);
    let got = wire.ask("GET /.mooring/api/job HTTP/1.1\r\nHost: a\r\nOrigin: http://b.example\r\n\r\n").await;
    assert_eq!((got.status(), got.header("access-control-allow-origin")), (503, None));
    assert_eq!(job.requests(), 0);
    world.stop().await;
}
