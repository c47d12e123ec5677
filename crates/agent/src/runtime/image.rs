//! Root file systems: a directory of this machine, or the layers of an OCI image layout, unpacked once and shared by all jobs.
//!
//! Layers lie under `images/layers/<digest>`, complete or not there at all: each is unpacked beside its place and moved there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mooring_linux::mount;
use mooring_types::job::Image as Name;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::error::{Error, Result};

/// An image ready to be a lower layer, and what it says of how to run it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    /// Topmost first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
}

/// Where unpacked images are kept.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    directory: PathBuf,
}

impl Images {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes an image ready.
    ///
    /// # Errors
    /// It is not there, is broken, or can't be unpacked.
    pub(crate) async fn ready(&self, name: &Name) -> Result<Image> {
        let refused = |reason: String| Error::Image { image: name.to_string(), reason };
        let missing = |path: &Path| refused(format!("{} is not on this host", path.display()));
        match name {
            Name::External => Err(refused("it is not for hosts to run".into())),
            Name::Directory(path) if !path.is_dir() => Err(missing(path)),
            Name::Directory(path) => {
                Ok(Image { layers: vec![path.clone()], working_dir: "/".into(), ..Image::default() })
            }
            Name::Layout(path) if !path.join("index.json").is_file() => Err(missing(path)),
            Name::Layout(path) => self.layout(name, path).await,
            Name::Archive(path) if !path.is_file() => Err(missing(path)),
            Name::Archive(path) => {
                let layout = self.archive(path).await?;
                self.layout(name, &layout).await
            }
        }
    }

    /// Unpacks an archive once for each state that it is in.
    async fn archive(&self, path: &Path) -> Result<PathBuf> {
        let found = fs::metadata(path).map_err(Error::system(format!("look at {}", path.display())))?;
        let stamp = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let mut hash = Sha256::new();
        hash.update(format!("{}:{}:{stamp:?}", path.display(), found.len()));
        let target = self.directory.join("archives").join(hex::encode(&hash.finalize()[..16]));
        unpack_once(path, &target).await?;
        Ok(target)
    }

    async fn layout(&self, name: &Name, layout: &Path) -> Result<Image> {
        let refused = |reason: String| Error::Image { image: name.to_string(), reason };
        let index = ImageIndex::from_file(layout.join("index.json")).map_err(|error| refused(error.to_string()))?;
        let entry = index.manifests().first().ok_or_else(|| refused("its index is empty".into()))?.clone();
        let mut manifest = verified(layout, &entry, &refused)?;
        if *entry.media_type() == MediaType::ImageIndex {
            let inner = ImageIndex::from_file(&manifest).map_err(|error| refused(error.to_string()))?;
            let host = |one: &&Descriptor| {
                one.platform().as_ref().is_none_or(|platform| {
                    platform.architecture().to_string() == oci_architecture() && platform.os().to_string() == "linux"
                })
            };
            let fitting = inner.manifests().iter().find(host);
            let fitting = fitting.ok_or_else(|| refused(format!("it has nothing for {}", oci_architecture())))?;
            manifest = verified(layout, fitting, &refused)?;
        }
        let manifest = ImageManifest::from_file(&manifest).map_err(|error| refused(error.to_string()))?;
        let config = verified(layout, manifest.config(), &refused)?;
        let config = ImageConfiguration::from_file(config).map_err(|error| refused(error.to_string()))?;
        let mut layers = Vec::new();
        for layer in manifest.layers() {
            let target = self.directory.join("layers").join(layer.digest().digest());
            if !target.exists() {
                let blob = verified(layout, layer, &refused)?;
                unpack_once(&blob, &target).await?;
            }
            layers.insert(0, target);
        }
        let run = config.config().clone().unwrap_or_default();
        let mut command = run.entrypoint().clone().unwrap_or_default();
        command.extend(run.cmd().clone().unwrap_or_default());
        Ok(Image {
            layers,
            command,
            env: run.env().clone().unwrap_or_default(),
            working_dir: run.working_dir().clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into()),
        })
    }
}

fn oci_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The file of a blob, once its digest has been checked.
fn verified(layout: &Path, blob: &Descriptor, refused: &impl Fn(String) -> Error) -> Result<PathBuf> {
    let digest = blob.digest();
    let path = layout.join("blobs").join(digest.algorithm().to_string()).join(digest.digest());
    let mut file =
        File::open(&path).map_err(|error| refused(format!("blob {} can't be read: {error}", path.display())))?;
    let mut hash = Sha256::new();
    io::copy(&mut HashReader(&mut file, &mut hash), &mut io::sink())
        .map_err(|error| refused(format!("blob {} can't be read: {error}", path.display())))?;
    if hex::encode(hash.finalize()) == digest.digest() {
        return Ok(path);
    }
    Err(refused(format!("blob {} does not have its digest", path.display())))
}

struct HashReader<'a>(&'a mut File, &'a mut Sha256);

impl Read for HashReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(&buffer[..count]);
        Ok(count)
    }
}

/// Unpacks a tar of any usual compression to `target`, which is complete or not there.
async fn unpack_once(archive: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    let attempt = || format!("unpack {}", archive.display());
    let beside = target.with_extension(format!("{:08x}.part", rand::random::<u32>()));
    fs::create_dir_all(&beside).map_err(Error::system(attempt()))?;
    let output = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-C"])
        .arg(&beside)
        .arg("-xf")
        .arg(archive)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::system("run `tar`"))?;
    if !output.status.success() {
        mount::remove_tree(&beside)?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Tool { tool: format!("tar -xf {}", archive.display()), status: output.status, said });
    }
    whiteouts(&beside)?;
    match fs::rename(&beside, target) {
        // Another job was faster.
        Err(_) if target.exists() => Ok(mount::remove_tree(&beside)?),
        outcome => outcome.map_err(Error::system(attempt())),
    }
}

/// Turns the whiteouts of OCI layers (`.wh.name`, `.wh..wh..opq`) into those of overlay file systems.
fn whiteouts(directory: &Path) -> Result<()> {
    let attempt = || format!("read {}", directory.display());
    for entry in fs::read_dir(directory).map_err(Error::system(attempt()))? {
        let entry = entry.map_err(Error::system(attempt()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(Error::system(attempt()))?;
        if kind.is_dir() {
            whiteouts(&path)?;
        } else if name.to_string_lossy() == ".wh..wh..opq" {
            fs::remove_file(&path).map_err(Error::system(format!("remove {}", path.display())))?;
            mount::make_opaque(directory)?;
        } else if let Some(hidden) = name.to_string_lossy().strip_prefix(".wh.") {
            fs::remove_file(&path).map_err(Error::system(format!("remove {}", path.display())))?;
            mount::whiteout(&directory.join(hidden))?;
        }
    }
    Ok(())
}
