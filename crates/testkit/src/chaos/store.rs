//! A capsule store that can be full, away and damaged: a directory on a small file system in
//! memory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mooring_linux::mount;
use rand::Rng;
use sha2::{Digest, Sha256};

use super::action::Trouble;

/// The size of the store in MiB: twice the capsules of all jobs, and little more.
const SIZE_MIB: usize = 256;

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// A changed byte of a capsule.
#[derive(Debug)]
pub(super) struct Flipped {
    stream: PathBuf,
    at: u64,
    was: u8,
}

/// A capsule in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capsule {
    /// `<job>-<generation>-<number>`.
    pub(super) name: String,
    directory: PathBuf,
}

impl Store {
    pub(super) fn make() -> Result<Self> {
        let root = tempfile::Builder::new().prefix("mooring-capsules-").tempdir_in("/var/tmp")?.keep();
        let store = Self { root };
        mount::tmpfs(&store.root, &format!("size={SIZE_MIB}m"))?;
        fs::create_dir(store.directory())?;
        Ok(store)
    }

    /// The directory for `--capsule-store`.
    pub(super) fn directory(&self) -> PathBuf {
        self.root.join("capsules")
    }

    /// Begins a failure of the store.
    pub(super) fn disturb(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Full => {
                let mut ballast = File::create(self.ballast())?;
                // Writes until the file system is full.
                while ballast.write_all(&[0; 64 << 10]).is_ok() {}
                Ok(())
            }
            Trouble::Away => {
                fs::rename(self.directory(), self.aside())?;
                Ok(fs::write(self.directory(), "not the capsule store\n")?)
            }
        }
    }

    /// Ends a failure of the store.
    pub(super) fn heal(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Full => Ok(fs::remove_file(self.ballast())?),
            Trouble::Away => {
                fs::remove_file(self.directory()).context("something has taken the place of the store")?;
                Ok(fs::rename(self.aside(), self.directory())?)
            }
        }
    }

    /// Returns the capsules with a manifest.
    pub(super) fn capsules(&self) -> Result<Vec<Capsule>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.directory())? {
            let directory = entry?.path();
            if directory.join("manifest.json").is_file() {
                let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push(Capsule { name, directory });
            }
        }
        Ok(found)
    }

    /// Returns the capsules of a job.
    pub(super) fn of_job(&self, job: &str) -> Result<Vec<Capsule>> {
        let mut capsules = self.capsules()?;
        capsules.retain(|capsule| capsule.name.strip_prefix(job).is_some_and(|rest| rest.starts_with('-')));
        Ok(capsules)
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    fn aside(&self) -> PathBuf {
        self.root.join("aside")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A file system that stays mounted is in memory and takes nothing from others.
        drop(mount::unmount_below(&self.root));
        drop(fs::remove_dir(&self.root));
    }
}

impl Capsule {
    /// Returns whether the capsule builds on another one.
    pub(super) fn is_incremental(&self) -> bool {
        let manifest = fs::read(self.directory.join("manifest.json")).unwrap_or_default();
        let signed: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
        !signed["manifest"]["base"].is_null()
    }

    /// Reads the capsule and compares it with its manifest.
    pub(super) fn verify(&self) -> Result<()> {
        let (stream, sha256) = self.stream()?;
        let mut digest = Sha256::new();
        let mut file = File::open(&stream).with_context(|| format!("open {}", stream.display()))?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => digest.update(&buffer[..read]),
            }
        }
        let found = hex::encode(digest.finalize());
        ensure!(found == sha256, "capsule {} has {found}, and its manifest says {sha256}", self.name);
        Ok(())
    }

    /// Changes one byte.
    pub(super) fn flip(&self) -> Result<Flipped> {
        let (stream, _) = self.stream()?;
        let file = File::options().read(true).write(true).open(&stream)?;
        let at = rand::rng().random_range(0..file.metadata()?.len());
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 0x10], at)?;
        Ok(Flipped { stream, at, was: byte[0] })
    }

    fn stream(&self) -> Result<(PathBuf, String)> {
        let text =
            fs::read(self.directory.join("manifest.json")).with_context(|| format!("read manifest {}", self.name))?;
        let signed: serde_json::Value = serde_json::from_slice(&text)?;
        let word = |key: &str| {
            let word = signed["manifest"][key].as_str().map(str::to_owned);
            word.with_context(|| format!("the manifest of {} has no {key}", self.name))
        };
        Ok((self.directory.join(format!("{}.stream", word("attempt")?)), word("sha256")?))
    }
}

impl Flipped {
    /// Restores the byte.
    pub(super) fn restore(&self) -> Result<()> {
        Ok(File::options().write(true).open(&self.stream)?.write_all_at(&[self.was], self.at)?)
    }

    /// Names the byte.
    pub(super) fn place(&self) -> String {
        let name = self.stream.file_name().map(Path::new).unwrap_or(&self.stream);
        format!("byte {} of {}", self.at, name.display())
    }
}
