//! Layers: each unpacked once, with the whiteouts of overlay file systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mooring_linux::mount;
use mooring_ops::log::chain;
use tokio::process::Command;

use crate::error::{Error, Result};

/// The directory of an unpacked layer, below the directory of images.
pub(super) fn directory(images: &Path, digest: &str) -> PathBuf {
    images.join("layers").join(digest)
}

/// Unpacks a tar, compressed or not, to `target`, which is complete or does not exist.
pub(super) async fn unpack_once(archive: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    let attempt = || format!("unpack {}", archive.display());
    let beside = Part(target.with_extension(format!("{:08x}.part", rand::random::<u32>())));
    fs::create_dir_all(&beside.0).map_err(Error::system(attempt()))?;
    let output = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-C"])
        .arg(&beside.0)
        .arg("-xf")
        .arg(archive)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::system("run `tar`"))?;
    if !output.status.success() {
        let tool = format!("tar -xf {}", archive.display());
        return Err(Error::tool(&tool, output.status, &String::from_utf8_lossy(&output.stderr)));
    }
    whiteouts(&beside.0)?;
    match fs::rename(&beside.0, target) {
        // Another job was faster.
        Err(_) if target.exists() => Ok(()),
        outcome => outcome.map_err(Error::system(attempt())),
    }
}

/// A directory that is removed on drop unless it was renamed: its job may be cancelled at any
/// moment.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        if let Err(error) = mount::remove_tree(&self.0) {
            tracing::warn!(error = %chain(&error), "a part of an image stays: {}", self.0.display());
        }
    }
}

/// Turns the whiteouts of OCI layers (`.wh.name`, `.wh..wh..opq`) into those of overlay file
/// systems.
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
