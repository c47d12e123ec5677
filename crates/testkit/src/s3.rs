//! An S3-compatible object store that keeps its buckets as directories: `s3s` with `s3s-fs`, on a
//! TCP port.
//!
//! [`Server`] is a task of the test, for what runs in the test's own network; the program
//! `s3-server` does the same in a network namespace.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::streams::program_named;

/// The keys of a server.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The access key.
    pub access: String,
    /// Its secret.
    pub secret: String,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    root: PathBuf,
    task: JoinSet<Result<Infallible>>,
}

/// The program `s3-server` beside the running test or measurement:
/// `s3-server <address>:<port> <directory> <access key> <secret>`.
pub fn program() -> Result<PathBuf> {
    program_named("s3-server")
}

/// Makes a bucket in a server's directory.
pub fn make_bucket(root: &Path, bucket: &str) -> Result<()> {
    std::fs::create_dir(root.join(bucket)).with_context(|| format!("make bucket {bucket}"))
}

/// Serves a directory at an address, for ever.
pub async fn serve(address: SocketAddr, root: &Path, keys: &Keys) -> Result<Infallible> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
    accept(listener, service(root, keys)?).await
}

impl Server {
    /// Serves a directory on a free port of the loopback interface.
    pub async fn start(root: &Path, keys: &Keys) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on loopback")?;
        let address = listener.local_addr()?;
        let service = service(root, keys)?;
        let mut task = JoinSet::new();
        task.spawn(accept(listener, service));
        Ok(Self { address, root: root.to_owned(), task })
    }

    /// The address of the service.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the directory whose subdirectories are the buckets.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Breaks all connections and takes no more.
    pub async fn stop(&mut self) {
        self.task.shutdown().await;
    }
}

fn service(root: &Path, keys: &Keys) -> Result<S3Service> {
    // Its error is no `std::error::Error`.
    let files = FileSystem::new(root).map_err(|error| anyhow!("serve {}: {error:?}", root.display()))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(keys.access.as_str(), keys.secret.as_str()));
    builder.set_access(Buckets { root: root.to_owned() });
    Ok(builder.build())
}

async fn accept(listener: TcpListener, service: S3Service) -> Result<Infallible> {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.context("accept a connection")?;
        tcp.set_nodelay(true)?;
        let service = service.clone();
        connections.spawn(async move {
            // What becomes of a connection is its client's to see.
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Accepts requests that are signed with the key. Reports a missing bucket, which `s3s-fs` would
/// create or take for an object.
struct Buckets {
    root: PathBuf,
}

#[async_trait]
impl S3Access for Buckets {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        if request.credentials().is_none() {
            return Err(s3_error!(AccessDenied));
        }
        match request.s3_path() {
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } if !self.root.join(&**bucket).is_dir() => {
                Err(s3_error!(NoSuchBucket))
            }
            _ => Ok(()),
        }
    }
}
