//! Idle tabs of a job that is suspended for long. They poll all day, are refused and poll again,
//! and nothing of it piles up.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::JobView;
use mooring_testkit::job::mapped;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(60);
/// The number of polls in a day: JupyterLab asks for kernels, sessions and terminals every ten
/// seconds.
const POLLS: u32 = 8640;
const TABS: [&str; 3] = ["/api/kernels", "/api/sessions", "/api/terminals"];
/// The number of concurrent polls of each kind, to get through a day quickly.
const AT_ONCE: u32 = 4;

/// Returns the descriptors and the memory of a process.
fn held(pid: i32) -> Result<(usize, u64)> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok((descriptors, resident.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024))
}

async fn poll(gateway: SocketAddr, path: &str) -> Result<()> {
    let mut tcp = TcpStream::connect(gateway).await?;
    let headers = "Host: tab\r\nUser-Agent: Mozilla/5.0\r\nAccept: application/json\r\n";
    tcp.write_all(format!("GET {path} HTTP/1.1\r\n{headers}\r\n").as_bytes()).await?;
    let mut answer = [0; 12];
    tokio::time::timeout(LIMIT, tcp.read_exact(&mut answer)).await??;
    ensure!(answer == *b"HTTP/1.1 503", "a suspended job answered");
    Ok(())
}

#[test]
fn a_day_of_polls_leaves_nothing_behind() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here()).unwrap();
    let float = |line: &str| world.float(&line.split(' ').collect::<Vec<_>>()).unwrap();
    float("gateway create -n lab");
    let registered =
        float("job register -n notebook --endpoint 127.0.0.1:21000 --status Suspended --gateway lab -F json");
    let job: JobView = serde_json::from_str(&registered.stdout).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let mapping = mapped(&client, &job.id, LIMIT).await?;
        let gateway: SocketAddr = mapping.split_once(" -> ").context("a mapping")?.1.parse()?;
        let pid = wait_for("the gateway to listen", LIMIT, async || {
            let listens = TcpStream::connect(gateway).await.is_ok();
            Ok(world.daemons(&["server", "gateway"]).first().filter(|_| listens).map(|daemon| daemon.pid))
        })
        .await?;
        // What is allocated once is there after the first polls.
        for path in TABS {
            poll(gateway, path).await?;
        }
        let before = held(pid)?;
        let mut tabs = JoinSet::new();
        for path in TABS {
            for _ in 0..AT_ONCE {
                tabs.spawn(async move {
                    for _ in 0..POLLS / AT_ONCE {
                        poll(gateway, path).await?;
                    }
                    anyhow::Ok(())
                });
            }
        }
        while let Some(tab) = tabs.join_next().await {
            tab??;
        }
        wait_for(&format!("the gateway to have what it had: {before:?}"), LIMIT, async || {
            let (descriptors, memory) = held(pid)?;
            Ok((descriptors <= before.0 + 2 && memory <= before.1 + 16).then_some(()))
        })
        .await
    });
    outcome.unwrap();
}
