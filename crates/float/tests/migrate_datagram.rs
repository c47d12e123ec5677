//! UDP sockets keep their options, their group memberships and the sources of these over a
//! migration.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::migration::Outcome;

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
    # Each host gives the interface another number.
    value = bytearray(struct.pack("I4x", socket.if_nametoindex("eth0")) + address + struct.pack("II", 0, 4) + bytes(4 * 128))
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
    print(values, sorted(set(igmp)), sorted(igmp6), [sources(*group) for group in GROUPS], flush=True)
    time.sleep(0.1)
"#;

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
