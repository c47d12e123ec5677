//! Removes capsules that nobody needs.
//!
//! Of each running or suspended job the newest capsule stays, for resume and recovery, and with it
//! its base. Capsules of migrations under way stay as well. A capsule goes after its row, so that
//! no migration uses one that is half removed.
//!
//! A capsule without a row is looked at when the store is swept. An agent was killed before it
//! reported, or the database is an older copy that was put back. The capsule may then be all that
//! is left of a job. It is adopted if its job has not ended, and all capsules of the job with a row
//! are older. The others go.

use std::collections::BTreeSet;
use std::time::Duration;

use mooring_api::watch::StoreAccess;
use mooring_capsule::{CapsuleKey, CapsuleStore, Location, S3Options};
use mooring_ops::log::chain;
use mooring_store::{CapsuleRow, JobRow, MigrationRow, StoreError};
use mooring_types::migration::MigrationKind;
use mooring_types::{CapsuleName, Clock, Generation, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::state::context::Context;

const TIDY_INTERVAL: Duration = Duration::from_secs(5);
/// The time between two sweeps of the store: an object store lists page by page, and for money.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// The silence after which a writer counts as dead.
const WRITER_SILENCE: Duration = Duration::from_secs(24 * 3600);

/// The reason why a round did not finish; the next one continues.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error("the database failed")]
    Database(#[from] StoreError),
    #[error("the capsule store failed")]
    Capsules(#[from] mooring_capsule::Error),
}

/// Opens a store to list and remove capsules, which takes no key.
pub(crate) fn open(access: &StoreAccess) -> Result<CapsuleStore, mooring_capsule::Error> {
    let options = S3Options::given(&access.endpoint, &access.region, &access.access_key, &access.secret_key);
    CapsuleStore::open(&access.location.parse::<Location>()?.with_s3(options), CapsuleKey::random())
}

/// Opens a store, and finds out whether it can be used.
async fn look(access: &StoreAccess) -> Result<CapsuleStore, mooring_capsule::Error> {
    let store = open(access)?;
    store.probe().await?;
    tracing::info!("the capsule store at {} is usable", store.at());
    Ok(store)
}

/// Removes unused capsules until asked to stop.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let Some(access) = context.config.store.clone() else { return };
    let (mut opened, mut swept): (Option<CapsuleStore>, Option<Duration>) = (None, None);
    loop {
        let outcome = async {
            // The store may be unreachable when this process starts.
            let store = match &opened {
                Some(store) => store.clone(),
                None => opened.insert(look(&access).await?).clone(),
            };
            tidy(&context, &store).await?;
            if swept.is_none_or(|at| context.clock.monotonic().saturating_sub(at) >= SWEEP_INTERVAL) {
                sweep(&context, &store).await?;
                swept = Some(context.clock.monotonic());
            }
            Ok::<(), Unfinished>(())
        };
        let outcome = tokio::select! {
            outcome = outcome => outcome,
            () = stop.cancelled() => return,
        };
        match outcome {
            Ok(()) => {}
            Err(Unfinished::Capsules(error)) => {
                let hint = error.hint();
                tracing::warn!(error = %chain(&error), "the capsule store can't be used, trying again: {hint}");
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the capsule store is not cleaned up; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.sleep(TIDY_INTERVAL) => {}
        }
    }
}

async fn tidy(context: &Context, store: &CapsuleStore) -> Result<(), Unfinished> {
    let mut tx = context.store.begin().await?;
    let (capsules, jobs) = (tx.capsule_list().await?, tx.job_list_live().await?);
    let migrations = tx.migration_list_under_way().await?;
    let unused = unused(&capsules, &jobs, &migrations);
    if unused.is_empty() {
        return Ok(());
    }
    for name in &unused {
        tx.capsule_delete(name).await?;
    }
    tx.commit().await?;
    for name in &unused {
        store.remove(name).await?;
        tracing::info!(capsule = %name, "removed capsule {name}: unused");
    }
    Ok(())
}

/// Returns the capsules that nobody needs.
fn unused(capsules: &[CapsuleRow], jobs: &[JobRow], migrations: &[MigrationRow]) -> Vec<CapsuleName> {
    let lives = |row: &CapsuleRow| jobs.iter().any(|job| job.id == row.job && !job.status.is_final());
    let is_newest = |row: &CapsuleRow| capsules.iter().rfind(|other| other.job == row.job) == Some(row);
    let is_in_use = |row: &CapsuleRow| migrations.iter().any(|migration| migration.capsule.as_ref() == Some(&row.name));
    let is_needed = |row: &CapsuleRow| is_in_use(row) || lives(row) && is_newest(row);
    let (needed, others): (Vec<_>, Vec<_>) = capsules.iter().partition(|row| is_needed(row));
    let is_base = |row: &CapsuleRow| needed.iter().any(|needed| needed.base.as_ref() == Some(&row.name));
    others.into_iter().filter(|row| !is_base(row)).map(|row| row.name.clone()).collect()
}

async fn sweep(context: &Context, store: &CapsuleStore) -> Result<(), Unfinished> {
    // Every capsule listed here has its row by now, belongs to a migration under way, or is a
    // stray.
    let stored = store.list().await?;
    let mut tx = context.store.begin().await?;
    let noted = tx.capsule_list().await?;
    let under_way = tx.migration_list_under_way().await?.into_iter().filter_map(|row| row.capsule);
    let named: BTreeSet<CapsuleName> = noted.iter().map(|row| row.name.clone()).chain(under_way).collect();
    // Another OpCenter may use the same store.
    let mut strays = Vec::new();
    for name in stored.iter().filter(|name| !named.contains(name)) {
        let job = name.as_str().split('-').next().and_then(|job| job.parse().ok());
        if let Some(job) = job
            && let Some(job) = tx.job_get(&job).await?
        {
            strays.push((name.clone(), job));
        }
    }
    drop(tx);
    for (name, job) in strays {
        let newest = noted.iter().rfind(|row| row.job == job.id).map(|row| row.create_time);
        match fate(context, store, &name, &job, newest, &stored).await {
            Fate::Adopted(row, generation) => adopt(context, &job, &row, generation).await?,
            Fate::Kept(reason) => {
                tracing::warn!(capsule = %name, "capsule {name} is not noted, and is kept: {reason}");
            }
            Fate::Removed => {
                store.remove(&name).await?;
                tracing::warn!(capsule = %name, "removed capsule {name}: a stray without a row");
            }
        }
    }
    let before = context.clock.now() - WRITER_SILENCE;
    store.sweep(before).await?;
    Ok(())
}

/// The fate of a capsule without a row.
enum Fate {
    /// It gets a row: it is the newest of a job that has not ended.
    Adopted(CapsuleRow, Generation),
    /// Nobody can tell what it is worth.
    Kept(String),
    /// The job has ended, or has a newer one.
    Removed,
}

/// Decides about a capsule of a known job, whose newest capsule with a row is as old as `newest`.
async fn fate(
    context: &Context,
    store: &CapsuleStore,
    name: &CapsuleName,
    job: &JobRow,
    newest: Option<Timestamp>,
    stored: &[CapsuleName],
) -> Fate {
    if job.status.is_final() {
        return Fate::Removed;
    }
    let key = job.capsule_key.as_ref().map(|sealed| context.vault.unseal_capsule_key(&job.id, sealed));
    let Some(Ok(key)) = key else { return Fate::Kept(format!("the key of job {} can't be opened", job.id)) };
    let manifest = match store.with_key(key).manifest(name).await {
        Ok(manifest) => manifest,
        Err(error) => return Fate::Kept(chain(&error).to_string()),
    };
    if newest.is_some_and(|newest| newest >= manifest.created) {
        return Fate::Removed;
    }
    let base = manifest.base.map(|base| base.name);
    if let Some(base) = base.as_ref().filter(|base| !stored.contains(base)) {
        return Fate::Kept(format!("capsule {base}, on which it builds, is gone"));
    }
    let row = CapsuleRow {
        name: name.clone(),
        job: job.id.clone(),
        // The next snapshot does not build on it: its host may have another memory of it.
        kind: MigrationKind::Suspend,
        create_time: manifest.created,
        bytes: manifest.plain_bytes,
        stored_bytes: manifest.stored_bytes,
        base,
    };
    Fate::Adopted(row, manifest.generation)
}

/// Notes a capsule. A job on no host has had the capsule's generation at least.
async fn adopt(context: &Context, job: &JobRow, row: &CapsuleRow, generation: Generation) -> Result<(), Unfinished> {
    let mut tx = context.store.begin().await?;
    tx.capsule_insert(row).await?;
    if job.host.is_none() && generation > job.generation {
        tx.job_generation_set(&job.id, generation).await?;
    }
    tx.commit().await?;
    context.wake();
    tracing::warn!(capsule = %row.name, job = %job.id, "capsule {} is newer than the database: it is the newest of job {} now", row.name, job.id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use mooring_types::JobId;
    use mooring_types::job::{Image, JobSpec, JobStatus};

    use super::*;

    fn job(status: JobStatus) -> JobRow {
        let spec = JobSpec::minimal("job".parse().expect("a name"), Image::Directory("/".into()));
        JobRow { status, ..JobRow::submitted(JobId::random(&mut rand::rng()), "admin", spec, Timestamp::UNIX_EPOCH) }
    }

    fn capsule(job: &JobRow, number: u64) -> CapsuleRow {
        CapsuleRow {
            name: CapsuleName::of_job(&job.id, Generation(number), 1),
            job: job.id.clone(),
            kind: MigrationKind::Snapshot,
            create_time: Timestamp::UNIX_EPOCH,
            bytes: 2,
            stored_bytes: 1,
            base: None,
        }
    }

    #[test]
    fn newest_capsule_of_a_running_job_stays() {
        let (alive, ended) = (job(JobStatus::Suspended), job(JobStatus::Cancelled));
        let capsules = [capsule(&alive, 1), capsule(&ended, 1), capsule(&alive, 2)];
        let gone = [capsules[0].name.clone(), capsules[1].name.clone()];
        assert_eq!(unused(&capsules, &[alive, ended], &[]), gone);
    }

    #[test]
    fn base_stays_as_long_as_its_snapshot() {
        let job = job(JobStatus::Executing);
        let on_first = |number| CapsuleRow { base: Some(capsule(&job, 1).name), ..capsule(&job, number) };
        let mut capsules = vec![capsule(&job, 1), on_first(2), on_first(3)];
        assert_eq!(unused(&capsules, std::slice::from_ref(&job), &[]), [capsules[1].name.clone()]);
        capsules.push(capsule(&job, 4));
        let gone: Vec<_> = capsules[..3].iter().map(|row| row.name.clone()).collect();
        assert_eq!(unused(&capsules, std::slice::from_ref(&job), &[]), gone);
    }
}
