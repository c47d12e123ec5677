//! A client of a JupyterLab, by its Access URL.
//!
//! Like the browser's page the client starts and ends a kernel by REST calls with the token. One
//! WebSocket has the kernel's channels ([`crate::channels`]). Every call has a time-out. Only the
//! first one is retried, until the server answers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::channels::Channels;
use crate::wait::wait_for;

/// Time limit of a server's first answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);
/// Time limit of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A JupyterLab that answers.
#[derive(Debug, Clone)]
pub struct Jupyter {
    http: reqwest::Client,
    server: Arc<Server>,
}

/// The address and the token of a JupyterLab.
#[derive(Debug)]
struct Server {
    /// Ends with a slash.
    base: Url,
    token: String,
}

/// A kernel that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    id: String,
}

impl Jupyter {
    /// Reads a URL like `http://198.18.0.1:10000/lab?token=…` and waits until its server answers.
    pub async fn connect(access_url: &str) -> Result<Self> {
        // The first provider stays; a second installation is a no-op by intent.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(CALL_TIMEOUT).build()?;
        let jupyter = Self { http, server: Arc::new(Server::read(access_url)?) };
        wait_for(&format!("JupyterLab at {}", jupyter.server.base), ANSWERS_WITHIN, async || {
            match jupyter.call(Method::GET, "api/status", None).await {
                Ok(_) => Ok(Some(())),
                Err(error) if is_refusal(&error) => Err(error),
                Err(_) => Ok(None),
            }
        })
        .await?;
        Ok(jupyter)
    }

    /// Starts a Python kernel.
    pub async fn kernel_start(&self) -> Result<Kernel> {
        self.kernel_start_of("python3").await
    }

    /// Starts a kernel of another kind, like `ir` for R.
    pub async fn kernel_start_of(&self, kind: &str) -> Result<Kernel> {
        let answer = self.call(Method::POST, "api/kernels", Some(json!({"name": kind}))).await?;
        let id = answer["id"].as_str().context("the new kernel has no id")?;
        Ok(Kernel { id: id.to_owned() })
    }

    /// Opens the channels of a kernel.
    pub async fn kernel_channels(&self, kernel: &Kernel) -> Result<Channels> {
        let Server { base, token } = &*self.server;
        Channels::open(base, token, &kernel.id).await
    }

    /// Interrupts what a kernel executes, as the stop button does.
    pub async fn kernel_interrupt(&self, kernel: &Kernel) -> Result<()> {
        self.call(Method::POST, &format!("api/kernels/{}/interrupt", kernel.id), None).await.map(drop)
    }

    /// Ends a kernel.
    pub async fn kernel_shutdown(&self, kernel: &Kernel) -> Result<()> {
        self.call(Method::DELETE, &format!("api/kernels/{}", kernel.id), None).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        let url = self.server.base.join(path)?;
        let mut request =
            self.http.request(method, url).header("Authorization", format!("token {}", self.server.token));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.with_context(|| what.clone())?.error_for_status()?;
        let text = response.text().await.with_context(|| format!("answer to {what}"))?;
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }
}

impl Server {
    fn read(access_url: &str) -> Result<Self> {
        let url = Url::parse(access_url).with_context(|| format!("invalid Access URL `{access_url}`"))?;
        let Some((_, token)) = url.query_pairs().find(|(key, _)| key == "token") else {
            bail!("invalid Access URL `{access_url}`: it has no token");
        };
        let Some((before, _)) = url.path().split_once("/lab") else {
            bail!("invalid Access URL `{access_url}`: its path is not that of JupyterLab");
        };
        let mut base = url.clone();
        base.set_path(&format!("{before}/"));
        base.set_query(None);
        Ok(Self { base, token: token.into_owned() })
    }
}

/// Returns whether the server refused: no retry changes that.
fn is_refusal(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::status);
    status.is_some_and(|status| status.is_client_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_url_is_read() {
        let plain = Server::read("http://198.18.0.1:10000/lab?token=abc%20d").unwrap();
        assert_eq!((plain.base.as_str(), plain.token.as_str()), ("http://198.18.0.1:10000/", "abc d"));
        let deep = Server::read("http://h/user/x/lab/tree/a.ipynb?reset&token=t").unwrap();
        assert_eq!(deep.base.as_str(), "http://h/user/x/");
        for bad in ["", "198.18.0.1:10000", "http://h/lab", "http://h/tree?token=t"] {
            assert!(Server::read(bad).is_err(), "{bad}");
        }
    }
}
