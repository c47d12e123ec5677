//! Values that look like secrets, masked.

use std::collections::BTreeMap;

use mooring_types::Name;

/// The mask of a value that looks like a secret.
pub(crate) const MASK: &str = "********";
const SECRET_WORDS: [&str; 5] = ["TOKEN", "PASSWORD", "SECRET", "KEY", "CREDENTIAL"];

/// Masks the values of an environment whose names look like those of secrets.
pub(crate) fn masked(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mask = |(key, value): (&String, &String)| {
        let upper = key.to_uppercase();
        let secret = SECRET_WORDS.iter().any(|word| upper.contains(word)) && !is_reference(value);
        (key.clone(), if secret { MASK.to_owned() } else { value.clone() })
    };
    env.iter().map(mask).collect()
}

/// Returns whether a value is the name of a secret, which is none itself.
fn is_reference(value: &str) -> bool {
    let name = value.strip_prefix("{secret:").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| name.parse::<Name>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_names_are_masked() {
        let env = [
            ("API_KEY", "1"),
            ("my_password", "2"),
            ("LANG", "C"),
            ("TOKEN", "{secret:github}"),
            ("TOKEN_2", "{secret:a}x{secret:b}"),
        ];
        let env = env.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let shown = masked(&env.into());
        assert_eq!(shown["API_KEY"], MASK);
        assert_eq!(shown["my_password"], MASK);
        assert_eq!(shown["LANG"], "C");
        assert_eq!((&*shown["TOKEN"], &*shown["TOKEN_2"]), ("{secret:github}", MASK));
    }
}
