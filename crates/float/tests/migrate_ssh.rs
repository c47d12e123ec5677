//! An SSH server in a job, and a real client whose shell stays open while the job is moved. The
//! server speaks first.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_linux::netns;
use mooring_testkit::session::Session;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

const MOVES: usize = 2;
const PORT: u16 = 2222;
/// Time limit of the shell's answer, also during a migration.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A shell at the other end of a real SSH client.
struct Shell {
    client: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn open(world: &World, session: &Session) -> Result<Self> {
        let files = world.files();
        let (address, port) = (session.address.ip().to_string(), session.address.port().to_string());
        let host_key = fs::read_to_string(files.join("host_key.pub"))?;
        fs::write(files.join("known_hosts"), format!("[{address}]:{port} {host_key}"))?;
        let mut command = Command::new("ssh");
        command.args(["-tt", "-F", "none", "-p", &port, "-l", "root", "-i"]).arg(files.join("client_key"));
        // A client that is left without an answer gives up after ten seconds.
        for option in ["BatchMode=yes", "IdentitiesOnly=yes", "ServerAliveInterval=2", "ServerAliveCountMax=5"] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}", files.join("known_hosts").display()));
        command.arg(&address).env("TERM", "dumb").stdin(Stdio::piped()).stdout(Stdio::piped());
        netns::enter_command(&mut command, &world.namespace())?;
        let mut client = tokio::process::Command::from(command).kill_on_drop(true).spawn().context("run `ssh`")?;
        let input = client.stdin.take().context("no way into the client")?;
        let output = client.stdout.take().context("no way out of the client")?;
        Ok(Self { client, input, output: BufReader::new(output).lines() })
    }

    async fn type_in(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await.with_context(|| format!("type `{line}`"))
    }

    /// The numbers that follow `word` on the line that the shell answers; what was typed is echoed
    /// and has none.
    async fn answer(&mut self, word: &str) -> Result<Vec<u32>> {
        let answer = async {
            while let Some(line) = self.output.next_line().await? {
                let numbers = line.split_once(word).map(|(_, rest)| rest.split_whitespace().map(str::parse).collect());
                if let Some(Ok(numbers)) = numbers {
                    return Ok(numbers);
                }
            }
            Err(anyhow::anyhow!("the client's output ended"))
        };
        let answer = tokio::time::timeout(ANSWERS_WITHIN, answer).await;
        answer.map_err(anyhow::Error::from).flatten().with_context(|| format!("wait for `{word}`"))
    }
}

/// Puts the keys of both ends and the server's configuration where the job sees them.
fn configure(files: &Path) -> Result<()> {
    for key in ["host_key", "client_key"] {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(files.join(key)).output();
        let made = made.context("run `ssh-keygen`")?;
        ensure!(made.status.success(), "no key: {}", String::from_utf8_lossy(&made.stderr));
    }
    let configuration = format!(
        "HostKey {0}/host_key\nAuthorizedKeysFile {0}/client_key.pub\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n",
        files.display()
    );
    Ok(fs::write(files.join("sshd_config"), configuration)?)
}

async fn server(world: &World, client: &Client) -> Result<Session> {
    configure(&world.files())?;
    let configuration = world.files().join("sshd_config");
    let sshd = format!("mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -p {PORT} -f {}", configuration.display());
    let job = Submission {
        name: Some("ssh".parse()?),
        image: Some("dir:/".parse()?),
        command: ["/bin/sh", "-c", &sshd].map(str::to_owned).into(),
        publish: vec![PORT.to_string().parse()?],
        ..Submission::default()
    };
    Session::launch(client, job).await
}

/// Moves the job and types a line while it is away; gives back what the shell answers.
async fn type_while_it_moves(client: &Client, job: &JobId, shell: &mut Shell) -> Result<Vec<u32>> {
    let typing = async {
        let floats = async || Ok((client.job_get(job).await?.status == JobStatus::Floating).then_some(()));
        wait_for("the job to float", ANSWERS_WITHIN, floats).await?;
        shell.type_in("echo typed $x $$").await?;
        shell.answer("typed ").await
    };
    let (migration, answer) = tokio::try_join!(move_once(client, job), typing)?;
    ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    Ok(answer)
}

#[test]
fn a_shell_stays_open_while_its_server_moves() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = server(&world, &client).await?;
        let mut shell = Shell::open(&world, &session)?;
        shell.type_in("x=42; echo ready $$").await?;
        let [pid] = shell.answer("ready ").await?[..] else { anyhow::bail!("no process id") };
        for _ in 0..MOVES {
            ensure!(type_while_it_moves(&client, &session.job, &mut shell).await? == [42, pid]);
            ensure!(shell.client.try_wait()?.is_none(), "the client has ended");
        }
        shell.type_in("echo still $x $$").await?;
        ensure!(shell.answer("still ").await? == [42, pid]);
        shell.type_in("exit 7").await?;
        let ended = tokio::time::timeout(ANSWERS_WITHIN, shell.client.wait()).await??;
        ensure!(ended.code() == Some(7), "the client ended with {ended}");
        Ok(())
    });
    outcome.unwrap();
}
