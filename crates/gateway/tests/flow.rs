//! Bytes through the gateway with real sockets, while the gate opens and closes.

use std::net::Ipv4Addr;
use std::time::Duration;

use mooring_api::watch::Flow;
use mooring_gateway::{Config, Start, cache};
use mooring_ops::Lifecycle;
use mooring_types::gateway::Protocol;
use mooring_types::{MigrationId, Port};
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

mod world;

use world::{PATIENCE, QUIET, World, held, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_lose_no_bytes() {
    const AMOUNT: usize = 8 << 20;
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();

    let random = |seed| {
        let mut bytes = vec![0; AMOUNT];
        rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        bytes
    };
    let (up, down) = (random(1), random(2));
    let (mut client_reads, mut client_writes) = client.split();
    let (mut job_reads, mut job_writes) = job.split();
    let (mut got_up, mut got_down) = (vec![0; AMOUNT], vec![0; AMOUNT]);
    let transfer = async {
        tokio::try_join!(
            client_writes.write_all(&up),
            job_writes.write_all(&down),
            client_reads.read_exact(&mut got_down),
            job_reads.read_exact(&mut got_up),
        )
        .unwrap();
    };
    let holds = async {
        loop {
            world.flow(0, held());
            tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..2000))).await;
            world.flow(0, Flow::Open);
            tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..2000))).await;
        }
    };
    timeout(Duration::from_secs(60), async {
        tokio::select! { () = transfer => {}, () = holds => {} }
    })
    .await
    .unwrap();
    assert!(got_up == up && got_down == down);
    world.flow(0, Flow::Open);

    let client_report = &world.gateway.observe().connections[0].clients[0];
    assert_eq!((client_report.bytes_in, client_report.bytes_out), (AMOUNT as u64, AMOUNT as u64));
    world.stop().await;
}

#[tokio::test]
async fn quiesced_connection_sends_and_loses_nothing() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut job, _) = listener.accept().await.unwrap();
    client.write_all(b"before").await.unwrap();
    let mut buffer = [0; 6];
    job.read_exact(&mut buffer).await.unwrap();

    let migration = MigrationId::random(&mut rand::rng());
    world.flow(0, Flow::Held { quiesce: Some(migration.clone()) });
    let quiesced = timeout(PATIENCE, async {
        loop {
            if let Some(quiesced) = world.gateway.observe().quiesced.first() {
                break quiesced.clone();
            }
            world.gateway.observed().await;
        }
    })
    .await
    .unwrap();
    assert_eq!((quiesced.migration, quiesced.unacknowledged), (migration, 0));

    client.write_all(b"during").await.unwrap();
    assert!(timeout(QUIET, job.read_exact(&mut buffer)).await.is_err());
    job.write_all(b"answer").await.unwrap();
    client.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"answer");

    world.flow(0, Flow::Open);
    timeout(PATIENCE, job.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer, b"during");
    assert!(world.gateway.observe().quiesced.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn held_client_connects_when_open() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, held()).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    client.write_all(b"early").await.unwrap();
    assert!(timeout(QUIET, listener.accept()).await.is_err());

    world.flow(0, Flow::Open);
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut buffer = [0; 5];
    job.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"early");
    world.stop().await;
}

#[tokio::test]
async fn server_speaks_first_and_starts_late() {
    let mut world = World::new();
    let (listener, target) = server().await;
    drop(listener);
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    // Nothing listens yet: the client waits.
    assert!(timeout(QUIET, client.read_u8()).await.is_err());
    let listener = TcpListener::bind(target).await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    job.write_all(b"SSH-2.0").await.unwrap();
    let mut buffer = [0; 7];
    client.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"SSH-2.0");
    world.stop().await;
}

#[tokio::test]
async fn half_close_is_passed_on() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut job, _) = listener.accept().await.unwrap();
    client.write_all(b"all").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    timeout(PATIENCE, job.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"all");
    job.write_all(b"answer after your end").await.unwrap();
    job.shutdown().await.unwrap();
    let mut got = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"answer after your end");
    world.stop().await;
}

#[tokio::test]
async fn reset_is_passed_on() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    for reset_by_job in [true, false] {
        let mut client = TcpStream::connect(port).await.unwrap();
        let (mut job, _) = listener.accept().await.unwrap();
        client.write_u8(1).await.unwrap();
        job.read_u8().await.unwrap();
        let (resets, mut sees) = if reset_by_job { (job, client) } else { (client, job) };
        socket2::SockRef::from(&resets).set_linger(Some(Duration::ZERO)).unwrap();
        drop(resets);
        let seen = timeout(PATIENCE, sees.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(seen.kind(), std::io::ErrorKind::ConnectionReset);
    }
    world.stop().await;
}

#[tokio::test]
async fn slice_keeps_other_connections() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut job, _) = listener.accept().await.unwrap();
    let mut other = None;
    for round in 0..100_u8 {
        match round % 2 {
            0 => {
                let at = world.connect(target, Protocol::Tcp, Flow::Open).await;
                other = Some(TcpStream::connect(at).await.unwrap());
                listener.accept().await.unwrap();
            }
            _ => {
                world.slice.connections.truncate(1);
                world.apply();
                let mut gone = other.take().unwrap();
                assert!(timeout(PATIENCE, gone.read_u8()).await.unwrap().is_err());
            }
        }
        client.write_u8(round).await.unwrap();
        assert_eq!(job.read_u8().await.unwrap(), round);
    }
    world.stop().await;
}

#[tokio::test]
async fn port_in_use_is_reported_and_retried() {
    let mut world = World::new();
    let (_listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    world.slice.connections.clear();
    world.apply();
    let (blocker, blocked) = server().await;
    assert_ne!(port, blocked);
    world.connect(target, Protocol::Tcp, Flow::Open).await;
    world.slice.connections[0].gateway_port = Port::new(blocked.port()).unwrap();
    world.apply();
    let problem = world.gateway.observe().connections[0].problem.clone().unwrap();
    assert!(problem.contains("in use"), "{problem}");

    drop(blocker);
    let recovered = async {
        while world.gateway.observe().connections[0].problem.is_some() {
            world.gateway.observed().await;
        }
    };
    tokio::select! {
        () = world.gateway.retry_listeners() => {}
        recovered = timeout(PATIENCE, recovered) => recovered.unwrap(),
    }
    TcpStream::connect(blocked).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn start_without_opcenter_serves_cache() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let (slice, state) = (world.slice.clone(), tempfile::tempdir().unwrap());
    world.stop().await;
    cache::save(state.path(), &slice).unwrap();
    assert_eq!(cache::load(state.path()).unwrap(), Some(slice.clone()));

    let lifecycle = Lifecycle::new();
    let config = Config {
        // Nothing listens on port 1 of loopback.
        opcenter: "https://127.0.0.1:1".into(),
        gateway: slice.gateway,
        trust: mooring_tls::Trust::System,
        state_dir: state.path().into(),
        start: Start::Alone,
        admin: (Ipv4Addr::LOCALHOST, 0).into(),
    };
    let running = lifecycle.tasks().spawn("gateway", mooring_gateway::run(config, lifecycle.clone()));
    let mut client = timeout(PATIENCE, async {
        loop {
            match TcpStream::connect(port).await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    client.write_u8(7).await.unwrap();
    assert_eq!(job.read_u8().await.unwrap(), 7);
    lifecycle.stop();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn quiescing_gateway_takes_all_that_a_job_has_written_also_for_a_slow_client() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (job, _) = listener.accept().await.unwrap();
    let mut bytes = vec![0; 1 << 16];
    rand::rngs::StdRng::seed_from_u64(3).fill_bytes(&mut bytes);
    let mut written = Vec::new();
    // The client reads nothing, until all buffers are full.
    while timeout(QUIET, job.writable()).await.is_ok() {
        match job.try_write(&bytes) {
            Ok(count) => written.extend_from_slice(&bytes[..count]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    let left = || mooring_linux::tcp::unacknowledged(std::os::fd::AsFd::as_fd(&job)).unwrap();
    assert!(left() > 0);
    socket2::SockRef::from(&job).shutdown(std::net::Shutdown::Write).unwrap();
    world.flow(0, Flow::Held { quiesce: Some(MigrationId::random(&mut rand::rng())) });
    timeout(PATIENCE, async {
        while left() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("nothing is left in the job's socket");
    let mut read = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut read)).await.unwrap().unwrap();
    assert!(read == written, "{} of {} bytes", read.len(), written.len());
    world.flow(0, Flow::Open);
    world.stop().await;
}
