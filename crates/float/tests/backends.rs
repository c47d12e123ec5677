//! Each way in which hosts reach each other: byte streams through a gateway while their job is
//! moved.

use mooring_api::watch::Backend;
use mooring_testkit::world::{Plan, World};
use mooring_testkit::{streaming, streams};

const CONNECTIONS: usize = 2;
const MOVES: usize = 2;

fn streams_survive(backend: Backend) {
    let plan = Plan { backend: Some(backend), ..Plan::new(env!("CARGO_BIN_EXE_float")) };
    let world = World::start(plan).expect("a world over this backend");
    let program = world.bring(&streams::program().expect("the streamer")).expect("the streamer where jobs see it");
    let report = world.run_inside(async || {
        let client = world.client().await?;
        let session = streaming::launch(&client, "streams", &program).await?;
        streaming::run(&client, &session, CONNECTIONS, MOVES).await
    });
    let report = report.expect("streams over this backend");
    assert!(report.is_clean(CONNECTIONS, MOVES), "{report:#?}");
}

#[test]
fn streams_survive_moves_over_vxlan() {
    streams_survive(Backend::Vxlan);
}

#[test]
fn streams_survive_moves_over_plain_routes() {
    streams_survive(Backend::Direct);
}

#[test]
fn streams_survive_moves_over_wireguard() {
    streams_survive(Backend::Wireguard);
}
