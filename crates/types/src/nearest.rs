//! The known word that is most similar to a misspelt one.

/// The least similarity of a suggestion, from 0 to 1.
const ALIKE: f64 = 0.8;

/// Returns the one of `known` that is most similar to `word`, if any is similar enough.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let likeness = |other: &&str| strsim::jaro_winkler(&word, &other.to_lowercase());
    known
        .into_iter()
        .map(|other| (likeness(&other), other))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_taken_for_what_was_meant_and_nothing_else_is() {
        let known = ["image", "command", "memGB", "customTags"];
        for (word, meant) in
            [("imgae", "image"), ("memgb", "memGB"), ("customTag", "customTags"), ("Command", "command")]
        {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
        for word in ["", "xyz", "owner"] {
            assert_eq!(nearest(word, known), None, "{word}");
        }
    }
}
