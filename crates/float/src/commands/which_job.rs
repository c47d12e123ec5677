//! The job of a command: `-j` with an id or a name, or the job in which the command runs.

use anyhow::Result;
use clap::Args;
use mooring_api::Client;
use mooring_types::{JobId, Name};

use crate::error::invalid;

/// The environment variable that names the job in which a program runs.
pub(crate) const THIS_JOB: &str = "FLOAT_JOB_ID";
/// The most jobs of one name that an error lists.
const LISTED_MAX: usize = 5;

/// The flag for one job.
#[derive(Debug, Args)]
pub(crate) struct WhichJob {
    /// job, by id or name [default: $FLOAT_JOB_ID, which is set inside a job]
    #[arg(short, long, value_name = "JOB", env = THIS_JOB, hide_env = true)]
    job: String,
}

impl WhichJob {
    /// Returns the id of the job.
    pub(crate) async fn find(&self, client: &Client) -> Result<JobId> {
        find(client, &self.job).await
    }
}

/// Returns the id of a job that is given by its id, or by a name that one job has. Of several jobs
/// the only one that has not ended is meant.
pub(crate) async fn find(client: &Client, text: &str) -> Result<JobId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    if text.parse::<Name>().is_err() {
        return Err(unknown("an ID has 21 letters and digits; `float list` shows the jobs"));
    }
    let mut called = client.job_list_where(&[format!("name=\"{text}\"")]).await?;
    let mut live = called.iter().filter(|job| !job.status.is_final());
    if let (Some(job), None) = (live.next(), live.next()) {
        return Ok(job.id.clone());
    }
    match called.as_slice() {
        [job] => return Ok(job.id.clone()),
        [] => {
            let hint =
                format!("an ID has 21 letters and digits, and no job is called `{text}`; `float list` shows the jobs");
            return Err(unknown(hint));
        }
        _ => {}
    }
    let number = called.len();
    // The newest ones are the last ones.
    let listed = called.split_off(number.saturating_sub(LISTED_MAX));
    let ids: Vec<String> = listed.iter().map(|job| format!("{} ({})", job.id, job.status)).collect();
    Err(unknown(format!("{number} jobs are called `{text}`, give the ID of one of them: {}", ids.join(", "))))
}

fn unknown(hint: impl Into<String>) -> anyhow::Error {
    invalid("invalid job ID", hint)
}
