//! The texts of a YAML file, with their places.
//!
//! Only the structure is read: no scalar becomes a number or a truth value, and only what YAML
//! calls null is none. An alias stands for the value of its anchor. `<<` adds the entries of a map
//! that are not there yet.

use std::collections::BTreeMap;
use std::str::Chars;

use mooring_api::submission::{Content, Place, Written};
use yaml_rust2::Event;
use yaml_rust2::parser::{Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

/// The most values of a file, those of aliases counted each time.
const VALUES_MAX: usize = 100_000;
/// The most lists and maps within each other.
const DEPTH_MAX: usize = 32;
/// The key that adds another map.
const MERGE: &str = "<<";
/// The prefix of the tags that say how a text is read.
const CORE: &str = "tag:yaml.org,2002:";

/// A text that is no YAML, or more than a job file needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) place: Place,
    pub(super) told: String,
}

/// Reads the only document of a file; `None` for an empty one.
pub(super) fn read(text: &str) -> Result<Option<Written>, Refused> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), left: VALUES_MAX };
    reader.next()?;
    let (event, _) = reader.next()?;
    if event == Event::StreamEnd {
        return Ok(None);
    }
    let first = reader.next()?;
    let written = reader.value(first, 0)?;
    reader.next()?;
    let (event, marker) = reader.next()?;
    if event == Event::StreamEnd {
        return Ok(Some(written));
    }
    Err(refused(marker, "a second document begins here"))
}

struct Reader<'a> {
    parser: Parser<Chars<'a>>,
    anchors: BTreeMap<usize, Written>,
    /// The number of values that the file may still have.
    left: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<(Event, Marker), Refused> {
        self.parser.next_token().map_err(|error| Refused { place: place(*error.marker()), told: told(&error) })
    }

    fn value(&mut self, (event, marker): (Event, Marker), depth: usize) -> Result<Written, Refused> {
        if depth > DEPTH_MAX {
            return Err(refused(marker, "lists and maps are too deep within each other"));
        }
        self.take(1, marker)?;
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(text, style, tag.as_ref(), marker)?, anchor),
            Event::SequenceStart(anchor, tag) => {
                check(tag.as_ref(), &["seq"], marker)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check(tag.as_ref(), &["map"], marker)?;
                (self.map(depth)?, anchor)
            }
            Event::Alias(anchor) => {
                let Some(written) = self.anchors.get(&anchor).cloned() else {
                    return Err(refused(marker, "an alias stands within its own anchor"));
                };
                self.take(size(&written), marker)?;
                (written.content, 0)
            }
            _ => return Err(refused(marker, "a value is expected")),
        };
        let written = Written { place: Some(place(marker)), content };
        if anchor != 0 {
            self.anchors.insert(anchor, written.clone());
        }
        Ok(written)
    }

    /// Counts values.
    fn take(&mut self, values: usize, marker: Marker) -> Result<(), Refused> {
        self.left = self.left.checked_sub(values).ok_or_else(|| refused(marker, "the file has too many values"))?;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Content, Refused> {
        let mut items = Vec::new();
        loop {
            let next = self.next()?;
            if next.0 == Event::SequenceEnd {
                return Ok(Content::List(items));
            }
            items.push(self.value(next, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Content, Refused> {
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        loop {
            let next = self.next()?;
            if next.0 == Event::MappingEnd {
                break;
            }
            let marker = next.1;
            let is_merge = matches!(&next.0, Event::Scalar(text, TScalarStyle::Plain, ..) if text == MERGE);
            let key = match self.value(next, depth + 1)?.content {
                Content::Text(key) => key,
                Content::Null => return Err(refused(marker, "a key is null: put it into quotes")),
                Content::List(_) | Content::Map(_) => return Err(refused(marker, "a key is a list or a map")),
            };
            let next = self.next()?;
            let value_marker = next.1;
            let mut value = self.value(next, depth + 1)?;
            if value.content == Content::Null {
                // One that is not written has no place.
                value.place = Some(place(marker));
            }
            if is_merge {
                merged.extend(maps(value, value_marker)?);
            } else {
                entries.push((key, value));
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(other, _)| *other == key) {
                entries.push((key, value));
            }
        }
        Ok(Content::Map(entries))
    }
}

/// Returns the entries that `<<` adds: those of a map, or of each map of a list.
fn maps(value: Written, marker: Marker) -> Result<Vec<(String, Written)>, Refused> {
    match value.content {
        Content::Map(entries) => Ok(entries),
        Content::List(items) => {
            let entries = items.into_iter().map(|item| maps(item, marker)).collect::<Result<Vec<_>, _>>()?;
            Ok(entries.into_iter().flatten().collect())
        }
        Content::Null | Content::Text(_) => Err(refused(marker, "`<<` takes a map, as in `<<: *defaults`")),
    }
}

/// The number of values in a value.
fn size(written: &Written) -> usize {
    match &written.content {
        Content::Null | Content::Text(_) => 1,
        Content::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Map(entries) => 1 + entries.iter().map(|(_, value)| 1 + size(value)).sum::<usize>(),
    }
}

fn scalar(text: String, style: TScalarStyle, tag: Option<&Tag>, marker: Marker) -> Result<Content, Refused> {
    check(tag, &["str", "int", "float", "bool", "null"], marker)?;
    let is_text = tag.is_some_and(|tag| tag.suffix == "str");
    let is_null = style == TScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
    Ok(if is_null && !is_text { Content::Null } else { Content::Text(text) })
}

/// Checks that a tag is one of YAML's own that change nothing here.
fn check(tag: Option<&Tag>, known: &[&str], marker: Marker) -> Result<(), Refused> {
    match tag {
        Some(tag) if tag.handle != CORE || !known.contains(&&*tag.suffix) => {
            let name = if tag.handle == CORE { "!!" } else { &tag.handle };
            Err(refused(marker, format!("the tag `{name}{}` has no meaning here", tag.suffix)))
        }
        _ => Ok(()),
    }
}

fn refused(marker: Marker, told: impl Into<String>) -> Refused {
    Refused { place: place(marker), told: told.into() }
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn told(error: &ScanError) -> String {
    error.info().to_owned()
}
