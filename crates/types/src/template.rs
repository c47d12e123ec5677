//! The names of templates: `name:tag` for everybody's, `private::name:tag` for one's own.

use std::fmt;
use std::str::FromStr;

use crate::Name;

/// The tag that means the newest.
pub const LATEST: &str = "latest";
const PRIVATE: &str = "private::";

/// Whose a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everybody's, made by admins.
    Public,
    /// One user's.
    Private,
}

/// What a user calls a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateName {
    /// Whose.
    pub scope: Scope,
    /// Its name.
    pub name: Name,
    /// Its tag; the newest where there is none.
    pub tag: Option<Name>,
}

/// A text that names no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid template `{text}`: write it as name, name:tag or private::name:tag")]
pub struct InvalidTemplateName {
    text: String,
}

impl FromStr for TemplateName {
    type Err = InvalidTemplateName;

    fn from_str(text: &str) -> Result<Self, InvalidTemplateName> {
        let refused = || InvalidTemplateName { text: text.chars().take(200).collect() };
        let (scope, rest) = match text.strip_prefix(PRIVATE) {
            Some(rest) => (Scope::Private, rest),
            None => (Scope::Public, text),
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        let tag = tag.filter(|tag| *tag != LATEST).map(str::parse).transpose().map_err(|_| refused())?;
        Ok(Self { scope, name: name.parse().map_err(|_| refused())?, tag })
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scope == Scope::Private {
            f.write_str(PRIVATE)?;
        }
        write!(f, "{}", self.name)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_scope_and_tag() {
        for text in ["jupyter", "nextflow:jfs", "private::mine", "private::mine:1.2"] {
            assert_eq!(text.parse::<TemplateName>().unwrap().to_string(), text);
        }
        assert_eq!("jupyter:latest".parse::<TemplateName>(), "jupyter".parse());
        for bad in ["", ":", "a:", ":a", "private::", "private:a:b", "a b", "../x", "a:b:c", "a/b"] {
            assert!(bad.parse::<TemplateName>().is_err(), "{bad}");
        }
    }
}
