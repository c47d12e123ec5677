//! Error codes: one enum answers the HTTP status, whether a retry can help, and what class a user reads.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, as clients branch on it. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The server failed; the log says why.
    Internal,
    /// No such object.
    NotFound,
    /// The request itself is wrong.
    InvalidArgument,
    /// No session, or one that has ended.
    Unauthenticated,
    /// The session's user may not.
    PermissionDenied,
    /// The name is taken, or the object exists already.
    AlreadyExists,
    /// The object's status does not allow it.
    WrongStatus,
    /// No room: ports, addresses or hosts.
    ResourceExhausted,
    /// Something that this depends on is away for the moment.
    Unavailable,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: [Self; 9] = [
        Self::Internal,
        Self::NotFound,
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::AlreadyExists,
        Self::WrongStatus,
        Self::ResourceExhausted,
        Self::Unavailable,
    ];

    /// The number that users read.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Internal => 1001,
            Self::NotFound => 1002,
            Self::InvalidArgument => 1003,
            Self::Unauthenticated => 1004,
            Self::PermissionDenied => 1005,
            Self::AlreadyExists => 1006,
            Self::WrongStatus => 1007,
            Self::ResourceExhausted => 1008,
            Self::Unavailable => 1009,
        }
    }

    /// The code of that number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The class that users read first.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Internal => "Internal error",
            Self::NotFound => "Resource not found",
            Self::InvalidArgument => "Invalid argument",
            Self::Unauthenticated => "Not logged in",
            Self::PermissionDenied => "Permission denied",
            Self::AlreadyExists => "Already exists",
            Self::WrongStatus => "Wrong status",
            Self::ResourceExhausted => "Resource exhausted",
            Self::Unavailable => "Unavailable",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Internal => 500,
            Self::NotFound => 404,
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::AlreadyExists | Self::WrongStatus | Self::ResourceExhausted => 409,
            Self::Unavailable => 503,
        }
    }

    /// Whether the same request may succeed later without anyone's doing something about it.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Internal | Self::Unavailable)
    }

    /// Whether it is certain that nothing was changed.
    #[must_use]
    pub fn has_no_side_effects(self) -> bool {
        !matches!(self, Self::Internal)
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// The number of the [`ErrorCode`].
    pub code: u16,
    /// The class, like `Invalid argument`.
    pub class: String,
    /// What exactly.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ErrorBody {
    /// Makes a body.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.number(), class: code.class().to_owned(), message: message.into(), hint: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The code, `Internal` for one that this version does not know.
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        ErrorCode::from_number(self.code).unwrap_or(ErrorCode::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_by_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(code));
        }
    }
}
