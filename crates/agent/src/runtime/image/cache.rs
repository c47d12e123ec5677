//! The image cache: its parts, the time of their last use, and their removal.
//!
//! A part is a layer, an archive's layout, a blob or the digest of a tag. Its name is its path
//! below the cache's directory, like `layers/<digest>`. `used.json` has the time at which each was
//! last needed. A part that the bundle of a job on this host names is never removed, in any state
//! of the job. Nothing is removed while an image is being prepared: that holds a [`Lease`] until
//! the bundle names the parts.
//!
//! A part is renamed before it is removed, so that everything with a part's name is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_linux::tree;
use mooring_ops::file::{self, Durability, Mode};
use mooring_ops::log::chain;
use mooring_types::{Clock, SystemClock, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::collect::{self, Limits, Unused};
use super::parts;
use crate::disk;
use crate::error::Result;

const PLACES: [&str; 4] = ["layers", "archives", "blobs/sha256", "tags"];
/// The interval between two collections.
const COLLECT_INTERVAL: Duration = Duration::from_secs(60);

/// Nothing is removed while a lease is held.
pub(crate) type Lease = Arc<OwnedRwLockReadGuard<()>>;

/// The parts of images on this host.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    /// The time at which each part was last needed.
    used: Mutex<BTreeMap<String, Timestamp>>,
    leases: Arc<RwLock<()>>,
}

impl Cache {
    /// Opens the cache below `directory`. Without a readable `used.json` all parts count as needed
    /// now.
    pub(super) fn open(directory: PathBuf) -> Self {
        let known = fs::read(directory.join("used.json")).ok();
        let used = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { directory, used: Mutex::new(used), leases: Arc::default() }
    }

    /// Prevents removal until the lease is dropped.
    pub(super) async fn lease(&self) -> Lease {
        Arc::new(self.leases.clone().read_owned().await)
    }

    /// Returns the part that contains a path of the cache.
    pub(super) fn part_of(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&self.directory).ok()?;
        let place = PLACES.into_iter().find(|place| below.starts_with(place))?;
        match below.strip_prefix(place).ok()?.components().next()? {
            Component::Normal(name) => Some(format!("{place}/{}", name.to_str()?)),
            _ => None,
        }
    }

    /// Records that parts are needed now.
    pub(super) fn need(&self, parts: &BTreeSet<String>) {
        let now = SystemClock.now();
        let mut used = self.used.lock();
        used.extend(parts.iter().map(|part| (part.clone(), now)));
        self.keep(&used);
    }

    /// Removes unused parts at intervals, until `stop`. `jobs` is the agent's directory of jobs.
    pub(crate) async fn run(self: Arc<Self>, jobs: PathBuf, limits: Limits, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(COLLECT_INTERVAL.min(limits.age)) => {}
            }
            let (cache, jobs) = (self.clone(), jobs.clone());
            let swept = spawn_blocking(move || cache.sweep(&jobs, &limits, SystemClock.now())).await;
            if let Ok(Err(error)) = swept {
                tracing::warn!(error = %chain(&error), "images that no job needs stay");
            }
        }
    }

    fn sweep(&self, jobs: &Path, limits: &Limits, now: Timestamp) -> Result<()> {
        let here = self.here();
        let disk = disk::measure(&self.directory)?;
        // Measuring layers takes long, and is needed only when the disk is too full.
        let is_measured = collect::excess(disk, limits).is_some();
        let size = |name: &String| if is_measured { size(&self.directory.join(name)) } else { 0 };
        let sizes: Vec<u64> = here.iter().map(size).collect();
        // The parts of an image that is being prepared are not known yet.
        let Ok(alone) = self.leases.try_write() else { return Ok(()) };
        let needed = parts::needed_by_jobs(jobs)?;
        let mut unused = Vec::new();
        {
            let mut used = self.used.lock();
            used.retain(|name, _| here.contains(name));
            for (name, bytes) in here.iter().zip(sizes) {
                let last = *used.entry(name.clone()).and_modify(|last| *last = (*last).min(now)).or_insert(now);
                if needed.contains(name) {
                    used.insert(name.clone(), now);
                } else {
                    unused.push(Unused { name: name.clone(), bytes, last });
                }
            }
            self.keep(&used);
        }
        let chosen = collect::choose(unused, disk, limits, now);
        let aside: Vec<PathBuf> = chosen.iter().filter_map(|part| self.put_aside(&part.name)).collect();
        drop(alone);
        for path in &aside {
            tree::remove_tree(path)?;
        }
        if !chosen.is_empty() {
            let names: Vec<&str> = chosen.iter().map(|part| part.name.as_str()).collect();
            tracing::info!("removed of images that no job needs: {}", names.join(", "));
        }
        Ok(())
    }

    /// The complete parts.
    fn here(&self) -> BTreeSet<String> {
        let of = |place: &'static str| {
            let entries = fs::read_dir(self.directory.join(place)).into_iter().flatten().flatten();
            entries.filter_map(move |entry| Some(format!("{place}/{}", entry.file_name().to_str()?)))
        };
        PLACES.into_iter().flat_map(of).filter(|name| !name.ends_with(".part")).collect()
    }

    fn put_aside(&self, name: &str) -> Option<PathBuf> {
        let path = self.directory.join(name);
        let aside = path.with_extension(format!("{:08x}.part", rand::random::<u32>()));
        match fs::rename(&path, &aside) {
            Ok(()) => Some(aside),
            Err(error) => {
                tracing::warn!(%error, "a part of an image stays: {}", path.display());
                None
            }
        }
    }

    /// Writes `used.json`; after a failure the next agent counts all parts as needed.
    fn keep(&self, used: &BTreeMap<String, Timestamp>) {
        let path = self.directory.join("used.json");
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            file::replace(&path, Durability::Renamed, Mode::Private, &serde_json::to_vec_pretty(used)?)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "it is not kept when images were last needed");
        }
    }
}

/// The disk space of a file or a directory, in bytes.
fn size(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    let own = found.blocks() * 512;
    if !found.is_dir() {
        return own;
    }
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path()));
    own + below.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { age: Duration::from_secs(60), high: 100, low: 100 };

    #[tokio::test]
    async fn what_a_bundle_names_or_is_being_made_ready_stays() {
        let world = tempfile::tempdir().unwrap();
        let (images, jobs) = (world.path().join("images"), world.path().join("jobs"));
        for layer in ["needed", "old", "new"] {
            fs::create_dir_all(images.join("layers").join(layer).join("etc")).unwrap();
        }
        fs::create_dir_all(jobs.join("a/g2/bundle")).unwrap();
        let named = |parts: &[&str]| {
            let parts: BTreeSet<String> = parts.iter().map(|&part| part.to_owned()).collect();
            parts::write_needed(&jobs.join("a/g2"), &parts).unwrap();
            parts
        };
        named(&["layers/needed"]);
        let cache = Cache::open(images.clone());
        assert_eq!(cache.part_of(&images.join("layers/old/etc")).as_deref(), Some("layers/old"));
        assert_eq!(cache.part_of(&images.join("blobs/sha256/x")).as_deref(), Some("blobs/sha256/x"));
        assert_eq!((cache.part_of(Path::new("/etc")), cache.part_of(&images.join("layers"))), (None, None));
        let began = SystemClock.now();
        let later = |seconds: u64| began + Duration::from_secs(seconds);
        let left = || cache.here().into_iter().collect::<Vec<String>>().join(" ");
        // What nothing is known of counts from now on.
        cache.sweep(&jobs, &LIMITS, began).unwrap();
        let lease = cache.lease().await;
        cache.sweep(&jobs, &LIMITS, later(3600)).unwrap();
        assert_eq!(left(), "layers/needed layers/new layers/old");
        drop(lease);
        // Kept over a restart of the agent.
        let cache = Cache::open(images.clone());
        let left = || cache.here().into_iter().collect::<Vec<String>>().join(" ");
        cache.used.lock().insert("layers/new".into(), later(30));
        cache.sweep(&jobs, &LIMITS, later(61)).unwrap();
        assert_eq!(left(), "layers/needed layers/new");
        assert_eq!(fs::read_dir(images.join("layers")).unwrap().count(), 2, "a part stays");
        // From when no job needs it any more its time runs.
        fs::remove_dir_all(jobs.join("a")).unwrap();
        cache.sweep(&jobs, &LIMITS, later(120)).unwrap();
        assert_eq!(left(), "layers/needed");
        cache.sweep(&jobs, &LIMITS, later(122)).unwrap();
        assert_eq!(left(), "");
    }

    #[test]
    fn a_disk_that_is_too_full_loses_what_was_not_needed_for_a_while() {
        let world = tempfile::tempdir().unwrap();
        let (images, jobs) = (world.path().join("images"), world.path().join("jobs"));
        for layer in ["a", "b"] {
            fs::create_dir_all(images.join("layers").join(layer)).unwrap();
            fs::write(images.join("layers").join(layer).join("file"), [1; 100_000]).unwrap();
        }
        assert!((100_000..200_000).contains(&size(&images.join("layers/a"))));
        let cache = Cache::open(images);
        let began = SystemClock.now();
        let limits = Limits { age: Duration::from_secs(1_000_000), high: 0, low: 0 };
        cache.sweep(&jobs, &limits, began).unwrap();
        cache.used.lock().insert("layers/b".into(), began + Duration::from_secs(60));
        cache.sweep(&jobs, &limits, began + Duration::from_secs(121)).unwrap();
        assert_eq!(cache.here(), ["layers/b".to_owned()].into());
        let roomy = Limits { high: 100, low: 100, ..limits };
        cache.sweep(&jobs, &roomy, began + Duration::from_secs(1000)).unwrap();
        assert_eq!(cache.here().len(), 1, "the disk is not too full");
    }

    #[test]
    fn a_bundle_that_does_not_name_its_parts_keeps_everything() {
        let world = tempfile::tempdir().unwrap();
        let (images, jobs) = (world.path().join("images"), world.path().join("jobs"));
        fs::create_dir_all(images.join("layers/old")).unwrap();
        fs::create_dir_all(jobs.join("a/g1/bundle")).unwrap();
        fs::write(jobs.join("a/g1/bundle/config.json"), "{}").unwrap();
        let cache = Cache::open(images);
        let now = SystemClock.now();
        assert!(cache.sweep(&jobs, &LIMITS, now + Duration::from_secs(3600)).is_err());
        assert_eq!(cache.here().len(), 1);
    }
}
