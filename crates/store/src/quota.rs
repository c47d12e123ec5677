//! The jobs, cores, memory and gateways that count against quotas.

use std::collections::BTreeMap;

use mooring_types::quota::Holding;
use sqlx::Row;

use crate::{Result, Tx, unsigned};

impl Tx {
    /// Returns what each user holds, by name. A job that migrates to another size counts with the
    /// larger one. A suspended job has no cores and no memory, unless it waits for a host to be
    /// resumed there.
    pub async fn holding_list(&mut self) -> Result<BTreeMap<String, Holding>> {
        let jobs = sqlx::query(
            "SELECT user_name, COUNT(*) AS jobs,
                SUM(CASE WHEN is_away THEN 0 ELSE MAX(cpu, cpu_next) END) AS cores,
                SUM(CASE WHEN is_away THEN 0.0 ELSE MAX(mem_gb, mem_gb_next) END) AS mem_gb
             FROM (SELECT job.user_name, job.status = 'Suspended' AND NOT job.awaits_host AS is_away,
                    job.spec ->> '$.resources.cpu' AS cpu,
                    CAST(job.spec ->> '$.resources.memGb' AS REAL) AS mem_gb,
                    COALESCE(migration.resources ->> '$.cpu', 0) AS cpu_next,
                    CAST(COALESCE(migration.resources ->> '$.memGb', 0) AS REAL) AS mem_gb_next
                FROM job LEFT JOIN migration ON migration.job_id = job.id AND migration.stage <> 'ended'
                WHERE job.end_time IS NULL)
             GROUP BY user_name",
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let gateways = sqlx::query(
            "SELECT user_name, COUNT(*) AS gateways, SUM(spec ->> '$.resources.cpu') AS cores,
                SUM(CAST(spec ->> '$.resources.memGb' AS REAL)) AS mem_gb
             FROM gateway GROUP BY user_name",
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let mut holdings = BTreeMap::<String, Holding>::new();
        for row in &jobs {
            let of_jobs = Holding {
                jobs: unsigned(row, "jobs")?,
                cores: unsigned(row, "cores")?,
                mem_gb: row.try_get("mem_gb")?,
                gateways: 0,
            };
            holdings.insert(row.try_get("user_name")?, of_jobs);
        }
        for row in &gateways {
            let held = holdings.entry(row.try_get("user_name")?).or_default();
            let of_gateways = Holding {
                jobs: 0,
                cores: unsigned(row, "cores")?,
                mem_gb: row.try_get("mem_gb")?,
                gateways: unsigned(row, "gateways")?,
            };
            *held = *held + of_gateways;
        }
        Ok(holdings)
    }
}
