//! Images described by blobs in a directory: `blobs/<algorithm>/<digest>`, as in an OCI image
//! layout.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The description of an image.
#[derive(Debug, Clone)]
pub(super) struct Described {
    /// Lowest first.
    pub(super) layers: Vec<Descriptor>,
    pub(super) config: ImageConfiguration,
    /// The files of the description.
    pub(super) blobs: Vec<PathBuf>,
}

type Outcome<T> = Result<T, String>;

/// Reads the first image of the layout's index.
pub(super) fn of_index(layout: &Path) -> Outcome<Described> {
    let index = ImageIndex::from_file(layout.join("index.json")).map_err(|error| error.to_string())?;
    let entry = index.manifests().first().ok_or("its index is empty")?.clone();
    let mut manifest = verified(layout, &entry)?;
    if *entry.media_type() == MediaType::ImageIndex {
        let inner = ImageIndex::from_file(&manifest).map_err(|error| error.to_string())?;
        manifest = verified(layout, fitting(&inner)?)?;
    }
    of_manifest(layout, &manifest)
}

/// Reads the image whose manifest or index has a digest.
pub(super) fn of_digest(directory: &Path, digest: &str) -> Outcome<Described> {
    let path = verified_as(directory, digest)?;
    let bytes = std::fs::read(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    match read(&bytes)? {
        Manifest::Image(_) => of_manifest(directory, &path),
        Manifest::Index(index) => {
            let mut image = of_manifest(directory, &verified(directory, fitting(&index)?)?)?;
            image.blobs.push(path);
            Ok(image)
        }
    }
}

fn of_manifest(directory: &Path, place: &Path) -> Outcome<Described> {
    let manifest = ImageManifest::from_file(place).map_err(|error| error.to_string())?;
    let config_place = verified(directory, manifest.config())?;
    let config = ImageConfiguration::from_file(&config_place).map_err(|error| error.to_string())?;
    Ok(Described { layers: manifest.layers().clone(), config, blobs: vec![place.to_owned(), config_place] })
}

/// A registry's answer to a request for an image.
#[derive(Debug)]
pub(super) enum Manifest {
    Image(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

/// Reads a manifest or an index.
pub(super) fn read(bytes: &[u8]) -> Outcome<Manifest> {
    let unreadable = |error: serde_json::Error| format!("its manifest can't be read: {error}");
    let text: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    if text.get("manifests").is_some() {
        return serde_json::from_value(text).map(|index| Manifest::Index(Box::new(index))).map_err(unreadable);
    }
    serde_json::from_value(text).map(|manifest| Manifest::Image(Box::new(manifest))).map_err(unreadable)
}

/// Selects the image for this machine's architecture.
pub(super) fn fitting(index: &ImageIndex) -> Outcome<&Descriptor> {
    let fits = |one: &&Descriptor| {
        one.platform().as_ref().is_none_or(|platform| {
            platform.architecture().to_string() == architecture() && platform.os().to_string() == "linux"
        })
    };
    index.manifests().iter().find(fits).ok_or_else(|| format!("it has nothing for {}", architecture()))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The path of a blob.
pub(super) fn place(directory: &Path, digest: &str) -> PathBuf {
    let (algorithm, hash) = digest.split_once(':').unwrap_or(("sha256", digest));
    directory.join("blobs").join(algorithm).join(hash)
}

/// Returns the file of a blob after checking its digest.
pub(super) fn verified(directory: &Path, blob: &Descriptor) -> Outcome<PathBuf> {
    verified_as(directory, blob.digest().as_ref())
}

fn verified_as(directory: &Path, digest: &str) -> Outcome<PathBuf> {
    let path = place(directory, digest);
    let unreadable = |error: io::Error| format!("blob {} can't be read: {error}", path.display());
    let mut file = File::open(&path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    io::copy(&mut HashReader(&mut file, &mut hash), &mut io::sink()).map_err(unreadable)?;
    if digest == format!("sha256:{}", hex::encode(hash.finalize())) {
        return Ok(path);
    }
    Err(format!("blob {} does not have its digest", path.display()))
}

struct HashReader<'a>(&'a mut File, &'a mut Sha256);

impl Read for HashReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(&buffer[..count]);
        Ok(count)
    }
}
