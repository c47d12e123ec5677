//! Root file systems: a directory of this machine, or the layers of an OCI image, unpacked once and shared by all jobs.
//!
//! ```text
//!   images/layers/<digest>        a layer, unpacked
//!         /blobs/sha256/<digest>  manifests and configurations that came from registries
//!         /tags/<hash>            what a tag meant when it was last looked up
//!         /archives/<hash>        an archive's layout, unpacked
//!         /used.json              when each of them was last needed
//! ```
//!
//! * [`cache`]: what of all this no job needs any more, and its removal; [`collect`] says what goes.
//! * [`layout`]: an image in a directory of blobs, where what a registry sent is as well.
//! * [`layer`]: unpacking, and whiteouts.
//! * [`registry`]: getting blobs, each once, whoever wants it.
//! * [`credentials`]: who one is for a registry.
//! * [`refusal`]: why something can't be had, for users.
//! * [`mod@parts`]: which parts of the cache a job needs.
//!
//! Whatever has its name is complete: everything is made beside its place and moved there, so that an agent that is killed leaves nothing
//! but parts, which the next one removes.

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

/// An image ready to be a lower layer, and what it says of how to run it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    /// Topmost first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: User,
    /// What names it for good, where it has such a name.
    pub(crate) digest: Option<String>,
    /// What of the cache it needs.
    pub(crate) parts: BTreeSet<String>,
    /// Has the cache keep that until a job's bundle names it.
    pub(crate) _lease: Option<Lease>,
}

/// Where unpacked images are kept.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    directory: PathBuf,
    registries: Arc<Registries>,
    cache: Arc<Cache>,
}

impl Images {
    /// Images below `directory`; `insecure` names the registries that are spoken to without TLS. What an agent that was killed left half
    /// done is removed.
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

    /// What is kept of images.
    pub(crate) fn cache(&self) -> Arc<Cache> {
        self.cache.clone()
    }

    /// Makes an image ready.
    ///
    /// # Errors
    /// It is not there, is broken, or can't be unpacked.
    pub(crate) async fn ready(&self, name: &Name) -> Result<Image> {
        self.ready_with(name, |_| ()).await
    }

    /// Makes an image ready, and tells now and then how far it has come.
    ///
    /// # Errors
    /// It is not there, is broken, or can't be unpacked.
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

    /// An image all of whose layers are here.
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

    /// Unpacks an archive once for each state that it is in.
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

/// What was being made when an agent was killed.
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
