//! The network that a job finds: TCP where it asks for MPTCP, and the name servers of its host.

use anyhow::{Context, Result, ensure};
use mooring_api::Submission;
use mooring_testkit::self_check::SelfCheck;
use mooring_testkit::world::{Plan, World};

/// Listens with MPTCP where the kernel has it, and with TCP where it has not, as servers in Go do.
/// A client within the job is connected.
const MPTCP: &str = r#"
import errno, socket, time
def opened():
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262), "MPTCP"
    except OSError as error:
        assert error.errno in (errno.EPROTONOSUPPORT, errno.ENOPROTOOPT), error
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM), "TCP"

listener, kind = opened()
listener.bind(("127.0.0.1", 8080))
listener.listen(4)
client = socket.create_connection(("127.0.0.1", 8080))
server = listener.accept()[0]
tick = 0
while True:
    tick += 1
    client.sendall(b"%8d" % tick)
    echoed = int(server.recv(8))
    print("ok" if echoed == tick and kind == "TCP" and opened()[1] == "TCP" else "BAD", kind, tick, echoed)
    time.sleep(0.1)
"#;

/// Says which name servers it has. Some were given to it by a host in another network, as far as it
/// can tell, or were changed by its user.
const NAME_SERVERS: &str = r#"
import os, sys, time
FILE, GIVEN = "/etc/resolv.conf", "/.mooring/resolv.conf"
first = open(FILE).read()
inode = os.stat(FILE).st_ino
held = open(FILE)
other = "search other.example\nnameserver 192.0.2.1\n"
open(FILE, "w").write(other)
if CHANGED != "by its user":
    open(GIVEN, "w").write(other)
while True:
    with open(FILE) as file:
        text = file.read()
    held.seek(0)
    good = text in (first, other) and held.read() == text
    print("ok" if good else "BAD", "own" if text == first else "other")
    time.sleep(0.1)
"#;

#[test]
fn a_job_finds_the_network_of_its_host() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let small = || Submission { mem_gb: Some(0.2), ..Submission::default() };
        let job = SelfCheck::launch(&client, MPTCP, small()).await?;
        job.migrates().await?;
        job.suspends_and_resumes().await?;
        job.cancel().await?;

        for (changed, expected) in [("by a host", "ok own"), ("by its user", "ok other")] {
            let program = format!("CHANGED = {changed:?}\n{NAME_SERVERS}");
            let job = SelfCheck::launch(&client, &program, small()).await?;
            says(&job, "ok other").await?;
            if changed == "by its user" {
                job.suspends_and_resumes().await?;
            } else {
                job.migrates().await?;
            }
            says(&job, expected).await?;
            job.cancel().await?;
        }
        Ok(())
    });
    outcome.unwrap();
}

async fn says(job: &SelfCheck<'_>, expected: &str) -> Result<()> {
    let said = job.goes_on().await.context("the name servers")?;
    ensure!(said == expected, "{said}");
    Ok(())
}
