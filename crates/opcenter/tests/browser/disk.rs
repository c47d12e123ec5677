//! A disk that breaks: a file system in a file. It becomes read-only as soon as the kernel finds an
//! error in it.
//!
//! A shell beside the test waits at a pipe, which ends with the test however that ends, and then
//! unmounts. The loop device goes with the last user of the mount.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const BYTES: u64 = 128 << 20;

/// The file system.
pub(crate) struct Disk {
    directory: TempDir,
    /// The name of the loop device, like `loop0`.
    device: String,
    guard: Child,
}

impl Disk {
    /// Makes the file system and mounts it.
    pub(crate) fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (image, path) = (directory.path().join("image"), directory.path().join("disk"));
        fs::File::create(&image).unwrap().set_len(BYTES).unwrap();
        fs::create_dir(&path).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).args([&image, &path]));
        let guard = Command::new("sh")
            .args(["-c", "read -r end; umount -l \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A test that takes too long is killed with its group.
            .process_group(0)
            .spawn()
            .unwrap();
        let device = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&path));
        let device = device.trim().trim_start_matches("/dev/").to_owned();
        Self { directory, device, guard }
    }

    /// Returns the mount point.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// Lets the kernel find an error.
    pub(crate) fn fail(&self) {
        fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", self.device), "1").unwrap();
        assert!(fs::write(self.path().join("file"), "").is_err(), "the disk can be written");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn run(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}
