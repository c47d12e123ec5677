//! The failures of a sign-in by a provider, in words that say what helps.

use mooring_api::ErrorCode;

use super::id_token::Untrusted;
use crate::error::ApiError;

/// The longest error code of a provider that is shown.
const CODE_MAX: usize = 60;

/// The reason why a sign-in by a provider has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The browser did not begin it here, or the code was used before.
    #[error("it was begun elsewhere or too long ago, or its code was used before")]
    Stale,
    /// The provider did not let the person in.
    #[error("the provider denied access")]
    Denied,
    /// The provider refused the request, with that code.
    #[error("the provider answered `{0}`")]
    Refused(String),
    #[error("can't reach {what}: {reason}")]
    Unreachable { what: &'static str, reason: String },
    /// An answer of the provider, or the configuration, makes no sense.
    #[error("can't use {what}: {reason}")]
    Unusable { what: &'static str, reason: String },
    /// The provider's time differs from the one here.
    #[error("the clocks differ: {0}")]
    Clock(String),
    #[error("the ID token can't be trusted: {0}")]
    Untrusted(#[from] Untrusted),
}

impl Failure {
    /// Makes the failure for an error code of a provider. Anything else than a code is not shown.
    pub(super) fn refused(code: &str) -> Self {
        let is_code = !code.is_empty()
            && code.len() <= CODE_MAX
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        Self::Refused(if is_code { code } else { "an unknown error" }.to_owned())
    }

    /// Returns whether it says nothing about the person: the provider or OpCenter is at fault.
    pub(crate) fn is_of_provider(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unusable { .. } | Self::Clock(_))
    }

    /// Says it to the person, who knows the provider by that name.
    pub(crate) fn told(&self, name: &str) -> ApiError {
        tracing::warn!(failure = %self, "a sign-in by {name} has failed: {self}");
        let again = "try again; if it stays so, tell an admin: OpCenter's log says more";
        match self {
            Self::Stale => {
                ApiError::new(ErrorCode::Unauthenticated, "this sign-in was begun in another browser, or is over")
                    .hint(format!("begin again with `Sign in with {name}`"))
            }
            Self::Denied => ApiError::new(ErrorCode::Unauthenticated, format!("{name} did not let you in"))
                .hint(format!("ask those who run {name} for access, or sign in there as somebody else")),
            Self::Refused(code) => {
                ApiError::new(ErrorCode::Unauthenticated, format!("{name} refused the sign-in: {code}")).hint(again)
            }
            Self::Unreachable { .. } => {
                ApiError::new(ErrorCode::Unavailable, format!("{name} can't be reached at present")).hint(again)
            }
            Self::Unusable { .. } => {
                ApiError::new(ErrorCode::Unavailable, format!("{name} and OpCenter don't understand each other"))
                    .hint("tell an admin: OpCenter's log says what has to be set right")
            }
            Self::Clock(difference) => ApiError::new(
                ErrorCode::Unavailable,
                format!("the clocks of {name} and of OpCenter differ: {difference}"),
            )
            .hint(format!("an admin has to set the clock of OpCenter's machine, or that of {name}")),
            Self::Untrusted(reason) => ApiError::new(
                ErrorCode::Unauthenticated,
                format!("what {name} has answered can't be trusted: {reason}"),
            )
            .hint(again),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_a_provider_are_shown() {
        assert_eq!(Failure::refused("login_required"), Failure::Refused("login_required".into()));
        for text in ["", "call 555-0100 now", "<b>", &"x".repeat(CODE_MAX + 1)] {
            assert_eq!(Failure::refused(text), Failure::Refused("an unknown error".into()), "{text}");
        }
    }

    #[test]
    fn every_failure_says_what_helps() {
        let (what, reason) = ("the keys", "they are gone".to_owned());
        for failure in [
            Failure::Stale,
            Failure::Denied,
            Failure::refused("server_error"),
            Failure::Unreachable { what, reason: reason.clone() },
            Failure::Unusable { what, reason },
            Failure::Clock("it is late".into()),
            Failure::Untrusted(Untrusted::Nonce),
        ] {
            let told = failure.told("Harbour");
            assert!(told.0.hint.as_deref().is_some_and(|hint| !hint.is_empty()), "{failure:?}");
            assert!(!told.0.message.contains("they are gone"), "{told:?}");
        }
    }
}
