//! A visitor of the web interface: what a browser sends and keeps, without a browser.

use futures_util::StreamExt;
use mooring_api::Client;
use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Method, Response, StatusCode, redirect};
use std::time::Duration;

/// The longest wait for a change of a page.
const CHANGE: Duration = Duration::from_secs(5);

/// A visitor with a session.
pub(crate) struct Visit {
    http: reqwest::Client,
    origin: String,
    pub(crate) cookie: String,
    pub(crate) csrf: String,
}

/// An answer of the web interface.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The target of a redirect; empty without one.
    pub(crate) location: String,
    /// The events that the answer raises on the page; empty without any.
    pub(crate) events: String,
    pub(crate) text: String,
}

impl Visit {
    /// Returns a visitor without a session. A client of the API has chosen the process's
    /// cryptography before.
    pub(crate) fn stranger(client: &Client) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        let origin = format!("http://{}", client.address().trim_start_matches("http://"));
        Self { http, origin, cookie: String::new(), csrf: String::new() }
    }

    /// Signs in.
    pub(crate) async fn begin(client: &Client, name: &str, password: &str) -> Self {
        let mut visit = Self::stranger(client);
        let form = [("username", name), ("password", password), ("next", "/secrets")];
        let answer = visit.http.post(format!("{}/login", visit.origin)).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{answer:?}");
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        visit.cookie = cookie.split(';').next().unwrap().to_owned();
        visit.read_csrf().await;
        visit
    }

    /// Opens an address that signs in, and keeps the cookies that it sets.
    pub(crate) async fn follow(&mut self, path: &str) -> Answer {
        let response = self.request(Method::GET, path).send().await.unwrap();
        for set in response.headers().get_all(SET_COOKIE) {
            self.keep(set.to_str().unwrap());
        }
        answer(response).await
    }

    /// Keeps a cookie in place of the one of that name.
    fn keep(&mut self, set: &str) {
        let pair = set.split(';').next().unwrap();
        let (name, _) = pair.split_once('=').unwrap();
        let others = self.cookie.split("; ").filter(|kept| !kept.is_empty() && !kept.starts_with(&format!("{name}=")));
        let is_removed = set.contains("Max-Age=0");
        let kept: Vec<&str> = others.chain((!is_removed).then_some(pair)).collect();
        self.cookie = kept.join("; ");
    }

    /// Reads the CSRF token of the session from a page.
    pub(crate) async fn read_csrf(&mut self) {
        let page = self.get("/secrets").await.text;
        let (_, rest) = page.split_once("name=\"csrf-token\" content=\"").unwrap();
        self.csrf = rest.split('"').next().unwrap().to_owned();
    }

    /// Opens a page.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// Submits a form, as the page's script does.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, path).header("X-CSRF-Token", &self.csrf).header("HX-Request", "true");
        answer(request.form(form).send().await.unwrap()).await
    }

    /// Returns a request with the session's cookie.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.origin)).header(COOKIE, &self.cookie)
    }

    /// Opens the stream of a page's changes.
    pub(crate) async fn live(&self, path: &str) -> Changes {
        let answer = self.request(Method::GET, path).header(ACCEPT, "text/event-stream").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
        Changes { chunks: Box::pin(answer.bytes_stream()), text: String::new() }
    }
}

impl Answer {
    /// Returns the text below a field of the form that the answer brings back.
    pub(crate) fn below(&self, field: &str) -> String {
        let (_, rest) = self.text.split_once(&format!("id=\"e-{field}\"")).unwrap_or_default();
        let (_, inner) = rest.split("</p>").next().unwrap_or_default().split_once('>').unwrap_or_default();
        let pieces = inner.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
        pieces.collect()
    }
}

async fn answer(response: Response) -> Answer {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: response.status(),
        location: header(LOCATION.as_str()).unwrap_or_default(),
        events: header("hx-trigger").unwrap_or_default(),
        text: response.text().await.unwrap(),
    }
}

/// The stream of a page's changes.
pub(crate) struct Changes {
    chunks: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
}

impl Changes {
    /// Waits until a part of the page has a text; returns what came up to it.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let waited = tokio::time::timeout(CHANGE, async {
            while !self.text.contains(text) {
                let chunk = self.chunks.next().await.expect("the stream ended").unwrap();
                self.text.push_str(&String::from_utf8_lossy(&chunk));
            }
        });
        assert!(waited.await.is_ok(), "no `{text}` in:\n{}", self.text);
        std::mem::take(&mut self.text)
    }
}
