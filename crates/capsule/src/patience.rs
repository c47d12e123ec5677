//! Patience with an object store that is away for some time, or asks to wait.
//!
//! Each request is repeated until the store answers it, with a bound. It makes no difference
//! whether the store refuses, resets or holds a connection, or answers that it is busy. What it
//! says about the time to wait (`Retry-After`) is kept for all requests.
//!
//! [`Patience::away`] tells those for whom time counts.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::{SMALL_REQUEST_LIMIT, STORE_MIN_SPEED};

/// The time for which a store may be away before a request fails.
pub const PATIENCE: Duration = Duration::from_secs(45);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest that a store may ask to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The time limit of a request without a body: less than that of the operation that it is part of.
const REQUEST_LIMIT: Duration = SMALL_REQUEST_LIMIT.saturating_sub(Duration::from_secs(1));
/// The requests that may share a connection to the store at one time.
const SHARED_BY: u64 = 3;

/// The patience with one store. Clones share what they know of it.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    limit: Duration,
    away: watch::Sender<Option<Away>>,
}

/// A store that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Away {
    since: Instant,
    /// The time before which it wants no request.
    not_before: Instant,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, away: watch::Sender::new(None) }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Resolves when the store has been away for some time, as long as it is.
    pub(crate) async fn away(&self, longer_than: Duration) {
        let mut changes = self.away.subscribe();
        loop {
            let since = changes.borrow_and_update().map(|away| away.since);
            tokio::select! {
                () = sleep_until(since.unwrap_or_else(Instant::now) + longer_than), if since.is_some() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Notes that the store has answered.
    fn answered(&self) {
        self.away.send_if_modified(|away| away.take().is_some());
    }

    /// Notes that it has not, and what it asks for.
    fn failed(&self, retry_after: Duration) {
        let now = Instant::now();
        self.away.send_if_modified(|known| {
            let not_before = known.map_or(now, |away| away.not_before).max(now + retry_after);
            let is_new = known.is_none();
            *known = Some(Away { since: known.map_or(now, |away| away.since), not_before });
            is_new
        });
    }

    /// Returns for how long the store has been away, if it is.
    pub(crate) fn away_for(&self) -> Option<Duration> {
        self.away.borrow().map(|away| away.since.elapsed())
    }

    fn not_before(&self) -> Instant {
        self.away.borrow().map_or_else(Instant::now, |away| away.not_before)
    }
}

/// Makes clients that are patient.
#[derive(Debug)]
pub(crate) struct PatientConnector(pub(crate) Patience);

impl HttpConnector for PatientConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(PatientService(Arc::new((client, self.0.clone())))))
    }
}

#[derive(Debug)]
struct PatientService(Arc<(HttpClient, Patience)>);

/// The future that a service returns.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for PatientService {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let (client, patience) = &*shared;
            patiently(client, patience, request).await
        })
    }
}

async fn patiently(client: &HttpClient, patience: &Patience, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let (ends, mut pause) = (Instant::now() + patience.limit, FIRST_PAUSE);
    let bytes = request.body().content_length() as u64;
    let limit = REQUEST_LIMIT + Duration::from_secs(bytes * SHARED_BY / STORE_MIN_SPEED);
    loop {
        sleep_until(patience.not_before()).await;
        let answer = timeout(limit, client.execute(request.clone())).await;
        let answer = answer.unwrap_or_else(|elapsed| Err(HttpError::new(HttpErrorKind::Timeout, elapsed)));
        let Some(retry_after) = asks_for_patience(&answer) else {
            patience.answered();
            return answer;
        };
        patience.failed(retry_after);
        let next = Instant::now() + pause.max(retry_after);
        if next > ends {
            return answer;
        }
        sleep_until(next).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Returns how long a store wants to be left alone that may answer later. Returns `None` for an
/// answer.
fn asks_for_patience(answer: &Result<HttpResponse, HttpError>) -> Option<Duration> {
    match answer {
        Ok(response) => matches!(response.status().as_u16(), 429 | 500 | 502..=504).then(|| {
            let asked =
                response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
            asked.map_or(Duration::ZERO, Duration::from_secs).min(RETRY_AFTER_MAX)
        }),
        Err(error) => match error.kind() {
            HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Timeout | HttpErrorKind::Interrupted => {
                Some(Duration::ZERO)
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_is_away_until_it_answers() {
        let patience = Patience::new(PATIENCE);
        let two = Duration::from_secs(2);
        assert!(timeout(4 * two, patience.away(two)).await.is_err(), "it has not failed");
        patience.failed(Duration::ZERO);
        let began = Instant::now();
        patience.away(two).await;
        assert_eq!(began.elapsed(), two);
        // Told at once later on.
        patience.failed(Duration::from_secs(9));
        patience.away(two).await;
        assert_eq!((began.elapsed(), patience.not_before() - began), (two, Duration::from_secs(11)));
        patience.answered();
        assert!(timeout(4 * two, patience.away(two)).await.is_err(), "it has answered");
        assert_eq!(patience.not_before(), Instant::now());
    }
}
