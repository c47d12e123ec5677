//! Errors: one for what keeps OpCenter from running, one for what a caller is told.

use std::io;
use std::path::{Path, PathBuf};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mooring_api::{ErrorBody, ErrorCode};
use mooring_store::StoreError;
use mooring_types::job::Refused;
use mooring_types::placement::NoHost;

/// Why OpCenter could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error("can't use the store")]
    Store(#[from] StoreError),
    /// A file or a socket.
    #[error("can't {attempt}")]
    System {
        /// The attempt with its subject.
        attempt: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of the key of secrets holds none.
    #[error("{} holds no key: put back the one that secrets were sealed with, or take the file away and set every secret anew", path.display())]
    SecretKey {
        /// The file.
        path: PathBuf,
    },
    /// The capsule store.
    #[error("can't use the capsule store")]
    Capsules(#[from] mooring_capsule::Error),
    /// A secret can't be sealed.
    #[error("can't seal a secret")]
    Seal,
    /// A password can't be hashed.
    #[error("can't hash a password: {0}")]
    Password(argon2::password_hash::Error),
}

impl Error {
    /// The file of a secret can be neither read nor made.
    pub(crate) fn secret_file(path: &Path, source: io::Error) -> Self {
        Self::System { attempt: format!("keep a secret in {}", path.display()), source }
    }
}

/// What a caller is told.
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

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.hint(hint))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        Self::new(ErrorCode::Internal, "the store failed").hint("OpCenter's log says why")
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
        Self::new(ErrorCode::Internal, error.to_string()).hint("OpCenter's log says why")
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
        Self::new(code, error.to_string()).hint(hint)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.error_code().http_status());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}
