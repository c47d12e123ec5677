//! The real JupyterLab, moved while a kernel of it counts and its client sends requests all the
//! time.

use mooring_testkit::notebook::Notebook;
use mooring_testkit::tour;
use mooring_testkit::world::{Plan, World};

const MOVES: usize = 3;
/// The longest time without a message, in seconds: far above what a move takes, far below what a
/// lost connection would.
const GAP_LIMIT: f64 = 5.0;

#[test]
fn a_notebooks_client_notices_no_move() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let report = world.run_inside(async || {
        let client = world.client().await?;
        let notebook = Notebook::launch(&client, "notebook").await?;
        tour::run(&client, &notebook.access_url, &notebook.job, MOVES, |_| {}).await
    });
    let report = report.unwrap();
    let seen = || format!("{}\n{}", report.table(), report.summary());
    assert!(report.is_clean(), "{}", seen());
    assert!(report.moves.iter().all(|made| made.seen.longest_gap_seconds < GAP_LIMIT), "{}", seen());
    assert!(report.moves.iter().all(|made| made.seen.messages > 0), "{}", seen());
}
