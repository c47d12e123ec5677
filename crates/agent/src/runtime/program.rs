//! The program `float` inside jobs, where scripts look for it: `/opt/memverge/bin/float`.
//!
//! ```text
//!  state directory/program/          made when the agent starts
//!    bin/float                       a static program that starts the one below
//!    lib/float, lib/loader, lib/…    this host's `float`, its dynamic loader and its libraries
//!  state directory/jobs/JOB/g…/program/
//!    the same files by hard links; `/opt/memverge` inside the job, read-only
//! ```
//!
//! An image may have another C library, or none. Each generation of a job has links of its own.
//! They last as long as the job is on this host, also when a newer agent replaces this one.
//!
//! A job whose host has no `float` to offer has the directory all the same, since CRIU wants the
//! same mounts on every host.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::job_dir::JobDir;

/// The mount point inside a job, which the original has.
const MOUNT_POINT: &str = "/opt/memverge";
const STARTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/float"));
const EXECUTABLE: u32 = 0o755;
/// Permission to read and execute for everybody: a job may run as any user.
const FOR_ALL: u32 = 0o555;

/// Makes the agent's directory with `float` and what it needs.
///
/// # Errors
/// A file can't be read or written.
pub(crate) fn prepare(float: &Path, state_dir: &Path) -> io::Result<()> {
    let (directory, fresh) = (of_agent(state_dir), state_dir.join("program.new"));
    remove(&fresh)?;
    let (bin, lib) = (fresh.join("bin"), fresh.join("lib"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&lib)?;
    bring(float, &lib.join("float"))?;
    // The dynamic loader prints what it would load, and executes nothing.
    let asked = Command::new(float).env("LD_TRACE_LOADED_OBJECTS", "1").output()?;
    for (name, path) in loaded(&String::from_utf8_lossy(&asked.stdout)) {
        bring(&path, &lib.join(name))?;
    }
    fs::write(bin.join("float"), STARTER)?;
    fs::set_permissions(bin.join("float"), fs::Permissions::from_mode(EXECUTABLE))?;
    remove(&directory)?;
    fs::rename(fresh, directory)
}

/// Links the agent's files into the directory of a job that starts or arrives.
///
/// # Errors
/// A link can't be made.
pub(crate) fn give(state_dir: &Path, job_dir: &JobDir) -> io::Result<()> {
    let (from, to) = (of_agent(state_dir), job_dir.program());
    fs::create_dir_all(&to)?;
    for part in ["bin", "lib"] {
        let entries = match fs::read_dir(from.join(part)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        fs::create_dir_all(to.join(part))?;
        for entry in entries {
            let entry = entry?;
            match fs::hard_link(entry.path(), to.join(part).join(entry.file_name())) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Returns the mount of the container's configuration.
pub(crate) fn mount(job_dir: &JobDir) -> Value {
    json!({ "destination": MOUNT_POINT, "type": "bind", "source": job_dir.program(),
            "options": ["bind", "ro", "nosuid", "nodev"] })
}

fn of_agent(state_dir: &Path) -> PathBuf {
    state_dir.join("program")
}

/// Links a file, or copies it where a link can't be made or not everybody may execute the file.
fn bring(file: &Path, to: &Path) -> io::Result<()> {
    let file = file.canonicalize()?;
    let is_for_all = file.metadata()?.permissions().mode() & FOR_ALL == FOR_ALL;
    if is_for_all && fs::hard_link(&file, to).is_ok() {
        return Ok(());
    }
    fs::copy(&file, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(EXECUTABLE))
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads what the dynamic loader of the GNU C library prints of a program: its libraries by name,
/// and the loader itself as `loader`.
fn loaded(text: &str) -> Vec<(String, PathBuf)> {
    let of_line = |line: &str| {
        let (line, _address) = line.trim().rsplit_once(" (0x")?;
        match line.split_once(" => ") {
            Some((name, path)) if !name.contains('/') => Some((name.to_owned(), PathBuf::from(path))),
            Some((_, path)) => Some(("loader".to_owned(), PathBuf::from(path))),
            None => line.starts_with('/').then(|| ("loader".to_owned(), PathBuf::from(line))),
        }
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_list_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd5d9f2000)
\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f1c52d3a000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1c50e1f000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f1c52d75000)
Usage: float (0x of no address) COMMAND
";
        let expected = [
            ("libgcc_s.so.1", "/lib/x86_64-linux-gnu/libgcc_s.so.1"),
            ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
            ("loader", "/lib64/ld-linux-x86-64.so.2"),
        ];
        assert_eq!(loaded(text), expected.map(|(name, path)| (name.to_owned(), PathBuf::from(path))));
        let odd = "\t/lib/ld-linux-aarch64.so.1 => /usr/lib/ld-linux-aarch64.so.1 (0x00007f1c52d75000)";
        assert_eq!(loaded(odd), [("loader".to_owned(), PathBuf::from("/usr/lib/ld-linux-aarch64.so.1"))]);
        assert_eq!(loaded("\tstatically linked\n"), []);
    }

    #[test]
    fn prepared_program_runs_with_its_own_libraries() {
        let directory = tempfile::tempdir().unwrap();
        // Twice: an agent starts again.
        for _ in 0..2 {
            prepare(Path::new("/bin/echo"), directory.path()).unwrap();
        }
        let (bin, lib) = (directory.path().join("program/bin"), directory.path().join("program/lib"));
        let ran = Command::new(bin.join("float")).env_clear().args(["one", "two  three"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "one two  three\n", "{ran:?}");
        let of_lib = |name: &str| lib.join(name).exists();
        assert!(of_lib("loader") && of_lib("libc.so.6") && of_lib("float"));
        fs::remove_file(lib.join("float")).unwrap();
        let ran = Command::new(bin.join("float")).output().unwrap();
        assert_eq!(ran.status.code(), Some(127), "{ran:?}");
    }
}
