//! The options, group memberships and waiting datagrams of a job's UDP sockets, over a restore.
//!
//! CRIU restores few options of such a socket, no membership and nothing that waits. They are read
//! once the job is frozen and travel as an image of the checkpoint. They are set before the
//! restored job is thawed and any packet reaches it. Datagrams follow, since groups and options
//! decide which of them a socket gets.
//!
//! Datagrams that can't be kept are told as a difference of the restored job.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use mooring_linux::datagram::inlet::Inlet;
use mooring_linux::datagram::queue::Datagram;
use mooring_linux::datagram::{self, DatagramSettings, DatagramSocket};
use mooring_linux::process_tree;
use mooring_ops::log::chain;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::look::readable;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::OwnImage;

/// The image: a list of [`Entry`]s.
const IMAGE: OwnImage = OwnImage("datagrams.img");
/// The image of what a restore could not keep: a list of sentences.
const DROPPED: OwnImage = OwnImage("dropped-datagrams.img");
/// The most bytes of waiting datagrams that travel. The kernel lets some hundred kilobytes wait in
/// a socket, unless its program asks for more.
const WAITING_MAX: usize = 16 << 20;

/// A UDP socket, by a descriptor of a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// The process's id as the job sees it.
    pid: i32,
    descriptor: i32,
    settings: DatagramSettings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
}

/// The datagrams that wait in a socket.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    /// The name of the process's program.
    program: String,
    port: u16,
    datagrams: Vec<Datagram>,
    /// The number of others, which do not travel.
    others: usize,
}

/// Adds the settings of a frozen job's UDP sockets, and what waits in them, to its checkpoint.
///
/// # Errors
/// The image can't be written.
pub(crate) fn record(job_dir: &JobDir, images: &Path) -> Result<()> {
    let sockets = datagram::find(&job_dir.cgroup().pids());
    if sockets.is_empty() {
        return Ok(());
    }
    let mut room = WAITING_MAX;
    let mut entry = |socket: &DatagramSocket| Entry {
        pid: socket.own_pid,
        descriptor: socket.descriptor,
        settings: socket.settings(),
        waiting: waiting(job_dir, socket, &mut room),
    };
    IMAGE.write(images, &sockets.iter().map(&mut entry).collect::<Vec<_>>())
}

fn waiting(job_dir: &JobDir, socket: &DatagramSocket, room: &mut usize) -> Option<Waiting> {
    if socket.memory_of_waiting() == 0 {
        return None;
    }
    let (job, descriptor, pid) = (job_dir.container(), socket.descriptor, socket.own_pid);
    match socket.waiting(*room) {
        Ok((datagrams, 0)) if datagrams.is_empty() => None,
        Ok((datagrams, others)) => {
            *room -= datagrams.iter().map(|datagram| datagram.bytes.len()).sum::<usize>();
            let program = process_tree::name(socket.pid()).map_or_else(String::new, |name| readable(&name));
            Some(Waiting { program, port: socket.port().unwrap_or(0), datagrams, others })
        }
        Err(error) => {
            tracing::warn!(%error, "can't read what waits in UDP socket {descriptor} of process {pid} of {job}");
            None
        }
    }
}

/// Gives the UDP sockets of a restored job, which is frozen, their settings and datagrams again.
///
/// # Errors
/// The image can't be read.
pub(crate) fn restore(job_dir: &JobDir, images: &Path) -> Result<()> {
    let Some(entries) = IMAGE.read::<Vec<Entry>>(images)? else { return Ok(()) };
    let pids = job_dir.cgroup().pids();
    let known: BTreeMap<i32, i32> = pids.iter().filter_map(|pid| Some((process_tree::own_pid(*pid)?, *pid))).collect();
    let job = job_dir.container();
    let mut awaiting = Vec::new();
    for Entry { pid, descriptor, settings, waiting } in entries {
        let opened = known.get(&pid).map(|known| DatagramSocket::open(*known, pid, descriptor));
        let opened = opened.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        match opened.as_ref().map(|socket| socket.restore(&settings)) {
            Ok(0) => {}
            Ok(count) => {
                tracing::warn!("{count} settings of UDP socket {descriptor} of process {pid} of {job} are lost")
            }
            Err(error) => {
                tracing::warn!(%error, "the settings of UDP socket {descriptor} of process {pid} of {job} are lost");
            }
        }
        awaiting.extend(waiting.map(|waiting| (pid, opened.ok(), waiting)));
    }
    if awaiting.is_empty() {
        return Ok(());
    }
    let dropped = put_all(job_dir, &datagram::find(&pids), &awaiting);
    if dropped.is_empty() { Ok(()) } else { DROPPED.write(images, &dropped) }
}

/// Puts waiting datagrams into their sockets. Returns a sentence for each socket that has not got
/// all of its own.
fn put_all(
    job_dir: &JobDir,
    sockets: &[DatagramSocket],
    awaiting: &[(i32, Option<DatagramSocket>, Waiting)],
) -> Vec<String> {
    let inlet = Inlet::open(&job_dir.namespace(), job_dir.interface(), job_dir.address());
    let mut inlet = inlet
        .inspect_err(|error| tracing::warn!(error = %chain(error), "no datagram reaches {}", job_dir.container()))
        .ok();
    let mut dropped = Vec::new();
    for (pid, socket, waiting) in awaiting {
        let all = waiting.datagrams.len();
        let lost = match (&mut inlet, socket) {
            (Some(inlet), Some(socket)) => inlet.put(socket, sockets, &waiting.datagrams),
            _ => all,
        };
        dropped.extend(waiting.told(*pid, lost + waiting.others));
    }
    dropped
}

impl Waiting {
    /// Tells how many of these datagrams a process has lost, if any.
    fn told(&self, pid: i32, lost: usize) -> Option<String> {
        let Self { program, port, .. } = self;
        let of = format!("at UDP port {port} of process {pid} ({program})");
        match lost {
            0 => None,
            1 => Some(format!("a datagram that waited {of} was dropped")),
            lost => Some(format!("{lost} datagrams that waited {of} were dropped")),
        }
    }
}

/// Tells which datagrams the restore from a checkpoint could not keep.
///
/// # Errors
/// The image can't be read.
pub(crate) fn dropped(images: &Path) -> Result<Vec<String>> {
    Ok(DROPPED.read(images)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_with_and_without_datagrams_are_read() {
        let (source, destination) = ("192.0.2.1:5".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let datagram = Datagram { source, destination, hops: 3, class: 0, bytes: vec![0, 1, 0xfe, 0xff] };
        let waiting = Waiting { program: "python3".into(), port: 53, datagrams: vec![datagram], others: 2 };
        let settings = DatagramSettings::default();
        let entry = Entry { pid: 7, descriptor: 3, settings, waiting: Some(waiting) };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap().waiting, entry.waiting);
        // Another version of the agent has written this one.
        let older = r#"{"pid":1,"descriptor":3,"settings":{"options":[],"multicast_interface":null,"memberships":[]}}"#;
        assert_eq!(serde_json::from_str::<Entry>(older).unwrap().waiting, None);
    }

    #[test]
    fn dropped_datagrams_name_their_program() {
        let waiting = Waiting { program: "python3".into(), port: 53, ..Waiting::default() };
        assert_eq!(waiting.told(7, 0), None);
        let of = "at UDP port 53 of process 7 (python3)";
        assert_eq!(waiting.told(7, 1).unwrap(), format!("a datagram that waited {of} was dropped"));
        assert_eq!(waiting.told(7, 3).unwrap(), format!("3 datagrams that waited {of} were dropped"));
    }
}
