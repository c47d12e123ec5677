//! The reader of a damaged capsule gives the bytes that were written or an error, and
//! never others.

#[path = "support/deferring.rs"]
mod deferring;
mod support;
#[path = "support/whole.rs"]
mod whole;

use std::path::{Path, PathBuf};

use deferring::write_deferring;
use mooring_capsule::{CapsuleKey, CapsuleStore, Damage, Error, Location};
use proptest::prelude::*;
use proptest::sample::Index;
use support::{MIB, facts, memory, name};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use whole::{read, write};

/// A store in a directory of its own with one capsule, `a`.
struct World {
    directory: TempDir,
    key: CapsuleKey,
    runtime: Runtime,
    written: Vec<u8>,
}

impl World {
    fn new(length: usize, seed: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let world = Self { directory, key: CapsuleKey::random(), runtime, written: memory(length, seed) };
        world.runtime.block_on(write(&world.store(), &name("a"), &world.written)).expect("a capsule");
        world
    }

    fn store(&self) -> CapsuleStore {
        store(self.directory.path(), self.key.clone())
    }

    fn stream(&self) -> PathBuf {
        stream(&self.directory.path().join("a"))
    }

    /// Reads what is there; it has to fail, and what it gave before has to be the start of what was
    /// written.
    fn damage(&self) -> Error {
        let error = self.runtime.block_on(async {
            let mut reader = self.store().open_capsule(&name("a")).await?;
            let mut given = Vec::new();
            let error = reader.read_to_end(&mut given).await.expect_err("damage was not seen");
            assert!(self.written.starts_with(&given), "wrong bytes were given");
            assert!(reader.read_to_end(&mut Vec::new()).await.is_err(), "it went on after a failure");
            Err::<(), _>(Error::from_inside(error).expect("one of ours"))
        });
        let error = error.expect_err("it read to its end");
        assert!(self.runtime.block_on(self.store().verify(&name("a"))).is_err());
        error
    }
}

fn store(directory: &Path, key: CapsuleKey) -> CapsuleStore {
    CapsuleStore::open(&Location::Dir(directory.to_owned()), key).expect("a store")
}

fn stream(directory: &Path) -> PathBuf {
    let found = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    found.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "stream")).expect("a stream")
}

/// Returns the ranges of a stream's pieces, by the format.
fn pieces(stream: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut pieces = Vec::new();
    let mut at = 80;
    while at < stream.len() {
        let sealed = u32::from_le_bytes(stream[at + 5..at + 9].try_into().expect("four bytes")) as usize;
        pieces.push(at..at + 9 + sealed);
        at += 9 + sealed;
    }
    pieces
}

/// Lengths with which parts begin and end within pieces and between them.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(MIB), Just(2 * MIB), 0..9usize, 0..2 * MIB]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_bytes_in_any_writes_read_back(length in prop_oneof![0..9usize, 0..3 * MIB, Just(MIB), Just(2 * MIB)],
                                         seed: u64, cuts: Vec<Index>, sips in 1..100_000usize) {
        let world = World::new(0, 0);
        let written = memory(length, seed);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).chain([0, length]).collect();
        cuts.sort_unstable();
        world.runtime.block_on(async {
            let mut writer = world.store().create(&name("b")).await.unwrap();
            for cut in cuts.windows(2) {
                writer.write_all(&written[cut[0]..cut[1]]).await.unwrap();
                writer.flush().await.unwrap();
            }
            let manifest = writer.finish(facts()).await.unwrap();
            assert_eq!(manifest.plain_bytes, length as u64);
            let mut reader = world.store().open_capsule(&name("b")).await.unwrap();
            let (mut given, mut sip) = (Vec::new(), vec![0; sips]);
            loop {
                match reader.read(&mut sip).await.unwrap() {
                    0 => break,
                    taken => given.extend_from_slice(&sip[..taken]),
                }
            }
            assert!(given == written, "other bytes came back");
        });
    }

    #[test]
    fn what_is_deferred_is_read_last(first in lengths(), deferred in lengths(), rest in lengths(), seed: u64, at: Index, bit in 0..8u8) {
        let world = World::new(0, 0);
        let written = memory(first + deferred + rest, seed);
        let store = world.store();
        world.runtime.block_on(async {
            let written = write_deferring(&store, &name("b"), &written, first..first + deferred).await;
            let (manifest, expected) = written.unwrap();
            assert_eq!(manifest.deferred.is_some(), deferred > 0);
            assert!(read(&store, &name("b")).await.unwrap() == expected, "not in this order");
            assert_eq!(store.verify(&name("b")).await.unwrap(), manifest);

            let path = stream(&world.directory.path().join("b"));
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, bytes).unwrap();
            let mut given = Vec::new();
            let mut reader = store.open_capsule(&name("b")).await.unwrap();
            reader.read_to_end(&mut given).await.expect_err("damage was not seen");
            assert!(expected.starts_with(&given), "wrong bytes were given");
        });
    }

    #[test]
    fn any_flipped_bit_is_seen(length in 0..2 * MIB + 9, seed: u64, at: Index, bit in 0..8u8) {
        let world = World::new(length, seed);
        let mut bytes = std::fs::read(world.stream()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(world.stream(), bytes).unwrap();
        let error = world.damage();
        let expected = matches!(error, Error::Damaged { .. } | Error::WrongKey { .. } | Error::Version { .. });
        prop_assert!(expected, "{error}");
    }

    #[test]
    fn any_flipped_bit_of_a_header_or_a_head_is_seen(seed: u64, at in 0..89usize, bit in 0..8u8) {
        let world = World::new(MIB + 9, seed);
        let mut bytes = std::fs::read(world.stream()).unwrap();
        bytes[at] ^= 1 << bit;
        std::fs::write(world.stream(), bytes).unwrap();
        world.damage();
    }

    #[test]
    fn any_truncation_and_anything_appended_is_seen(length in 0..2 * MIB + 9, seed: u64, at: Index, more in 0..20usize) {
        let world = World::new(length, seed);
        let whole = std::fs::read(world.stream()).unwrap();
        std::fs::write(world.stream(), &whole[..at.index(whole.len())]).unwrap();
        let cut = world.damage();
        prop_assert!(matches!(cut, Error::Damaged { damage: Damage::Length { .. }, .. }), "{}", cut);
        std::fs::write(world.stream(), [whole, vec![0; more + 1]].concat()).unwrap();
        let longer = world.damage();
        prop_assert!(matches!(longer, Error::Damaged { damage: Damage::Length { .. }, .. }), "{}", longer);
    }

    #[test]
    fn exchanged_pieces_are_seen(seed: u64, first: Index, second: Index) {
        // Equal lengths, so that nothing but their order tells.
        let world = World::new(0, 0);
        let mut zeros = world.store();
        let written = vec![0; 4 * MIB + 1];
        world.runtime.block_on(write(&zeros, &name("z"), &written)).unwrap();
        zeros = world.store();
        let path = stream(&world.directory.path().join("z"));
        let mut bytes = std::fs::read(&path).unwrap();
        let found = pieces(&bytes);
        prop_assert_eq!(found.len(), 5);
        let (first, second) = (first.index(4), second.index(4));
        prop_assume!(first != second);
        let (one, other) = (bytes[found[first].clone()].to_vec(), bytes[found[second].clone()].to_vec());
        bytes[found[first].clone()].copy_from_slice(&other);
        bytes[found[second].clone()].copy_from_slice(&one);
        std::fs::write(&path, bytes).unwrap();
        let error = world.runtime.block_on(zeros.verify(&name("z"))).unwrap_err();
        let expected = Damage::Piece(first.min(second) as u64);
        prop_assert!(matches!(&error, Error::Damaged { damage, .. } if *damage == expected), "{} {}", seed, error);
    }
}

/// A stream that was damaged together with what its manifest says of its length; only the seals are
/// left to tell.
#[test]
fn a_stream_from_elsewhere_is_not_taken_for_this_one() {
    let world = World::new(2 * MIB, 1);
    let store = world.store();
    world.runtime.block_on(write(&store, &name("b"), &world.written)).unwrap();
    let (ours, theirs) = (world.stream(), stream(&world.directory.path().join("b")));
    let original = std::fs::read(&ours).unwrap();
    let other = std::fs::read(&theirs).unwrap();
    assert_eq!(original.len(), other.len(), "the same bytes under two names have one length");

    // The whole stream of the other.
    std::fs::copy(&theirs, &ours).unwrap();
    assert!(matches!(world.damage(), Error::Damaged { damage: Damage::Header, .. }));

    // One piece of the other.
    let second = pieces(&original)[1].clone();
    let mut mixed = original.clone();
    mixed[second.clone()].copy_from_slice(&other[second]);
    std::fs::write(&ours, mixed).unwrap();
    assert!(matches!(world.damage(), Error::Damaged { damage: Damage::Piece(1), .. }));

    // The whole capsule under another name.
    std::fs::write(&ours, original).unwrap();
    std::fs::rename(world.directory.path().join("a"), world.directory.path().join("c")).unwrap();
    let renamed = world.runtime.block_on(store.open_capsule(&name("c"))).unwrap_err();
    assert!(matches!(renamed, Error::Damaged { damage: Damage::Manifest, .. }), "{renamed}");
}

#[test]
fn another_key_opens_nothing_and_says_so() {
    let world = World::new(100, 1);
    let other = store(world.directory.path(), CapsuleKey::random());
    let error = world.runtime.block_on(other.verify(&name("a"))).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    assert!(error.hint().contains("key"));
    // Whose key a capsule is for, a sweep can't know; it leaves it alone.
    world.runtime.block_on(other.sweep(whole::later())).unwrap();
    assert_eq!(world.runtime.block_on(read(&world.store(), &name("a"))).unwrap(), world.written);
}

#[test]
fn a_capsule_without_its_stream_or_its_manifest_says_which() {
    let world = World::new(100, 1);
    let manifest = world.runtime.block_on(world.store().manifest(&name("a"))).unwrap();
    std::fs::remove_file(world.stream()).unwrap();
    let streamless = world.damage();
    assert!(matches!(streamless, Error::Damaged { damage: Damage::NoStream, .. }), "{streamless}");
    assert!(world.runtime.block_on(world.store().confirm(&manifest)).is_err());
    std::fs::remove_file(world.directory.path().join("a/manifest.json")).unwrap();
    let gone = world.runtime.block_on(world.store().open_capsule(&name("a"))).unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}
