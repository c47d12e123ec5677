//! The options and group memberships of a job's UDP sockets, over a restore.
//!
//! CRIU restores few options of such a socket and no membership. They are read once the job is
//! frozen and travel as an image of the checkpoint. They are set before the restored job is thawed
//! and any packet reaches it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use mooring_linux::datagram::{self, DatagramSettings, DatagramSocket};
use mooring_linux::process_tree;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::OwnImage;

/// The image: a list of [`Entry`]s.
const IMAGE: OwnImage = OwnImage("datagrams.img");

/// A UDP socket, by a descriptor of a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// The process's id as the job sees it.
    pid: i32,
    descriptor: i32,
    settings: DatagramSettings,
}

/// Adds the settings of a frozen job's UDP sockets to its checkpoint.
///
/// # Errors
/// The image can't be written.
pub(crate) fn record(job_dir: &JobDir, images: &Path) -> Result<()> {
    let sockets = datagram::find(&job_dir.cgroup().pids());
    if sockets.is_empty() {
        return Ok(());
    }
    let entry = |socket: &DatagramSocket| Entry {
        pid: socket.own_pid,
        descriptor: socket.descriptor,
        settings: socket.settings(),
    };
    IMAGE.write(images, &sockets.iter().map(entry).collect::<Vec<_>>())
}

/// Gives the UDP sockets of a restored job, which is frozen, their settings again.
///
/// # Errors
/// The image can't be read.
pub(crate) fn restore(job_dir: &JobDir, images: &Path) -> Result<()> {
    let Some(entries) = IMAGE.read::<Vec<Entry>>(images)? else { return Ok(()) };
    let pids = job_dir.cgroup().pids();
    let known: BTreeMap<i32, i32> =
        pids.into_iter().filter_map(|pid| Some((process_tree::own_pid(pid)?, pid))).collect();
    for Entry { pid, descriptor, settings } in entries {
        let job = job_dir.container();
        let opened = known.get(&pid).map(|known| DatagramSocket::open(*known, pid, descriptor));
        match opened.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())).map(|socket| socket.restore(&settings)) {
            Ok(0) => {}
            Ok(count) => {
                tracing::warn!("{count} settings of UDP socket {descriptor} of process {pid} of {job} are lost")
            }
            Err(error) => {
                tracing::warn!(%error, "the settings of UDP socket {descriptor} of process {pid} of {job} are lost");
            }
        }
    }
    Ok(())
}
