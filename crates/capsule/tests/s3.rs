//! A capsule store in a bucket of a real S3-compatible server, on a TCP port of this machine.

#[path = "support/deferring.rs"]
mod deferring;
#[path = "support/line.rs"]
mod line;
mod support;
#[path = "support/whole.rs"]
mod whole;

use std::time::{Duration, Instant};

use anyhow::Result;
use deferring::write_deferring;
use line::Line;
use mooring_capsule::{CapsuleKey, CapsuleStore, Error, Location, PATIENCE, S3Options, Swept};
use mooring_testkit::s3::{Keys, Server, make_bucket};
use support::{MIB, facts, memory, name};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whole::{later, read, write};

/// A server with one bucket, `capsules`.
struct World {
    server: Server,
    _root: TempDir,
}

impl World {
    async fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        make_bucket(root.path(), "capsules")?;
        let server = Server::start(root.path(), &keys()).await?;
        Ok(Self { server, _root: root })
    }

    fn store(&self) -> CapsuleStore {
        open("s3://capsules/of/one-cluster", options(self.server.endpoint()))
    }

    /// The names of the files that the server keeps in its bucket, and of parts of uploads.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![self.server.root().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type().expect("a kind of file").is_dir() {
                    directories.push(entry.path());
                } else if !name.ends_with(".internal.json") && !name.ends_with(".metadata.json") {
                    found.push(name);
                }
            }
        }
        found.sort();
        found
    }
}

fn keys() -> Keys {
    Keys { access: "mooring".to_owned(), secret: "of-the-store".to_owned() }
}

fn options(endpoint: String) -> S3Options {
    let Keys { access, secret } = keys();
    S3Options {
        endpoint: Some(endpoint),
        region: Some("eu-test-1".to_owned()),
        access_key: Some(access),
        secret_key: Some(secret),
    }
}

fn open(location: &str, options: S3Options) -> CapsuleStore {
    open_patiently(location, options, Duration::ZERO)
}

fn open_patiently(location: &str, options: S3Options, patience: Duration) -> CapsuleStore {
    let location: Location = location.parse().expect("a location");
    CapsuleStore::open_patiently(&location.with_s3(options), CapsuleKey::random(), patience).expect("a store")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capsule_is_kept_found_confirmed_verified_and_removed() -> Result<()> {
    let world = World::new().await?;
    let store = world.store();
    store.probe().await?;
    assert_eq!(world.files(), Vec::<String>::new(), "a probe leaves nothing");
    // Several parts, then one that is less than a part.
    let long = memory(90 * MIB, 1);
    let manifest = write(&store, &name("long"), &long).await?;
    assert!(manifest.stored_bytes > 24 << 20, "it has more than three parts");
    write(&store, &name("short"), b"abc").await?;
    assert_eq!(world.files().len(), 4, "two streams, two manifests and no mark: {:?}", world.files());

    store.confirm(&manifest).await?;
    assert_eq!(store.verify(&name("long")).await?, manifest);
    assert!(read(&store, &name("long")).await? == long);
    assert_eq!(read(&store, &name("short")).await?, b"abc");
    assert_eq!(store.list().await?, [name("long"), name("short")]);
    assert!(matches!(store.create(&name("long")).await, Err(Error::Exists { .. })));
    assert_eq!(store.sweep(later()).await?, Swept::default(), "what is whole is not swept");
    let beside = open("s3://capsules/of/another", options(world.server.endpoint()));
    assert_eq!(beside.list().await?, []);

    let (manifest, expected) = write_deferring(&store, &name("deferring"), &long, 5..70 * MIB).await?;
    assert_eq!(store.verify(&name("deferring")).await?, manifest);
    assert!(read(&store, &name("deferring")).await? == expected);
    store.remove(&name("deferring")).await?;

    store.remove(&name("long")).await?;
    store.remove(&name("long")).await?;
    assert_eq!(store.list().await?, [name("short")]);
    assert!(matches!(store.open_capsule(&name("long")).await, Err(Error::NotFound { .. })));
    store.remove(&name("short")).await?;
    assert_eq!(world.files(), Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_seen() -> Result<()> {
    let world = World::new().await?;
    let store = world.store();
    let manifest = write(&store, &name("a"), &memory(30 * MIB, 2)).await?;
    let file = world.server.root().join(format!("capsules/of/one-cluster/a/{}.stream", manifest.attempt));
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes)?;
    let damaged = store.verify(&name("a")).await.unwrap_err();
    assert!(matches!(damaged, Error::Damaged { .. }), "{damaged:?}");
    std::fs::write(&file, &bytes[..middle])?;
    let shorter = store.confirm(&manifest).await.unwrap_err();
    assert!(matches!(shorter, Error::Damaged { .. }), "{shorter:?}");
    assert!(matches!(store.verify(&name("a")).await, Err(Error::Damaged { .. })));
    std::fs::remove_file(&file)?;
    assert!(matches!(store.verify(&name("a")).await, Err(Error::Damaged { .. })));
    assert!(matches!(store.confirm(&manifest).await, Err(Error::Damaged { .. })));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_a_missing_bucket_are_told_apart() -> Result<()> {
    let world = World::new().await?;
    let endpoint = world.server.endpoint();
    let secret = S3Options { secret_key: Some("another".to_owned()), ..options(endpoint.clone()) };
    let stranger = S3Options { access_key: Some("nobody".to_owned()), ..options(endpoint.clone()) };
    for wrong in [secret, stranger] {
        let store = open("s3://capsules", wrong);
        let denied = store.probe().await.unwrap_err();
        assert!(matches!(denied, Error::Denied { .. }), "{denied:?}");
        let listed = store.list().await.unwrap_err();
        assert!(matches!(listed, Error::Denied { .. }), "{listed:?}");
        assert!(matches!(store.create(&name("a")).await, Err(Error::Denied { .. })));
        assert!(!format!("{denied:?}").contains("of-the-store"));
    }
    let store = open("s3://not-there", options(endpoint));
    let missing = store.probe().await.unwrap_err();
    assert!(matches!(missing, Error::NoPlace { .. }), "{missing:?}");
    assert!(matches!(store.create(&name("a")).await, Err(Error::NoPlace { .. })));
    assert!(matches!(store.list().await, Err(Error::NoPlace { .. })));
    let halved = S3Options { secret_key: None, ..options("http://127.0.0.1:1".to_owned()) };
    let location = "s3://capsules".parse::<Location>()?.with_s3(halved);
    assert!(matches!(CapsuleStore::open(&location, CapsuleKey::random()), Err(Error::Location { .. })));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_an_error_in_time() -> Result<()> {
    // Nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let refusing = open("s3://capsules", options(format!("http://{free}")));
    // Somebody listens there and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silenced = open("s3://capsules", options(format!("http://{}", silent.local_addr()?)));
    for store in [refusing, silenced] {
        let began = Instant::now();
        let away = store.probe().await.unwrap_err();
        assert!(matches!(away, Error::Unreachable { .. }), "{away:?}");
        assert!(away.is_passing());
        let told = std::error::Error::source(&away).expect("a cause").to_string();
        assert!(told.starts_with("away since ") && !told.contains("retries"), "{told}");
        assert!(began.elapsed() < Duration::from_secs(17), "{:?}", began.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_a_while_fails_nothing() -> Result<()> {
    let world = World::new().await?;
    let mut line = Line::to(world.server.endpoint().trim_start_matches("http://").parse()?).await?;
    let store = open_patiently("s3://capsules", options(line.endpoint()), PATIENCE);
    let (capsule, bytes) = (name("a"), memory(60 * MIB, 3));
    let (manifest, absent) = tokio::join!(write(&store, &capsule, &bytes), async {
        line.has_carried(10 * MIB).await?;
        line.cut().await;
        store.away(Duration::from_secs(4)).await;
        line.mend().await?;
        anyhow::Ok(())
    });
    absent?;
    store.confirm(&manifest?).await?;

    // It goes away while it is read.
    let (got, absent) = tokio::join!(read(&store, &capsule), async {
        line.has_answered(20 * MIB).await?;
        line.cut().await;
        store.away(Duration::from_secs(4)).await;
        line.mend().await
    });
    absent?;
    assert!(got? == bytes);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() -> Result<()> {
    let world = World::new().await?;
    let server = world.server.endpoint().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let store = open_patiently("s3://capsules", options(format!("http://{}", listener.local_addr()?)), PATIENCE);
    let answers = async {
        let (mut busy, _) = listener.accept().await?;
        let _ = busy.read(&mut [0; 4096]).await?;
        let answer = b"HTTP/1.1 503 Slow Down\r\nRetry-After: 3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        busy.write_all(answer).await?;
        busy.shutdown().await?;
        let began = Instant::now();
        loop {
            let (mut client, _) = listener.accept().await?;
            anyhow::ensure!(began.elapsed() > Duration::from_millis(2900), "asked again after {:?}", began.elapsed());
            let mut server = TcpStream::connect(&server).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        }
    };
    tokio::select! {
        listed = store.list() => assert_eq!(listed?, []),
        answered = answers => answered?,
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_an_upload_is_an_error_and_what_it_kept_is_swept_later() -> Result<()> {
    let world = World::new().await?;
    let mut line = Line::to(world.server.endpoint().trim_start_matches("http://").parse()?).await?;
    let key = CapsuleKey::random();
    let location: Location = "s3://capsules".parse()?;
    let bucket = location.clone().with_s3(options(line.endpoint()));
    let far = CapsuleStore::open_patiently(&bucket, key.clone(), Duration::ZERO)?;
    let noise = memory(8 * MIB, 3);

    let mut writer = far.create(&name("a")).await?;
    let (failed, cut) = tokio::join!(
        async {
            let error = loop {
                if let Err(error) = writer.write_all(&noise).await {
                    break error;
                }
            };
            (error, Instant::now())
        },
        async {
            line.has_carried(30 * MIB).await?;
            line.cut().await;
            anyhow::Ok(Instant::now())
        }
    );
    let ((error, seen), cut) = (failed, cut?);
    assert!(matches!(Error::inside(&error), Some(Error::Unreachable { .. })), "{error:?}");
    assert!(seen - cut < Duration::from_secs(20), "{:?}", seen - cut);
    drop(writer);
    far.settled().await;

    // What was not taken back is not shown, and goes with a sweep.
    let near = CapsuleStore::open(&location.with_s3(options(world.server.endpoint())), key)?;
    assert_eq!(near.list().await?, []);
    assert!(!world.files().is_empty(), "parts that nobody could take back");
    let swept = near.sweep(later()).await?;
    assert_eq!(swept.streams, 1, "{swept:?}");
    assert_eq!(world.files(), Vec::<String>::new());
    let bytes = memory(30 * MIB, 4);
    write(&near, &name("a"), &bytes).await?;
    assert!(read(&near, &name("a")).await? == bytes);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_holds_the_writer_back_and_is_an_error_in_time() -> Result<()> {
    let world = World::new().await?;
    let mut line = Line::to(world.server.endpoint().trim_start_matches("http://").parse()?).await?;
    let store = open("s3://capsules", options(line.endpoint()));
    let mut writer = store.create(&name("a")).await?;
    let noise = {
        let mut noise = vec![0; MIB];
        rand::RngCore::fill_bytes(&mut <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1), &mut noise);
        noise
    };
    for _ in 0..20 {
        writer.write_all(&noise).await?;
    }
    line.has_carried(8 * MIB).await?;
    line.hold();
    let began = Instant::now();
    let mut taken = 0;
    let error = loop {
        match writer.write_all(&noise).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(Error::inside(&error), Some(Error::Unreachable { .. })), "{error:?}");
    assert!(taken < 80, "{taken} MiB were taken in from a writer that should wait");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(writer.finish(facts()).await.is_err());
    Ok(())
}

/// The foundation of [`CapsuleStore::confirm`]: the server checks what arrives against the hash
/// that was signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flips_on_the_way_is_refused_by_the_server() -> Result<()> {
    let world = World::new().await?;
    let line = Line::to(world.server.endpoint().trim_start_matches("http://").parse()?).await?;
    let store = open("s3://capsules", options(line.endpoint()));
    for (length, kind) in [(40 * MIB, "in parts"), (4 * MIB, "whole")] {
        let mut writer = store.create(&name("a")).await?;
        line.flip();
        let written = match writer.write_all(&memory(length, 8)).await {
            Ok(()) => writer.finish(facts()).await.map(drop),
            Err(error) => Err(Error::from_inside(error).expect("one of ours")),
        };
        let refused = written.expect_err(kind);
        assert!(matches!(refused, Error::Failed { .. } | Error::Denied { .. }), "{kind}: {refused:?}");
        assert_eq!(store.list().await?, [], "{kind}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_while_it_is_read_is_an_error() -> Result<()> {
    let mut world = World::new().await?;
    let store = world.store();
    let bytes = memory(150 * MIB, 5);
    write(&store, &name("a"), &bytes).await?;
    let mut reader = store.open_capsule(&name("a")).await?;
    let mut given = vec![0; MIB];
    reader.read_exact(&mut given).await?;
    world.server.stop().await;
    let error = reader.read_to_end(&mut given).await.unwrap_err();
    assert!(matches!(Error::inside(&error), Some(Error::Unreachable { .. })), "{error:?}");
    assert!(bytes.starts_with(&given) && given.len() < bytes.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_aborted_or_dropped_leaves_nothing() -> Result<()> {
    let world = World::new().await?;
    let store = world.store();
    let noise = memory(60 * MIB, 6);
    let mut writer = store.create(&name("aborted")).await?;
    writer.write_all(&noise).await?;
    writer.abort().await;
    assert_eq!(world.files(), Vec::<String>::new());
    let mut writer = store.create(&name("dropped")).await?;
    writer.write_all(&noise).await?;
    drop(writer);
    store.settled().await;
    assert_eq!(world.files(), Vec::<String>::new());
    Ok(())
}
