//! The configuration of OpCenter.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use mooring_api::watch::{Backend, StoreAccess};
use mooring_types::address::Overlay;

/// What an OpCenter is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its state is kept.
    pub state_dir: PathBuf,
    /// Where it listens; the first address is the one it is known by.
    pub listen: Vec<SocketAddr>,
    /// The overlay's addresses.
    pub overlay: Overlay,
    /// How hosts reach each other's jobs.
    pub backend: Backend,
    /// Where capsules are kept, if they are; its seal is kept in the state directory and not given.
    pub store: Option<StoreAccess>,
    /// JupyterLab's virtual environment, for the template.
    pub jupyter: PathBuf,
    /// The image that the template runs in, in place of that.
    pub jupyter_image: Option<String>,
    /// The directories of hosts that everybody's jobs may mount; an admin's may mount any.
    pub volume_paths: Vec<PathBuf>,
    /// How many jobs at once leave a host that is drained.
    pub drain_at_once: NonZeroUsize,
}

impl Config {
    /// Whether there is a place for capsules.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }
}
