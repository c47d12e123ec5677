//! The configuration of OpCenter.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use mooring_api::watch::{Backend, StoreAccess};
use mooring_types::address::Overlay;

/// The configuration of OpCenter.
#[derive(Debug, Clone)]
pub struct Config {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The addresses to listen at.
    pub listen: Vec<SocketAddr>,
    /// The network of overlay addresses.
    pub overlay: Overlay,
    /// The backend by which hosts reach each other's jobs.
    pub backend: Backend,
    /// The capsule store, if there is one. Its seal key is in the state directory, not here.
    pub store: Option<StoreAccess>,
    /// The virtual environment of JupyterLab, for the template `jupyter`.
    pub jupyter: PathBuf,
    /// The image for the template `jupyter`, in place of the virtual environment.
    pub jupyter_image: Option<String>,
    /// The directories of hosts that every user's jobs may mount; an admin's jobs may mount any.
    pub volume_paths: Vec<PathBuf>,
    /// The directories of hosts below which every user's jobs may have their image; an admin's jobs
    /// may use any.
    pub image_paths: Vec<PathBuf>,
    /// The number of jobs that leave a drained host at once.
    pub drain_at_once: NonZeroUsize,
}

impl Config {
    /// Returns whether there is a capsule store.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }
}
