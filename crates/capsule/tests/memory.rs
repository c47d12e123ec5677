//! A capsule takes little memory, however long it is. The test is alone in its process, whose
//! memory it measures.

mod support;

use anyhow::Result;
use mooring_capsule::{CapsuleKey, CapsuleStore, Location};
use support::{MIB, facts, memory, name};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_long_capsule_takes_little_memory() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = CapsuleStore::open(&Location::Dir(directory.path().to_owned()), CapsuleKey::random())?;
    let chunk = memory(MIB, 8);
    let before = peak()?;
    let mut writer = store.create(&name("a")).await?;
    for _ in 0..800 {
        writer.write_all(&chunk).await?;
    }
    let manifest = writer.finish(facts()).await?;
    assert_eq!(manifest.pieces, 800);
    assert_eq!(store.verify(&name("a")).await?, manifest);
    let grown = peak()?.saturating_sub(before);
    assert!(grown < 160 * MIB, "{} MiB", grown / MIB);
    Ok(())
}

/// The most memory that this process has had, in bytes.
fn peak() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kibibytes: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes << 10)
}
