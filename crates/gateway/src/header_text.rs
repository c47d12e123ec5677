//! The lines of headers as text, byte for byte.
//!
//! A header may have bytes above 0x7F: many applications send the names of files as raw UTF-8. Here
//! each byte is one character (Latin-1), so that no line is skipped, and none is altered.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Returns a line as text.
pub(crate) fn text(line: &HeaderValue) -> String {
    line.as_bytes().iter().copied().map(char::from).collect()
}

/// Returns a text as a line; `None` if it can't be one.
pub(crate) fn line(text: &str) -> Option<HeaderValue> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    HeaderValue::from_bytes(&bytes.ok()?).ok()
}

/// Returns all lines of a header as text.
pub(crate) fn lines(headers: &HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = String> {
    headers.get_all(name).into_iter().map(text)
}

/// Returns the elements of a list, over all lines of the header.
pub(crate) fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Returns whether a header has a word among its elements and their parameters.
pub(crate) fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let mut words = elements(headers, name).flat_map(|element| element.split(|byte| *byte == b';'));
    words.any(|other| other.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use hyper::header;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_keep_their_bytes(bytes in prop::collection::vec(0x20_u8..=0xFF, 0..60)) {
            if let Ok(sent) = HeaderValue::from_bytes(&bytes) {
                prop_assert_eq!(line(&text(&sent)), Some(sent));
            }
        }
    }

    #[test]
    fn words_beside_other_bytes_are_found() {
        let line = HeaderValue::from_bytes("attachment; filename=\"Übersicht.html\", No-Transform".as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(header::CONTENT_DISPOSITION, line)]);
        let has = |word| has_word(&headers, &header::CONTENT_DISPOSITION, word);
        assert!(has("attachment") && has("no-transform") && !has("inline") && !has(""));
    }
}
