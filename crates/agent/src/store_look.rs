//! A look at the capsule store from this host, at its start and at intervals.
//!
//! Without it, the first suspend would find a store that only OpCenter can reach. The host knows
//! the address of the store, and gets no key for this. What is wrong is a problem of the host.

use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::StorePlace;
use mooring_capsule::Location;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// The interval while something is wrong.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The region of Amazon's store where none is configured.
const DEFAULT_REGION: &str = "us-east-1";

/// Looks at the capsule store.
#[derive(Debug)]
pub(crate) struct StoreLook {
    /// The place of the store; `None` without one, or before the first slice.
    pub(crate) place: watch::Receiver<Option<StorePlace>>,
    /// The sentence about what is wrong.
    pub(crate) problem: watch::Sender<Option<String>>,
    /// Notified when the problem changes.
    pub(crate) observed: Arc<Notify>,
}

impl StoreLook {
    /// Looks until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let place = self.place.borrow_and_update().clone();
            let problem = match &place {
                Some(place) => problem(place).await,
                None => None,
            };
            let interval = if problem.is_some() { RETRY_INTERVAL } else { LOOK_INTERVAL };
            let changed = self.problem.send_if_modified(|known| {
                let changed = *known != problem;
                *known = problem;
                changed
            });
            if changed {
                self.observed.notify_one();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.place.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(interval) => {}
            }
        }
    }
}

/// Returns what is wrong with the store at a place, as this host sees it.
async fn problem(place: &StorePlace) -> Option<String> {
    match place.location.parse::<Location>() {
        Ok(Location::Dir(directory)) => {
            // The directory is made with the first capsule, but not the ones above.
            let above = directory.parent().map(std::path::Path::to_owned);
            let exists = tokio::fs::metadata(&directory).await.is_ok_and(|found| found.is_dir())
                || tokio::fs::metadata(above.unwrap_or_default()).await.is_ok_and(|found| found.is_dir());
            let told = format!(
                "the directory of the capsule store, {}, is not on this host: jobs can't be suspended here \
                 until it is mounted",
                directory.display()
            );
            (!exists).then_some(told)
        }
        Ok(Location::S3 { .. }) => {
            let url = url(place);
            let reason = reach(&url).await.err()?;
            Some(format!(
                "the capsule store at {url} can't be reached from this host: {reason}; jobs can't be \
                 suspended here until it can"
            ))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn url(place: &StorePlace) -> String {
    let StorePlace { endpoint, region, .. } = place;
    let region = if region.is_empty() { DEFAULT_REGION } else { region };
    if endpoint.is_empty() { format!("https://s3.{region}.amazonaws.com") } else { endpoint.clone() }
}

/// Connects to the server of a URL.
async fn reach(url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
    let host = parsed.host_str().ok_or("its address has no host")?.trim_matches(['[', ']']);
    let port = parsed.port_or_known_default().ok_or("its address has no port")?;
    match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn place(location: &str, endpoint: &str) -> StorePlace {
        StorePlace { location: location.into(), endpoint: endpoint.into(), region: String::new() }
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let at = |below: &str| format!("dir:{}", directory.path().join(below).display());
        assert_eq!(problem(&place(&at("capsules"), "")).await, None);
        let told = problem(&place(&at("mount/capsules"), "")).await.unwrap();
        assert!(told.contains("mount/capsules, is not on this host"), "{told}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        assert_eq!(problem(&place("s3://capsules/lab", &endpoint)).await, None);
        drop(listener);
        let told = problem(&place("s3://capsules/lab", &endpoint)).await.unwrap();
        let expected = format!("the capsule store at {endpoint} can't be reached from this host: Connection refused");
        assert!(told.starts_with(&expected), "{told}");
    }

    #[test]
    fn amazons_store_has_an_address_for_each_region() {
        let mut place = place("s3://capsules", "");
        assert_eq!(url(&place), "https://s3.us-east-1.amazonaws.com");
        place.region = "eu-west-3".into();
        assert_eq!(url(&place), "https://s3.eu-west-3.amazonaws.com");
    }
}
