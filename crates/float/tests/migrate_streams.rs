//! Byte streams at full speed through a gateway, in both directions, while their job is moved again
//! and again.

use mooring_testkit::streaming;
use mooring_testkit::streams;
use mooring_testkit::world::{Plan, World};

const CONNECTIONS: usize = 8;
const MOVES: usize = 6;

#[test]
fn migrations_keep_every_byte_of_eight_streams() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&streams::program().unwrap()).unwrap();
    let report = world.run_inside(async || {
        let client = world.client().await?;
        let session = streaming::launch(&client, "streams", &program).await?;
        streaming::run(&client, &session, CONNECTIONS, MOVES).await
    });
    let report = report.unwrap();
    assert!(report.is_clean(CONNECTIONS, MOVES), "{report:#?}");
}
