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
//! * [`bounds`]: how much is unpacked at most.
//! * [`cache`]: the parts and their removal; [`collect`] decides which are removed.
//! * [`layout`]: an image in a directory of blobs, also for images from registries.
//! * [`layer`]: unpacking, and whiteouts.
//! * [`registry`]: pulls blobs, each once for all jobs.
//! * [`credentials`]: the credentials for registries.
//! * [`host_root`]: the image that is the host's own root.
//! * [`refusal`]: the reasons for which a pull failed, for users.
//! * [`mod@parts`]: the parts of the cache that a job needs.
//!
//! Everything with its final name is complete: it is built under another name and renamed. A killed
//! agent leaves partial files only, which the next agent removes.

mod bounds;
mod cache;
mod collect;
mod credentials;
mod host_root;
mod layer;
mod layout;
pub(crate) mod parts;
mod refusal;
mod registry;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mooring_linux::host_path::HostPath;
use mooring_linux::mount_copy::WithoutLinks;
use mooring_linux::tree;
use mooring_ops::log::chain;
use mooring_types::job::Image as Name;
use sha2::{Digest, Sha256};

pub use self::bounds::Bounds;
pub(crate) use self::cache::{Cache, Lease};
pub use self::collect::Limits;

use self::host_root::HostRoot;
use self::registry::Registries;
use super::hidden::{self, Hidden};
use super::user::{self, User};
use crate::error::{Error, Result};

/// An image that is ready to be a lower layer, and its run configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    /// The directory of the host that is the image, open. Such an image has no layers.
    pub(crate) directory: Option<Arc<HostPath>>,
    /// The parts of that directory that the image lacks, where it is the root of the host.
    pub(crate) host_root: Option<HostRoot>,
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

impl Image {
    /// The image of a job whose bundle is written: the bundle names its parts.
    pub(crate) fn without_lease(self) -> Self {
        Self { _lease: None, ..self }
    }
}

/// The images of this host.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    directory: PathBuf,
    registries: Arc<Registries>,
    cache: Arc<Cache>,
    bounds: Bounds,
    hidden: Vec<PathBuf>,
}

impl Images {
    /// Opens the images below `directory` and removes partial files of a killed agent. `insecure`
    /// names the registries that are used without TLS, `hidden` what no image may have.
    pub(crate) fn new(directory: PathBuf, insecure: &[String], bounds: Bounds, hidden: &[PathBuf]) -> Self {
        for part in parts(&directory) {
            if let Err(error) = tree::remove_tree(&part) {
                tracing::warn!(
                    error = %chain(&error),
                    "a part of an image stays: {}",
                    part.display()
                );
            }
        }
        let registries = Arc::new(Registries::new(directory.clone(), insecure.to_vec(), bounds));
        let cache = Arc::new(Cache::open(directory.clone()));
        Self { directory, registries, cache, bounds, hidden: hidden.to_vec() }
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
        match name {
            Name::External => Err(refused("it is not for hosts to run".into())),
            Name::Directory(path) => {
                let directory = self.open(path).map_err(refused)?;
                if !directory.is_dir().map_err(|error| refused(error.to_string()))? {
                    return Err(refused(format!("{} is no directory", path.display())));
                }
                let host_root = HostRoot::survey(&directory)?;
                let directory = Some(Arc::new(directory));
                Ok(Image { directory, host_root, working_dir: "/".into(), ..Image::default() })
            }
            Name::Layout(path) => {
                // No link in the layout leads out of it.
                let open = self.open(path).map_err(refused)?;
                let view = WithoutLinks::of(&open.path())?;
                if !view.path().join("index.json").is_file() {
                    return Err(refused(format!("{} is not on this host", path.display())));
                }
                let named =
                    |reason: String| reason.replace(&view.path().display().to_string(), &path.display().to_string());
                self.layout(&view.path()).await.map_err(named).map_err(refused)
            }
            Name::Archive(path) => {
                let open = self.open(path).map_err(refused)?;
                let named = |error: Error| {
                    error.chain().replace(&open.path().display().to_string(), &path.display().to_string())
                };
                let layout = self.archive(path, &open.path()).await.map_err(named).map_err(refused)?;
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

    /// Opens a path that is an image, or has one.
    fn open(&self, path: &Path) -> Result<HostPath, String> {
        let is_missing = path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if is_missing {
            return Err(format!("{} is not on this host", path.display()));
        }
        let open = hidden::open(path)?;
        if Hidden(&self.hidden).relation(&open).map_err(|error| error.chain())?.is_inside {
            return Err("the agent keeps its own files there".into());
        }
        Ok(open)
    }

    async fn layout(&self, path: &Path) -> Result<Image, String> {
        let image = layout::of_index(path)?;
        for layer in &image.layers {
            let target = self.layer(layer);
            if !target.exists() {
                let blob = layout::verified(path, layer)?;
                layer::unpack_once(&blob, &target, self.bounds).await.map_err(|error| error.chain())?;
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
            user: user::find(&layers, run.user().as_deref().unwrap_or_default())?,
            layers,
            command,
            env: run.env().clone().unwrap_or_default(),
            working_dir: run.working_dir().clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into()),
            ..Image::default()
        })
    }

    fn layer(&self, layer: &oci_spec::image::Descriptor) -> PathBuf {
        layer::directory(&self.directory, layer.digest().digest())
    }

    /// Unpacks an archive, again after each change of its file. `open` leads to the open file, and
    /// `path` may lead to another one by now.
    async fn archive(&self, path: &Path, open: &Path) -> Result<PathBuf> {
        let found = fs::metadata(open).map_err(Error::system(format!("look at {}", path.display())))?;
        let stamp = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let mut hash = Sha256::new();
        hash.update(format!("{}:{}:{stamp:?}", path.display(), found.len()));
        let target = self.directory.join("archives").join(hex::encode(&hash.finalize()[..16]));
        layer::unpack_once(open, &target, self.bounds).await?;
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
        let _ = Images::new(world.path().into(), &[], Bounds { bytes: 1, files: 1, reserve: 0 }, &[]);
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
