//! The files that a job has changed: pre-copied while it executes, and sent again where they differ
//! after the freeze.
//!
//! A file counts as unchanged when its inode, size and change time are equal. A write through an
//! older shared mapping does not change them: [mapped](super::mapped) files are always sent again.
//! All names of a file are sent together, so that they stay one file.
//!
//! The job executes during the pre-copy, and may create and remove files that the listing does not
//! have. The names of the listing follow the files, and the destination removes all others. A file
//! that still exists at the freeze is new by the listing, and is sent again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mooring_linux::mount;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::mapped::MappedFile;
use super::stream::FRAME_DATA_BYTES;
use super::stream::frame::{self, Frame};
use super::stream::path_list::PathList;
use crate::error::{Error, Result, StreamError};
use crate::runtime::removed_names::Link;

/// tar's exit code when a file changed while it was read: no failure, since the file is sent again.
const CHANGED_WHILE_READ: i32 = 1;

/// The attributes that show a change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    kind: u32,
    device: u64,
    /// The number of its names.
    names: u64,
}

impl Stamp {
    /// The identity of the file, under any of its names.
    fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// All files below a directory at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing(BTreeMap<PathBuf, Stamp>);

/// The difference to an earlier listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) changed: BTreeSet<PathBuf>,
    pub(crate) removed: BTreeSet<PathBuf>,
}

impl Listing {
    /// Lists everything below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut listing = Self::default();
        listing.walk(root, Path::new(""))?;
        Ok(listing)
    }

    fn walk(&mut self, root: &Path, below: &Path) -> Result<()> {
        let directory = root.join(below);
        let attempt = || format!("read {}", directory.display());
        for entry in fs::read_dir(&directory).map_err(Error::system(attempt()))? {
            let entry = entry.map_err(Error::system(attempt()))?;
            // A file that is removed at this moment is missing in the listing.
            let Ok(found) = entry.metadata() else { continue };
            let path = below.join(entry.file_name());
            let stamp = Stamp {
                inode: found.ino(),
                size: found.len(),
                changed: (found.ctime(), found.ctime_nsec()),
                kind: found.mode() & nix::libc::S_IFMT,
                device: found.dev(),
                names: found.nlink(),
            };
            self.0.insert(path.clone(), stamp);
            if found.is_dir() {
                self.walk(root, &path)?;
            }
        }
        Ok(())
    }

    /// Returns the difference from `earlier` to this listing.
    pub(crate) fn since(&self, earlier: &Self) -> Difference {
        let mut difference = Difference::default();
        for (path, stamp) in &self.0 {
            match earlier.0.get(path) {
                Some(known) if known == stamp => {}
                Some(known) if known.kind != stamp.kind => {
                    difference.removed.insert(path.clone());
                    difference.changed.insert(path.clone());
                }
                _ => {
                    difference.changed.insert(path.clone());
                }
            }
        }
        let removed = earlier.0.keys().filter(|path| !self.0.contains_key(*path)).cloned();
        difference.removed.extend(removed);
        difference
    }

    /// The names of mapped files in this listing of `upper`; the job sees these files below `root`.
    pub(crate) fn names_of(&self, mapped: &[MappedFile], upper: &Path, root: &Path) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for file in mapped {
            let is_at = |path: &Path| self.0.contains_key(path) && file.is_at([upper, root], path);
            match file.hint().filter(|path| is_at(path)) {
                Some(path) => drop(found.insert(path.to_owned())),
                // It has lost that name, and has another one, or is none of these files.
                None => found.extend(self.of_size(file.size()).filter(|path| is_at(path)).map(Path::to_owned)),
            }
        }
        let files: HashSet<_> = found.iter().filter_map(|path| self.0.get(path)).map(Stamp::file).collect();
        let others = self.0.iter().filter(|(_, stamp)| stamp.names > 1 && files.contains(&stamp.file()));
        found.extend(others.map(|(path, _)| path.clone()));
        found
    }

    /// The links that have to be made to be sent, each with a name that its file has here.
    pub(crate) fn remap_links(&self, links: Vec<Link>) -> Vec<(Link, PathBuf)> {
        let missing = links.into_iter().filter(|link| !self.0.contains_key(&link.path));
        let with_name = |link: Link| {
            let leads_there = |stamp: &Stamp| stamp.file() == (link.device, link.inode);
            let (path, _) = self.0.iter().find(|(_, stamp)| leads_there(stamp))?;
            Some((link, path.clone()))
        };
        missing.filter_map(with_name).collect()
    }

    /// The paths of the socket files.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Path> {
        let is_socket = |stamp: &Stamp| stamp.kind == nix::libc::S_IFSOCK;
        self.0.iter().filter(move |(_, stamp)| is_socket(stamp)).map(|(path, _)| path.as_path())
    }

    /// The paths of the regular files with this size.
    fn of_size(&self, size: u64) -> impl Iterator<Item = &Path> {
        let has_size = move |stamp: &Stamp| stamp.kind == nix::libc::S_IFREG && stamp.size == size;
        self.0.iter().filter(move |(_, stamp)| has_size(stamp)).map(|(path, _)| path.as_path())
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

/// Sends all files below `root`, then the names in `listing`.
///
/// # Errors
/// tar failed, or the connection is lost.
pub(crate) async fn send_all(to: &mut (impl AsyncWrite + Unpin), root: &Path, listing: &Listing) -> Result<u64> {
    let sent = send(to, root, None).await?;
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
) -> Result<u64> {
    for names in PathList::pieces(difference.removed.iter().map(PathBuf::as_path)) {
        frame::send(to, &Frame::Removed(names)).await.map_err(lost)?;
    }
    let sent = send(to, root, Some(&difference.changed)).await?;
    frame::send(to, &Frame::FilesEnd).await.map_err(lost)?;
    Ok(sent)
}

fn lost(error: io::Error) -> Error {
    Error::system("send the job's files")(error)
}

/// Sends files below `root` as one tar: all of them, or those in `only`.
async fn send(to: &mut (impl AsyncWrite + Unpin), root: &Path, only: Option<&BTreeSet<PathBuf>>) -> Result<u64> {
    let mut sent = 0;
    if only.is_none_or(|paths| !paths.is_empty()) {
        let mut tar = tar(root);
        tar.args(["--sparse", "-cf", "-"]).stdout(Stdio::piped());
        match only {
            None => tar.arg(".").stdin(Stdio::null()),
            Some(_) => tar.args(["--no-recursion", "--null", "-T", "-"]).stdin(Stdio::piped()),
        };
        let mut child = tar.spawn().map_err(Error::system("run `tar`"))?;
        let names = only.map(names).unwrap_or_default();
        let stdin = child.stdin.take();
        let mut stdout =
            child.stdout.take().ok_or_else(|| Error::system("read from `tar`")(io::ErrorKind::BrokenPipe.into()))?;
        let feed = async move {
            if let Some(mut stdin) = stdin {
                stdin.write_all(&names).await?;
            }
            Ok::<(), io::Error>(())
        };
        let forward = async {
            loop {
                let mut bytes = Vec::with_capacity(FRAME_DATA_BYTES);
                if (&mut stdout).take(FRAME_DATA_BYTES as u64).read_to_end(&mut bytes).await? == 0 {
                    return Ok(());
                }
                sent += bytes.len() as u64;
                frame::send(to, &Frame::Files(bytes.into())).await?;
            }
        };
        tokio::try_join!(feed, forward).map_err(lost)?;
        let status = child.wait().await.map_err(Error::system("wait for `tar`"))?;
        if !status.success() && status.code() != Some(CHANGED_WHILE_READ) {
            return Err(Error::tool("tar", status, &stderr_of(&mut child).await));
        }
    }
    Ok(sent)
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
            return Err(Error::tool("tar", status, &stderr_of(&mut tar).await));
        }
        let Some(kept) = self.kept.take() else { return Ok(()) };
        let root = self.root.clone();
        let removed = tokio::task::spawn_blocking(move || remove_others(&root, Path::new(""), &kept)).await;
        removed.map_err(|error| Error::system("remove what is not the job's")(error.into()))?
    }

    /// Removes files that the source no longer has.
    ///
    /// # Errors
    /// A file can't be removed, or an earlier tar failed.
    pub(crate) async fn remove(&mut self, names: &PathList) -> Result<()> {
        self.wait().await?;
        for path in names.paths() {
            let stays = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !stays {
                return Err(StreamError::PathOutside { path: path.to_owned() }.into());
            }
            // A link may have replaced a directory, and may lead outside of the root.
            let is_directory = |above: &Path| fs::symlink_metadata(self.root.join(above)).is_ok_and(|it| it.is_dir());
            if path.ancestors().skip(1).all(is_directory) {
                mount::remove_tree(&self.root.join(path))?;
            }
        }
        Ok(())
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
            mount::remove_tree(&root.join(&path))?;
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

async fn stderr_of(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        // An unreadable stderr adds nothing to the error.
        let _ = AsyncReadExt::take(stderr as &mut (dyn AsyncRead + Unpin + Send), 2000).read_to_string(&mut text).await;
    }
    text.trim().to_owned()
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
        send_difference(&mut wire, from, &difference).await.expect("files are sent");
        unpack(&wire, to).await;
        let names = |root| {
            let all = Listing::read(root).expect("a listing").0;
            all.into_iter().map(|(path, stamp)| (path, stamp.kind)).collect::<Vec<_>>()
        };
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
        send(&mut wire, from.path(), None).await.unwrap();
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
