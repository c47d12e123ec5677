//! Images of registries: missing blobs are pulled and verified by their digests while they are
//! written. A blob is pulled once, even when several jobs wait for it.
//!
//! A tag is looked up at every start. When its registry can't be reached, the digest of the last
//! look-up is used. An image named by digest needs no registry once it is complete.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::DigestError;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::{Client, Reference};
use oci_spec::image::Descriptor;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::MissedTickBehavior;

use super::bounds::Bounds;
use super::refusal::Refusal;
use super::{credentials, layer, layout};

const MANIFESTS: [&str; 4] =
    [OCI_IMAGE_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE];
/// The largest accepted manifest or configuration.
const MANIFEST_MAX_BYTES: u64 = 8 << 20;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The time after which a silent registry counts as unreachable.
const REGISTRY_SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of attempts to pull a blob.
const BLOB_ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// The number of layers that are pulled at once.
const CONCURRENT_PULLS: usize = 3;
/// The interval of progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

type Outcome<T> = Result<T, Refusal>;

/// The pulls of this host.
#[derive(Debug)]
pub(super) struct Registries {
    directory: PathBuf,
    insecure: Vec<String>,
    bounds: Bounds,
    /// The blobs that are being pulled, by digest.
    under_way: Mutex<HashMap<String, Arc<UnderWay>>>,
}

/// A blob that is being pulled by one job while others wait.
#[derive(Debug, Default)]
struct UnderWay {
    bytes: AtomicU64,
    turn: tokio::sync::Mutex<()>,
}

/// An image in its registry.
struct Source<'a> {
    image: &'a Reference,
    client: Client,
}

impl Registries {
    pub(super) fn new(directory: PathBuf, insecure: Vec<String>, bounds: Bounds) -> Self {
        Self { directory, insecure, bounds, under_way: Mutex::default() }
    }

    /// Pulls an image and unpacks its layers. Returns the digest that its name stands for.
    pub(super) async fn pull(&self, image: &Reference, told: impl Fn(String)) -> Result<String, String> {
        let outcome = async {
            let source = self.source(image).await?;
            let digest = self.resolve(&source).await?;
            let layers = self.described(&source, &digest).await?;
            self.unpacked(&source, layers, told).await?;
            Ok(digest)
        };
        outcome.await.map_err(|refusal: Refusal| refusal.told(image, self.is_insecure(image.registry())))
    }

    async fn source<'a>(&self, image: &'a Reference) -> Outcome<Source<'a>> {
        let plain = self.is_insecure(image.registry());
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_LIMIT),
            read_timeout: Some(REGISTRY_SILENCE_TIMEOUT),
            user_agent: concat!("float/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(Refusal::from)?;
        client.store_auth_if_needed(image.resolve_registry(), &credentials::of(image.registry())).await;
        Ok(Source { image, client })
    }

    /// Returns whether a registry, named as `HOST` or `HOST:PORT`, is used without TLS.
    fn is_insecure(&self, registry: &str) -> bool {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        self.insecure.iter().any(|named| named == registry || named == host)
    }

    /// The file with the digest of a tag's last look-up.
    pub(super) fn memory(&self, image: &Reference) -> PathBuf {
        self.directory.join("tags").join(&hash(image.to_string().as_bytes())[..32])
    }

    /// Looks up the digest that an image's name stands for.
    async fn resolve(&self, source: &Source<'_>) -> Outcome<String> {
        if let Some(digest) = source.image.digest() {
            return Ok(digest.to_owned());
        }
        let memory = self.memory(source.image);
        match source.manifest(source.image).await {
            Ok(bytes) => {
                let digest = format!("sha256:{}", hash(&bytes));
                put(&layout::place(&self.directory, &digest), &bytes)?;
                put(&memory, digest.as_bytes())?;
                Ok(digest)
            }
            Err(refusal @ Refusal::Unreachable(_)) => {
                let Ok(digest) = fs::read_to_string(&memory) else { return Err(refusal) };
                tracing::warn!("{} is taken as it was last seen: its registry can't be reached", source.image);
                Ok(digest)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Pulls manifest and configuration, and returns the layers.
    async fn described(&self, source: &Source<'_>, digest: &str) -> Outcome<Vec<Descriptor>> {
        let mut manifest = self.manifest(source, digest).await?;
        if let layout::Manifest::Index(index) = &manifest {
            let fitting = layout::fitting(index)?.digest().to_string();
            manifest = self.manifest(source, &fitting).await?;
        }
        let layout::Manifest::Image(manifest) = manifest else {
            return Err(Refusal::Other("its index leads to another index".into()));
        };
        let config = manifest.config();
        if layout::verified(&self.directory, config).is_err() {
            if config.size() > MANIFEST_MAX_BYTES {
                return Err(Refusal::Other("its configuration is too large".into()));
            }
            let under_way = self.join(config);
            let _turn = under_way.turn.lock().await;
            let place = layout::place(&self.directory, config.digest().as_ref());
            source.blob(config, &place, &under_way.bytes).await?.keep(&place)?;
        }
        Ok(manifest.layers().clone())
    }

    async fn manifest(&self, source: &Source<'_>, digest: &str) -> Outcome<layout::Manifest> {
        let place = layout::place(&self.directory, digest);
        let is_it = |bytes: &[u8]| digest == format!("sha256:{}", hash(bytes));
        let bytes = match fs::read(&place) {
            Ok(bytes) if is_it(&bytes) => bytes,
            _ => {
                let bytes = source.manifest(&source.image.clone_with_digest(digest.to_owned())).await?;
                if !is_it(&bytes) {
                    return Err(Refusal::Damaged(digest.to_owned()));
                }
                put(&place, &bytes)?;
                bytes
            }
        };
        Ok(layout::read(&bytes)?)
    }

    /// Pulls and unpacks all layers.
    async fn unpacked(&self, source: &Source<'_>, layers: Vec<Descriptor>, told: impl Fn(String)) -> Outcome<()> {
        let missing = |one: &Descriptor| !layer::directory(&self.directory, one.digest().digest()).exists();
        let missing: Vec<Descriptor> = layers.into_iter().filter(missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let under_way: Vec<Arc<UnderWay>> = missing.iter().map(|layer| self.join(layer)).collect();
        let all: u64 = missing.iter().map(Descriptor::size).fold(0, u64::saturating_add);
        // No layer is smaller unpacked than the bound is for.
        missing.iter().try_for_each(|layer| self.bounds.bytes(layer.size())).map_err(|excess| excess.to_string())?;
        let each = stream::iter(missing.iter().zip(&under_way).map(Ok));
        let pulled =
            each.try_for_each_concurrent(CONCURRENT_PULLS, |(layer, under_way)| self.layer(source, layer, under_way));
        let mut pulled = std::pin::pin!(pulled);
        let mut clock = tokio::time::interval(PROGRESS_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                outcome = &mut pulled => return outcome,
                _ = clock.tick() => {
                    let here = under_way.iter().map(|one| one.bytes.load(Ordering::Relaxed)).sum();
                    told(progress(source.image, here, all));
                }
            }
        }
    }

    async fn layer(&self, source: &Source<'_>, layer: &Descriptor, under_way: &UnderWay) -> Outcome<()> {
        let target = layer::directory(&self.directory, layer.digest().digest());
        let _turn = under_way.turn.lock().await;
        if target.exists() {
            return Ok(());
        }
        let place = layout::place(&self.directory, layer.digest().as_ref());
        let part = source.blob(layer, &place, &under_way.bytes).await?;
        layer::unpack_once(&part.0, &target, self.bounds).await.map_err(|error| Refusal::Other(error.chain()))
    }

    /// Joins the pull of a blob, or starts it.
    fn join(&self, blob: &Descriptor) -> Arc<UnderWay> {
        let mut under_way = self.under_way.lock();
        under_way.retain(|_, one| Arc::strong_count(one) > 1);
        under_way.entry(blob.digest().to_string()).or_default().clone()
    }
}

impl Source<'_> {
    async fn manifest(&self, named: &Reference) -> Outcome<Vec<u8>> {
        let auth = oci_client::secrets::RegistryAuth::Anonymous;
        // The client has authenticated already: the second result is unused.
        let (bytes, _) = self.client.pull_manifest_raw(named, &auth, &MANIFESTS).await?;
        Ok(bytes.to_vec())
    }

    /// Pulls a blob into a file beside `place`; the returned file is complete and verified.
    async fn blob(&self, blob: &Descriptor, place: &Path, bytes: &AtomicU64) -> Outcome<Part> {
        let mut attempt = 1;
        loop {
            bytes.store(0, Ordering::Relaxed);
            match self.try_blob(blob, place, bytes).await {
                Err(Refusal::Unreachable(reason)) if attempt < BLOB_ATTEMPTS => {
                    tracing::info!("{} broke off: {reason}; it is asked for again", blob.digest());
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_blob(&self, blob: &Descriptor, place: &Path, bytes: &AtomicU64) -> Outcome<Part> {
        let digest = blob.digest().to_string();
        let mut pieces = self.client.pull_blob_stream(self.image, digest.as_str()).await?;
        let part = Part::beside(place)?;
        let mut file = tokio::fs::File::create(&part.0).await?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| match error.get_ref().and_then(|cause| cause.downcast_ref()) {
                Some(DigestError::VerificationError { .. }) => Refusal::Damaged(digest.clone()),
                _ => Refusal::Unreachable(error.to_string()),
            })?;
            length += piece.len() as u64;
            if length > blob.size() {
                return Err(Refusal::Damaged(digest));
            }
            hash.update(&piece);
            file.write_all(&piece).await?;
            bytes.store(length, Ordering::Relaxed);
        }
        file.flush().await?;
        if digest == format!("sha256:{}", hex::encode(hash.finalize())) {
            Ok(part)
        } else {
            Err(Refusal::Damaged(digest))
        }
    }
}

/// A file that is removed on drop unless it was kept.
#[derive(Debug)]
struct Part(PathBuf);

impl Part {
    fn beside(place: &Path) -> std::io::Result<Self> {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(Self(place.with_extension(format!("{:08x}.part", rand::random::<u32>()))))
    }

    fn keep(&self, place: &Path) -> std::io::Result<()> {
        fs::rename(&self.0, place)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A kept file has another name by then.
        let _ = fs::remove_file(&self.0);
    }
}

fn put(place: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = Part::beside(place)?;
    fs::write(&part.0, bytes)?;
    part.keep(place)
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The progress of a pull for users, with the image's name as they write it.
fn progress(image: &Reference, here: u64, all: u64) -> String {
    let name = image.to_string();
    let name = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
    let short = name.strip_prefix("docker.io/library/").or_else(|| name.strip_prefix("docker.io/")).unwrap_or(name);
    if here >= all {
        return format!("unpacking {short}");
    }
    format!("pulling {short}: {} of {} MB", here / 1_000_000, all.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_told_in_the_users_own_words() {
        let image = |text: &str| text.parse::<Reference>().unwrap();
        let pinned = format!("ubuntu:22.04@sha256:{}", "a".repeat(64));
        assert_eq!(progress(&image(&pinned), 12_900_000, 79_100_000), "pulling ubuntu:22.04: 12 of 80 MB");
        assert_eq!(progress(&image("r.example:5000/x/y"), 5, 5), "unpacking r.example:5000/x/y:latest");
    }

    #[test]
    fn a_registry_without_tls_is_named_with_or_without_its_port() {
        let bounds = Bounds { bytes: 1, files: 1, reserve: 0 };
        let registries = Registries::new("/".into(), vec!["a.example".into(), "10.0.0.1:5000".into()], bounds);
        for (registry, insecure) in [
            ("a.example", true),
            ("a.example:80", true),
            ("10.0.0.1:5000", true),
            ("10.0.0.1", false),
            ("b.a.example", false),
        ] {
            assert_eq!(registries.is_insecure(registry), insecure, "{registry}");
        }
    }
}
