//! Values that look like secrets, masked.

use std::collections::BTreeMap;

/// The mask of a value that looks like a secret.
pub(crate) const MASK: &str = "********";
const SECRET_WORDS: [&str; 5] = ["TOKEN", "PASSWORD", "SECRET", "KEY", "CREDENTIAL"];

/// Masks the values of an environment whose names look like those of secrets.
pub(crate) fn masked(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mask = |(key, value): (&String, &String)| {
        let upper = key.to_uppercase();
        let secret = SECRET_WORDS.iter().any(|word| upper.contains(word));
        (key.clone(), if secret { MASK.to_owned() } else { value.clone() })
    };
    env.iter().map(mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_names_are_masked() {
        let env = [("API_KEY", "1"), ("my_password", "2"), ("LANG", "C")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let shown = masked(&env.into());
        assert_eq!(shown["API_KEY"], MASK);
        assert_eq!(shown["my_password"], MASK);
        assert_eq!(shown["LANG"], "C");
    }
}
