//! OCI images made by hand: the layout of the specification, from programs of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image layout in the making.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    layers: Vec<Value>,
}

impl Layout {
    /// An empty layout at `directory`, which is made.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        fs::write(directory.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
        Ok(Self { directory, layers: Vec::new() })
    }

    /// Adds a layer with all that is below `root`. Gives back the blob's path.
    ///
    /// # Errors
    /// It can't be packed.
    pub fn layer(&mut self, root: &Path) -> Result<PathBuf> {
        let output = Command::new("tar").arg("-C").arg(root).args(["--numeric-owner", "-cf", "-", "."]).output()?;
        ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
        let blob = self.blob(LAYER, &output.stdout)?;
        let path = self.path(&blob);
        self.layers.push(blob);
        path
    }

    /// Completes the layout; `run` is the part `config` of the image's configuration.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(self, run: &Value) -> Result<()> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let diffs: Vec<&Value> = self.layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": run,
            "rootfs": { "type": "layers", "diff_ids": diffs },
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": self.layers });
        let manifest = self.blob(MANIFEST, manifest.to_string().as_bytes())?;
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        Ok(fs::write(self.directory.join("index.json"), index.to_string())?)
    }

    fn path(&self, blob: &Value) -> Result<PathBuf> {
        let digest = blob["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        Ok(self.directory.join("blobs/sha256").join(digest.context("a digest")?))
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = hex::encode(Sha256::digest(bytes));
        fs::write(self.directory.join("blobs/sha256").join(&digest), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    }
}

/// Puts programs of this machine below `root`, each at its own path with the libraries that it needs.
///
/// # Errors
/// One of them is not there.
pub fn install(root: &Path, programs: &[&str]) -> Result<()> {
    let mut files = BTreeSet::new();
    for program in programs {
        files.insert(PathBuf::from(program));
        let listed = Command::new("ldd").arg(program).output()?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        files.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    }
    for file in files {
        let target = root.join(file.strip_prefix("/")?);
        fs::create_dir_all(target.parent().context("a file has a directory")?)?;
        fs::copy(&file, &target).with_context(|| format!("copy {}", file.display()))?;
    }
    Ok(())
}
