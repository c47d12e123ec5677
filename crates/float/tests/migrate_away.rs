//! A job that is away for long while its client keeps sending: nothing is lost, and bytes move as
//! soon as it is back.

use std::time::Duration;

use mooring_testkit::away;
use mooring_testkit::witness::{self, Witness};
use mooring_testkit::world::{Plan, World};

const MOVES: usize = 2;
const AWAY: Duration = Duration::from_secs(8);
/// Far below the job's absence, which is what TCP's own back-off would add again; the real figure
/// is `bench`'s to find.
const SOON: f64 = 1.0;

#[test]
fn bytes_for_a_held_job_arrive_after_it() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let report = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "away", &program).await?;
        away::run(&world, &client, &witness, MOVES, AWAY, |_| ()).await
    });
    let report = report.unwrap();
    assert_eq!(report.moves.len(), MOVES);
    for made in &report.moves {
        assert!(made.pause_seconds > AWAY.as_secs_f64(), "{made:?}");
        assert!(made.first_byte_in_seconds < SOON && made.first_byte_out_seconds < SOON, "{made:?}");
    }
    // It has sent all the time, every 10 ms.
    assert!(report.sent > 1000 && report.sent == report.answered, "{report:?}");
}
