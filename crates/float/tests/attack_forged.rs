//! Attacks with forged packets: of a job in another's name, and of a stranger in a host's.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;

const FLOAT: &str = env!("CARGO_BIN_EXE_float");
const LIMIT: Duration = Duration::from_secs(60);
/// The address of `host-1` between hosts.
const HOST_1: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// An address between hosts that no host has.
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 99);
const PORT: u16 = 7777;

/// Tells its address, and every datagram that it receives.
const LISTEN: &str = "
import socket, sys
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(('192.0.2.1', 9))
print('at', probe.getsockname()[0], flush=True)
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(('0.0.0.0', int(sys.argv[1])))
while True:
    text, peer = listener.recvfrom(2048)
    print('received', text.decode(), 'from', peer[0], flush=True)
";

/// Sends a datagram with any source: alone, or in a VXLAN frame to a host.
const SEND: &str = "
import socket, struct, sys
source, target, port, text = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].encode()
udp = struct.pack('!HHHH', 9, port, 8 + len(text), 0) + text
head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                   socket.inet_aton(source), socket.inet_aton(target))
total = sum(struct.unpack('!10H', head))
total = (total & 0xffff) + (total >> 16)
total = (total & 0xffff) + (total >> 16)
packet = head[:10] + struct.pack('!H', ~total & 0xffff) + head[12:] + udp
if len(sys.argv) == 5:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(packet, (target, 0))
else:
    host, hardware = sys.argv[5], bytes.fromhex(sys.argv[6].replace(':', ''))
    frame = hardware + bytes.fromhex('0a5900000001') + struct.pack('!H', 0x800) + packet
    vxlan = struct.pack('!II', 0x08000000, 77 << 8)
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(vxlan + frame, (host, 4789))
";

/// Succeeds where a host answers that a port is closed.
const REACH: &str = "
import socket, sys
family, kind, protocol, _, address = socket.getaddrinfo(sys.argv[1], 9, type=socket.SOCK_DGRAM)[0]
probe = socket.socket(family, kind, protocol)
probe.settimeout(3)
probe.connect(address)
try:
    probe.send(b'x')
    probe.recv(1)
except ConnectionRefusedError:
    sys.exit(0)
sys.exit('no answer')
";

/// Connects to the port for migrations.
const CONNECT: &str = "import socket, sys; socket.create_connection((sys.argv[1], 7443), 3)";

/// A job that listens.
struct Listening {
    job: JobId,
    address: String,
}

async fn listening(client: &Client, name: &str, host: &str) -> Result<Listening> {
    let command = ["python3", "-c", LISTEN].map(str::to_owned).into_iter().chain([PORT.to_string()]);
    let submission = Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: command.collect(),
        host: Some(host.parse()?),
        mem_gb: Some(0.2),
        ..Submission::default()
    };
    let job = client.job_submit(&submission).await?.id;
    executing(client, &job, LIMIT).await?;
    let address = wait_for("the job's address", LIMIT, async || {
        let text = client.job_log(&job, 0).await?.text;
        Ok(text.lines().find_map(|line| line.strip_prefix("at ")).map(str::to_owned))
    })
    .await?;
    Ok(Listening { job, address })
}

/// Runs a command in a network namespace of a world.
fn inside(world: &World, namespace: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).args(arguments);
    let ran = world.run(command)?;
    ensure!(ran.code == Some(0), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    Ok(ran.stdout)
}

/// Returns what a job has received, once that ends with a text that is sent until it arrives.
async fn received(client: &Client, job: &JobId, last: &str, send: impl Fn() -> Result<()>) -> Result<Vec<String>> {
    wait_for(&format!("`{last}` to arrive"), LIMIT, async || {
        send()?;
        let text = client.job_log(job, 0).await?.text;
        let texts: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("received ")).map(str::to_owned).collect();
        Ok(texts.iter().any(|text| text.starts_with(last)).then_some(texts))
    })
    .await
}

#[test]
fn job_sends_nothing_in_another_s_name_and_has_no_way_by_ipv6() -> Result<()> {
    let world = World::start(Plan::new(FLOAT))?;
    world.run_inside(async || {
        let client = world.client().await?;
        let target = listening(&client, "target", "host-2").await?;
        let hostile = listening(&client, "hostile", "host-1").await?;
        let namespace = world.directory().join(format!("hosts/host-1/jobs/{}/g1/netns", hostile.job));
        let port = PORT.to_string();
        // As root of the namespace: a job has no right to this in the first place.
        let send = |source: &str, text: &str| {
            inside(&world, &namespace, &["python3", "-c", SEND, source, &target.address, &port, text]).map(drop)
        };
        received(&client, &target.job, "own-1", || send(&hostile.address, "own-1")).await?;
        for forged in [target.address.as_str(), "100.64.0.77", "198.18.0.3", "192.0.2.7"] {
            send(forged, "forged")?;
        }
        let texts = received(&client, &target.job, "own-2", || send(&hostile.address, "own-2")).await?;
        ensure!(!texts.iter().any(|text| text.starts_with("forged")), "{texts:?}");
        let host = world.directory().join("run/host-1.netns");
        let addresses = inside(&world, &host, &["cat", "/proc/net/if_inet6"])?;
        let line = addresses.lines().find(|line| line.contains(" mh1j")).context("the host's end has an address")?;
        let (digits, device) = (&line[..32], line.split_whitespace().last().context("a device")?);
        let groups: Vec<&str> = (0..8).map(|group| &digits[4 * group..4 * group + 4]).collect();
        let address = groups.join(":");
        inside(&world, &host, &["python3", "-c", REACH, &format!("{address}%{device}")])?;
        let reached = inside(&world, &namespace, &["python3", "-c", REACH, &format!("{address}%eth0")]);
        ensure!(reached.is_err(), "the job reaches its host by IPv6");
        Ok(())
    })
}

#[test]
fn stranger_puts_nothing_into_the_overlay() -> Result<()> {
    let world = World::start(Plan::new(FLOAT))?;
    let (namespace, directory) = (world.namespace(), world.directory());
    world.run_inside(async || {
        let client = world.client().await?;
        let target = listening(&client, "target", "host-1").await?;
        // The overlay's device of host-1, and the overlay address of the gateways' host.
        let links = ["ip", "-o", "link", "show", "type", "vxlan"];
        let links = inside(&world, &directory.join("run/host-1.netns"), &links)?;
        let hardware = links.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
        let hardware = hardware.context("a hardware address")?.to_owned();
        let routes = inside(&world, &namespace, &["ip", "route", "get", &target.address])?;
        let source =
            routes.split("src ").nth(1).and_then(|rest| rest.split(' ').next()).context("a source")?.to_owned();
        let (port, host) = (PORT.to_string(), HOST_1.to_string());
        let frame = |from: &Path, text: &str| {
            let arguments = ["python3", "-c", SEND, &source, &target.address, &port, text, &host, &hardware];
            inside(&world, from, &arguments).map(drop)
        };
        // The frame is one that a host's own kernel could send.
        received(&client, &target.job, "host-1", || frame(&namespace, "host-1")).await?;
        let stranger = world.files().join("stranger.netns");
        mooring_linux::netns::create(&stranger)?;
        let device = [
            "link add outside type veth peer name inside".to_owned(),
            "link set outside master mooring0 up".to_owned(),
        ];
        mooring_linux::ip::batch(None, &device).await?;
        mooring_linux::netns::move_link("inside", &stranger)?;
        let configuration = [format!("address add {STRANGER}/24 dev inside"), "link set inside up".to_owned()];
        mooring_linux::ip::batch(Some(&stranger), &configuration).await?;
        // It reaches the host, which says so of a closed port. What is refused are the ports of
        // hosts.
        inside(&world, &stranger, &["python3", "-c", REACH, &host])?;
        ensure!(
            inside(&world, &stranger, &["python3", "-c", CONNECT, &host]).is_err(),
            "the port for migrations is open"
        );
        for _ in 0..3 {
            frame(&stranger, "stranger")?;
        }
        let texts = received(&client, &target.job, "host-2", || frame(&namespace, "host-2")).await?;
        mooring_linux::netns::delete(&stranger)?;
        ensure!(!texts.iter().any(|text| text.starts_with("stranger")), "{texts:?}");
        Ok(())
    })
}
