//! References to objects that users name by id or by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Name;
use crate::id::InvalidId;

/// An id, or the name of an object of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference<Id> {
    /// The id.
    Id(Id),
    /// The name.
    Name(Name),
}

impl<Id: PartialEq> Reference<Id> {
    /// Returns `true` if the reference means the object of that id and name.
    pub fn is_to(&self, id: &Id, name: &Name) -> bool {
        match self {
            Self::Id(own) => own == id,
            Self::Name(own) => own == name,
        }
    }
}

impl<Id> From<Id> for Reference<Id> {
    fn from(id: Id) -> Self {
        Self::Id(id)
    }
}

impl<Id: FromStr<Err = InvalidId>> FromStr for Reference<Id> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let or_name = |invalid| text.parse().map(Self::Name).map_err(|_| invalid);
        text.parse().map(Self::Id).or_else(or_name)
    }
}

impl<Id: fmt::Display> fmt::Display for Reference<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl<Id: fmt::Display> Serialize for Reference<Id> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, Id: FromStr<Err = InvalidId>> Deserialize<'de> for Reference<Id> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GatewayId;

    #[test]
    fn id_comes_before_name() {
        let read = |text: &str| text.parse::<Reference<GatewayId>>();
        assert!(matches!(read("g-sidlpgb7oi9p48kxycpmn"), Ok(Reference::Id(_))));
        assert!(matches!(read("lab"), Ok(Reference::Name(_))));
        assert_eq!(read("no name").unwrap_err().to_string(), "invalid gateway ID");
    }
}
