//! A real registry of images (Debian's `docker-registry`) in a world, filled through its own
//! protocol, and a narrow way to it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_linux::{netns, process};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::wait::wait_for;
use crate::world::World;

/// Debian's program.
const PROGRAM: &str = "/usr/bin/docker-registry";
/// This machine's address on the bridge of `float up`, where virtual hosts find it.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The one user of a registry that asks for one, and the line of its list that `htpasswd` would
/// write.
const USER: (&str, &str) = ("harbour", "quay");
const HTPASSWD: &str = "harbour:$2b$04$3KUBzOVZFNJfaXpj0SwEi.ktrF1xM1NNB11INyX8WKaGB5ik6BF7O\n";

/// The access to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// One user; [`Registry::credentials`] says who.
    Guarded,
}

/// A registry that runs until it is stopped or dropped. Made on a thread that lives as long.
#[derive(Debug)]
pub struct Registry {
    directory: PathBuf,
    namespace: PathBuf,
    port: u16,
    access: Access,
    process: Option<Child>,
}

impl Registry {
    /// Starts one at a port of the world's own, with nothing in it.
    pub fn start(world: &World, port: u16, access: Access) -> Result<Self> {
        ensure!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: `scripts/setup test` installs it");
        let directory = world.files().join(format!("registry-{port}"));
        fs::create_dir_all(directory.join("storage"))?;
        let guard = match access {
            Access::Open => String::new(),
            Access::Guarded => {
                let list = directory.join("htpasswd");
                fs::write(&list, HTPASSWD)?;
                format!("auth:\n  htpasswd:\n    realm: harbour\n    path: {}\n", list.display())
            }
        };
        let storage = directory.join("storage");
        let configuration = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {ADDRESS}:{port}\n{guard}",
            storage.display()
        );
        fs::write(directory.join("config.yml"), configuration)?;
        let mut registry = Self { directory, namespace: world.namespace(), port, access, process: None };
        registry.start_again()?;
        Ok(registry)
    }

    /// Starts it again with what is in it.
    pub fn start_again(&mut self) -> Result<()> {
        let log = File::create(self.directory.join("log"))?;
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(self.directory.join("config.yml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        netns::enter_command(&mut command, &self.namespace)?;
        process::die_with_parent(&mut command);
        self.process = Some(command.spawn().context("start the registry")?);
        Ok(())
    }

    /// Stops it; what is in it stays.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Its address, as it stands in the names of its images.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (ADDRESS, self.port).into()
    }

    /// Returns the content of a credentials file for the registry.
    #[must_use]
    pub fn credentials(&self) -> Value {
        use base64::Engine;
        let both = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", USER.0, USER.1));
        serde_json::json!({ "auths": { self.address().to_string(): { "auth": both } } })
    }

    /// Waits until it answers; inside the namespace.
    pub async fn answers(&self) -> Result<()> {
        wait_for("the registry", READY_WITHIN, async || Ok(TcpStream::connect(self.address()).await.ok().map(drop)))
            .await
    }

    /// Pushes the image of a layout as `name`, like `team/app:1`; inside the namespace.
    pub async fn push(&self, layout: &Path, name: &str) -> Result<()> {
        let image: Reference = format!("{}/{name}", self.address()).parse()?;
        let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        let client = Client::try_from(config)?;
        let who = match self.access {
            Access::Open => RegistryAuth::Anonymous,
            Access::Guarded => RegistryAuth::Basic(USER.0.into(), USER.1.into()),
        };
        client.store_auth_if_needed(image.resolve_registry(), &who).await;
        let read = |blob: &Value| -> Result<(String, Vec<u8>)> {
            let digest = blob["digest"].as_str().context("a digest")?;
            let path = layout.join("blobs").join(digest.replace(':', "/"));
            Ok((digest.to_owned(), fs::read(&path).with_context(|| format!("read {}", path.display()))?))
        };
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
        let (_, manifest) = read(&index["manifests"][0])?;
        let described: Value = serde_json::from_slice(&manifest)?;
        let layers = described["layers"].as_array().context("layers")?;
        for blob in layers.iter().chain([&described["config"]]) {
            let (digest, bytes) = read(blob)?;
            client.push_blob(&image, bytes, &digest).await.with_context(|| format!("push {digest}"))?;
        }
        let kind = described["mediaType"].as_str().context("a media type")?.parse()?;
        client.push_manifest_raw(&image, manifest, kind).await.with_context(|| format!("push {name}"))?;
        Ok(())
    }

    /// Returns the path of a blob.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hash = digest.trim_start_matches("sha256:");
        self.directory.join("storage/docker/registry/v2/blobs/sha256").join(&hash[..2]).join(hash).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // What has ended can't be stopped.
        let _ = self.stop();
    }
}

/// A proxy to a registry with a limited rate; it counts bytes.
#[derive(Debug)]
pub struct Narrows {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    _doors: JoinSet<Result<()>>,
}

impl Narrows {
    /// Opens it; inside the namespace.
    pub async fn open(registry: &Registry, bytes_a_second: u64) -> Result<Self> {
        let listener = TcpListener::bind((ADDRESS, 0)).await?;
        let (address, passed) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let mut doors = JoinSet::new();
        doors.spawn(serve(listener, registry.address(), bytes_a_second, passed.clone()));
        Ok(Self { address, passed, _doors: doors })
    }

    /// Its address, as it stands in the names of the registry's images.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the bytes that the registry has sent through it since the last call.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.swap(0, Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, rate: u64, passed: Arc<AtomicU64>) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        connections.spawn(pass(client, to, rate, passed.clone()));
    }
}

async fn pass(client: TcpStream, to: SocketAddr, rate: u64, passed: Arc<AtomicU64>) -> Result<()> {
    let server = TcpStream::connect(to).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let asked = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        Ok(to_server.shutdown().await?)
    };
    let answered = async {
        let mut piece = vec![0; 16 << 10];
        loop {
            let count = from_server.read(&mut piece).await?;
            if count == 0 {
                return Ok(to_client.shutdown().await?);
            }
            to_client.write_all(&piece[..count]).await?;
            passed.fetch_add(count as u64, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate as f64)).await;
        }
    };
    tokio::try_join!(asked, answered).map(drop)
}
