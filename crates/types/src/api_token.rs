//! The scopes of API tokens.
//!
//! | request | read | jobs | all |
//! |---|---|---|---|
//! | looks at something | yes | yes | yes |
//! | submits or changes jobs, connects them to gateways | no | yes | yes |
//! | other changes; looks at the value of a secret | no | no | yes |
//! | users, groups, passwords, sessions, tokens of every kind | no | no | no |
//!
//! A scope limits the role of the token's user and adds nothing to it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The beginning of every API token, by which people and scanners recognise one.
pub const PREFIX: &str = "mrg_";

/// The scope of an API token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenScope {
    /// Looks.
    #[default]
    Read,
    /// Looks, and everything about jobs and their connections.
    Jobs,
    /// Everything that the user may, but to manage users and credentials.
    All,
}

impl TokenScope {
    /// All scopes, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Jobs, Self::All];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Jobs => "jobs",
            Self::All => "all",
        }
    }
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid scope `{text}`: a scope is `read`, `jobs` or `all`")]
pub struct UnknownScope {
    text: String,
}

impl FromStr for TokenScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| UnknownScope { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_reads_back() {
        for scope in TokenScope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.name());
        }
        assert!("write".parse::<TokenScope>().is_err());
    }
}
