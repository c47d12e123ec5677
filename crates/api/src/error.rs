//! The error codes. A code has a number, a class for users and an HTTP status, and says whether a
//! retry can help.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The kind of a refusal. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// OpCenter failed; its log has the reason.
    Internal,
    /// The object does not exist.
    NotFound,
    /// The request is invalid.
    InvalidArgument,
    /// There is no session, or it has ended.
    Unauthenticated,
    /// The session's user lacks the right.
    PermissionDenied,
    /// The name is taken, or the object exists already.
    AlreadyExists,
    /// The object's status does not allow the request.
    WrongStatus,
    /// Ports, addresses or room on hosts are exhausted.
    ResourceExhausted,
    /// A dependency is temporarily unavailable.
    Unavailable,
}

impl ErrorCode {
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

    /// The number for users.
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

    /// The code with that number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The class, which starts an error message.
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

    /// Returns `true` if the same request may succeed later without an intervention.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Internal | Self::Unavailable)
    }

    /// Returns `true` if certainly nothing was changed.
    #[must_use]
    pub fn has_no_side_effects(self) -> bool {
        !matches!(self, Self::Internal)
    }
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// The number of the [`ErrorCode`].
    pub code: u16,
    /// The class, like `Invalid argument`.
    pub class: String,
    /// The message.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The input that the message is about, by its key in the request, like `portRange`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl ErrorBody {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.number(), class: code.class().to_owned(), message: message.into(), hint: None, field: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the input that the message is about.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The code; `Internal` for a number that this version does not know.
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
