//! Memory after a burst of held requests. The test has a process of its own, whose memory is
//! measured.

mod world;

use mooring_api::watch::Flow;
use mooring_gateway::memory;
use mooring_types::gateway::Protocol;
use world::{GET, Wire, World, text};

const REQUESTS: usize = 2000;
/// The most that may remain of some hundred MB, in kB.
const LEFT_MAX: u64 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_requests_leave_no_memory() {
    let mut world = World::new();
    let gateway = world.gateway.clone();
    let stop = world.lifecycle.soft().clone();
    world.lifecycle.tasks().spawn("memory", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = memory::trim_after_bursts(&gateway) => {}
        }
    });
    let job = world.job(|_| async { text("answer") }).await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    assert_eq!(Wire::connect(port).await.ask(GET).await.status(), 200);
    let before = resident();
    world.hold();
    let mut clients = Vec::new();
    for _ in 0..REQUESTS {
        let mut client = Wire::connect(port).await;
        client.send(GET).await;
        clients.push(client);
    }
    world.until(|world| world.gateway.load() >= 2 * REQUESTS).await;
    // The peak has to be seen by a check.
    tokio::time::sleep(2 * memory::CHECK_INTERVAL).await;
    let held = resident();
    assert!(held > before + 2 * LEFT_MAX, "{before} kB before, {held} kB held: there is nothing to give back");
    world.open();
    for client in &mut clients {
        assert_eq!(client.receive().await.body, "answer");
    }
    drop(clients);
    world.until(|_| resident() < before + LEFT_MAX).await;
    world.stop().await;
}

/// The resident memory of this process, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the line");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number")
}
