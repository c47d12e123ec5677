//! A capsule store in a directory.

mod support;
#[path = "support/whole.rs"]
mod whole;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use mooring_capsule::{CapsuleKey, CapsuleStore, Error, Location, Swept};
use mooring_testkit::wait::wait_for;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::{MIB, facts, memory, name};
use tokio::io::AsyncWriteExt;
use whole::{later, read, write};

fn open(directory: &Path) -> Result<CapsuleStore, Error> {
    CapsuleStore::open(&Location::Dir(directory.to_owned()), CapsuleKey::random())
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        if entry.file_type().expect("a kind of file").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// A file system in memory at a directory, gone when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(at: &'a Path, options: &str) -> Result<Self> {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options))?;
        Ok(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        umount2(self.0, MntFlags::MNT_DETACH).expect("unmount");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capsule_is_kept_found_confirmed_verified_and_removed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = directory.path().join("capsules");
    let store = open(&place)?;
    assert_eq!(fs::metadata(&place)?.permissions().mode() & 0o777, 0o700);
    store.probe().await?;
    let bytes = memory(20 * MIB + 5, 1);
    let manifest = write(&store, &name("job-g3-1"), &bytes).await?;
    assert_eq!((manifest.plain_bytes, manifest.pieces), (bytes.len() as u64, 21));
    assert!(manifest.stored_bytes < manifest.plain_bytes / 2, "a third of it can't be compressed");
    assert_eq!(manifest.about, facts().about);

    store.confirm(&manifest).await?;
    assert_eq!(store.verify(&name("job-g3-1")).await?, manifest);
    assert_eq!(store.manifest(&name("job-g3-1")).await?, manifest);
    assert!(read(&store, &name("job-g3-1")).await? == bytes);
    write(&store, &name("empty"), b"").await?;
    assert_eq!(read(&store, &name("empty")).await?, b"");
    assert_eq!(store.list().await?, [name("empty"), name("job-g3-1")]);
    let again = store.create(&name("empty")).await.unwrap_err();
    assert!(matches!(again, Error::Exists { .. }), "{again}");
    assert_eq!(store.sweep(later()).await?, Swept::default(), "what is whole is not swept");

    store.remove(&name("job-g3-1")).await?;
    store.remove(&name("job-g3-1")).await?;
    store.remove(&name("empty")).await?;
    assert!(matches!(store.manifest(&name("empty")).await, Err(Error::NotFound { .. })));
    assert_eq!(store.list().await?, []);
    assert_eq!(files(&place), Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sha256sum_says_of_a_stream_is_in_its_manifest() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let manifest = write(&open(directory.path())?, &name("a"), &memory(3 * MIB, 2)).await?;
    let stream = directory.path().join("a").join(format!("{}.stream", manifest.attempt));
    let output = std::process::Command::new("sha256sum").arg(&stream).output()?;
    assert!(String::from_utf8(output.stdout)?.starts_with(&manifest.sha256));
    assert_eq!(fs::metadata(&stream)?.len(), manifest.stored_bytes);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_aborted_or_dropped_leaves_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = open(directory.path())?;
    let bytes = memory(40 * MIB, 3);
    let mut writer = store.create(&name("aborted")).await?;
    writer.write_all(&bytes).await?;
    writer.abort().await;
    assert_eq!(files(directory.path()), Vec::<String>::new());

    let mut writer = store.create(&name("dropped")).await?;
    writer.write_all(&bytes).await?;
    assert_ne!(files(directory.path()), Vec::<String>::new(), "it was on its way");
    drop(writer);
    store.settled().await;
    assert_eq!(files(directory.path()), Vec::<String>::new());
    assert_eq!(store.list().await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_left_that_was_killed_is_swept_when_it_is_old() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = open(directory.path())?;
    let whole = memory(3 * MIB, 4);
    write(&store, &name("whole"), &whole).await?;
    // A runtime that ends takes its tasks with it, as a killed process does.
    let killed = store.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut writer = killed.create(&name("begun")).await.unwrap();
            writer.write_all(&memory(40 * MIB, 5)).await.unwrap();
            std::mem::forget(writer);
        });
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    // And one between its stream and its manifest.
    write(&store, &name("manifestless"), b"abc").await?;
    fs::remove_file(directory.path().join("manifestless/manifest.json"))?;
    fs::write(directory.path().join("begun/0123456789abcdef.stream#1"), vec![0; 10])?;
    fs::write(directory.path().join("notes.txt"), "not ours")?;

    assert_eq!(store.list().await?, [name("whole")]);
    let long_ago = later() - jiff::SignedDuration::from_hours(24);
    assert_eq!(store.sweep(long_ago).await?, Swept::default());
    let swept = store.sweep(later()).await?;
    assert!(swept.streams >= 2 && swept.bytes >= 10, "{swept:?}");
    assert_eq!(files(directory.path()).len(), 3, "the whole one's two and the notes: {:?}", files(directory.path()));
    assert!(read(&store, &name("whole")).await? == whole);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_directory_says_so_and_is_left_as_it_was() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let _mounted = Mounted::new(directory.path(), "size=12m")?;
    let store = open(directory.path())?;
    let small = memory(MIB, 6);
    write(&store, &name("small"), &small).await?;

    let mut noise = vec![0; 64 * MIB];
    rand::RngCore::fill_bytes(&mut <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1), &mut noise);
    let mut writer = store.create(&name("large")).await?;
    // It shows in a write or at the end, by how far the writer is ahead.
    let error = match writer.write_all(&noise).await {
        Ok(()) => writer.finish(facts()).await.unwrap_err(),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            let again = writer.write_all(&noise).await.unwrap_err();
            assert!(matches!(Error::inside(&again), Some(Error::GivenUp { .. })), "{again}");
            Error::from_inside(error).unwrap()
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    store.settled().await;
    assert_eq!(files(directory.path()).len(), 2, "{:?}", files(directory.path()));
    assert!(read(&store, &name("small")).await? == small);
    store.probe().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_directory_denies_writing_and_serves_reading() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let _mounted = Mounted::new(directory.path(), "size=16m")?;
    let store = open(directory.path())?;
    let bytes = memory(MIB, 7);
    write(&store, &name("a"), &bytes).await?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(Some("tmpfs"), directory.path(), Some("tmpfs"), flags, Some("size=16m"))?;

    let probed = store.probe().await.unwrap_err();
    assert!(matches!(probed, Error::Denied { .. }), "{probed:?}");
    let written = write(&store, &name("b"), &bytes).await.unwrap_err();
    assert!(matches!(written.downcast_ref(), Some(Error::Denied { .. })), "{written:?}");
    assert!(read(&store, &name("a")).await? == bytes);
    Ok(())
}

#[test]
fn a_directory_is_made_and_its_parents_are_not() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory.path().join("new")).unwrap();
    let missing = open(&directory.path().join("not/mounted")).unwrap_err();
    assert!(matches!(missing, Error::NoPlace { .. }), "{missing:?}");
    fs::write(directory.path().join("file"), "").unwrap();
    let file = open(&directory.path().join("file")).unwrap_err();
    assert!(matches!(file, Error::NoPlace { .. }), "{file:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_dropped_stops_reading() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = open(directory.path())?;
    write(&store, &name("a"), &memory(64 * MIB, 9)).await?;
    let mut reader = store.open_capsule(&name("a")).await?;
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut [0; 10]).await?;
    drop(reader);
    wait_for("the reader's task to end", Duration::from_secs(5), async || {
        let ended = tokio::time::timeout(Duration::from_millis(10), store.settled()).await;
        Ok(ended.is_ok().then_some(()))
    })
    .await
}
