//! A host with idle JupyterLabs that is drained onto two others: the wait of each client.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use mooring_api::view::{DrainRequest, HostStatus};
use mooring_api::{Client, Submission};
use mooring_testkit::counting::Counting;
use mooring_testkit::distribution::Distribution;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::migration::MigrationKind;
use serde::Serialize;
use serde_json::json;

use super::{Outcome, progress};
use crate::goals::Goal;

/// The longest allowed wait of a client, in seconds.
const GOAL: f64 = 2.0;
const LIMIT: Duration = Duration::from_secs(180);
/// The host that is drained, and the number of hosts.
const HOST: &str = "host-1";
const HOSTS: u32 = 3;
/// The interval of a client; eight faster ones would keep a small machine busy.
const INTERVAL: Duration = Duration::from_millis(100);
/// The time that jobs get after their start to become idle.
const SETTLES: Duration = Duration::from_secs(3);

/// The result of one drain.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drained {
    /// The number of jobs that leave at once; `float`'s default when absent.
    at_once: Option<usize>,
    /// The time until no job was left on the host.
    seconds: f64,
    clients: Vec<Seen>,
}

/// The observations of one client.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    to: String,
    /// The pause of its job.
    pause_seconds: f64,
    /// The longest wait for a message beyond the usual.
    wait_seconds: f64,
    /// `true` if nothing was lost or repeated and the WebSocket stayed open.
    clean: bool,
}

impl Drained {
    fn of(&self, value: fn(&Seen) -> f64) -> Option<Distribution> {
        Distribution::of(self.clients.iter().map(value))
    }

    fn row(&self) -> String {
        let at_once = self.at_once.map_or_else(|| "default".to_owned(), |at_once| at_once.to_string());
        let text = |seen: Option<Distribution>| {
            seen.map_or_else(String::new, |seen| format!("{:>8.3} {:>8.3} {:>8.3}", seen.min, seen.median, seen.max))
        };
        let unclean = self.clients.iter().filter(|seen| !seen.clean).count();
        format!(
            "{at_once:<8} {:>8.1} {} {} {unclean:>8}\n",
            self.seconds,
            text(self.of(|seen| seen.pause_seconds)),
            text(self.of(|seen| seen.wait_seconds))
        )
    }
}

/// Drains once for each number of jobs that leave at once, each time in a new world.
///
/// Without a number, `float`'s default is used.
pub(crate) fn measure(float: &Path, jobs: u32, at_once: &[usize]) -> Result<Outcome> {
    let numbers = match at_once {
        [] => vec![None],
        given => given.iter().copied().map(Some).collect(),
    };
    let mut runs = Vec::new();
    for number in numbers {
        let mut plan = Plan::new(float);
        plan.virtual_hosts = HOSTS;
        plan.arguments = vec!["--cores".into(), jobs.to_string()];
        plan.arguments.extend(number.iter().flat_map(|number| ["--drain-at-once".into(), number.to_string()]));
        let world = World::start(plan)?;
        let run = world.run_inside(async || drain(&world.client().await?, jobs, number).await)?;
        progress(&format!("drain: {}", run.row().trim_end()));
        runs.push(run);
    }
    let mut text = format!("{jobs} idle JupyterLabs leave a host for two others; seconds\n");
    text +=
        &format!("{:<8} {:>8} {:>26} {:>26} {:>8}\n", "at once", "drained", "pause of a job", "a client waits", "not");
    let three = format!("{:>8} {:>8} {:>8}", "min", "median", "max");
    text += &format!("{:<8} {:>8} {three} {three} {:>8}\n", "", "after", "clean");
    text.extend(runs.iter().map(Drained::row));
    let goals = match runs.as_slice() {
        [run] => {
            vec![Goal::at_most(
                "drain, longest wait of a client",
                GOAL,
                run.of(|seen| seen.wait_seconds).map(|seen| seen.max),
            )]
        }
        // A comparison has no goal.
        _ => Vec::new(),
    };
    Ok(Outcome {
        part: "drain",
        text: text.trim_end().to_owned(),
        json: json!({ "jobs": jobs, "runs": runs }),
        goals,
        clean: runs.iter().all(|run| run.clients.iter().all(|seen| seen.clean)),
    })
}

async fn drain(client: &Client, jobs: u32, at_once: Option<usize>) -> Result<Drained> {
    let sessions = launch(client, jobs).await?;
    let watched = sessions.into_iter().map(async |session| {
        let jupyter = Jupyter::connect(&session.access_url).await?;
        Ok::<_, anyhow::Error>((session, Counting::start(&jupyter, INTERVAL).await?))
    });
    let watched = try_join_all(watched).await?;
    tokio::time::sleep(SETTLES).await;
    let mut marks = Vec::new();
    for (_, counting) in &watched {
        counting.caught_up(LIMIT).await?;
        marks.push(counting.mark());
    }
    let began = Instant::now();
    client.host_drain(&HOST.parse()?, &DrainRequest { within: String::new() }).await?;
    wait_for("the host to be drained", LIMIT, async || {
        let hosts = client.host_list().await?;
        Ok(hosts.iter().any(|host| host.name == HOST && host.status == HostStatus::Drained).then_some(()))
    })
    .await?;
    let seconds = began.elapsed().as_secs_f64();
    let mut clients = Vec::new();
    for ((session, counting), mark) in watched.into_iter().zip(marks) {
        counting.caught_up(LIMIT).await?;
        let seen = counting.since(mark);
        let total = counting.finish().await?;
        let job = client.job_get(&session.job).await?;
        let made = job.migrations.last().context("a job did not move")?;
        clients.push(Seen {
            to: made.to.clone(),
            pause_seconds: made.pause_seconds,
            wait_seconds: (seen.longest_gap_seconds - seen.typical_gap_seconds).max(0.0),
            clean: total.is_clean() && made.outcome.is_success() && made.kind == MigrationKind::Migrate,
        });
    }
    Ok(Drained { at_once, seconds, clients })
}

/// The JupyterLabs on the host, behind one gateway.
async fn launch(client: &Client, jobs: u32) -> Result<Vec<Session>> {
    let request = |number: u32| {
        anyhow::Ok(Submission {
            name: Some(format!("lab-{number}").parse()?),
            template: Some("jupyter".parse()?),
            cpu: Some(1),
            mem_gb: Some(1.0),
            host: Some(HOST.parse()?),
            ..Submission::default()
        })
    };
    let first = Session::launch(client, request(1)?).await?;
    let further = (2..=jobs).map(async |number| Session::launch_behind(client, &first.gateway, request(number)?).await);
    let further = try_join_all(further).await?;
    let sessions = [vec![first], further].concat();
    progress(&format!("drain: {jobs} JupyterLabs execute on {HOST}"));
    Ok(sessions)
}
