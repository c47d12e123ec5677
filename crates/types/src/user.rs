//! The roles of users and their rights.
//!
//! | object | admin | user |
//! |---|---|---|
//! | own jobs, secrets and private templates | all rights | all rights |
//! | jobs of members of a common group | all rights | see them and their status |
//! | other jobs | all rights | none, not even to see them |
//! | gateways, security groups | all rights | use all, change own ones |
//! | public templates | all rights | use all |
//! | users, groups | all rights | see oneself and own groups, change own password |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The role of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// All rights.
    Admin,
    /// Rights on own objects.
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
