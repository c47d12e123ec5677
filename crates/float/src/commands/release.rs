//! `float release`: the program itself, as OpCenter has it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use mooring_api::client::Download;
use sha2::{Digest, Sha256};

use crate::access;
use crate::global::Global;
use crate::printer::Printer;

/// The arguments of `float release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(subcommand)]
    command: ReleaseCommand,
}

#[derive(Debug, Subcommand)]
enum ReleaseCommand {
    /// replace this program by the one that OpCenter runs, if it is another one
    #[command(after_help = "\
Example:
  float release sync")]
    Sync,
}

/// Runs a subcommand of `float release`.
pub(crate) async fn release(args: ReleaseArgs, global: &Global, printer: &Printer) -> Result<()> {
    match args.command {
        ReleaseCommand::Sync => sync(global, printer).await,
    }
}

async fn sync(global: &Global, printer: &Printer) -> Result<()> {
    let client = access::stranger(global).await?;
    let own = std::env::current_exe().context("can't find the file of this program")?;
    let known = hash_of(&own).with_context(|| format!("can't read {}", own.display()))?;
    let Some((hash, download)) = client.program(&known).await? else {
        return printer.line("float is the same program as OpCenter's");
    };
    let fresh = Fresh::beside(&own)?;
    let received = fresh.fill(download).await?;
    ensure!(received == hash, "the download of {} broke: it is not the program that OpCenter has", client.address());
    fs::rename(&fresh.path, &own).with_context(|| format!("can't replace {}", own.display()))?;
    printer.line(&format!("{} is now the program of OpCenter", own.display()))
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}

/// A file beside the program, which takes its place when it is complete. It is removed otherwise.
struct Fresh {
    path: PathBuf,
}

impl Fresh {
    fn beside(own: &Path) -> Result<Self> {
        let name = own.file_name().unwrap_or_default().to_string_lossy();
        let path = own.with_file_name(format!(".{name}.{}", std::process::id()));
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)
            .with_context(|| format!("can't write beside {}", own.display()))?;
        let fresh = Self { path };
        let mode = fs::metadata(own).with_context(|| format!("can't read {}", own.display()))?.permissions().mode();
        fs::set_permissions(&fresh.path, fs::Permissions::from_mode(mode & 0o777)).with_context(|| fresh.failed())?;
        Ok(fresh)
    }

    /// Writes a download and returns its hash.
    async fn fill(&self, mut download: Download) -> Result<String> {
        let mut file = fs::OpenOptions::new().write(true).open(&self.path).with_context(|| self.failed())?;
        let mut hash = Sha256::new();
        while let Some(piece) = download.piece().await? {
            hash.update(&piece);
            file.write_all(&piece).with_context(|| self.failed())?;
        }
        file.sync_all().with_context(|| self.failed())?;
        Ok(hex::encode(hash.finalize()))
    }

    fn failed(&self) -> String {
        format!("can't write {}", self.path.display())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Renamed, it is gone already.
        let _ = fs::remove_file(&self.path);
    }
}
