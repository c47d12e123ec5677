//! Objects by path, in a directory or a bucket, with a time limit on each operation.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};

use mooring_types::{Clock, SystemClock};

use crate::error::{Cause, Error, Result};
use crate::location::{Location, S3Options};
use crate::patience::{Patience, PatientConnector};
use crate::piece::Compression;

/// The time limit of a small request.
pub(crate) const SMALL_REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// The least speed of a store, in bytes a second. A slower store counts as unreachable.
pub(crate) const STORE_MIN_SPEED: u64 = 8 << 20;

/// Texts in errors of a store that refuses a key. The last is the address of the metadata service,
/// which fails where neither configuration nor machine supply a key.
const DENIED_CODES: [&str; 5] =
    ["status code: 401", "status code: 403", "AuthorizationHeaderMalformed", "InvalidAccessKeyId", "169.254.169.254"];
/// Texts in errors of a store whose clock differs.
const CLOCK_CODES: [&str; 2] = ["RequestTimeTooSkewed", "RequestExpired"];
/// Texts in errors of a store that asks to wait, or fails for a time.
const BUSY_CODES: [&str; 6] =
    ["SlowDown", "status code: 408", "status code: 429", "status code: 502", "status code: 503", "status code: 504"];
/// The longest cause that is told.
const CAUSE_MAX: usize = 200;
/// Texts in errors of a store that is full. Servers differ.
const FULL_CODES: [&str; 4] = ["status code: 507", "InsufficientStorage", "StorageFull", "QuotaExceeded"];

/// The kind of a store.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Objects are files below this directory.
    Dir { root: PathBuf, files: Arc<LocalFileSystem> },
    /// Objects are those of a bucket.
    S3(Arc<AmazonS3>),
}

/// The objects of one capsule store.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) kind: Kind,
    prefix: Path,
    at: Arc<str>,
    patience: Patience,
}

impl Backend {
    pub(crate) fn open(location: &Location, patience: Duration) -> Result<Self> {
        let at: Arc<str> = location.to_string().into();
        match location {
            Location::Dir(path) => {
                make_directory(path).map_err(|error| of_io(&at, error.kind(), error.into()))?;
                let files = LocalFileSystem::new_with_prefix(path).map_err(|error| classify(&at, error, None))?;
                let files = Arc::new(files.with_fsync(true).with_automatic_cleanup(true));
                let root = path.canonicalize().map_err(|error| of_io(&at, error.kind(), error.into()))?;
                let patience = Patience::new(Duration::ZERO);
                Ok(Self { kind: Kind::Dir { root, files }, prefix: Path::default(), at, patience })
            }
            Location::S3 { bucket, prefix, options } => {
                let refuse = |why: String| Error::Location { location: location.to_string(), why };
                let patience = Patience::new(patience);
                let bucket = s3(bucket, options, &patience).map_err(refuse)?;
                let prefix = Path::parse(prefix).map_err(|error| refuse(error.to_string()))?;
                Ok(Self { kind: Kind::S3(Arc::new(bucket)), prefix, at, patience })
            }
        }
    }

    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Returns the path above all objects of the store.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Returns the compression that suits this kind of store.
    pub(crate) fn compression(&self) -> Compression {
        match self.kind {
            Kind::Dir { .. } => Compression::Fast,
            Kind::S3(_) => Compression::Small,
        }
    }

    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        match &self.kind {
            Kind::Dir { files, .. } => files.as_ref(),
            Kind::S3(bucket) => bucket.as_ref(),
        }
    }

    /// Returns the file of an object, in a directory.
    pub(crate) fn file(&self, path: &Path) -> Option<PathBuf> {
        match &self.kind {
            Kind::Dir { files, .. } => files.path_to_filesystem(path).ok(),
            Kind::S3(_) => None,
        }
    }

    /// Stores a small object.
    pub(crate) async fn put(&self, path: &Path, payload: PutPayload) -> Result<()> {
        let length = payload.content_length() as u64;
        self.bounded(length, self.objects().put(path, payload)).await.map(drop)
    }

    /// Reads a small object. Returns `None` where it does not exist.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let got = self.bounded(0, async { self.objects().get(path).await?.bytes().await });
        absent_is_none(got.await)
    }

    /// Reads a part of an object, and the length of the object. Returns `None` where it does not
    /// exist.
    pub(crate) async fn get_range(&self, path: &Path, range: Range<u64>) -> Result<Option<(Bytes, u64)>> {
        let length = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = self.bounded(length, async {
            let got = self.objects().get_opts(path, options).await?;
            let size = got.meta.size;
            Ok((got.bytes().await?, size))
        });
        absent_is_none(got.await)
    }

    /// Returns the length of an object, or `None` where it does not exist.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>> {
        let got = self.bounded(0, self.objects().head(path));
        Ok(absent_is_none(got.await)?.map(|meta| meta.size))
    }

    /// Removes an object, if it exists.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        absent_is_none(self.bounded(0, self.objects().delete(path)).await).map(drop)
    }

    /// Waits for an operation that transfers `bytes`, as long as a working store may take, and as
    /// long as one may be away.
    pub(crate) async fn bounded<T>(
        &self,
        bytes: u64,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        self.bounded_at(STORE_MIN_SPEED, bytes, operation).await
    }

    /// Like [`Backend::bounded`], with another least speed, in bytes a second.
    pub(crate) async fn bounded_at<T>(
        &self,
        slowest: u64,
        bytes: u64,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let limit = SMALL_REQUEST_LIMIT + Duration::from_secs(bytes / slowest) + self.patience.limit();
        match tokio::time::timeout(limit, operation).await {
            Ok(outcome) => outcome.map_err(|error| self.failure(error)),
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }

    /// Returns the error of a store that does not answer.
    pub(crate) fn unreachable(&self, why: &str) -> Error {
        Error::Unreachable { at: self.at.to_string(), source: cause(why, self.patience.away_for()) }
    }

    /// Classifies an error of a file.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        of_io(&self.at, error.kind(), error.into())
    }

    /// Classifies an error of the store.
    pub(crate) fn failure(&self, error: object_store::Error) -> Error {
        classify(&self.at, error, self.patience.away_for())
    }
}

/// Makes the last directory of a path. Its parents have to exist, since one of them may be the
/// mount point of a file system that is not mounted.
fn make_directory(path: &std::path::Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(io::ErrorKind::NotADirectory.into()),
        made => made,
    }
}

fn s3(bucket: &str, options: &S3Options, patience: &Patience) -> std::result::Result<AmazonS3, String> {
    let builder = match (&options.access_key, &options.secret_key) {
        (Some(key), Some(secret)) => AmazonS3Builder::new().with_access_key_id(key).with_secret_access_key(secret),
        (None, None) => AmazonS3Builder::from_env(),
        _ => return Err("an access key and its secret come together".to_owned()),
    };
    // `patience` repeats requests, and `bounded` limits each by its size. What the library repeats
    // are answers that broke off.
    let client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(3))
        .with_pool_idle_timeout(Duration::from_secs(15))
        .with_timeout_disabled()
        .with_allow_http(options.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://")));
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    let mut builder = builder.with_bucket_name(bucket).with_client_options(client).with_retry(RetryConfig {
        backoff,
        max_retries: 3,
        retry_timeout: patience.limit().max(Duration::from_secs(10)),
    });
    builder = builder.with_http_connector(PatientConnector(patience.clone()));
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    builder.build().map_err(|error| error.to_string())
}

/// Turns the error of a missing object into `None`. A missing bucket stays an error.
pub(crate) fn absent_is_none<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(Error::Failed { source, .. }) if is_absent(source.as_ref()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(object_store::Error::NotFound { .. }))
}

/// Classifies an error by what a user can do about it. The store may have been away for some time.
fn classify(at: &str, error: object_store::Error, away: Option<Duration>) -> Error {
    use object_store::Error as Store;
    let owned = at.to_owned();
    // The library has S3's error code only in the text of its errors.
    let text = chain(&error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let says = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    let http = chain(&error).find_map(|cause| cause.downcast_ref::<HttpError>()).map(HttpError::kind);
    let io = chain(&error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let source = cause(&told(&error, &text), away);
    if says(&CLOCK_CODES) {
        return Error::Clock { at: owned, source };
    }
    let refused = matches!(error, Store::PermissionDenied { .. } | Store::Unauthenticated { .. });
    if refused || says(&DENIED_CODES) {
        return Error::Denied { at: owned, source };
    }
    if says(&["NoSuchBucket"]) {
        return Error::NoPlace { at: owned, source };
    }
    if says(&FULL_CODES) {
        return Error::Full { at: owned, source };
    }
    // A caller that asks for an object that may be missing looks at the source.
    if matches!(error, Store::NotFound { .. }) {
        return Error::Failed { at: owned, source: error.into() };
    }
    if says(&BUSY_CODES) {
        return Error::Busy { at: owned, source };
    }
    match (http, io) {
        (Some(HttpErrorKind::Decode | HttpErrorKind::Unknown), _) | (None, None) => Error::Failed { at: owned, source },
        (Some(_), _) => Error::Unreachable { at: owned, source },
        (None, Some(kind)) => of_io(at, kind, error.into()),
    }
}

/// Says why a store could not be used, and since when it is away.
fn cause(why: &str, away: Option<Duration>) -> Cause {
    match away {
        None => why.into(),
        Some(away) => format!("away since {:.0}: {why}", SystemClock.now() - away).into(),
    }
}

/// Returns the answer of a store, or the reason why there is none, without the words of the
/// library.
fn told(error: &object_store::Error, text: &str) -> String {
    let between = |from: &str, to: &str| text.split_once(from)?.1.split_once(to).map(|(between, _)| between);
    if let Some(code) = between("<Code>", "</Code>") {
        let message = between("<Message>", "</Message>").map(|message| format!(": {message}")).unwrap_or_default();
        return shortened(&format!("{code}{message}"));
    }
    if let Some((_, status)) = text.split_once("status code: ") {
        let status: String = status.chars().take_while(char::is_ascii_digit).collect();
        return format!("it answers with HTTP status {status}");
    }
    shortened(&chain(error).last().map(ToString::to_string).unwrap_or_default())
}

fn shortened(text: &str) -> String {
    text.chars().take(CAUSE_MAX).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Classifies an error of a file system.
fn of_io(at: &str, kind: io::ErrorKind, source: Cause) -> Error {
    let at = at.to_owned();
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { at, source },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::Denied { at, source },
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NoPlace { at, source },
        io::ErrorKind::TimedOut | io::ErrorKind::StaleNetworkFileHandle => Error::Unreachable { at, source },
        _ => Error::Failed { at, source },
    }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
