//! A whole Mooring in a network namespace of its own, gone when dropped.
//!
//! ```text
//!   the test ──────────────┐                     directory (under /opt, which `dir:/` has)
//!   World::run_inside ──►  │  network namespace  ├── netns        the namespace
//!   World::float      ──►  │  `float up`         ├── failpoints   what MOORING_FAILPOINTS names
//!                          │  and all it starts  ├── files        what a test gives to its jobs
//!                                                └── up           `--dir`, with up.log
//! ```
//!
//! Each world has its own addresses, bridges and ports, so that tests run side by side and send
//! nothing out of the machine. Clients of a world have to be inside its namespace.
//!
//! A world ends by SIGINT, and after 90 s by force. Every process with the world's mark, or in a
//! namespace below its directory, is killed by its id. Mounts below the directory are unmounted,
//! and the directory is removed. After a panic the directory stays, and its path is printed.

mod remains;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_api::view::{LoginRequest, UserAddRequest};
use mooring_api::watch::Backend;
use mooring_api::{Client, paths};
use mooring_linux::{mount, netns, process, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use remains::Daemon;

use crate::wait::wait_for;

/// The variable that marks every process of a world, and names its failpoints.
const FAILPOINTS: &str = "MOORING_FAILPOINTS";
/// The password of the users that tests add.
const USERS_PASSWORD: &str = "correct horse battery";
/// Time limit until `float up` is ready.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// The address of OpCenter for virtual hosts.
pub const OPCENTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The nftables table of [`World::part`].
const PARTED: &str = "parted";
/// Time limit of a stop.
const STOPS_WITHIN: Duration = Duration::from_secs(90);

/// The parameters of a world.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program `float`.
    pub float: PathBuf,
    /// The number of virtual hosts.
    pub virtual_hosts: u32,
    /// The overlay's backend; the default of `float` when absent.
    pub backend: Option<Backend>,
    /// Further arguments of `float up`.
    pub arguments: Vec<String>,
    /// Further variables in the environment of all its processes.
    pub environment: Vec<(String, PathBuf)>,
    /// Says whether a restored job may differ from what it was. A difference fails the test
    /// otherwise.
    pub may_differ: bool,
}

impl Plan {
    /// Two virtual hosts and the default backend.
    #[must_use]
    pub fn new(float: impl Into<PathBuf>) -> Self {
        let (arguments, environment) = (Vec::new(), Vec::new());
        Self { float: float.into(), virtual_hosts: 2, backend: None, arguments, environment, may_differ: false }
    }
}

impl Plan {
    /// With endpoints of external jobs at this machine's loopback.
    #[must_use]
    pub fn with_endpoints_here(mut self) -> Self {
        self.arguments.extend(["--external-range", "127.0.0.0/8"].map(str::to_owned));
        self
    }
}

/// A running Mooring.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// Removed by hand: what is mounted below has to go first.
    root: PathBuf,
    up: Option<Child>,
    url: String,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The output.
    pub stdout: String,
    /// Messages and errors.
    pub stderr: String,
}

impl World {
    /// Starts a world and waits until it is ready.
    pub fn start(plan: Plan) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("mooring-world-").tempdir_in("/opt")?.keep();
        let mut world = Self { plan, root, up: None, url: String::new() };
        fs::create_dir(world.directory())?;
        fs::create_dir(world.files())?;
        fs::write(world.failpoints(), "")?;
        // Gateways run without privilege, and have failpoints as well.
        fs::set_permissions(&world.root, Permissions::from_mode(0o711))?;
        fs::set_permissions(world.failpoints(), Permissions::from_mode(0o666))?;
        netns::create(&world.namespace())?;
        world.up()?;
        Ok(world)
    }

    /// The state directory, `--dir`.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.root.join("up")
    }

    /// The directory for files of jobs with the image `dir:/`, which see it under the same path.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Copies a program to where jobs see it. A job has to be restored with the program that it was
    /// started with, and the one that was built may be rebuilt meanwhile.
    pub fn bring(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().with_context(|| format!("{} is no program", program.display()))?;
        let copy = self.files().join(name);
        fs::copy(program, &copy).with_context(|| format!("copy {}", program.display()))?;
        Ok(copy)
    }

    /// The network namespace.
    #[must_use]
    pub fn namespace(&self) -> PathBuf {
        self.root.join("netns")
    }

    /// The URL of OpCenter.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All that `float up` and its processes have logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The password of `admin`.
    pub fn password(&self) -> Result<String> {
        let file = self.directory().join("opcenter/admin-password");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Runs `work` on a runtime all of whose threads are in the namespace.
    pub fn run_inside<T: Send>(&self, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = self.namespace();
        netns::run_in(&namespace, || {
            let inside = namespace.clone();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .on_thread_start(move || netns::enter(&inside).expect("a world's namespace can be entered"))
                .enable_all()
                .build()?;
            let outcome = runtime.block_on(work());
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        })?
        .and_then(|outcome| if self.plan.may_differ { Ok(outcome) } else { self.no_differences().map(|()| outcome) })
    }

    /// Fails where an agent has restored a job that differs from what it was.
    fn no_differences(&self) -> Result<()> {
        for log in fs::read_dir(self.root.join("up/log"))? {
            let text = fs::read(log?.path())?;
            let text = String::from_utf8_lossy(&text);
            let differs = text.lines().find(|line| line.contains("is restored with differences"));
            ensure!(differs.is_none(), "{}", differs.unwrap_or_default());
        }
        Ok(())
    }

    /// A client of this world, logged in as `admin`, for use inside the namespace.
    pub async fn client(&self) -> Result<Client> {
        let client = Client::new(&self.url)?;
        let credentials = LoginRequest { username: "admin".into(), password: self.password()? };
        let session = client.login(&credentials).await.context("log in as admin")?;
        Ok(client.with_token(session.token))
    }

    /// Adds a user who is no admin; returns a client that is logged in as that user.
    pub async fn user(&self, admin: &Client, name: &str) -> Result<Client> {
        let credentials = LoginRequest { username: name.to_owned(), password: USERS_PASSWORD.to_owned() };
        let request =
            UserAddRequest { name: name.to_owned(), password: USERS_PASSWORD.to_owned(), ..UserAddRequest::default() };
        admin.user_add(&request).await.with_context(|| format!("add user {name}"))?;
        let client = Client::new(&self.url)?;
        let session = client.login(&credentials).await.with_context(|| format!("log in as {name}"))?;
        Ok(client.with_token(session.token))
    }

    /// Runs the CLI as `admin` in the namespace, with a home of the world's own.
    pub fn float<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Ran> {
        let mut command = Command::new(&self.plan.float);
        command.args(["-a", &self.url, "-u", "admin", "-p", &self.password()?]).args(arguments);
        self.run(command)
    }

    /// Runs any command in the namespace, with a home of the world's own.
    pub fn run(&self, command: Command) -> Result<Ran> {
        self.run_at_home(command, &self.directory())
    }

    /// Runs any command in the namespace, with another home.
    pub fn run_at_home(&self, mut command: Command, home: &Path) -> Result<Ran> {
        netns::enter_command(&mut command, &self.namespace())?;
        let ran = command.env("HOME", home).stdin(Stdio::null()).output();
        let ran = ran.with_context(|| format!("run {}", command.get_program().display()))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { code: ran.status.code(), stdout: text(ran.stdout), stderr: text(ran.stderr) })
    }

    /// Cuts a virtual host off from all others; what runs on it goes on.
    pub fn cut_off(&self, host: &str) -> Result<()> {
        self.link(host, "down")
    }

    /// Joins a virtual host to the others again.
    pub fn join_again(&self, host: &str) -> Result<()> {
        self.link(host, "up")
    }

    /// Drops all packets between a virtual host and another address, until [`World::mend`].
    pub fn part(&self, host: &str, from: Ipv4Addr) -> Result<()> {
        let rules = format!(
            "table ip {PARTED} {{ chain input {{ type filter hook input priority -300; ip saddr {from} drop; }}; \
             chain output {{ type filter hook output priority -300; ip daddr {from} drop; }}; }}"
        );
        self.nft_at(host, &rules)
    }

    /// Ends what [`World::part`] has begun at a virtual host.
    pub fn mend(&self, host: &str) -> Result<()> {
        self.nft_at(host, &format!("delete table ip {PARTED}"))
    }

    /// Runs a command of nftables at a virtual host.
    fn nft_at(&self, host: &str, rules: &str) -> Result<()> {
        let mut command = Command::new("nft");
        command.arg(rules).stdin(Stdio::null());
        netns::enter_command(&mut command, &self.directory().join("run").join(format!("{host}.netns")))?;
        let ran = command.output().context("run nft")?;
        ensure!(ran.status.success(), "nft {rules}: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    }

    fn link(&self, host: &str, to: &str) -> Result<()> {
        let device = host.replace("host-", "mrhost");
        let mut command = Command::new("ip");
        command.args(["link", "set", &device, to]);
        let ran = self.run(command)?;
        ensure!(ran.code == Some(0), "ip link set {device} {to}: {}", ran.stderr);
        Ok(())
    }

    /// Sets a failpoint: `action` is `error`, `kill` or `kill <pid>`.
    pub fn failpoint_set(&self, name: &str, action: &str) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.failpoints())?;
        Ok(writeln!(file, "{name}={action}")?)
    }

    /// The failpoints that have not fired yet.
    #[must_use]
    pub fn failpoints_left(&self) -> Vec<String> {
        fs::read_to_string(self.failpoints()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The processes of this world whose arguments have all these words, like
    /// `["server", "agent"]`.
    #[must_use]
    pub fn daemons(&self, words: &[&str]) -> Vec<Daemon> {
        remains::marked(&self.mark())
            .into_iter()
            .filter(|daemon| words.iter().all(|word| daemon.arguments.iter().any(|argument| argument == word)))
            .collect()
    }

    /// Stops `float up` as Ctrl-C does; what it leaves stays, for [`World::start_again`].
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut up = self.up.take().context("`float up` was stopped before")?;
        stop(&mut up)
    }

    /// Starts `float up` again over the same state and waits until it is ready.
    pub fn start_again(&mut self) -> Result<()> {
        if self.up.is_some() {
            bail!("`float up` still runs");
        }
        self.up()
    }

    /// Waits until OpCenter answers; inside the namespace, after it was killed.
    pub async fn opcenter_answers(&self, limit: Duration) -> Result<()> {
        let address = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        wait_for("OpCenter", limit, async || {
            let url = format!("http://{address}{}", paths::READYZ);
            let answer = reqwest::Client::builder().no_proxy().build()?.get(url).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success()).then_some(()))
        })
        .await
    }

    fn failpoints(&self) -> PathBuf {
        self.root.join("failpoints")
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("up.log")
    }

    /// The variable in the environment of every process of this world, and of no other.
    fn mark(&self) -> String {
        format!("{FAILPOINTS}={}", self.failpoints().display())
    }

    /// Starts `float up` and waits until it is ready.
    fn up(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = Command::new(&self.plan.float);
        command.arg("up").arg("--dir").arg(self.directory()).args(["--listen", "127.0.0.1:0"]);
        command.arg("--virtual-hosts").arg(self.plan.virtual_hosts.to_string());
        if let Some(backend) = self.plan.backend {
            command.args(["--backend", backend.name()]);
        }
        command.args(&self.plan.arguments).envs(self.plan.environment.iter().cloned());
        command.env(FAILPOINTS, self.failpoints());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone()?);
        netns::enter_command(&mut command, &self.namespace())?;
        process::die_with_parent(&mut command);
        let (up, said) = spawn_and_listen(command, log)?;
        self.up = Some(up);
        let began = Instant::now();
        while began.elapsed() < READY_WITHIN {
            match said.recv_timeout(READY_WITHIN.saturating_sub(began.elapsed())) {
                Ok(line) => {
                    if let Some(url) = line.strip_prefix("ready ") {
                        url.trim().clone_into(&mut self.url);
                        return Ok(());
                    }
                }
                Err(_) => break,
            }
        }
        bail!("`float up` did not become ready; the end of its log:\n{}", tail(&self.log()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let say = |text: String| drop(writeln!(std::io::stderr(), "{text}"));
        if let Some(Err(error)) = self.up.take().map(|mut up| stop(&mut up)) {
            say(format!("world {}: {error:#}", self.root.display()));
        }
        remains::end(&self.root, &self.mark());
        if let Err(error) = mount::unmount_below(&self.root) {
            say(format!("world {}: {error:#}", self.root.display()));
        }
        if thread::panicking() {
            say(format!("the world's directory is kept: {}", self.root.display()));
        } else if let Err(error) = netns::delete(&self.namespace()).and_then(|()| tree::remove_tree(&self.root)) {
            say(format!("world {}: {error:#}", self.root.display()));
        }
    }
}

/// SIGINT, time to follow it, SIGKILL.
fn stop(up: &mut Child) -> Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(up.id())?);
    if let Some(status) = up.try_wait()? {
        return Ok(status);
    }
    kill(pid, Signal::SIGINT).context("interrupt `float up`")?;
    let asked = Instant::now();
    while asked.elapsed() < STOPS_WITHIN {
        if let Some(status) = up.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    up.kill()?;
    up.wait()?;
    bail!("`float up` did not stop within {} s and was killed", STOPS_WITHIN.as_secs())
}

/// Starts the command on a thread that reads its output to the end. The kernel takes the thread for
/// the parent, whose end ends the process, so the thread has to live as long.
fn spawn_and_listen(mut command: Command, mut log: File) -> Result<(Child, mpsc::Receiver<String>)> {
    let (started, starting) = mpsc::sync_channel(1);
    let (say, said) = mpsc::sync_channel(16);
    thread::Builder::new().name("float up".into()).spawn(move || {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return drop(started.send(Err(error))),
        };
        let output = child.stdout.take();
        if started.send(Ok(child)).is_err() {
            return;
        }
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
            let _ = writeln!(log, "{line}");
            let _ = say.try_send(line);
        }
    })?;
    let child = starting.recv().context("start `float up`")?.context("start `float up`")?;
    Ok((child, said))
}

fn tail(log: &str) -> &str {
    let lines = log.char_indices().rev().filter(|(_, letter)| *letter == '\n');
    let start = lines.map(|(at, _)| at + 1).nth(30).unwrap_or(0);
    &log[start..]
}

/// The program `float` beside the running measurement.
pub fn float_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let found = this.parent().map(|directory: &Path| directory.join("float")).filter(|path| path.is_file());
    found.context("the program `float` is not built: run `cargo build --release -p float`")
}
