//! `float user quota` and `float group quota`.

use anyhow::Result;
use clap::Args;
use mooring_api::view::{Change, QuotaChange};

/// The limits of a quota.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// most jobs that have not ended, or `none`
    #[arg(long, value_name = "NUMBER", value_parser = limit::<u32>)]
    jobs: Option<Limit<u32>>,
    /// most cores of jobs and gateways together, or `none`
    #[arg(long, value_name = "NUMBER", value_parser = limit::<u32>)]
    cores: Option<Limit<u32>>,
    /// most memory of jobs and gateways together in GB, or `none`
    #[arg(long, value_name = "GB", value_parser = limit::<f64>)]
    memory: Option<Limit<f64>>,
    /// most gateways, or `none`
    #[arg(long, value_name = "NUMBER", value_parser = limit::<u32>)]
    gateways: Option<Limit<u32>>,
}

/// A limit; `None` for no limit.
#[derive(Debug, Clone, Copy)]
struct Limit<T>(Option<T>);

fn limit<T: std::str::FromStr>(text: &str) -> Result<Limit<T>, String> {
    match text {
        "none" => Ok(Limit(None)),
        number => number.parse().map(|number| Limit(Some(number))).map_err(|_| "give a number, or `none`".to_owned()),
    }
}

impl Limits {
    /// Returns the change that the options ask for.
    pub(crate) fn change(&self) -> QuotaChange {
        fn of<T: Copy>(limit: Option<Limit<T>>) -> Change<T> {
            match limit {
                None => Change::Keep,
                Some(Limit(None)) => Change::Clear,
                Some(Limit(Some(number))) => Change::To(number),
            }
        }
        QuotaChange { jobs: of(self.jobs), cores: of(self.cores), mem_gb: of(self.memory), gateways: of(self.gateways) }
    }
}
