//! References to secrets: `{secret:NAME}` within the value of an environment variable.
//!
//! A job's spec keeps the reference. Only the slice of the job's host has the secret in its place.

use crate::Name;

const BEGIN: &str = "{secret:";
const END: char = '}';

/// A malformed reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a reference to a secret is not well formed: write {{secret:NAME}} with a name of letters, digits, `.`, `_` or `-`"
)]
pub struct InvalidReference;

#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Secret(Name),
}

/// Returns the names of the secrets that a value refers to.
pub fn references(value: &str) -> Result<Vec<Name>, InvalidReference> {
    let secret = |part| match part {
        Part::Secret(name) => Some(name),
        Part::Text(_) => None,
    };
    Ok(parts(value)?.into_iter().filter_map(secret).collect())
}

/// Returns the value with each reference replaced by its secret, or `None` where a secret does not
/// exist.
#[must_use]
pub fn resolve(value: &str, stands_for: impl Fn(&Name) -> Option<String>) -> Option<String> {
    let resolve = |part: &Part<'_>| match part {
        Part::Text(text) => Some((*text).to_owned()),
        Part::Secret(name) => stands_for(name),
    };
    parts(value).ok()?.iter().map(resolve).collect()
}

fn parts(value: &str) -> Result<Vec<Part<'_>>, InvalidReference> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, tail) = after.split_once(END).ok_or(InvalidReference)?;
        parts.extend((!before.is_empty()).then_some(Part::Text(before)));
        parts.push(Part::Secret(name.parse().map_err(|_| InvalidReference)?));
        rest = tail;
    }
    parts.extend((!rest.is_empty()).then_some(Part::Text(rest)));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &Name) -> Option<String> {
        match name.as_str() {
            "a" => Some("1".into()),
            "b.c" => Some("{secret:a}".into()),
            _ => None,
        }
    }

    #[test]
    fn each_reference_is_replaced_once() {
        for (value, resolved) in [
            ("", Some("")),
            ("plain {value}", Some("plain {value}")),
            ("{secret:a}", Some("1")),
            ("x{secret:a}y{secret:a}", Some("x1y1")),
            // A reference inside a secret is not resolved.
            ("{secret:b.c}", Some("{secret:a}")),
            ("{secret:a}{secret:none}", None),
        ] {
            assert_eq!(resolve(value, known).as_deref(), resolved, "{value}");
        }
    }

    #[test]
    fn half_a_reference_is_refused() {
        for bad in ["{secret:", "{secret:a", "{secret:}", "{secret:a b}", "{secret:../a}", "x{secret:a}{secret:"] {
            assert_eq!(references(bad), Err(InvalidReference), "{bad}");
        }
        assert_eq!(references("{secret:a} {secret:b}").unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn what_refers_to_nothing_stays_as_it_is(value in "[^{]{0,40}") {
            prop_assert_eq!(resolve(&value, known), Some(value));
        }
    }
}
