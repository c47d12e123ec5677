//! Errors: [`Error`] for what keeps OpCenter from running, [`ApiError`] for callers.

use std::io;
use std::path::{Path, PathBuf};

use crate::audit;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mooring_api::submission::InvalidSubmission;
use mooring_api::{ErrorBody, ErrorCode};
use mooring_ops::log::chain;
use mooring_store::{DiskFault, StoreError};
use mooring_types::job::Refused;
use mooring_types::placement::NoHost;

/// The reason why OpCenter can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't use the store")]
    Store(#[from] StoreError),
    /// A file or a socket fails.
    #[error("can't {attempt}")]
    System {
        /// The attempt with its subject.
        attempt: String,
        #[source]
        source: io::Error,
    },
    /// The secret key's file holds no key.
    #[error("{} holds no key: restore the file, or remove it and set every secret again", path.display())]
    SecretKey { path: PathBuf },
    #[error("can't use the capsule store")]
    Capsules(#[from] mooring_capsule::Error),
    #[error("can't use OpCenter's keys and certificates")]
    Tls(#[from] mooring_tls::Error),
    /// The configuration of the OpenID provider can't be used.
    #[error("can't use the OpenID provider: {reason}")]
    Oidc { reason: String },
    #[error("can't seal a secret")]
    Seal,
    #[error("can't hash a password: {0}")]
    Password(argon2::password_hash::Error),
}

impl Error {
    /// Makes the error for the file of a secret that can be neither read nor made.
    pub(crate) fn secret_file(path: &Path, source: io::Error) -> Self {
        Self::System { attempt: format!("keep a secret in {}", path.display()), source }
    }
}

/// The error that a caller gets.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) ErrorBody);

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(ErrorBody::new(code, message))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// Says what to do next. A failure of OpCenter itself has its own hint, which stays.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        match self.0.error_code() {
            ErrorCode::Internal | ErrorCode::Unavailable if self.0.hint.is_some() => self,
            _ => Self(self.0.hint(hint)),
        }
    }
}

/// Names the input that a refusal is about, by its key in the request.
pub(crate) trait At {
    /// Names the input; a failure of OpCenter itself is about none.
    fn at(self, field: &str) -> Self;
}

impl At for ApiError {
    fn at(self, field: &str) -> Self {
        match self.0.error_code() {
            ErrorCode::Internal | ErrorCode::Unavailable => self,
            _ => Self(self.0.at(field)),
        }
    }
}

impl<T> At for ApiResult<T> {
    fn at(self, field: &str) -> Self {
        self.map_err(|error| error.at(field))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %chain(&error), "the database failed");
        match error.disk_fault() {
            Some(fault) => Self::new(ErrorCode::Unavailable, format!("OpCenter's database can't be used: {fault}"))
                .hint(match fault {
                    DiskFault::Full => "jobs and gateways go on; an admin has to make room for OpCenter's state directory",
                    DiskFault::ReadOnly | DiskFault::Failing => {
                        "jobs and gateways go on; an admin has to mend the disk of OpCenter's state directory and restart OpCenter"
                    }
                }),
            None => Self::new(ErrorCode::Internal, "OpCenter's database failed").hint("OpCenter's log says why"),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        tracing::error!(error = %chain(&error), "a request failed");
        Self::new(ErrorCode::Internal, error.to_string()).hint("OpCenter's log says why")
    }
}

impl From<InvalidSubmission> for ApiError {
    fn from(error: InvalidSubmission) -> Self {
        let refusal = Self::invalid(error.to_string()).at(error.key());
        match error.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::new(ErrorCode::WrongStatus, refused.to_string()).hint(refused.possible())
    }
}

impl From<NoHost> for ApiError {
    fn from(error: NoHost) -> Self {
        let code = match &error {
            NoHost::Unknown(_) => ErrorCode::NotFound,
            NoHost::AlreadyThere(_) | NoHost::TakesNoJobs(_) | NoHost::Forbidden { .. } => ErrorCode::InvalidArgument,
            NoHost::NotReady { .. } | NoHost::CantMount { .. } | NoHost::CantMountAnywhere(_) => ErrorCode::Unavailable,
            NoHost::None | NoHost::NoneOfKind { .. } | NoHost::NoRoom { .. } | NoHost::NoRoomAnywhere { .. } => {
                ErrorCode::ResourceExhausted
            }
        };
        let hint = match &error {
            NoHost::Forbidden { .. } => "name another host, or change the policy with `float modify --vmPolicy`",
            _ => "`float hosts` lists the hosts with what they have free",
        };
        let refusal = Self::new(code, error.to_string()).hint(hint);
        match error {
            NoHost::Unknown(_)
            | NoHost::AlreadyThere(_)
            | NoHost::TakesNoJobs(_)
            | NoHost::Forbidden { .. }
            | NoHost::NotReady { .. }
            | NoHost::CantMount { .. } => refusal.at("host"),
            NoHost::None
            | NoHost::NoneOfKind { .. }
            | NoHost::CantMountAnywhere(_)
            | NoHost::NoRoom { .. }
            | NoHost::NoRoomAnywhere { .. } => refusal,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        audit::refused(&self.0);
        let status = StatusCode::from_u16(self.0.error_code().http_status());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}
