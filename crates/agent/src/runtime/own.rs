//! The directory `/.mooring` inside a container: a part of the job's root file system that moves
//! with it.
//!
//! | file | content |
//! |---|---|
//! | `stdout.autosave`, `stderr.autosave` | the job's output; a descriptor of the host would fail a second checkpoint |
//! | `start` | the program that opens the output and becomes the command; it removes itself |
//! | `script` | the submitted script |
//! | `resolv.conf` | the name servers that the job was given |
//! | `busy` | made by the job: it is in use until the time at which the file was modified |
//! | `results/` | files that are kept after the job's end |
//!
//! The job can replace these files, by a link to a file of the host for example: the agent reads
//! below the job's root only.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use mooring_types::JobId;
use mooring_types::job::{JobSpec, OutputFile, RESULTS_MAX};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::image::Image;
use super::job_dir::JobDir;
use super::user::User;

const DIRECTORY: &str = ".mooring";
/// The exit code of a job whose first process is the shell of an earlier agent.
const EXIT_CODE: &str = "rc";
const START: &str = "start";
const START_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/start"));
const SCRIPT: &str = "script";
const RESULTS: &str = "results";
const BUSY: &str = "busy";

/// Creates the directory for a new job that runs as `user`.
pub(crate) fn make(job_dir: &JobDir, spec: &JobSpec, user: &User) -> io::Result<()> {
    let own = job_dir.upper().join(DIRECTORY);
    let results = own.join(RESULTS);
    fs::create_dir_all(&results)?;
    for directory in [&own, &results] {
        chown(directory, Some(user.uid), Some(user.gid))?;
    }
    write_program(&own.join(START), START_PROGRAM)?;
    spec.script.as_ref().map_or(Ok(()), |script| write_program(&own.join(SCRIPT), script.as_bytes()))
}

fn write_program(path: &Path, program: &[u8]) -> io::Result<()> {
    fs::write(path, program)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The user that a job runs as.
pub(crate) fn user(spec: &JobSpec, image: &Image) -> User {
    if spec.with_root { User::default() } else { image.user.clone() }
}

/// The command of the container's first process; `None` when the job has no command. The program
/// `start` opens the output files inside the container and becomes the job's command.
pub(crate) fn arguments(spec: &JobSpec, image: &Image) -> Option<Vec<String>> {
    let path = |name: &dyn std::fmt::Display| format!("/{DIRECTORY}/{name}");
    let command: Vec<String> = match &spec.script {
        // A script without `#!` runs in a shell.
        Some(script) => {
            let reader = (!script.starts_with("#!")).then(|| "/bin/sh".to_owned());
            reader.into_iter().chain([path(&SCRIPT)]).collect()
        }
        None if spec.command.is_empty() => image.command.clone(),
        None => spec.command.clone(),
    };
    let start = [path(&START), path(&OutputFile::Stdout), path(&OutputFile::Stderr)];
    (!command.is_empty()).then(|| start.into_iter().chain(command).collect())
}

/// The variables that describe a job to itself, in addition to those of its user from its spec.
/// `WORKER_ADDR` is the address of the host on which the job began.
pub(crate) fn environment(job: &JobId, opcenter: &str, trust: &str, worker: Ipv4Addr) -> Vec<String> {
    let directory = format!("/{DIRECTORY}");
    vec![
        format!("FLOAT_JOB_ID={job}"),
        format!("FLOAT_ADDR={opcenter}"),
        format!("FLOAT_CA={trust}"),
        format!("WORKER_ADDR={worker}"),
        format!("FLOAT_JOB_PATH={directory}"),
        format!("FLOAT_LOG_PATH={directory}"),
        format!("FLOAT_RESULTS={directory}/{RESULTS}"),
    ]
}

/// The exit code in the job's file, if any: the shell of an earlier agent has left it.
pub(crate) fn exit_code(job_dir: &JobDir) -> Option<i32> {
    let mut text = String::new();
    open(&job_dir.upper(), EXIT_CODE)?.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Opens a file of a job, whose upper layer is `upper`, for reading.
pub(crate) fn open_output(upper: &Path, file: &OutputFile) -> Option<File> {
    open(upper, &file.to_string())
}

/// Opens the file by which a job says that it is in use.
pub(crate) fn open_busy(upper: &Path) -> Option<File> {
    open(upper, BUSY)
}

/// The results of a job: regular files with plain names, up to the number that is kept.
pub(crate) fn results(upper: &Path) -> Vec<OutputFile> {
    let entries = fs::read_dir(upper.join(DIRECTORY).join(RESULTS)).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| format!("{RESULTS}/{}", entry.file_name().to_str()?).parse().ok());
    let mut results: Vec<OutputFile> = named.filter(|file| open_output(upper, file).is_some()).collect();
    results.sort();
    results.truncate(RESULTS_MAX);
    results
}

fn open(upper: &Path, name: &str) -> Option<File> {
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).resolve(beneath);
    let file = File::from(openat2(File::open(upper).ok()?, &Path::new(DIRECTORY).join(name), how).ok()?);
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_the_job_is_read_whatever_it_puts_in_its_place() {
        let world = tempfile::tempdir().unwrap();
        let (upper, secret) = (world.path().join("upper"), world.path().join("secret"));
        fs::create_dir_all(&secret).unwrap();
        for name in ["stdout.autosave", "rc"] {
            fs::write(secret.join(name), "0").unwrap();
        }
        fs::create_dir_all(upper.join(".mooring/results")).unwrap();
        fs::write(upper.join(".mooring/results/table"), "").unwrap();
        symlink(secret.join("rc"), upper.join(".mooring/results/link")).unwrap();
        symlink(secret.join("stdout.autosave"), upper.join(".mooring/stdout.autosave")).unwrap();
        nix::unistd::mkfifo(&upper.join(".mooring/stderr.autosave"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open_output(&upper, &OutputFile::Stdout).is_none());
        assert!(open_output(&upper, &OutputFile::Stderr).is_none());
        assert_eq!(results(&upper), [OutputFile::Result("table".into())]);
        fs::rename(upper.join(".mooring"), upper.join("away")).unwrap();
        symlink(&secret, upper.join(".mooring")).unwrap();
        assert!(open_output(&upper, &OutputFile::Stdout).is_none() && open(&upper, "rc").is_none());
    }
}
