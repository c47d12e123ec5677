//! A database that a job has open goes on being written wherever the job goes: its file is the one
//! that it was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// Adds a row every 20 ms in a transaction of its own, as IPython does with its history, and tells
/// of it. SQLite finds out about the file at the beginning of each. A file that was renamed while
/// it was open is another one's to find.
const SCRIPT: &str = r#"
import os, sqlite3, time
os.makedirs('/var/tmp/data')
database = sqlite3.connect('/var/tmp/data/rows')
database.execute('create table rows (number integer)')
database.commit()
others = [sqlite3.connect(f'/var/tmp/data/other-{n}') for n in range(8)]
for other in others:
    other.execute('create table rows (number integer)')
number = 0
while True:
    for each in [database, others[number % 8]]:
        each.execute('insert into rows values (?)', (number,))
        each.commit()
    rows, last = database.execute('select count(*), max(number) from rows').fetchone()
    assert rows == last + 1 == number + 1
    print(number, os.stat('/var/tmp/data/rows').st_ino, flush=True)
    number += 1
    time.sleep(0.02)
"#;

#[test]
fn a_database_is_written_on_wherever_its_job_goes() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let command = [PYTHON, "-c", SCRIPT].map(str::to_owned).to_vec();
        let request = Submission { image: Some("dir:/".parse()?), command, ..Submission::default() };
        let job = client.job_submit(&request).await?.id;
        let begun = written(&client, &job, 10).await?;
        for _ in 0..2 {
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            written(&client, &job, 30).await?;
        }
        client.job_suspend(&job).await?;
        wait_for("the job in the capsule store", LIMIT, async || {
            Ok((client.job_get(&job).await?.status == JobStatus::Suspended).then_some(()))
        })
        .await?;
        client.job_resume(&job).await?;
        executing(&client, &job, LIMIT).await?;
        let ended = written(&client, &job, 30).await?;
        ensure!(begun == ended, "inode {begun} has become {ended}");
        Ok(())
    });
    outcome.unwrap();
}

/// Waits for `more` further rows and returns the number of the file's inode.
async fn written(client: &Client, job: &JobId, more: u64) -> Result<u64> {
    let first = last(client, job).await?.map_or(0, |(row, _)| row);
    wait_for("rows", LIMIT, async || {
        let job = client.job_get(job).await?;
        ensure!(!job.status.is_final(), "it is {}: {}", job.status, client.job_log(&job.id, 0).await?.text);
        Ok(last(client, &job.id).await?.filter(|(row, _)| *row >= first + more).map(|(_, inode)| inode))
    })
    .await
}

/// The last row that the job has told of, and the inode of its file then.
async fn last(client: &Client, job: &JobId) -> Result<Option<(u64, u64)>> {
    let text = client.job_log(job, 0).await?.text;
    let Some(line) = text.lines().next_back().filter(|_| text.ends_with('\n')) else { return Ok(None) };
    let (row, inode) = line.split_once(' ').with_context(|| text.clone())?;
    Ok(Some((row.parse().with_context(|| text.clone())?, inode.parse()?)))
}
