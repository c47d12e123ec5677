//! The roles of users and their rights.
//!
//! | object | admin | user | viewer |
//! |---|---|---|---|
//! | own jobs, secrets and private templates | all rights | all rights | see them, but no value of a secret |
//! | jobs of members of a common group | all rights | see them and their status | see them and their status |
//! | other jobs | all rights | none, not even to see them | none |
//! | gateways, security groups | all rights | use all, change own ones | see all |
//! | public templates | all rights | use all | see all |
//! | users, groups | all rights | see oneself and own groups | see oneself and own groups |
//! | own password, sessions and API tokens | all rights | all rights | all rights |

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
    /// Sees what a user sees, and changes nothing but the own password, sessions and API tokens.
    Viewer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Admin, Self::User, Self::Viewer];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Viewer => "viewer",
        }
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid role `{text}`: a role is `admin`, `user` or `viewer`")]
pub struct UnknownRole {
    text: String,
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| UnknownRole { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("Admin".parse::<Role>().is_err());
    }
}
