//! `cargo run --release -p mooring-capsule --example throughput [<directory or s3://…>] [<MiB>]`:
//! how fast capsules are written and read, beside plain files of the same bytes.
//!
//! An S3 server is named by `AWS_ENDPOINT`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.

use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::Result;
use mooring_capsule::{CapsuleKey, CapsuleStore, Facts, Location};
use mooring_types::{CapsuleName, Generation, JobId, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHUNK: usize = 1 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let location = std::env::args().nth(1).unwrap_or_else(|| directory.path().display().to_string());
    let mebibytes: usize = std::env::args().nth(2).map_or(Ok(1024), |text| text.parse())?;
    let store = CapsuleStore::open(&location.parse::<Location>()?, CapsuleKey::random())?;
    store.probe().await?;
    writeln!(stdout(), "{mebibytes} MiB at {}, in MB/s", store.at())?;
    writeln!(
        stdout(),
        "{:10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "bytes",
        "raw",
        "write",
        "finish",
        "read",
        "verify",
        "ratio"
    )?;
    for (kind, make) in KINDS {
        let mut rng = StdRng::seed_from_u64(1);
        // More than the caches of a processor hold.
        let chunks: Vec<Vec<u8>> = (0..64).map(|_| make(&mut rng)).collect();
        let chunks: Vec<&[u8]> = chunks.iter().cycle().take(mebibytes).map(Vec::as_slice).collect();
        let speed = |began: Instant| (chunks.len() * CHUNK) as f64 / began.elapsed().as_secs_f64() / 1e6;

        let began = Instant::now();
        let mut file = tokio::fs::File::create(directory.path().join("raw")).await?;
        for chunk in &chunks {
            file.write_all(chunk).await?;
        }
        file.sync_all().await?;
        let raw = speed(began);
        tokio::fs::remove_file(directory.path().join("raw")).await?;

        let name: CapsuleName = kind.parse()?;
        store.remove(&name).await?;
        let began = Instant::now();
        let mut writer = store.create(&name).await?;
        for chunk in &chunks {
            writer.write_all(chunk).await?;
        }
        let write = speed(began);
        let job = JobId::random(&mut rng);
        let about = serde_json::Value::Null;
        let facts = Facts { job, generation: Generation::FIRST, created: Timestamp::now(), base: None, about };
        let manifest = writer.finish(facts).await?;
        let finish = speed(began);

        let began = Instant::now();
        let mut reader = store.open_capsule(&name).await?;
        let mut buffer = vec![0; 256 << 10];
        while reader.read(&mut buffer).await? > 0 {}
        let read = speed(began);
        let began = Instant::now();
        store.verify(&name).await?;
        let verify = speed(began);
        store.remove(&name).await?;
        let ratio = manifest.plain_bytes as f64 / manifest.stored_bytes as f64;
        writeln!(stdout(), "{kind:10} {raw:9.0} {write:9.0} {finish:9.0} {read:9.0} {verify:9.0} {ratio:7.1}")?;
    }
    Ok(())
}

type Kind = (&'static str, fn(&mut StdRng) -> Vec<u8>);

const KINDS: [Kind; 3] = [
    ("zeros", |_| vec![0; CHUNK]),
    ("memory", |rng| {
        // A process of an interpreter: pages of zeros, of pointers and small numbers, of text, and
        // some that are dense.
        let mut bytes = vec![0; CHUNK];
        for page in bytes.chunks_mut(4096) {
            match rng.random_range(0..10) {
                0..2 => {}
                2..7 => page.chunks_exact_mut(8).for_each(|word| {
                    let value = 0x7f3a_0000_0000_u64 + u64::from(rng.random::<u32>() & 0xf_fff8);
                    word.copy_from_slice(&if rng.random_ratio(1, 3) { value } else { value & 0xff }.to_le_bytes());
                }),
                7..9 => page.iter_mut().for_each(|byte| *byte = b"etaoin shrdlu()_.\n"[rng.random_range(0..18)]),
                _ => rng.fill_bytes(page),
            }
        }
        bytes
    }),
    ("noise", |rng| {
        let mut bytes = vec![0; CHUNK];
        rng.fill_bytes(&mut bytes);
        bytes
    }),
];
