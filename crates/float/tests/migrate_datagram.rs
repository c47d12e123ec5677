//! UDP sockets keep their options, their group memberships with the sources of these, and the
//! datagrams that wait in them over a migration. The job's interface keeps its number.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_linux::netns;
use mooring_testkit::job::executing;
use mooring_testkit::session::Session;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// A program with UDP sockets, which tells their options, groups and sources again and again. The
/// numbers of options are those of the kernel's headers. The kernel's table of sources
/// (`/proc/net/mcfilter`) ends at the first group without any, so each group is asked for.
const SCRIPT: &str = r#"
import ctypes, socket, struct, time
IP, IP6, SOL, UDP = socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.SOL_SOCKET, socket.IPPROTO_UDP
OPTIONS = [(IP, 8, 1), (IP, 10, 2), (IP, 12, 1), (IP, 13, 1), (IP, 33, 7), (IP, 34, 0), (IP, 49, 0), (SOL, 6, 1),
           (SOL, 12, 4), (SOL, 35, 1), (UDP, 103, 1200), (UDP, 104, 1)]
OPTIONS6 = [(IP6, 18, 4), (IP6, 19, 0), (IP6, 49, 1), (IP6, 51, 1), (IP6, 66, 1)]
eth0 = socket.if_nametoindex("eth0")
four, six = (socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6))
for udp, options in ((four, OPTIONS), (six, OPTIONS6)):
    for option in options:
        udp.setsockopt(*option)
four.bind(("", 5353))
six.bind(("::", 5354))
group = lambda text: socket.inet_aton(text)
four.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4si", group("239.77.0.9"), bytes(4), eth0))
six.setsockopt(IP6, socket.IPV6_JOIN_GROUP, struct.pack("16si", socket.inet_pton(socket.AF_INET6, "ff02::4d:9"), eth0))
# Members for packets of two sources alone, and of all but one, by the calls for IPv4 and by those for both families.
route = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
route.connect(("198.51.100.1", 9))
own = socket.inet_aton(route.getsockname()[0])
source = lambda text, of: struct.pack("4s4s4s", group(text), own, group(of))
storage4 = lambda text: struct.pack("HH4s120x", socket.AF_INET, 0, group(text))
storage6 = lambda text: struct.pack("HHI16s104x", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, text))
on = struct.pack("I4x", eth0)
four.setsockopt(IP, 39, source("239.77.0.10", "192.0.2.1"))
four.setsockopt(IP, 39, source("239.77.0.10", "192.0.2.2"))
four.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4si", group("239.77.0.11"), bytes(4), eth0))
four.setsockopt(IP, 38, source("239.77.0.11", "192.0.2.3"))
six.setsockopt(IP6, 46, on + storage6("ff05::4d:a") + storage6("2001:db8::1"))
six.setsockopt(IP6, 42, on + storage6("ff05::4d:b"))
six.setsockopt(IP6, 43, on + storage6("ff05::4d:b") + storage6("2001:db8::2"))
libc = ctypes.CDLL(None, use_errno=True)
def sources(udp, level, address):
    value = bytearray(struct.pack("I4x", eth0) + address + struct.pack("II", 0, 4) + bytes(4 * 128))
    length = ctypes.c_uint(len(value))
    buffer = (ctypes.c_char * len(value)).from_buffer(value)
    assert libc.getsockopt(udp.fileno(), level, 48, buffer, ctypes.byref(length)) == 0, ctypes.get_errno()
    mode, count = struct.unpack_from("II", value, 136)
    return mode, sorted(value[144 + 128 * n : 168 + 128 * n].hex() for n in range(count))
GROUPS = [(four, IP, storage4("239.77.0.10")), (four, IP, storage4("239.77.0.11")),
          (six, IP6, storage6("ff05::4d:a")), (six, IP6, storage6("ff05::4d:b"))]
while True:
    values = [udp.getsockopt(*option[:2]) for udp, options in ((four, OPTIONS), (six, OPTIONS6)) for option in options]
    igmp = [line.split()[0] for line in open("/proc/net/igmp") if line.startswith("\t")]
    igmp6 = [line.split()[1:3] for line in open("/proc/net/igmp6")]
    print(socket.if_nametoindex("eth0"), values, sorted(set(igmp)), sorted(igmp6), [sources(*group) for group in GROUPS], flush=True)
    time.sleep(0.1)
"#;

/// A program that lets datagrams wait in each kind of UDP socket when it is told to, and reads them
/// when it is told to. Some are its own, and others come from outside: their sender is told the
/// job's address.
const QUEUES: &str = r#"
import collections, os, socket, struct, time
GROUP, GROUP6, CLASS = "239.77.0.20", "ff02::4d:20", 0x20
eth0 = socket.if_nametoindex("eth0")
orders = socket.create_server(("", 8080))

def opened(family, address, port, shared=False):
    udp = socket.socket(family, socket.SOCK_DGRAM)
    if shared:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    udp.bind((address, port))
    udp.setblocking(False)
    return udp

four, both, six = opened(socket.AF_INET, "", 7001), opened(socket.AF_INET6, "::", 7002), opened(socket.AF_INET6, "::1", 7003)
joined = [opened(socket.AF_INET, "", 7004, shared=True) for _ in range(2)]
for udp in joined:
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4si", socket.inet_aton(GROUP), bytes(4), eth0))
joined6 = opened(socket.AF_INET6, "::", 7005)
joined6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("16si", socket.inet_pton(socket.AF_INET6, GROUP6), eth0))
client, peer = opened(socket.AF_INET, "127.0.0.1", 7006), opened(socket.AF_INET, "127.0.0.1", 7007)
client.connect(("127.0.0.1", 7007))
joins = opened(socket.AF_INET, "127.0.0.1", 7008)
joins.setsockopt(socket.IPPROTO_UDP, 104, 1)
full = opened(socket.AF_INET, "127.0.0.1", 7009)
shares = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for udp in shares:
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    udp.bind(("127.0.0.1", 7010))
    udp.setblocking(False)
receivers = [four, both, six, *joined, joined6, client]
route = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
route.connect(("198.51.100.1", 9))
own = route.getsockname()[0]
sends, sends6 = opened(socket.AF_INET, "", 7101), opened(socket.AF_INET6, "::", 7102)
sends.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", bytes(4), bytes(4), eth0))
sends.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CLASS)
sends6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, eth0)
for udp in (four, both):
    udp.setsockopt(socket.IPPROTO_IP, 13, 1)
    udp.setsockopt(socket.IPPROTO_IP, 12, 1)
    udp.setsockopt(socket.IPPROTO_IP, 8, 1)

def received(udp):
    got = []
    while True:
        try:
            data, more, _, address = udp.recvmsg(70000, 256)
        except BlockingIOError:
            return got
        # The interface is the one by which it came: the job's link where it was none of these.
        got.append((len(data), data[:20], data[-20:], address[:2], sorted(told for told in more if told[1] != 104)))

def drained():
    joined_again = sum(length for length, *_ in received(joins))
    shared = sorted(got for udp in shares for got in received(udp))
    return [received(udp) for udp in receivers], len(received(full)), joined_again, shared

def fill():
    sends.sendto(b"by loopback", ("127.0.0.1", 7001))
    sends.sendto(b"by its own address", (own, 7001))
    sends.sendto(b"", (own, 7001))
    sends.sendto(b"L" * 60000, (own, 7001))
    sends.sendto(b"behind the large one", ("127.0.0.1", 7001))
    sends.sendto(b"4 to both", (own, 7002))
    sends6.sendto(b"6 to both", ("::1", 7002))
    sends6.sendto(b"S" * 50000, ("::1", 7003))
    for n in range(3):
        sends.sendto(b"to the group %d" % n, (GROUP, 7004))
        sends6.sendto(b"to the group %d" % n, (GROUP6, 7005, 0, eth0))
    peer.sendto(b"from its peer", ("127.0.0.1", 7006))
    sends.setsockopt(socket.IPPROTO_UDP, 103, 1000)
    sends.sendto(b"J" * 5500, ("127.0.0.1", 7008))
    sends.setsockopt(socket.IPPROTO_UDP, 103, 0)
    for n in range(2000):
        sends.sendto(b"%d" % n, ("127.0.0.1", 7009))
    for n in range(8):
        sends.sendto(b"share %d" % n, ("127.0.0.1", 7010))
    # One of two members has read.
    time.sleep(0.1)
    joined[0].recv(100)

print("ready", flush=True)
filled = None
while True:
    order, _ = orders.accept()
    said = order.recv(64).decode().strip()
    if said == "own":
        answer = own
    if said == "fill":
        fill()
        filled = drained()
        assert all(filled[0]) and filled[2] == 5500, filled
        fill()
        answer = "filled %d" % filled[1]
    if said == "read":
        time.sleep(0.1)
        got = drained()
        outside = [(data, address[0].removeprefix("::ffff:")) for _, data, _, address, _ in got[0][0] + got[0][1] if data.startswith(b"outside")]
        for udp in got[0][:2]:
            udp[:] = [one for one in udp if not one[1].startswith(b"outside")]
        mended = got == filled
        answer = ("as filled" if mended else f"\nread {got}\nnot  {filled}") + f" {len(outside)} {sorted({of for _, of in outside})}"
    order.sendall(answer.encode())
    order.close()
"#;

#[test]
fn datagrams_that_wait_move_with_their_job() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = Submission {
            image: Some("dir:/".parse()?),
            name: Some("queues".parse()?),
            publish: vec!["8080".parse()?],
            command: [PYTHON, "-c", QUEUES].map(str::to_owned).to_vec(),
            ..Submission::default()
        };
        let session = Session::launch(&client, job).await?;
        let own: IpAddr = order(&session, "own").await?.parse()?;
        let outside = async |home: &str| {
            let namespace = world.directory().join("run").join(format!("{home}.netns"));
            Ok::<_, anyhow::Error>(netns::run_in(&namespace, || {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                for port in [7001, 7002] {
                    socket.send_to(b"outside", (own, port))?;
                }
                socket.connect((own, 7001))?;
                Ok::<_, std::io::Error>(socket.local_addr()?.ip())
            })??)
        };
        for by in ["migration", "migration", "suspend"] {
            let filled = order(&session, "fill").await?;
            ensure!(filled.starts_with("filled ") && filled != "filled 0", "{filled}");
            let from = outside(&client.job_get(&session.job).await?.host_name).await?;
            if by == "migration" {
                let migration = move_once(&client, &session.job).await?;
                ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            } else {
                suspend_and_resume(&client, &session.job).await?;
            }
            let read = order(&session, "read").await?;
            ensure!(read == format!("as filled 2 ['{from}']"), "after a {by}: {read}");
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Gives the job an order and returns its answer.
async fn order(session: &Session, text: &str) -> Result<String> {
    let mut connection = TcpStream::connect(session.address).await?;
    connection.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    timeout(LIMIT, connection.read_to_string(&mut answer)).await.context("no answer to an order")??;
    Ok(answer)
}

async fn suspend_and_resume(client: &Client, job: &JobId) -> Result<()> {
    client.job_suspend(job).await?;
    wait_for("the job to be suspended", LIMIT, async || {
        Ok((client.job_get(job).await?.status == JobStatus::Suspended).then_some(()))
    })
    .await?;
    client.job_resume(job).await?;
    executing(client, job, LIMIT).await.map(drop)
}

#[test]
fn udp_sockets_keep_options_and_groups() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let command = [PYTHON, "-c", SCRIPT].map(str::to_owned).to_vec();
        let request = Submission { image: Some("dir:/".parse()?), command, ..Submission::default() };
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, LIMIT).await?;
        let before = last_after(&client, &job, 0).await?.0;
        // Groups, and their sources.
        let told = [
            "09004DEF",
            "ff0200000000000000000000004d0009",
            "c0000201",
            "c0000202",
            "c0000203",
            "20010db8000000000000000000000001",
            "20010db8000000000000000000000002",
        ];
        for thing in told {
            ensure!(before.contains(thing), "{thing} is not in {before}");
        }
        for _ in 0..2 {
            let told = last_after(&client, &job, 0).await?.1;
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            let after = last_after(&client, &job, told).await?.0;
            ensure!(after == before, "\nbefore {before}\nafter  {after}");
        }
        Ok(())
    });
    outcome.unwrap();
}

/// The last line of a job that has written more than one after the first `told` lines, and the
/// number of lines.
async fn last_after(client: &Client, job: &JobId, told: usize) -> Result<(String, usize)> {
    wait_for("the job's sockets", LIMIT, async || {
        let text = client.job_log(job, 0).await?.text;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines: Vec<&str> = whole.lines().collect();
        Ok((lines.len() > told + 2).then(|| (lines[lines.len() - 1].to_owned(), lines.len())))
    })
    .await
}
