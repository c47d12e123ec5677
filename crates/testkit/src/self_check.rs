//! A job that checks itself. It prints lines that begin with `ok` while all is as it was, and with
//! `BAD` once it is not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::MigrationView;
use mooring_api::{Client, Submission};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};

use crate::job::executing;
use crate::tour::move_once;
use crate::wait::wait_for;

/// Time limit of each step.
const LIMIT: Duration = Duration::from_secs(90);
/// The lines that follow a step: enough for each part of a job to have had its turn.
const LINES_AFTER: usize = 5;

/// A job that checks itself.
#[derive(Debug)]
pub struct SelfCheck<'a> {
    client: &'a Client,
    pub id: JobId,
}

impl<'a> SelfCheck<'a> {
    /// Submits a Python program as a job, with further parameters, and waits for its first lines.
    pub async fn launch(client: &'a Client, program: &str, submission: Submission) -> Result<Self> {
        let command = ["python3", "-u", "-c", program].map(str::to_owned).to_vec();
        let image = submission.image.clone().or(Some("dir:/".parse()?));
        let id = client.job_submit(&Submission { image, command, ..submission }).await?.id;
        let job = Self { client, id };
        executing(client, &job.id, LIMIT).await?;
        job.goes_on().await?;
        Ok(job)
    }

    /// Waits for further lines and returns the last one.
    ///
    /// # Errors
    /// One of the lines is not `ok`, or the job has ended.
    pub async fn goes_on(&self) -> Result<String> {
        let before = self.lines().await?.len();
        wait_for("more lines of the job", LIMIT, async || {
            let lines = self.lines().await?;
            if let Some(bad) = lines.iter().find(|line| !line.starts_with("ok")) {
                let at = lines.iter().position(|line| line == bad).unwrap_or_default();
                anyhow::bail!("{}", lines[at..].join("\n"));
            }
            let job = self.client.job_get(&self.id).await?;
            ensure!(!job.status.is_final(), "it is {}: {}", job.status, job.status_reason);
            Ok(lines.last().filter(|_| lines.len() >= before + LINES_AFTER).cloned())
        })
        .await
    }

    /// Migrates the job, which goes on afterwards.
    pub async fn migrates(&self) -> Result<MigrationView> {
        let made = move_once(self.client, &self.id).await?;
        ensure!(made.outcome == Outcome::Succeeded, "{made:?}");
        self.goes_on().await.context("after a migration")?;
        Ok(made)
    }

    /// Suspends the job and resumes it, and it goes on afterwards.
    pub async fn suspends_and_resumes(&self) -> Result<()> {
        self.client.job_suspend(&self.id).await?;
        let suspended = wait_for("the job in the capsule store", LIMIT, async || {
            let job = self.client.job_get(&self.id).await?;
            let failed = job.migrations.last().is_some_and(|made| matches!(made.outcome, Outcome::Failed { .. }));
            ensure!(!failed && !job.status.is_final(), "{}: {:?}", job.status_reason, job.migrations.last());
            Ok((job.status == JobStatus::Suspended).then_some(job))
        });
        suspended.await?;
        self.client.job_resume(&self.id).await?;
        executing(self.client, &self.id, LIMIT).await?;
        self.goes_on().await.context("after a suspend and a resume")?;
        Ok(())
    }

    /// Takes a snapshot of the job, which goes on afterwards.
    pub async fn takes_snapshot(&self) -> Result<()> {
        let before = self.client.job_get(&self.id).await?.migrations.len();
        self.client.job_snapshot(&self.id).await?;
        let made = wait_for("the snapshot", LIMIT, async || {
            let job = self.client.job_get(&self.id).await?;
            ensure!(!job.status.is_final(), "it is {}: {}", job.status, job.status_reason);
            Ok(job.migrations.get(before).filter(|made| made.outcome != Outcome::Running).cloned())
        })
        .await?;
        ensure!(made.kind == MigrationKind::Snapshot && made.outcome == Outcome::Succeeded, "{made:?}");
        self.goes_on().await.context("after a snapshot")?;
        Ok(())
    }

    /// Ends the job.
    pub async fn cancel(self) -> Result<()> {
        self.client.job_cancel(&self.id).await?;
        crate::job::ended(self.client, &self.id, LIMIT).await?;
        Ok(())
    }

    /// The complete lines that the job has printed.
    pub async fn lines(&self) -> Result<Vec<String>> {
        let text = self.client.job_log(&self.id, 0).await?.text;
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(complete.lines().map(str::to_owned).collect())
    }
}
