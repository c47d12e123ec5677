//! What a user may do.
//!
//! | | admin | user |
//! |---|---|---|
//! | own jobs, secrets and private templates | everything | everything |
//! | jobs of the members of a group that one is in | everything | see that they are there and how they are |
//! | other jobs | everything | nothing, not even that they are there |
//! | gateways, security groups | everything | use all, change those that one has created |
//! | public templates | everything | use all |
//! | users, groups | everything | see oneself and the groups that one is in, change one's own password |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The role of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May see and do everything.
    Admin,
    /// May do as with what is one's own.
    #[default]
    User,
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid role `{text}`: a role is `admin` or `user`")]
pub struct UnknownRole {
    text: String,
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "admin" => Ok(Self::Admin),
            "user" => Ok(Self::User),
            other => Err(UnknownRole { text: other.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Admin => "admin",
            Self::User => "user",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back() {
        for role in [Role::Admin, Role::User] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("Admin".parse::<Role>().is_err());
    }
}
