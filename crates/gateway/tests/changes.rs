//! Many connections through many slices.

mod world;

use mooring_api::watch::{Flow, Target};
use mooring_types::gateway::Protocol;
use mooring_types::job::JobStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::{PATIENCE, World, held, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_survive_slices() {
    const CONNECTIONS: usize = 1000;
    const CHANGES: usize = 1000;
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut pairs = Vec::new();
    for number in 0..CONNECTIONS {
        let mut client = TcpStream::connect(port).await.unwrap();
        client.write_u16(number as u16).await.unwrap();
        let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        assert_eq!(job.read_u16().await.unwrap(), number as u16);
        pairs.push((client, job));
    }
    for change in 0..CHANGES {
        match change % 10 {
            0 => {
                world.connect(target, Protocol::Auto, held()).await;
            }
            1 => world.hold(),
            2 => world.open(),
            3 => world.slice.rules.push("tcp:443:10.0.0.0/8".parse().unwrap()),
            4 => world.slice.rules.truncate(1),
            5 => world.change(|connection| connection.hold_limits.hold_seconds += 1),
            6 => world.change(|connection| connection.protocol = Protocol::Auto),
            7 => world.change(|connection| connection.target = Target::Overlay(([127, 0, 0, 1], 1).into())),
            8 => world.change(|connection| connection.job_status = JobStatus::Unknown),
            _ => world.slice.connections.truncate(1),
        }
        world.apply();
    }
    world.open();
    assert_eq!(world.clients(), CONNECTIONS);
    for (number, (client, job)) in pairs.iter_mut().enumerate() {
        job.write_u16(number as u16).await.unwrap();
        assert_eq!(timeout(PATIENCE, client.read_u16()).await.unwrap().unwrap(), number as u16);
        client.write_u16(number as u16).await.unwrap();
        assert_eq!(timeout(PATIENCE, job.read_u16()).await.unwrap().unwrap(), number as u16);
    }
    world.stop().await;
}
