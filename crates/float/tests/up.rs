//! `float up`: reasons not to start, the state over a stop and a start, and operation while one of
//! its daemons is away.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::view::ConnectionState;
use mooring_linux::{netns, process};
use mooring_testkit::streams::{self, Streams};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Daemon, Plan, World};
use mooring_types::JobId;
use mooring_types::gateway::GatewayStatus;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// The user `nobody`.
const UNPRIVILEGED: u32 = 65534;
/// Under this number a process finds a program whose directory it may not look into.
const PROGRAM_FD: i32 = 200;
/// The directory in which `scripts/setup` puts the tools; without it they are on PATH.
const TOOLS: &str = "/opt/mooring/bin";
/// Time limit of a job, a gateway or a restart.
const LIMIT: Duration = Duration::from_secs(60);
/// The bytes that show that a stream flows.
const FLOWS: u64 = 4 << 20;
/// The job's script: it serves streams and counts in its own memory.
const COUNT: &str = "echo begun; \"$0\" 0.0.0.0:9000 & n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";

// What keeps it from starting

/// A network namespace and a directory in which a `float up` is tried.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        netns::create(&directory.path().join("netns"))?;
        Ok(Self { directory })
    }

    fn namespace(&self) -> PathBuf {
        self.directory.path().join("netns")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("up")
    }

    /// The arguments of a `float up` here, at any free port.
    fn arguments(&self) -> [String; 5] {
        let state = self.state().display().to_string();
        ["up", "--dir", &state, "--listen", "127.0.0.1:0"].map(str::to_owned)
    }

    /// Runs what has to be refused, and gives back what it says. Nothing may be left of it in the
    /// namespace.
    fn refusal(&self, mut command: Command) -> Result<String> {
        netns::enter_command(&mut command, &self.namespace())?;
        self.refused(&mut command)
    }

    fn refused(&self, command: &mut Command) -> Result<String> {
        let ran = command.stdin(Stdio::null()).output();
        let ran = ran.with_context(|| format!("run {}", command.get_program().display()))?;
        let (said, other) = (String::from_utf8(ran.stderr)?, String::from_utf8(ran.stdout)?);
        ensure!(ran.status.code() == Some(1), "it is not refused: {}\n{said}{other}", ran.status);
        ensure!(other.is_empty(), "it prints {other}");
        has_only_loopback(&self.namespace())?;
        Ok(said)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The removal of the directory reports a namespace that stays.
        let _ = netns::delete(&self.namespace());
    }
}

fn float(arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Command {
    let mut command = Command::new(FLOAT);
    command.args(arguments);
    command
}

/// Waits until a namespace has only its loopback interface: the kernel removes the others after
/// their namespaces, in the background.
fn has_only_loopback(namespace: &Path) -> Result<()> {
    let began = Instant::now();
    loop {
        let links = links(namespace)?;
        if links == ["lo"] {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "these interfaces stay: {links:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the network interfaces of a namespace.
fn links(namespace: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("ip");
    command.args(["-json", "link"]);
    netns::enter_command(&mut command, namespace)?;
    let found: Value = serde_json::from_slice(&command.output().context("run `ip`")?.stdout)?;
    let names = found.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn without_root_it_says_so() {
    let place = Place::new().unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{PROGRAM_FD}"));
    process::give(&mut command, File::open(FLOAT).unwrap(), PROGRAM_FD);
    // It can't enter a namespace either.
    command.args(place.arguments()).uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    assert_eq!(
        place.refused(&mut command).unwrap(),
        "Error: `float up` needs root: it creates network namespaces and containers; try `sudo float up`\n"
    );
    assert!(!place.state().exists());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = Place::new().unwrap();
    let holder = netns::run_in(&place.namespace(), || TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let taken = holder.local_addr().unwrap();
    let mut arguments = place.arguments();
    arguments[4] = taken.to_string();
    assert_eq!(
        place.refusal(float(arguments)).unwrap(),
        format!(
            "Error: can't listen at {taken}; choose another port with `--listen`: Address already in use (os error 98)\n"
        )
    );
}

#[test]
fn a_state_directory_that_can_not_be_made_is_named() {
    let place = Place::new().unwrap();
    fs::write(place.state(), "a file").unwrap();
    let said = place.refusal(float(place.arguments())).unwrap();
    let state = place.state();
    assert_eq!(said, format!("Error: can't create state directory {}: File exists (os error 17)\n", state.display()));
}

#[tokio::test]
async fn a_state_directory_of_a_newer_version_is_left_alone() {
    let place = Place::new().unwrap();
    let opcenter = place.state().join("opcenter");
    fs::create_dir_all(&opcenter).unwrap();
    let database = opcenter.join("opcenter.db");
    File::create(&database).unwrap();
    mooring_opcenter::check_state(&opcenter).await.unwrap();
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let before = fs::read(&database).unwrap();
    assert_eq!(
        place.refusal(float(place.arguments())).unwrap(),
        format!(
            "Error: can't use state directory {}: can't use the store: the database is of a newer version of Mooring \
             (schema 9999): start that version, or use another directory\n",
            place.state().display()
        )
    );
    assert!(fs::read(&database).unwrap() == before, "the database is another one");
}

/// Runs `float up` where the tools are those of `tools`: over the usual prefix, in a mount
/// namespace of its own, and first on PATH.
fn with_tools(place: &Place, tools: &Path) -> Command {
    const INSTEAD: &str = "if [ -d \"$0\" ]; then mount --bind \"$1\" \"$0\" || exit 99; fi; shift; exec \"$@\"";
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", INSTEAD, TOOLS]).arg(tools).arg(FLOAT).args(place.arguments());
    command.env("PATH", format!("{}:{path}", tools.display()));
    command
}

/// Returns the path of a tool.
fn tool_path(tool: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = [PathBuf::from(TOOLS)].into_iter().chain(std::env::split_paths(&path));
    let found = directories.find_map(|directory| fs::canonicalize(directory.join(tool)).ok());
    found.with_context(|| format!("{tool} is not installed"))
}

#[test]
fn without_its_tools_it_says_which_and_where_they_come_from() {
    for (missing, said) in [
        ("criu", "CRIU is not installed: scripts/setup installs it"),
        ("runc", "runc is not installed: scripts/setup installs it"),
    ] {
        let place = Place::new().unwrap();
        let tools = place.directory.path().join("tools");
        fs::create_dir(&tools).unwrap();
        for tool in ["criu", "runc"] {
            // What is in the place of one that is missing hides those that this machine may have
            // elsewhere.
            let there = if tool == missing { PathBuf::from("/bin/false") } else { tool_path(tool).unwrap() };
            symlink(there, tools.join(tool)).unwrap();
        }
        assert_eq!(
            place.refusal(with_tools(&place, &tools)).unwrap(),
            format!("Error: this machine can't migrate jobs: {said}\n")
        );
    }
}

#[test]
fn a_second_one_leaves_the_first_alone() {
    let mut world = World::start(Plan::new(FLOAT)).unwrap();
    let other = tempfile::tempdir().unwrap();
    let before = links(&world.namespace()).unwrap();
    for directory in [other.path().to_owned(), world.directory()] {
        let mut command = float(["up", "--listen", "127.0.0.1:0", "--dir"]);
        command.arg(directory);
        let ran = world.run(command).unwrap();
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (
                Some(1),
                "",
                "Error: another `float up` runs on this machine; stop it first: Address already in use (os error 98)\n"
            )
        );
    }
    // The first one may have made more of its own meanwhile.
    let after = links(&world.namespace()).unwrap();
    assert!(before.iter().all(|link| after.contains(link)), "{before:?}, {after:?}");
    assert_eq!(world.float(&["hosts"]).unwrap().code, Some(0));
    assert!(world.stop().unwrap().success());
}

// What goes on

/// A gateway and a job that serves streams behind it and counts.
struct Served {
    job: JobId,
    address: SocketAddr,
}

impl Served {
    fn launch(world: &World) -> Result<Self> {
        done(world, &["gateway", "create", "-n", "lab"])?;
        let streamer = world.bring(&streams::program()?)?.display().to_string();
        let submit = ["submit", "-i", "dir:/", "-n", "counter", "-m", "0.5", "--publish", "9000", "--gateway", "lab"];
        let command = ["--", "/bin/sh", "-c", COUNT, &streamer];
        let job = done(world, &[&submit[..], &command].concat())?["id"].as_str().context("a job has an id")?.parse()?;
        let port = served(world, &job)?;
        Ok(Self { job, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    fn shown(&self, world: &World) -> Result<Value> {
        done(world, &["show", "-j", self.job.as_str()])
    }

    /// Returns the job's count once it is at least `least`. Every number has to be there once and
    /// in order, after a single begin.
    fn counted(&self, world: &World, least: usize) -> Result<usize> {
        let read = || -> Result<usize> {
            let ran = world.float(&["log", "cat", "-j", self.job.as_str()])?;
            ensure!(ran.code == Some(0), "{ran:?}");
            // The last line may still be written.
            let whole = ran.stdout.rfind('\n').map_or("", |end| &ran.stdout[..end]);
            let (told, numbers): (Vec<&str>, Vec<&str>) =
                whole.lines().partition(|line| line.parse::<usize>().is_err());
            let begun = told.iter().filter(|line| **line == "begun").count();
            let listening = told.iter().filter(|line| line.starts_with("listening ")).count();
            ensure!(whole.is_empty() || begun == 1, "it began {begun} times");
            ensure!(listening <= 1, "its server began {listening} times");
            let wrong = (1..).zip(&numbers).find(|(wanted, found)| wanted.to_string() != **found);
            ensure!(wrong.is_none(), "it counted {wrong:?}");
            Ok(numbers.len())
        };
        world.run_inside(async || {
            let far = async || Ok(Some(read()?).filter(|count| *count >= least));
            wait_for(&format!("the job to count to {least}"), LIMIT, far).await
        })
    }

    /// A new client's streams: bytes flow both ways, and both ends agree on every one.
    async fn new_client(&self) -> Result<()> {
        let streams = Streams::start(self.address, 1).await?;
        flow(&streams).await?;
        agree(streams).await
    }
}

/// Waits until a job executes and its one connection is served, and gives back the gateway's port.
fn served(world: &World, job: &JobId) -> Result<u16> {
    world.run_inside(async || {
        let client = world.client().await?;
        wait_for("the connection to be open", LIMIT, async || {
            let view = client.job_get(job).await?;
            ensure!(!view.status.is_final(), "job {job} is {}: {}", view.status, view.status_reason);
            let gateway = client.gateway_get(&"lab".parse()?).await?;
            let open = gateway.status == GatewayStatus::Running && gateway.connections.len() == 1;
            Ok(gateway
                .connections
                .first()
                .filter(|found| open && found.state == ConnectionState::Open)
                .map(|found| found.gateway_port))
        })
        .await
    })
}

fn done(world: &World, arguments: &[&str]) -> Result<Value> {
    let ran = world.float(&[&["-F", "json"], arguments].concat())?;
    ensure!(ran.code == Some(0), "float {arguments:?}: {ran:?}");
    Ok(serde_json::from_str(&ran.stdout)?)
}

/// Waits until each connection has received more than it has now.
async fn flow(streams: &Streams) -> Result<()> {
    let before = streams.received();
    wait_for("the streams to flow", LIMIT, async || {
        ensure!(!streams.broken(), "a stream broke");
        let more = streams.received().iter().zip(&before).all(|(now, before)| *now >= before + FLOWS);
        Ok(more.then_some(()))
    })
    .await
}

async fn agree(streams: Streams) -> Result<()> {
    for report in streams.finish().await {
        ensure!(report.hash_ok, "{report:?}");
    }
    Ok(())
}

/// The one process with these arguments.
fn the(world: &World, words: &[&str]) -> Result<Daemon> {
    let found = world.daemons(words).into_iter().next();
    found.with_context(|| format!("no process {words:?}"))
}

/// The directories of the control groups that the agents of a world were given.
fn cgroups(world: &World) -> Vec<PathBuf> {
    let agents = world.daemons(&["server", "agent"]);
    let given = agents.iter().filter_map(|agent| {
        let option = agent.arguments.iter().position(|argument| argument == "--cgroup-parent")?;
        agent.arguments.get(option + 1)
    });
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let roots: Vec<PathBuf> = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).collect();
    let groups = given.flat_map(|group| roots.iter().map(move |root| root.join(group)));
    groups.filter(|group| group.is_dir()).collect()
}

/// The processes that have `text` in their arguments.
fn processes_of(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(text)).collect()
}

#[test]
fn restart_keeps_jobs_and_connections() {
    let mut world = World::start(Plan::new(FLOAT)).unwrap();
    let served_job = Served::launch(&world).unwrap();
    world.run_inside(async || served_job.new_client().await).unwrap();
    let before = served_job.shown(&world).unwrap();
    let counted = served_job.counted(&world, 20).unwrap();
    let cgroups = cgroups(&world);
    assert!(!cgroups.is_empty());

    let status = world.stop().unwrap();
    assert!(status.success(), "{status}\n{}", world.log());
    assert_eq!(world.daemons(&[]), []);
    // The job's own program lies below the world's directory, as all that the daemons are started
    // with does.
    let root = world.directory().parent().unwrap().display().to_string();
    assert_eq!(processes_of(&root), Vec::<String>::new());
    has_only_loopback(&world.namespace()).unwrap();
    let left: Vec<PathBuf> = cgroups.into_iter().filter(|group| group.is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");

    world.start_again().unwrap();
    let port = served(&world, &served_job.job).unwrap();
    assert_eq!(port, served_job.address.port());
    let after = served_job.shown(&world).unwrap();
    for unchanged in ["id", "status", "generation", "hostName", "execTime", "address", "portMappings", "accessUrls"] {
        assert_eq!(after[unchanged], before[unchanged], "{unchanged}");
    }
    assert_eq!(after["status"], "Executing");
    served_job.counted(&world, counted + 40).unwrap();
    world.run_inside(async || served_job.new_client().await).unwrap();
}

#[test]
fn a_gateway_serves_without_opcenter_and_after_its_own_restart() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let served_job = Served::launch(&world).unwrap();
    let opcenter = the(&world, &["server", "opcenter"]).unwrap();
    world
        .run_inside(async || {
            let streams = Streams::start(served_job.address, 2).await?;
            flow(&streams).await?;
            opcenter.signal(Signal::SIGSTOP)?;
            flow(&streams).await.context("OpCenter is away")?;
            served_job.new_client().await.context("OpCenter is away")?;
            agree(streams).await.context("OpCenter is away")?;

            let gateway = the(&world, &["server", "gateway"])?;
            gateway.signal(Signal::SIGKILL)?;
            let again = wait_for("the gateway's agent to start it again", LIMIT, async || {
                Ok(the(&world, &["server", "gateway"]).ok().filter(|found| found.pid != gateway.pid))
            })
            .await?;
            wait_for("the gateway to listen again", LIMIT, async || {
                Ok(tokio::net::TcpStream::connect(served_job.address).await.ok())
            })
            .await?;
            served_job.new_client().await.context("OpCenter is away and the gateway was started again")?;
            ensure!(again.runs(), "the gateway died once more");
            let stands = fs::read_to_string(format!("/proc/{}/stat", opcenter.pid))?;
            ensure!(stands.contains(") T "), "OpCenter was there: {stands}");

            opcenter.signal(Signal::SIGCONT)?;
            world.opcenter_answers(LIMIT).await
        })
        .unwrap();
    assert_eq!(served(&world, &served_job.job).unwrap(), served_job.address.port());
    assert!(opcenter.runs());
}

#[test]
fn opcenter_dies_and_no_connection_notices() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let served_job = Served::launch(&world).unwrap();
    let before = served_job.shown(&world).unwrap();
    let gateway = the(&world, &["server", "gateway"]).unwrap();
    world
        .run_inside(async || {
            let streams = Streams::start(served_job.address, 3).await?;
            flow(&streams).await?;
            let opcenter = the(&world, &["server", "opcenter"])?;
            opcenter.signal(Signal::SIGKILL)?;
            flow(&streams).await.context("OpCenter is dead")?;
            wait_for("OpCenter to be started again", LIMIT, async || {
                Ok(the(&world, &["server", "opcenter"]).ok().filter(|found| found.pid != opcenter.pid))
            })
            .await?;
            world.opcenter_answers(LIMIT).await?;
            flow(&streams).await.context("OpCenter is back")?;
            agree(streams).await.context("OpCenter is back")
        })
        .unwrap();
    assert!(gateway.runs());
    assert_eq!(served(&world, &served_job.job).unwrap(), served_job.address.port());
    let after = served_job.shown(&world).unwrap();
    for unchanged in ["id", "status", "generation", "hostName", "execTime", "address", "migrations"] {
        assert_eq!(after[unchanged], before[unchanged], "{unchanged}");
    }
    served_job.counted(&world, 20).unwrap();
}
