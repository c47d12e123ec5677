//! Attacks by what is on the disk: trees that can't be removed, images that fill it, and files that
//! other users of the host read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::MigrateRequest;
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::{Event, JobId};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);

async fn submit(client: &Client, script: &str) -> Result<JobId> {
    let request = Submission {
        image: Some("dir:/".parse()?),
        command: ["/usr/bin/python3", "-c", script].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

/// Makes a tree three times as deep as the longest path, with a file at its end.
const DIGGER: &str = r#"
import os, time
for i in range(1500):
    os.mkdir("d" * 8)
    os.chdir("d" * 8)
open("file", "w").close()
print("dug", flush=True)
while True: time.sleep(1)
"#;

/// S26: a cancelled job is gone, with a tree that no path reaches and files that can't be changed.
#[test]
fn job_with_a_deep_tree_can_be_cancelled() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client, DIGGER).await?;
        executing(&client, &job, LIMIT).await?;
        wait_for("the tree", LIMIT, async || Ok(client.job_log(&job, 0).await?.text.contains("dug").then_some(())))
            .await?;
        // A file system may keep a file from its removal.
        let hosts = fs::read_dir(world.directory().join("hosts"))?.flatten();
        let mut uppers = hosts.map(|host| host.path().join("jobs").join(job.as_str()).join("g1/upper"));
        let upper = uppers.find(|upper| upper.exists()).context("the job's files")?;
        fs::create_dir(upper.join("kept"))?;
        fs::write(upper.join("kept/file"), "")?;
        for path in ["kept/file", "kept"] {
            ensure!(Command::new("chattr").arg("+i").arg(upper.join(path)).status()?.success(), "chattr");
        }
        client.job_cancel(&job).await?;
        wait_for("the job to be cancelled", LIMIT, async || {
            Ok((client.job_get(&job).await?.status == JobStatus::Cancelled).then_some(()))
        })
        .await?;
        ensure!(!upper.exists(), "its files are left");
        Ok(())
    });
    outcome.unwrap();
}

/// S12, S13: another user of the host has no way to what the daemons keep.
#[test]
fn other_users_of_the_host_read_nothing() {
    let mut world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let masks = |world: &World| -> Result<()> {
        // The files of an agent are those of jobs, in a directory that is for root alone.
        for daemon in world.daemons(&["server", "opcenter"]).into_iter().chain(world.daemons(&["up"])) {
            let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid))?;
            let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).map(str::trim);
            ensure!(mask == Some("0077"), "{:?} has the umask {mask:?}", daemon.arguments);
        }
        Ok(())
    };
    masks(&world).unwrap();
    world.stop().unwrap();
    let directories = ["", "opcenter", "hosts/host-1", "hosts/host-1/jobs"].map(|below| world.directory().join(below));
    for directory in &directories {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.start_again().unwrap();
    for directory in &directories {
        let mode = fs::metadata(directory).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "{}", directory.display());
    }
    let mut find = Command::new("setpriv");
    find.args(["--reuid", "12345", "--regid", "12345", "--clear-groups", "find"]).arg(world.directory());
    let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
    assert_eq!(found.trim(), world.directory().display().to_string());
}

/// S11: an image that unpacks to more than a host allows is refused, and leaves nothing.
#[test]
fn image_is_unpacked_within_bounds() {
    let arguments = ["--image-max-size", "1", "--image-max-files", "1000"].map(str::to_owned).to_vec();
    let world = World::start(Plan { arguments, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let files = world.files();
    let tar = |archive: &str, directory: &str| {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(files.join(directory)).arg("-czf").arg(files.join(archive)).arg(".");
        assert!(tar.status().unwrap().success());
    };
    for directory in ["large", "many"] {
        fs::create_dir(files.join(directory)).unwrap();
    }
    fs::File::create(files.join("large/zeros")).unwrap().set_len(1_300_000_000).unwrap();
    tar("large.tar", "large");
    for number in 0..1500 {
        fs::write(files.join(format!("many/{number}")), "").unwrap();
    }
    tar("many.tar", "many");
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        for (archive, why) in [("large.tar", "it has more than 1 GB"), ("many.tar", "it has more than 1000 files")] {
            let image = format!("oci-archive:{}", files.join(archive).display());
            let request =
                Submission { image: Some(image.parse()?), command: vec!["/bin/sh".into()], ..Submission::default() };
            let job = client.job_submit(&request).await?.id;
            let view = ended(&client, &job, LIMIT).await?;
            ensure!(view.status == JobStatus::FailToExecute && view.status_reason.contains(why), "{view:?}");
            ensure!(view.status_reason.contains(archive), "{}", view.status_reason);
        }
        for host in fs::read_dir(world.directory().join("hosts"))?.flatten() {
            let left = fs::read_dir(host.path().join("images/archives")).into_iter().flatten().count();
            ensure!(left == 0, "{left} parts are left");
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Mounts a file system of 64 MB at a directory.
fn tmpfs(directory: &Path) -> Result<()> {
    let options = Some("size=64m,mode=700");
    Ok(mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), options)?)
}

/// S11: below the reserve of its disk a host is not ready, and says why.
#[test]
fn host_without_disk_is_not_ready() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let says = async |expected: usize| {
            wait_for("the hosts to notice", LIMIT, async || {
                let hosts = world.float(&["hosts", "-F", "json"])?.stdout;
                let told = hosts.matches("less than 2 GB is free on the disk of").count();
                Ok((told == expected).then_some(()))
            })
            .await
        };
        // A small disk in the place of each host's, in which nobody looks for files meanwhile.
        let disks = ["host-1", "host-2"].map(|host| world.directory().join("hosts").join(host));
        for disk in &disks {
            tmpfs(disk)?;
            // The tools' `/run`.
            fs::create_dir(disk.join("run"))?;
        }
        says(2).await?;
        for disk in &disks {
            umount(disk)?;
        }
        says(0).await?;
        let job = submit(&client, "pass").await?;
        let view = ended(&client, &job, LIMIT).await?;
        ensure!(view.status == JobStatus::Completed, "{view:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// Writes zeros to a file until the disk is full, and says how far it came.
const FILLER: &str = r#"
import os, time
written = 0
with open("/var/tmp/filler", "wb", buffering=0) as file:
    while True:
        written += file.write(bytes(1 << 20))
        if written % (16 << 20) == 0:
            print(f"at {written >> 20}", flush=True)
"#;

/// Writes a line to a small file, often.
const NEIGHBOUR: &str = r#"
import time
while True:
    with open("/var/tmp/note", "a") as file: file.write(".")
    print("wrote", flush=True)
    time.sleep(0.1)
"#;

/// Puts a file system of its own below the directory of a host that is stopped.
fn small_disk(world: &World, host: &str, megabytes: u64) -> Result<()> {
    let directory = world.directory().join("hosts").join(host);
    let (image, kept) = (world.files().join(format!("{host}.ext4")), world.files().join(host));
    let run = |program: &str, arguments: &[&Path]| -> Result<()> {
        let status = Command::new(program).args(arguments).status()?;
        ensure!(status.success(), "{program} {arguments:?}: {status}");
        Ok(())
    };
    fs::File::create(&image)?.set_len(megabytes << 20)?;
    run("mkfs.ext4", &[Path::new("-q"), Path::new("-m0"), &image])?;
    run("cp", &[Path::new("-a"), &directory, &kept])?;
    run("mount", &[Path::new("-o"), Path::new("loop"), &image, &directory])?;
    fs::remove_dir(directory.join("lost+found"))?;
    run("cp", &[Path::new("-aT"), &kept, &directory])
}

/// S11: a job that fills its host's disk is frozen before it is full. Others go on, the host
/// recovers, and the job goes on once there is room.
#[test]
fn job_that_fills_the_disk_is_frozen() {
    let arguments = ["--disk-reserve", "1"].map(str::to_owned).to_vec();
    let mut world = World::start(Plan { arguments, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    world.stop().unwrap();
    small_disk(&world, "host-1", 2600).unwrap();
    world.start_again().unwrap();
    let disk = world.directory().join("hosts/host-1");
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        world.float(&["hosts", "drain", "host-2"])?;
        let neighbour = submit(&client, NEIGHBOUR).await?;
        executing(&client, &neighbour, LIMIT).await?;
        let filler = submit(&client, FILLER).await?;
        wait_for("the job to be frozen", LIMIT, async || {
            let view = client.job_get(&filler).await?;
            Ok(view.status_reason.starts_with("frozen: the disk of host-1 is nearly full").then_some(()))
        })
        .await?;
        // A job that is frozen writes nothing, and the reserve is not used up.
        let file = disk.join("jobs").join(filler.as_str()).join("g1/upper/var/tmp/filler");
        let before = fs::metadata(&file)?.len();
        let lines = async || anyhow::Ok(client.job_log(&neighbour, 0).await?.text.lines().count());
        let seen = lines().await?;
        wait_for("the neighbour to go on", LIMIT, async || Ok((lines().await? > seen + 20).then_some(()))).await?;
        ensure!(fs::metadata(&file)?.len() == before, "it went on");
        // It stays so with another agent.
        let agent = || world.daemons(&["server", "agent", "host-1"]).first().map(|daemon| daemon.pid);
        let killed = agent().context("the agent")?;
        kill(Pid::from_raw(killed), Signal::SIGKILL)?;
        wait_for("another agent", LIMIT, async || Ok(agent().filter(|pid| *pid != killed))).await?;
        let seen = lines().await?;
        wait_for("the neighbour to be told of", LIMIT, async || Ok((lines().await? > seen + 20).then_some(()))).await?;
        ensure!(fs::metadata(&file)?.len() == before, "it went on with another agent");
        let free = nix::sys::statvfs::statvfs(&disk)?;
        let free = free.fragment_size() * free.blocks_available();
        ensure!(free > 500_000_000, "{free} bytes are left");
        let events = client.job_events(&filler).await?;
        let told = |is_over: bool| {
            let is = |event: &Event| matches!(event, Event::ShortOfDisk { is_over: over, .. } if *over == is_over);
            events.iter().filter(|entry| is(&entry.event)).count()
        };
        ensure!((told(false), told(true)) == (1, 0), "{events:?}");
        // It goes on at a host with room.
        client.host_undrain(&"host-2".parse()?).await?;
        client.job_migrate(&filler, &MigrateRequest::default()).await?;
        wait_for("the job to go on", LIMIT, async || {
            let view = client.job_get(&filler).await?;
            let text = client.job_log(&filler, 0).await?.text;
            let at = text.lines().filter_map(|line| line.strip_prefix("at ")?.parse::<u64>().ok()).max();
            Ok((view.host_name == "host-2" && at > Some((before >> 20) + 16)).then_some(()))
        })
        .await?;
        client.job_cancel(&filler).await?;
        ended(&client, &filler, LIMIT).await?;
        Ok(())
    });
    // Agents that still use it keep it until they stop.
    Command::new("umount").arg("-l").arg(&disk).status().unwrap();
    outcome.unwrap();
}
