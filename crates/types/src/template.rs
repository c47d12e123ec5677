//! The names of templates: `name:tag` for public ones, `private::name:tag` for one's own.

use std::fmt;
use std::str::FromStr;

use crate::Name;

/// The tag of the newest version.
pub const LATEST: &str = "latest";
const PRIVATE: &str = "private::";

/// The owner of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A public template, made by an admin.
    Public,
    /// A private template of one user.
    Private,
}

/// The name of a template, as users write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateName {
    pub scope: Scope,
    pub name: Name,
    /// The tag; the newest where absent.
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
