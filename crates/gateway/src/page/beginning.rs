//! The beginning of a page: whether it is a document, and the place in it before all scripts.
//!
//! Many responses are called HTML and are none: a piece that a script puts into its page, or a word
//! in a framework's default type. A document begins with a doctype or with an element that only
//! documents have. A byte order mark of UTF-16 counts more than all that the headers say.
//!
//! Additions are placed before the first element that can ask for something, run or set a base for
//! addresses. A doctype stays first, since a page without one has another layout.

/// The longest beginning that is examined.
const EXAMINED_BYTES: usize = 64 << 10;
/// The longest comment or tag that is waited for.
const TOKEN_BYTES: usize = 256 << 10;
/// The elements with which only documents begin.
const OF_DOCUMENTS: [&str; 6] = ["html", "head", "body", "base", "title", "meta"];
const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";
const UTF16_MARKS: [&[u8]; 2] = [b"\xFE\xFF", b"\xFF\xFE"];

/// The kind of a page, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    Document,
    /// Elements that may be a piece of a document.
    Piece,
    /// Something without elements, or in UTF-16.
    Other,
}

impl Beginning {
    /// Returns the kind of a page by its first bytes, or by all if it `ends` with them. `None` if
    /// more of them are needed.
    pub(super) fn of(bytes: &[u8], ends: bool) -> Option<Self> {
        let is_whole = ends || bytes.len() >= EXAMINED_BYTES;
        let undecided = if is_whole { Some(Self::Other) } else { None };
        let may_be_marked = UTF16_MARKS.iter().chain([&UTF8_MARK]).any(|mark| is_begun(mark, bytes));
        if may_be_marked && !is_whole {
            return None;
        }
        if UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
            return Some(Self::Other);
        }
        let mut rest = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
        loop {
            match token(rest) {
                Token::Partial => return undecided,
                Token::Skipped(length) => rest = &rest[length..],
                Token::Doctype(_) => return Some(Self::Document),
                Token::Tag(name) if OF_DOCUMENTS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) => {
                    return Some(Self::Document);
                }
                Token::Tag(_) => return Some(Self::Piece),
                Token::Text => return Some(Self::Other),
            }
        }
    }
}

/// Looks for the place of the additions in a page that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The bytes that may be of a token that is not whole.
    held: Vec<u8>,
    after_mark: bool,
}

/// The outcome of a search for the place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// These bytes are before the place.
    Later(Vec<u8>),
    /// The place is between these bytes.
    Here { before: Vec<u8>, after: Vec<u8> },
}

impl Place {
    /// Examines the next bytes.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Found {
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        if !self.after_mark {
            if is_begun(UTF8_MARK, &self.held) {
                return Found::Later(Vec::new());
            }
            self.after_mark = true;
            at = if self.held.starts_with(UTF8_MARK) { UTF8_MARK.len() } else { 0 };
        }
        loop {
            let rest = &self.held[at..];
            match token(rest) {
                Token::Skipped(length) | Token::Doctype(Some(length)) => at += length,
                Token::Partial | Token::Doctype(None) if rest.len() < TOKEN_BYTES => return self.pass(at),
                Token::Tag(name) => {
                    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
                    let (is_root, is_inside) = (is("html"), is("head") || is("body"));
                    if !is_root && !is_inside {
                        return self.split(at);
                    }
                    match tag_length(rest) {
                        None if rest.len() < TOKEN_BYTES => return self.pass(at),
                        None => return self.split(at),
                        Some(length) if is_inside => return self.split(at + length),
                        Some(length) => at += length,
                    }
                }
                Token::Partial | Token::Doctype(None) | Token::Text => return self.split(at),
            }
        }
    }

    /// Takes the bytes that were held when the page has ended.
    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn pass(&mut self, length: usize) -> Found {
        let rest = self.held.split_off(length);
        Found::Later(std::mem::replace(&mut self.held, rest))
    }

    fn split(&mut self, at: usize) -> Found {
        let after = self.held.split_off(at);
        Found::Here { before: self.end(), after }
    }
}

/// A token before the content of a page.
enum Token<'a> {
    /// Its end has not come.
    Partial,
    /// White space or a comment of this length.
    Skipped(usize),
    /// A doctype of this length; `None` while its end has not come.
    Doctype(Option<usize>),
    /// A start tag, by its name.
    Tag(&'a [u8]),
    /// Anything else.
    Text,
}

fn token(bytes: &[u8]) -> Token<'_> {
    const COMMENT: &[u8] = b"<!--";
    const DOCTYPE: &[u8] = b"<!doctype";
    let spaces = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    match bytes {
        _ if spaces > 0 => Token::Skipped(spaces),
        [] | [b'<'] => Token::Partial,
        [b'<', b'a'..=b'z' | b'A'..=b'Z', ..] => {
            let name = &bytes[1..];
            match name.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>')) {
                Some(end) => Token::Tag(&name[..end]),
                None => Token::Partial,
            }
        }
        [b'<', b'!' | b'?', ..] => {
            let has = |begin: &[u8]| bytes.get(..begin.len()).is_some_and(|own| own.eq_ignore_ascii_case(begin));
            let may_be = |begin: &[u8]| bytes.len() < begin.len() && begin[..bytes.len()].eq_ignore_ascii_case(bytes);
            let closed = bytes.iter().position(|byte| *byte == b'>').map(|at| at + 1);
            if may_be(COMMENT) || may_be(DOCTYPE) {
                Token::Partial
            } else if has(COMMENT) {
                comment_length(bytes).map_or(Token::Partial, Token::Skipped)
            } else if has(DOCTYPE) {
                Token::Doctype(closed)
            } else {
                // Parsers take it for a comment.
                closed.map_or(Token::Partial, Token::Skipped)
            }
        }
        _ => Token::Text,
    }
}

/// The length of a comment (HTML standard, section 13.2.5.43 and after). `<!-->` is one.
fn comment_length(bytes: &[u8]) -> Option<usize> {
    let ends: [&[u8]; 2] = [b"-->", b"--!>"];
    (2..bytes.len()).find_map(|at| {
        let end = ends.into_iter().find(|end| bytes[at..].starts_with(end))?;
        // `<!--!>` is not the end of what it begins.
        (at >= 4 || end.len() == 3).then(|| at + end.len())
    })
}

/// The length of a tag. A value in quotes may contain `>`.
fn tag_length(bytes: &[u8]) -> Option<usize> {
    #[derive(Clone, Copy)]
    enum In {
        Name,
        BeforeValue,
        Value,
        Quoted(u8),
    }
    let mut state = In::Name;
    for (at, byte) in bytes.iter().enumerate() {
        state = match (state, byte) {
            (In::Name | In::BeforeValue | In::Value, b'>') => return Some(at + 1),
            (In::Name, b'=') => In::BeforeValue,
            (In::BeforeValue, b'"' | b'\'') => In::Quoted(*byte),
            (In::Quoted(quote), _) if quote == *byte => In::Name,
            (In::Value, byte) if byte.is_ascii_whitespace() => In::Name,
            (In::BeforeValue, byte) if !byte.is_ascii_whitespace() => In::Value,
            (state, _) => state,
        };
    }
    None
}

/// Returns whether bytes are the begin of a mark, and not all of it.
fn is_begun(mark: &[u8], bytes: &[u8]) -> bool {
    bytes.len() < mark.len() && mark.starts_with(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placed(page: &[u8], sizes: &[usize]) -> Vec<u8> {
        let (mut place, mut got, mut rest, mut sizes) = (Place::default(), Vec::new(), page, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after_piece) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
            rest = after_piece;
            match place.find(piece) {
                Found::Later(before) => got.extend(before),
                Found::Here { before, after } => return [&got, &before, &b"*"[..], &after, rest].concat(),
            }
        }
        got.extend(place.end());
        got.push(b'*');
        got
    }

    #[test]
    fn documents_are_told_from_pieces() {
        for (page, expected) in [
            ("<!doctype html>", Some(Beginning::Document)),
            ("\u{FEFF} <!-- a --><?xml version='1.0'?>\n<!DOCTYPE html", Some(Beginning::Document)),
            ("<html>", Some(Beginning::Document)),
            ("<HEAD\nlang", Some(Beginning::Document)),
            ("<body class=a>", Some(Beginning::Document)),
            ("<base href=/x>", Some(Beginning::Document)),
            ("<!--><title>", Some(Beginning::Document)),
            ("<tr><td>1</td></tr>", Some(Beginning::Piece)),
            ("<header>", Some(Beginning::Piece)),
            ("OK\n", Some(Beginning::Other)),
            ("</p>", Some(Beginning::Other)),
            ("", None),
            ("\u{FEFF}", None),
            ("<", None),
            ("<htm", None),
            ("<html", None),
            ("<!-", None),
            ("<!docty", None),
            ("<!-- <html>", None),
        ] {
            assert_eq!(Beginning::of(page.as_bytes(), false), expected, "{page:?}");
            assert_eq!(Beginning::of(page.as_bytes(), true), expected.or(Some(Beginning::Other)), "{page:?}");
        }
        for mark in [b"\xFE\xFF", b"\xFF\xFE"] {
            assert_eq!(Beginning::of(&mark[..1], false), None);
            assert_eq!(Beginning::of(mark, false), Some(Beginning::Other));
        }
        assert_eq!(Beginning::of(b"\xEF\xBB", false), None);
        let endless = ["<!--".as_bytes(), &vec![b'a'; EXAMINED_BYTES]].concat();
        assert_eq!(Beginning::of(&endless, false), Some(Beginning::Other));
    }

    #[test]
    fn place_is_before_all_scripts_and_behind_the_doctype() {
        for page in [
            "<!doctype html><html lang='a>b'><head>*<base href=/x>",
            "<!doctype html>\n<HTML x=a'>\n<!-- <head> --><HEAD y>*\n<title>",
            "*<base href=/x><!doctype html><html>",
            "<body class=\"a\">*<p>c",
            "<!doctype html><html>*text<base href=/x>",
            "<html>*<frameset>",
            "\u{FEFF}<!doctype html>*<svg><title>a</title></svg>",
            "<!doctype html>*<script>'<head>'</script><head>",
            "<!doctype html>*",
            "<!doctype*",
            "<html><hea*",
        ] {
            for size in [1, 2, 7, 1000] {
                let got = placed(page.replace('*', "").as_bytes(), &[size]);
                assert_eq!(String::from_utf8(got).unwrap(), page, "in pieces of {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn place_does_not_depend_on_pieces(
            parts in prop::collection::vec("(<!doctype html>|<html a=\">\">|<head>|<body b='>'>|<p>|<!--|-->|<!-->|<|>| |\"|a)", 0..12),
            sizes in prop::collection::vec(1_usize..9, 1..4),
        ) {
            let page = parts.concat();
            let (whole, pieces) = (placed(page.as_bytes(), &[usize::MAX]), placed(page.as_bytes(), &sizes));
            prop_assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&pieces));
        }

        #[test]
        fn decision_is_final(page: Vec<u8>, cut in 0_usize..40) {
            let early = Beginning::of(&page[..cut.min(page.len())], false);
            prop_assert!(early.is_none() || early == Beginning::of(&page, false));
        }
    }
}
