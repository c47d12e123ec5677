//! The hand-over between two processes, without OpCenter and without an agent.

mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use mooring_api::watch::Flow;
use mooring_gateway::handover::{self, Takeover};
use mooring_gateway::process_role::ProcessRole;
use mooring_gateway::shared::Shared;
use mooring_gateway::state::Gateway;
use mooring_gateway::{Config, Start, cache};
use mooring_ops::Lifecycle;
use mooring_types::gateway::Protocol;
use tokio::time::timeout;
use world::{GET, Job, PATIENCE, Wire, World, text};

/// A gateway with a job that greets, listening for a successor.
async fn serving(state: &Path) -> (World, Job, SocketAddr) {
    let mut world = World::new();
    let job = world.job(|_| async { text("hello") }).await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let listener = handover::listen(state, world.gateway.role().incarnation).expect("a listener");
    let (gateway, stop) = (world.gateway.clone(), world.lifecycle.soft().clone());
    world.lifecycle.tasks().spawn("listener", async move {
        tokio::select! {
            () = handover::serve_successors(&gateway, listener) => {}
            () = stop.cancelled() => {}
        }
    });
    (world, job, port)
}

async fn take(state: &Path) -> Takeover {
    let state = state.to_owned();
    tokio::task::spawn_blocking(move || handover::take_over(&state))
        .await
        .expect("it ends")
        .expect("what is handed over")
}

#[tokio::test]
async fn handover_keeps_clients() {
    let state = tempfile::tempdir().unwrap();
    let (mut world, _job, port) = serving(state.path()).await;
    let (mut asking, mut idle) = (Wire::connect(port).await, Wire::connect(port).await);
    for client in [&mut asking, &mut idle] {
        assert_eq!(client.ask(GET).await.status(), 200);
    }

    let Takeover { slice, sockets, predecessor } = take(state.path()).await;
    assert_eq!(slice, Some(world.slice.clone()));
    assert_eq!(sockets.keys().collect::<Vec<_>>(), [&port]);
    assert_eq!(Wire::connect(port).await.ask(GET).await.status(), 200);

    let role = ProcessRole::new(2, None, sockets);
    let shared = Shared { role, ..Shared::new(world.lifecycle.tasks().clone()) };
    let successor = Gateway::new(shared, world.lifecycle.soft());
    successor.apply(world.slice.clone());
    tokio::task::spawn_blocking(move || handover::confirm_serving(&predecessor)).await.unwrap().unwrap();
    assert!(world.gateway.role().is_retired());
    let mut newcomer = Wire::connect(port).await;
    assert_eq!(newcomer.ask(GET).await.status(), 200);
    assert_eq!(successor.observe().connections[0].clients.len(), 1);
    assert_eq!(world.clients(), 2);

    // A retired process applies slices to its connections, and opens no port.
    world.hold();
    asking.send(GET).await;
    assert!(asking.is_quiet().await);
    world.open();
    let last = asking.receive().await;
    assert_eq!((last.status(), last.header("connection")), (200, Some("close")));
    assert!(asking.rest().await.is_empty());
    let late = world.job(|_| async { text("late") }).await;
    world.connect(late.address, Protocol::Http, Flow::Open).await;
    assert_eq!(world.gateway.observe().connections.len(), 1);
    assert!(timeout(Duration::from_millis(100), world.gateway.role().done()).await.is_err());
    drop(idle);
    timeout(PATIENCE, world.gateway.role().done()).await.expect("the process has nothing left to do");
    successor.close();
    world.stop().await;
}

#[tokio::test]
async fn failed_successor_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let (mut world, _job, port) = serving(state.path()).await;
    for _ in 0..2 {
        let taken = take(state.path()).await;
        // A listener that is opened now would be missing from the hand-over.
        let late = world.job(|_| async { text("late") }).await;
        let late = world.connect(late.address, Protocol::Http, Flow::Open).await;
        assert!(tokio::net::TcpStream::connect(late).await.is_err());
        drop(taken);
        world.until(|world| world.gateway.role().may_listen()).await;
        world.until(|world| world.gateway.observe().connections.len() == world.slice.connections.len()).await;
        for port in [port, late] {
            assert_eq!(Wire::connect(port).await.ask(GET).await.status(), 200);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn successor_without_answer_fails() {
    let state = tempfile::tempdir().unwrap();
    assert!(handover::take_over(state.path()).is_err());
    let world = World::new();
    let lifecycle = Lifecycle::new();
    let config = Config { start: Start::TakeOver, ..config(&world, state.path()) };
    assert!(timeout(PATIENCE, mooring_gateway::run(config, lifecycle)).await.unwrap().is_err());
}

#[tokio::test]
async fn admin_endpoint() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let job = world.job(|_| async { text("hello") }).await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    // The process under test gets the port.
    let slice = std::mem::take(&mut world.slice.connections);
    world.apply();
    world.slice.connections = slice;

    let (lifecycle, admin) = start(&world, state.path()).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(Wire::connect(admin).await.ask(get("/healthz")).await.status(), 200);
    assert_eq!(Wire::connect(admin).await.ask(get("/readyz")).await.status(), 503);
    lifecycle.stop();
    timeout(PATIENCE, lifecycle.tasks().ended()).await.unwrap();

    cache::save(state.path(), &world.slice).unwrap();
    let (lifecycle, admin) = start(&world, state.path()).await;
    assert_eq!(Wire::connect(admin).await.ask(get("/readyz")).await.status(), 200);
    let mut client = Wire::connect(port).await;
    assert_eq!(client.ask(GET).await.status(), 200);
    let metrics = Wire::connect(admin).await.ask(get("/metrics")).await.body;
    let labels = format!("{{gateway=\"{}\",job=\"{}\"", world.slice.gateway, world.slice.connections[0].job);
    for line in [
        format!("mooring_connections{labels}}} 1"),
        format!("mooring_connections_total{labels}}} 1"),
        format!("mooring_requests_total{labels},class=\"2xx\"}} 1"),
        format!("mooring_listeners_failing{{gateway=\"{}\"}} 0", world.slice.gateway),
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} is not in\n{metrics}");
    }
    let bytes_out = format!("mooring_bytes_out_total{labels}}} ");
    let bytes_out = metrics.lines().find_map(|line| line.strip_prefix(&bytes_out)).map(|count| count.parse::<u64>());
    assert!(bytes_out.is_some_and(|count| count.unwrap() > 0), "{metrics}");
    lifecycle.stop();
    timeout(PATIENCE, lifecycle.tasks().ended()).await.unwrap();
    world.stop().await;
}

fn config(world: &World, state: &Path) -> Config {
    Config {
        // Nothing listens on port 1 of loopback.
        opcenter: "https://127.0.0.1:1".into(),
        gateway: world.slice.gateway.clone(),
        trust: mooring_tls::Trust::System,
        state_dir: state.into(),
        start: Start::Alone,
        admin: (Ipv4Addr::LOCALHOST, 0).into(),
    }
}

/// Starts a process; returns its admin address.
async fn start(world: &World, state: &Path) -> (Lifecycle, SocketAddr) {
    let address = state.join("admin-address");
    let _ = std::fs::remove_file(&address);
    let lifecycle = Lifecycle::new();
    lifecycle.tasks().spawn("gateway", mooring_gateway::run(config(world, state), lifecycle.clone()));
    let said = async {
        loop {
            match std::fs::read_to_string(&address) {
                Ok(said) => return said.trim().parse().expect("an address"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let admin = timeout(PATIENCE, said).await.expect("an address in time");
    (lifecycle, admin)
}
