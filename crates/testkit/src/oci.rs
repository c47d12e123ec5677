//! OCI images made by hand: the layout of the specification, from programs of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image layout in the making.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    layers: Vec<Value>,
    /// The digests of the unpacked layers.
    diffs: Vec<String>,
}

impl Layout {
    /// An empty layout at `directory`, which is made.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        fs::write(directory.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
        Ok(Self { directory, layers: Vec::new(), diffs: Vec::new() })
    }

    /// Adds a layer with all that is below `root`. Gives back the blob's path.
    pub fn layer(&mut self, root: &Path) -> Result<PathBuf> {
        let output = Command::new("tar").arg("-C").arg(root).args(["--numeric-owner", "-cf", "-", "."]).output()?;
        ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
        self.diffs.push(digest(&output.stdout));
        let blob = self.blob(LAYER, &output.stdout)?;
        let path = self.path(&blob);
        self.layers.push(blob);
        path
    }

    /// Adds a layer with all that is below `root`, compressed as most are. Gives back the blob's
    /// path.
    pub fn gzip_layer(&mut self, root: &Path) -> Result<PathBuf> {
        let plain = self.layer(root)?;
        self.layers.pop();
        let output = Command::new("gzip").args(["-n", "-c"]).arg(&plain).output()?;
        ensure!(output.status.success(), "gzip: {}", String::from_utf8_lossy(&output.stderr));
        fs::remove_file(plain)?;
        let blob = self.blob(GZIP_LAYER, &output.stdout)?;
        let path = self.path(&blob);
        self.layers.push(blob);
        path
    }

    /// Completes the layout; `run` is the part `config` of the image's configuration. Gives back
    /// the image's digest.
    pub fn finish(self, run: &Value) -> Result<String> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": run,
            "rootfs": { "type": "layers", "diff_ids": self.diffs },
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": self.layers });
        let manifest = self.blob(MANIFEST, manifest.to_string().as_bytes())?;
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.directory.join("index.json"), index.to_string())?;
        Ok(index["manifests"][0]["digest"].as_str().context("a digest")?.to_owned())
    }

    fn path(&self, blob: &Value) -> Result<PathBuf> {
        let digest = blob["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        Ok(self.directory.join("blobs/sha256").join(digest.context("a digest")?))
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let blob = json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
        fs::write(self.path(&blob)?, bytes)?;
        Ok(blob)
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Puts programs of this machine below `root`, each at its own path with the libraries that it
/// needs.
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
