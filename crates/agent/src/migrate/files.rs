//! The files that a job has changed, as tar sends them: pre-copied while it executes, and sent
//! again where they differ after the freeze.
//!
//! A [listing](super::listing) says which differ. A write through an older shared mapping changes
//! no attribute: [mapped](super::mapped) files are always sent again. All names of a file are sent
//! together, so that they stay one file.
//!
//! The job executes during the pre-copy, and may create and remove files that the listing does not
//! have. The names of the listing follow the files, and the destination removes all others. A file
//! that still exists at the freeze is new by the listing, and is sent again.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mooring_linux::{attributes, mount, tree};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};

use super::listing::{Difference, Listing};
use super::stream::FRAME_DATA_BYTES;
use super::stream::frame::{self, Frame};
use super::stream::path_list::PathList;
use crate::error::{Error, Result, StreamError};

/// tar's exit code when a file changed while it was read: no failure, since the file is sent again.
const CHANGED_WHILE_READ: i32 = 1;
/// tar's exit code when it could not read a file; the others are in the archive.
const NOT_READ: i32 = 2;
/// The most bytes of tar's messages that are kept.
const MESSAGES_MAX_BYTES: u64 = 2000;

/// Says whether a file that can't be read is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is an error.
    Fails,
    /// The job executes and may have removed it: it is looked at again.
    IsLeftOut,
}

/// The outcome of sending files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    /// A file was left out.
    pub(crate) lacks_files: bool,
}

/// Sends all files below `root`, then the names in `listing`.
///
/// # Errors
/// tar failed, or the connection is lost.
pub(crate) async fn send_all(to: &mut (impl AsyncWrite + Unpin), root: &Path, listing: &Listing) -> Result<u64> {
    let sent = send(to, root, None, Unreadable::Fails).await?.bytes;
    for names in PathList::pieces(listing.paths()) {
        frame::send(to, &Frame::Kept(names)).await.map_err(lost)?;
    }
    frame::send(to, &Frame::FilesEnd).await.map_err(lost)?;
    Ok(sent)
}

/// Sends changed files and the names of removed ones.
///
/// # Errors
/// tar failed, or the connection is lost.
pub(crate) async fn send_difference(
    to: &mut (impl AsyncWrite + Unpin),
    root: &Path,
    difference: &Difference,
    unreadable: Unreadable,
) -> Result<Sent> {
    for names in PathList::pieces(difference.removed.iter().map(PathBuf::as_path)) {
        frame::send(to, &Frame::Removed(names)).await.map_err(lost)?;
    }
    let is_directory = |path: &&PathBuf| fs::symlink_metadata(root.join(path)).is_ok_and(|found| found.is_dir());
    // A file that is replaced or removed gives its directory a new time, which the tar sets again.
    let above = difference.changed.iter().chain(&difference.removed).filter_map(|path| path.parent());
    let above: BTreeSet<PathBuf> = above.map(Path::to_owned).collect();
    let mut changed = difference.changed.clone();
    changed.extend(above.into_iter().filter(|path| is_directory(&path)));
    // tar adds attributes to a directory that exists, and removes none.
    let named = |path: &'_ PathBuf| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.clone() };
    let directories: Vec<PathBuf> = changed.iter().filter(is_directory).map(named).collect();
    for names in PathList::pieces(directories.iter().map(PathBuf::as_path)) {
        frame::send(to, &Frame::Bare(names)).await.map_err(lost)?;
    }
    let sent = send(to, root, Some(&changed), unreadable).await?;
    frame::send(to, &Frame::FilesEnd).await.map_err(lost)?;
    Ok(sent)
}

fn lost(error: io::Error) -> Error {
    Error::system("send the job's files")(error)
}

/// Sends files below `root` as one tar: all of them, or those in `only`.
async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    root: &Path,
    only: Option<&BTreeSet<PathBuf>>,
    unreadable: Unreadable,
) -> Result<Sent> {
    if only.is_some_and(BTreeSet::is_empty) {
        return Ok(Sent::default());
    }
    let mut tar = tar(root);
    tar.args(["--sparse", "-cf", "-"]).stdout(Stdio::piped());
    match only {
        None => tar.arg(".").stdin(Stdio::null()),
        Some(_) => tar.args(["--no-recursion", "--null", "-T", "-"]).stdin(Stdio::piped()),
    };
    let mut child = tar.spawn().map_err(Error::system("run `tar`"))?;
    let names = only.map(names).unwrap_or_default();
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut stdout =
        child.stdout.take().ok_or_else(|| Error::system("read from `tar`")(io::ErrorKind::BrokenPipe.into()))?;
    let feed = async move {
        if let Some(mut stdin) = stdin {
            stdin.write_all(&names).await?;
        }
        Ok::<(), io::Error>(())
    };
    let forward = async {
        let mut sent = 0;
        loop {
            let mut bytes = Vec::with_capacity(FRAME_DATA_BYTES);
            if (&mut stdout).take(FRAME_DATA_BYTES as u64).read_to_end(&mut bytes).await? == 0 {
                return Ok(sent);
            }
            sent += bytes.len() as u64;
            frame::send(to, &Frame::Files(bytes.into())).await?;
        }
    };
    let messages = async { Ok(messages(stderr).await) };
    let ((), bytes, messages) = tokio::try_join!(feed, forward, messages).map_err(lost)?;
    let status = child.wait().await.map_err(Error::system("wait for `tar`"))?;
    match status.code() {
        Some(0 | CHANGED_WHILE_READ) => Ok(Sent { bytes, lacks_files: false }),
        Some(NOT_READ) if unreadable == Unreadable::IsLeftOut => {
            tracing::debug!("tar could not read all files: {messages}");
            Ok(Sent { bytes, lacks_files: true })
        }
        _ => Err(Error::tool("tar", status, &messages)),
    }
}

/// Unpacks received files below a directory.
#[derive(Debug)]
pub(crate) struct FileReceiver {
    root: PathBuf,
    tar: Option<Child>,
    /// The `tar` process of a tar whose end was received.
    ending: Option<Child>,
    /// The files to keep once that process has ended; `None` keeps all.
    kept: Option<HashSet<PathBuf>>,
}

impl FileReceiver {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), tar: None, ending: None, kept: None }
    }

    /// Unpacks bytes of the tar.
    ///
    /// # Errors
    /// This or an earlier tar failed.
    pub(crate) async fn unpack(&mut self, bytes: &[u8]) -> Result<()> {
        if self.tar.is_none() {
            self.wait().await?;
            let mut command = tar(&self.root);
            command
                .args(["--same-permissions", "--same-owner", "-xf", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            self.tar = Some(command.spawn().map_err(Error::system("run `tar`"))?);
        }
        let Some(stdin) = self.tar.as_mut().and_then(|tar| tar.stdin.as_mut()) else { return Ok(()) };
        stdin.write_all(bytes).await.map_err(Error::system("write to `tar`"))
    }

    /// Keeps these files, in addition to those of earlier calls, and no others once the tar has
    /// ended.
    pub(crate) fn keep_only(&mut self, names: &PathList) {
        self.kept.get_or_insert_default().extend(names.paths().map(Path::to_owned));
    }

    /// Ends the tar; [`FileReceiver::wait`] waits until all its files are unpacked.
    pub(crate) fn finish(&mut self) {
        if let Some(mut tar) = self.tar.take() {
            drop(tar.stdin.take());
            self.ending = Some(tar);
        }
    }

    /// Waits until all ended tars are unpacked and files that are not kept are removed.
    ///
    /// # Errors
    /// tar failed, or a file can't be removed.
    pub(crate) async fn wait(&mut self) -> Result<()> {
        let Some(mut tar) = self.ending.take() else { return Ok(()) };
        let status = tar.wait().await.map_err(Error::system("wait for `tar`"))?;
        if !status.success() {
            return Err(Error::tool("tar", status, &messages(tar.stderr.take()).await));
        }
        let Some(kept) = self.kept.take() else { return Ok(()) };
        let root = self.root.clone();
        let removed = tokio::task::spawn_blocking(move || remove_others(&root, Path::new(""), &kept)).await;
        removed.map_err(|error| Error::system("remove what is not the job's")(error.into()))?
    }

    /// Removes the extended attributes of directories; the next tar has those that they keep.
    ///
    /// # Errors
    /// An earlier tar failed.
    pub(crate) async fn bare(&mut self, names: &PathList) -> Result<()> {
        self.wait().await?;
        for path in names.paths() {
            // A directory that is not there comes with the tar.
            if let Ok(directory) = mount::open_below(&self.root, path) {
                let failed = || Error::system(format!("remove the attributes of {}", path.display()));
                attributes::remove_all(&directory).map_err(failed())?;
            }
        }
        Ok(())
    }

    /// Removes files that the source no longer has.
    ///
    /// # Errors
    /// A file can't be removed, or an earlier tar failed.
    pub(crate) async fn remove(&mut self, names: &PathList) -> Result<()> {
        self.wait().await?;
        let stays = |path: &Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if let Some(path) = names.paths().find(|path| !stays(path)) {
            return Err(StreamError::PathOutside { path: path.to_owned() }.into());
        }
        // A link may have replaced a directory, and may lead outside of the root.
        let is_directory = |above: &Path| fs::symlink_metadata(self.root.join(above)).is_ok_and(|it| it.is_dir());
        let there = names.paths().filter(|path| path.ancestors().skip(1).all(is_directory));
        Ok(tree::remove_trees(there.map(|path| self.root.join(path)))?)
    }
}

/// Removes everything at `below` in `root` that is not kept.
fn remove_others(root: &Path, below: &Path, kept: &HashSet<PathBuf>) -> Result<()> {
    let directory = root.join(below);
    let attempt = || Error::system(format!("read {}", directory.display()));
    for entry in fs::read_dir(&directory).map_err(attempt())? {
        let entry = entry.map_err(attempt())?;
        let path = below.join(entry.file_name());
        if !kept.contains(&path) {
            tree::remove_tree(&root.join(&path))?;
        } else if entry.file_type().map_err(attempt())?.is_dir() {
            remove_others(root, &path, kept)?;
        }
    }
    Ok(())
}

fn tar(root: &Path) -> Command {
    let mut command = Command::new("tar");
    command.arg("-C").arg(root).args(["--xattrs", "--xattrs-include=*", "--numeric-owner"]);
    command.stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn names(paths: &BTreeSet<PathBuf>) -> Vec<u8> {
    // Behind `./` a name that starts with a dash is not an option.
    paths.iter().flat_map(|path| [b"./", path.as_os_str().as_bytes(), b"\0"].concat()).collect()
}

/// Reads what tar says, so that it can go on saying more.
async fn messages(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut first = Vec::new();
    // An unreadable stderr adds nothing to the error.
    let _ = (&mut stderr).take(MESSAGES_MAX_BYTES).read_to_end(&mut first).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&first).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    /// Unpacks sent bytes into `to`.
    async fn unpack(wire: &[u8], to: &Path) {
        let (mut rest, mut receiver) = (wire, FileReceiver::new(to));
        while !rest.is_empty() {
            match frame::receive(&mut rest).await.expect("a frame") {
                Frame::Files(bytes) => receiver.unpack(&bytes).await.expect("files are taken"),
                Frame::Kept(names) => receiver.keep_only(&names),
                Frame::Removed(names) => receiver.remove(&names).await.expect("files are removed"),
                Frame::Bare(names) => receiver.bare(&names).await.expect("attributes are removed"),
                other => {
                    assert_eq!(other, Frame::FilesEnd);
                    receiver.finish();
                    receiver.wait().await.expect("tar ends well");
                }
            }
        }
    }

    /// Carries what is there, by a listing that was taken before.
    async fn carry_all(from: &Path, to: &Path, listing: &Listing) {
        let mut wire = Vec::new();
        send_all(&mut wire, from, listing).await.expect("files are sent");
        unpack(&wire, to).await;
    }

    /// Carries what has changed since a listing, and compares names and kinds.
    async fn carry_difference(from: &Path, to: &Path, before: &Listing) -> Difference {
        let difference = Listing::read(from).expect("a listing").since(before);
        let mut wire = Vec::new();
        send_difference(&mut wire, from, &difference, Unreadable::Fails).await.expect("files are sent");
        unpack(&wire, to).await;
        let names = |root| Listing::read(root).expect("a listing").kinds();
        assert_eq!(names(from), names(to));
        difference
    }

    #[tokio::test]
    async fn changes_since_a_listing_make_the_copy_the_same() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| from.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        for (name, text) in
            [("a/kept", "1"), ("a/changed", "1"), ("a/b/gone", "1"), ("-odd name\n", "1"), ("becomes-dir", "1")]
        {
            fs::write(at(name), text).unwrap();
        }
        let not_text = from.path().join(OsStr::from_bytes(b"not text: \xe9\xff"));
        fs::write(&not_text, "1").unwrap();
        mount::whiteout(&at("hidden")).unwrap();
        let before = Listing::read(from.path()).unwrap();
        carry_all(from.path(), to.path(), &before).await;

        fs::write(at("a/changed"), "longer").unwrap();
        fs::remove_dir_all(at("a/b")).unwrap();
        fs::remove_file(&not_text).unwrap();
        fs::write(at("new"), "2").unwrap();
        fs::remove_file(at("becomes-dir")).unwrap();
        fs::create_dir(at("becomes-dir")).unwrap();
        let difference = carry_difference(from.path(), to.path(), &before).await;
        assert!(!difference.changed.contains(Path::new("a/kept")));
        assert_eq!(fs::read_to_string(to.path().join("a/changed")).unwrap(), "longer");
        assert_eq!(fs::read_to_string(to.path().join("-odd name\n")).unwrap(), "1");
    }

    #[tokio::test]
    async fn what_was_there_only_while_files_were_read_does_not_stay() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| from.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::write(at("a/kept"), "1").unwrap();
        // What an attempt that broke off has left.
        fs::create_dir_all(to.path().join("a/earlier")).unwrap();
        let before = Listing::read(from.path()).unwrap();
        fs::write(at("a/passing"), "1").unwrap();
        fs::write(from.path().join(OsStr::from_bytes(b"passing \xe9")), "1").unwrap();
        fs::create_dir_all(at("passing/inner")).unwrap();
        fs::write(at("a/stays"), "1").unwrap();
        carry_all(from.path(), to.path(), &before).await;

        fs::remove_file(at("a/passing")).unwrap();
        fs::remove_file(from.path().join(OsStr::from_bytes(b"passing \xe9"))).unwrap();
        fs::remove_dir_all(at("passing")).unwrap();
        carry_difference(from.path(), to.path(), &before).await;
        assert_eq!(fs::read_to_string(to.path().join("a/stays")).unwrap(), "1");
    }

    #[tokio::test]
    async fn all_that_comes_without_names_stays() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("file"), "1").unwrap();
        // As an older capsule has it.
        let mut wire = Vec::new();
        send(&mut wire, from.path(), None, Unreadable::Fails).await.unwrap();
        frame::send(&mut wire, &Frame::FilesEnd).await.unwrap();
        unpack(&wire, to.path()).await;
        assert!(to.path().join("file").exists());
        carry_all(from.path(), to.path(), &Listing::default()).await;
        assert!(!to.path().join("file").exists());
    }

    #[tokio::test]
    async fn nothing_outside_is_removed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = |path: &str| PathList::pieces([Path::new(path)]).remove(0);
        assert!(FileReceiver::new(root.path()).remove(&names("../x")).await.is_err());
        assert!(FileReceiver::new(root.path()).remove(&names("/etc")).await.is_err());
        // A directory that has become a link meanwhile.
        fs::write(outside.path().join("file"), "1").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        FileReceiver::new(root.path()).remove(&names("link/file")).await.unwrap();
        assert!(outside.path().join("file").exists());
    }
}
