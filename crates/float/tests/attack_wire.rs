//! Attacks of somebody who listens to the network, or answers on it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_linux::netns;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};

const FLOAT: &str = env!("CARGO_BIN_EXE_float");
const LIMIT: Duration = Duration::from_secs(60);
/// The address of OpCenter for hosts.
const MACHINE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// A datagram that is sent in the clear: a listener that does not hear it hears nothing.
const CANARY: &str = "a canary in the clear";

/// Writes all IP packets of the namespace to a file, but those between loopback addresses.
const LISTEN: &str = "
import socket, sys
listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
out = open(sys.argv[1], 'wb')
print('listening', flush=True)
while True:
    packet, (_, protocol, *_) = listener.recvfrom(1 << 16)
    if not (protocol == 0x800 and packet[12] == 127):
        out.write(packet)
        out.flush()
";

/// A process that listens to the network of a world, until this value is dropped.
struct Listener {
    process: Child,
    heard: PathBuf,
}

impl Listener {
    fn start(world: &World) -> Result<Self> {
        let heard = world.files().join("heard");
        let mut command = Command::new("python3");
        command.args(["-c", LISTEN]).arg(&heard).stdout(Stdio::piped());
        netns::enter_command(&mut command, &world.namespace())?;
        let mut process = command.spawn().context("start a listener")?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut line)?;
        ensure!(line == "listening\n", "{line}");
        Ok(Self { process, heard })
    }

    fn heard(&self) -> Result<Vec<u8>> {
        Ok(fs::read(&self.heard)?)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn has(heard: &[u8], text: &str) -> bool {
    heard.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Runs `float` against OpCenter as hosts reach it.
fn float(world: &World, home: &Path, arguments: &[&str]) -> Result<String> {
    let port = world.url().rsplit(':').next().context("a port")?;
    let mut command = Command::new(FLOAT);
    command.args(["-a", &format!("{MACHINE}:{port}")]).args(arguments);
    let ran = world.run_at_home(command, home)?;
    ensure!(ran.code == Some(0), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    Ok(ran.stdout)
}

#[test]
fn listener_on_the_network_learns_no_secret() -> Result<()> {
    let world = World::start(Plan::new(FLOAT))?;
    let (home, password, secret) = (tempfile::tempdir()?, world.password()?, "a-secret-that-crosses-the-network");
    let listener = Listener::start(&world)?;
    let home = home.path();
    float(&world, home, &["login", "-u", "admin", "-p", &password])?;
    float(&world, home, &["secret", "set", "crossing", secret])?;
    // The host gets the secret in its slice, and sends the output back.
    let script = world.files().join("script.sh");
    fs::write(&script, "#!/bin/sh\nprintf '%s %s\\n' output-of \"$CROSSING\"\n")?;
    let script = script.to_str().context("a path")?;
    let submitted = float(
        &world,
        home,
        &["submit", "-i", "dir:/", "-j", script, "-e", "CROSSING={secret:crossing}", "--mem", "0.2", "-F", "json"],
    )?;
    let job: serde_json::Value = serde_json::from_str(&submitted)?;
    let job = job["id"].as_str().context("an id")?.to_owned();
    let output = format!("output-of {secret}");
    world.run_inside(async || {
        let client = world.client().await?;
        wait_for("the job's output", LIMIT, async || {
            Ok(client.job_log(&job.parse()?, 0).await?.text.contains(&output).then_some(()))
        })
        .await
    })?;
    netns::run_in(&world.namespace(), || -> Result<()> {
        std::net::UdpSocket::bind((MACHINE, 0))?.send_to(CANARY.as_bytes(), (MACHINE, 9))?;
        Ok(())
    })??;
    let session = fs::read_to_string(home.join(".float/session.yaml"))?;
    let token = session.lines().find_map(|line| line.strip_prefix("token: ")).context("a token")?;
    let join_token = fs::read_to_string(world.directory().join("opcenter/join-token"))?;
    let found = |heard: &[u8]| has(heard, CANARY).then_some(());
    while found(&listener.heard()?).is_none() {
        std::thread::yield_now();
    }
    let heard = listener.heard()?;
    ensure!(heard.len() > 20_000, "only {} bytes were heard", heard.len());
    for (what, text) in
        [("password", password.as_str()), ("secret", secret), ("token", token), ("join token", join_token.trim())]
    {
        ensure!(!has(&heard, text), "the {what} crossed the network in the clear");
    }
    ensure!(
        !has(&heard, "slices HTTP/1.1") && !has(&heard, "Authorization"),
        "a request crossed the network in the clear"
    );
    Ok(())
}

#[test]
fn nobody_answers_in_opcenter_s_place_and_nothing_is_sent_in_the_clear() -> Result<()> {
    let world = World::start(Plan::new(FLOAT))?;
    let (home, password) = (tempfile::tempdir()?, world.password()?);
    let port = world.url().rsplit(':').next().context("a port")?.to_owned();
    let run = |arguments: &[&str]| -> Result<_> {
        let mut command = Command::new(FLOAT);
        command.args(arguments);
        world.run_at_home(command, home.path())
    };
    let address = format!("{MACHINE}:{port}");
    // Plain HTTP beyond the loopback is refused by the client, before anything is sent.
    let plain = run(&["-a", &format!("http://{address}"), "-u", "admin", "-p", &password, "list"])?;
    ensure!(plain.code == Some(1) && plain.stderr.contains("is plain HTTP"), "{}", plain.stderr);
    // And by the server.
    let curl = |arguments: &[&str]| -> Result<_> {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"]).args(arguments);
        world.run_at_home(command, home.path())
    };
    let sent = curl(&[&format!("http://{address}/jobs")])?.stdout;
    ensure!(sent == format!("308 https://{address}/jobs"), "{sent}");
    let refused = curl(&["-H", "Authorization: Bearer x", &format!("http://{address}/api/v1/jobs")])?.stdout;
    ensure!(refused.starts_with("400"), "{refused}");
    // The first contact is remembered; another authority is refused from then on.
    let login = run(&["-a", &address, "login", "-u", "admin", "-p", &password])?;
    ensure!(login.code == Some(0) && login.stderr.contains("is known from now on"), "{}", login.stderr);
    let again = run(&["-a", &address, "list"])?;
    ensure!(again.code == Some(0) && again.stderr.is_empty(), "{}", again.stderr);
    let known = home.path().join(".float/known_opcenters.yaml");
    let text = fs::read_to_string(&known)?;
    let fingerprint = text.split("sha256:").nth(1).context("a fingerprint")?[..64].to_owned();
    let other: String = fingerprint.chars().rev().collect();
    fs::write(&known, text.replace(&fingerprint, &other))?;
    let refused = run(&["-a", &address, "list"])?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("is not the OpCenter that is known"),
        "{}",
        refused.stderr
    );
    // `--ca` replaces what is remembered.
    let ca = format!("sha256:{fingerprint}");
    let login = run(&["-a", &address, "--ca", &ca, "login", "-u", "admin", "-p", &password])?;
    ensure!(login.code == Some(0), "{}", login.stderr);
    let again = run(&["-a", &address, "list"])?;
    ensure!(again.code == Some(0), "{}", again.stderr);
    // A daemon's requests without a certificate are refused, over TLS as well.
    let ca_file = world.directory().join("opcenter/ca.pem");
    let ca_file = ca_file.to_str().context("a path")?;
    for path in ["hosts/h-000000000000000000000/slices", "gateways/g-000000000000000000000/slices"] {
        let answer = curl(&["--cacert", ca_file, &format!("https://{address}/api/v1/{path}")])?.stdout;
        ensure!(answer.starts_with("401"), "{path}: {answer}");
    }
    Ok(())
}
