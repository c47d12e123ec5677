//! Layers: each unpacked once, with the whiteouts of overlay file systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mooring_linux::{mount, tree};
use mooring_ops::log::chain;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::bounds::{Bounds, Excess};
use crate::error::{Error, Result};

/// The directory of an unpacked layer, below the directory of images.
pub(super) fn directory(images: &Path, digest: &str) -> PathBuf {
    images.join("layers").join(digest)
}

/// Unpacks a tar, compressed or not, to `target`, which is complete or does not exist.
///
/// # Errors
/// It is no tar, or has more than `bounds` allow.
pub(super) async fn unpack_once(archive: &Path, target: &Path, bounds: Bounds) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    let attempt = || format!("unpack {}", archive.display());
    let beside = Part(target.with_extension(format!("{:08x}.part", rand::random::<u32>())));
    fs::create_dir_all(&beside.0).map_err(Error::system(attempt()))?;
    unpack(archive, &beside.0, bounds).await?;
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
        if let Err(error) = tree::remove_tree(&self.0) {
            tracing::warn!(error = %chain(&error), "a part of an image stays: {}", self.0.display());
        }
    }
}

/// The records, of 10 KiB each, after which tar tells how many it has read: about a megabyte.
const RECORDS: u64 = 100;
const RECORD_BYTES: u64 = 10_240;
/// The beginning of the line in which tar tells the number of records.
const READ: &str = "tar: records ";
/// The most bytes of tar's messages that are kept.
const MESSAGES_MAX_BYTES: usize = 2000;

/// Unpacks a tar, and ends it where it has more than `bounds` allow. tar names each file and tells
/// how much it has read, uncompressed.
async fn unpack(archive: &Path, to: &Path, bounds: Bounds) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--verbose", "--quoting-style=escape"]);
    tar.arg(format!("--checkpoint={RECORDS}")).arg("--checkpoint-action=echo=records %u");
    tar.arg("-C").arg(to).arg("-xf").arg(archive);
    tar.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut tar = tar.spawn().map_err(Error::system("run `tar`"))?;
    let mut messages = String::new();
    let told = {
        let (names, records) = (tar.stdout.take(), tar.stderr.take());
        let counted = async {
            let mut files = 0;
            each_line(names, |_| {
                files += 1;
                bounds.files(files)
            })
            .await
        };
        let measured =
            each_line(records, |line| match line.strip_prefix(READ).and_then(|number| number.parse().ok()) {
                Some(records) => {
                    bounds.bytes(u64::saturating_mul(records, RECORD_BYTES))?;
                    bounds.disk(to)
                }
                None => {
                    if messages.len() < MESSAGES_MAX_BYTES {
                        messages.push_str(line);
                        messages.push('\n');
                    }
                    Ok(())
                }
            });
        tokio::try_join!(counted, measured)
    };
    if let Err(excess) = told {
        tar.kill().await.map_err(Error::system("end `tar`"))?;
        return Err(Error::system(format!("unpack {}", archive.display()))(excess.into()));
    }
    let status = tar.wait().await.map_err(Error::system("wait for `tar`"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::tool(&format!("tar -xf {}", archive.display()), status, &messages))
}

/// Reads lines to their end, or until one is too much.
async fn each_line(
    from: Option<impl AsyncRead + Unpin>,
    mut line: impl FnMut(&str) -> Result<(), Excess>,
) -> Result<(), Excess> {
    let Some(from) = from else { return Ok(()) };
    let (mut from, mut bytes) = (BufReader::new(from), Vec::new());
    // What can't be read any more has ended with tar, whose exit code tells.
    while from.read_until(b'\n', &mut bytes).await.unwrap_or_default() > 0 {
        line(String::from_utf8_lossy(&bytes).trim_end())?;
        bytes.clear();
    }
    Ok(())
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
