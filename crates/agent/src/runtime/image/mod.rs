//! Root file systems: a directory of this host, or the layers of an OCI image, unpacked once and
//! shared by all jobs.
//!
//! ```text
//!   images/layers/<digest>        a layer, unpacked
//!         /blobs/sha256/<digest>  manifests and configurations that came from registries
//!         /tags/<hash>            the digest of a tag at its last look-up
//!         /archives/<hash>        an archive's layout, unpacked
//!         /used.json              the time at which each part was last needed
//! ```
//!
//! * [`cache`]: the parts and their removal; [`collect`] decides which are removed.
//! * [`layout`]: an image in a directory of blobs, also for images from registries.
//! * [`layer`]: unpacking, and whiteouts.
//! * [`registry`]: pulls blobs, each once for all jobs.
//! * [`credentials`]: the credentials for registries.
//! * [`refusal`]: the reasons for which a pull failed, for users.
//! * [`mod@parts`]: the parts of the cache that a job needs.
//!
//! Everything with its final name is complete: it is built under another name and renamed. A killed
//! agent leaves partial files only, which the next agent removes.

mod cache;
mod collect;
mod credentials;
mod layer;
mod layout;
pub(crate) mod parts;
mod refusal;
mod registry;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mooring_linux::mount;
use mooring_ops::log::chain;
use mooring_types::job::Image as Name;
use sha2::{Digest, Sha256};

pub(crate) use self::cache::{Cache, Lease};
pub use self::collect::Limits;

use self::registry::Registries;
use super::user::{self, User};
use crate::error::{Error, Result};

/// An image that is ready to be a lower layer, and its run configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    /// Topmost first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: User,
    /// The digest of the image, if it has one.
    pub(crate) digest: Option<String>,
    /// The parts of the cache that the image needs.
    pub(crate) parts: BTreeSet<String>,
    /// Keeps the parts in the cache until a job's bundle names them.
    pub(crate) _lease: Option<Lease>,
}

/// The images of this host.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    directory: PathBuf,
    registries: Arc<Registries>,
    cache: Arc<Cache>,
}

impl Images {
    /// Opens the images below `directory` and removes partial files of a killed agent. `insecure`
    /// names the registries that are used without TLS.
    pub(crate) fn new(directory: PathBuf, insecure: &[String]) -> Self {
        for part in parts(&directory) {
            if let Err(error) = mount::remove_tree(&part) {
                tracing::warn!(
                    error = %chain(&error),
                    "a part of an image stays: {}",
                    part.display()
                );
            }
        }
        let registries = Arc::new(Registries::new(directory.clone(), insecure.to_vec()));
        let cache = Arc::new(Cache::open(directory.clone()));
        Self { directory, registries, cache }
    }

    /// The image cache.
    pub(crate) fn cache(&self) -> Arc<Cache> {
        self.cache.clone()
    }

    /// Prepares an image.
    ///
    /// # Errors
    /// The image does not exist, is damaged or can't be unpacked.
    pub(crate) async fn ready(&self, name: &Name) -> Result<Image> {
        self.ready_with(name, |_| ()).await
    }

    /// Prepares an image and reports the progress at intervals.
    ///
    /// # Errors
    /// The image does not exist, is damaged or can't be unpacked.
    pub(crate) async fn ready_with(&self, name: &Name, told: impl Fn(String)) -> Result<Image> {
        let lease = self.cache.lease().await;
        let image = self.found(name, told).await?;
        self.cache.need(&image.parts);
        Ok(Image { _lease: Some(lease), ..image })
    }

    async fn found(&self, name: &Name, told: impl Fn(String)) -> Result<Image> {
        let refused = |reason: String| Error::Image { image: name.to_string(), reason };
        let missing = |path: &Path| refused(format!("{} is not on this host", path.display()));
        match name {
            Name::External => Err(refused("it is not for hosts to run".into())),
            Name::Directory(path) if !path.is_dir() => Err(missing(path)),
            Name::Directory(path) => {
                Ok(Image { layers: vec![path.clone()], working_dir: "/".into(), ..Image::default() })
            }
            Name::Layout(path) if !path.join("index.json").is_file() => Err(missing(path)),
            Name::Layout(path) => self.layout(path).await.map_err(refused),
            Name::Archive(path) if !path.is_file() => Err(missing(path)),
            Name::Archive(path) => {
                let layout = self.archive(path).await?;
                let mut image = self.layout(&layout).await.map_err(refused)?;
                image.parts.extend(self.cache.part_of(&layout));
                Ok(image)
            }
            Name::Registry(reference) => {
                let digest = self.registries.pull(reference, told).await.map_err(refused)?;
                let image = layout::of_digest(&self.directory, &digest).map_err(refused)?;
                let mut ready = self.unpacked(image).await.map_err(refused)?;
                ready.parts.extend(self.cache.part_of(&self.registries.memory(reference)));
                Ok(Image { digest: Some(digest), ..ready })
            }
        }
    }

    async fn layout(&self, path: &Path) -> Result<Image, String> {
        let image = layout::of_index(path)?;
        for layer in &image.layers {
            let target = self.layer(layer);
            if !target.exists() {
                let blob = layout::verified(path, layer)?;
                layer::unpack_once(&blob, &target).await.map_err(|error| error.chain())?;
            }
        }
        self.unpacked(image).await
    }

    /// Unpacks an image whose layers are all on this host.
    async fn unpacked(&self, image: layout::Described) -> Result<Image, String> {
        let layers: Vec<PathBuf> = image.layers.iter().rev().map(|layer| self.layer(layer)).collect();
        let run = image.config.config().clone().unwrap_or_default();
        let mut command = run.entrypoint().clone().unwrap_or_default();
        command.extend(run.cmd().clone().unwrap_or_default());
        let needed = layers.iter().chain(&image.blobs);
        Ok(Image {
            parts: needed.filter_map(|path| self.cache.part_of(path)).collect(),
            _lease: None,
            user: user::find(&layers, run.user().as_deref().unwrap_or_default())?,
            layers,
            command,
            env: run.env().clone().unwrap_or_default(),
            working_dir: run.working_dir().clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into()),
            digest: None,
        })
    }

    fn layer(&self, layer: &oci_spec::image::Descriptor) -> PathBuf {
        layer::directory(&self.directory, layer.digest().digest())
    }

    /// Unpacks an archive, again after each change of its file.
    async fn archive(&self, path: &Path) -> Result<PathBuf> {
        let found = fs::metadata(path).map_err(Error::system(format!("look at {}", path.display())))?;
        let stamp = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let mut hash = Sha256::new();
        hash.update(format!("{}:{}:{stamp:?}", path.display(), found.len()));
        let target = self.directory.join("archives").join(hex::encode(&hash.finalize()[..16]));
        layer::unpack_once(path, &target).await?;
        Ok(target)
    }
}

/// The partial files of a killed agent.
fn parts(directory: &Path) -> Vec<PathBuf> {
    let places = ["layers", "blobs/sha256", "archives", "tags"].map(|place| directory.join(place));
    let entries = places.into_iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "part")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_agent_left_half_done_is_removed_and_nothing_else() {
        let world = tempfile::tempdir().unwrap();
        for path in ["layers/aa/etc", "layers/bb.0011.part/etc", "blobs/sha256"] {
            fs::create_dir_all(world.path().join(path)).unwrap();
        }
        for path in ["blobs/sha256/cc", "blobs/sha256/cc.22.part", "layers/aa/file.part"] {
            fs::write(world.path().join(path), "").unwrap();
        }
        let _ = Images::new(world.path().into(), &[]);
        for (path, stays) in [
            ("layers/aa/file.part", true),
            ("blobs/sha256/cc", true),
            ("layers/bb.0011.part", false),
            ("blobs/sha256/cc.22.part", false),
        ] {
            assert_eq!(world.path().join(path).exists(), stays, "{path}");
        }
    }
}
