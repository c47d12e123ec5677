//! The parser of filters, a recursive descent that reports the position of errors.

use std::str::FromStr;

use super::{Equality, Filter, KEYS, Order, TextKey, TextTest, TimeKey};
use crate::Timestamp;
use crate::duration::parse_duration;
use crate::job::{Category, JobStatus, UnknownCategory};
use crate::policy::CustomTag;

/// The longest filter, in bytes.
const LENGTH_MAX: usize = 4096;
/// The deepest nesting of parentheses.
const DEPTH_MAX: usize = 32;

/// A text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter: {problem}, {place} of `{text}`")]
pub struct InvalidFilter {
    problem: String,
    place: Place,
    text: String,
    hint: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Character(usize),
    End,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Character(number) => write!(f, "at character {number}"),
            Self::End => f.write_str("at the end"),
        }
    }
}

impl InvalidFilter {
    /// Returns what to write instead.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        if text.len() > LENGTH_MAX {
            return Err(reader.refused(
                0,
                format!("it is longer than {LENGTH_MAX} bytes"),
                "give several with `-f` each",
            ));
        }
        let filter = reader.any()?;
        reader.skip_blanks();
        if reader.rest().is_empty() {
            return Ok(filter);
        }
        Err(reader.refused(reader.at, "`and`, `or` or the end is expected", FORM))
    }
}

const FORM: &str = "write `status=Executing or (user=alice and update<=12w)`";

/// The operators as text, longer ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Order(Order),
    Contains,
}

pub(super) const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::Order(Order::Other)),
    ("<=", Operator::Order(Order::AtMost)),
    (">=", Operator::Order(Order::AtLeast)),
    ("=", Operator::Order(Order::Same)),
    ("<", Operator::Order(Order::Less)),
    (">", Operator::Order(Order::More)),
    ("~", Operator::Contains),
];

struct Reader<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Result<Filter, InvalidFilter> {
        let mut parts = vec![self.all()?];
        while self.word("or") {
            parts.push(self.all()?);
        }
        Ok(single_or(parts, Filter::Any))
    }

    fn all(&mut self) -> Result<Filter, InvalidFilter> {
        let mut parts = vec![self.term()?];
        while self.word("and") {
            parts.push(self.term()?);
        }
        Ok(single_or(parts, Filter::All))
    }

    fn term(&mut self) -> Result<Filter, InvalidFilter> {
        self.skip_blanks();
        let opened = self.at;
        if !self.symbol("(") {
            return self.comparison();
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.refused(opened, "there are too many parentheses", FORM));
        }
        let inner = self.any()?;
        self.skip_blanks();
        if !self.symbol(")") {
            return Err(self.refused(self.at, "`)`, `and` or `or` is expected", FORM));
        }
        self.depth -= 1;
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Filter, InvalidFilter> {
        let start = self.at;
        let key = self.take(is_of_key);
        self.skip_blanks();
        let operator_at = self.at;
        let operator = OPERATORS.into_iter().find(|(sign, _)| self.symbol(sign));
        if key.is_empty() || operator.is_none() && self.rest().is_empty() && is_word_of_ours(key) {
            return Err(self.refused(start, "a comparison is expected", FORM));
        }
        let Some((sign, operator)) = operator else {
            return Err(self.refused(operator_at, format!("an operator is expected after `{key}`"), OPERATORS_HINT));
        };
        self.skip_blanks();
        let value_at = self.at;
        let value = self.value()?;
        let written = Written { key, sign, operator, value };
        let fault = match written.read() {
            Ok(filter) => return Ok(filter),
            Err(fault) => fault,
        };
        let at = match fault.part {
            Part::Key => start,
            Part::Operator => operator_at,
            Part::Value => value_at,
        };
        Err(self.refused(at, fault.problem, fault.hint))
    }

    fn value(&mut self) -> Result<&'a str, InvalidFilter> {
        let start = self.at;
        if !self.symbol("\"") {
            let value = self.take(is_bare);
            return if value.is_empty() || is_word_of_ours(value) {
                Err(self.refused(start, "a value is expected", "put it into double quotes if it has blanks in it"))
            } else {
                Ok(value)
            };
        }
        let value = self.take(|byte| byte != b'"');
        if self.symbol("\"") { Ok(value) } else { Err(self.refused(start, "the quote is not closed", FORM)) }
    }

    // Characters

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        let blank = |char: char| char.is_ascii_whitespace();
        self.at += self.rest().len() - self.rest().trim_start_matches(blank).len();
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let there = self.rest().starts_with(symbol);
        self.at += if there { symbol.len() } else { 0 };
        there
    }

    /// Consumes a keyword, in any case, if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let before = self.at;
        self.skip_blanks();
        let found = self.take(|byte| byte.is_ascii_alphanumeric()).eq_ignore_ascii_case(word);
        if !found {
            self.at = before;
        }
        found
    }

    /// Consumes bytes of a kind. Characters beyond ASCII are never split, since all their bytes
    /// differ from ASCII.
    fn take(&mut self, is_part: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn refused(&self, at: usize, problem: impl Into<String>, hint: impl Into<String>) -> InvalidFilter {
        let place = match self.text.get(at..) {
            Some(rest) if !rest.trim().is_empty() => Place::Character(self.text[..at].chars().count() + 1),
            _ => Place::End,
        };
        InvalidFilter {
            problem: problem.into(),
            place,
            text: self.text.chars().filter(|char| !char.is_control()).take(200).collect(),
            hint: hint.into(),
        }
    }
}

const OPERATORS_HINT: &str = "the operators are =, !=, <, <=, >, >= and ~ for `contains`";

/// Says whether a byte may be part of a key; those of tags have letters of any script.
pub(super) fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b":._-".contains(&byte)
}

/// Says whether a byte may be part of an unquoted value.
pub(super) fn is_bare(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"()\"=!<>~".contains(&byte)
}

/// Says whether a word is `and` or `or`.
pub(super) fn is_word_of_ours(text: &str) -> bool {
    text.eq_ignore_ascii_case("and") || text.eq_ignore_ascii_case("or")
}

fn single_or(mut parts: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Filter {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => join(parts.into_iter().chain(last).collect()),
    }
}

/// A comparison before its value is parsed.
struct Written<'a> {
    key: &'a str,
    sign: &'static str,
    operator: Operator,
    value: &'a str,
}

/// The fault of a part of the filter.
struct Fault {
    part: Part,
    problem: String,
    hint: String,
}

enum Part {
    Key,
    Operator,
    Value,
}

impl Written<'_> {
    fn read(&self) -> Result<Filter, Fault> {
        if let Some(tag) = self.key.strip_prefix("tag:") {
            if !CustomTag::is_part(tag) {
                return Err(fault(Part::Key, format!("`{tag}` is no key of a tag"), "write tag:KEY=value"));
            }
            return self.text(TextKey::Tag(tag.to_owned()));
        }
        match self.key {
            "id" => self.text(TextKey::Id),
            "name" => self.text(TextKey::Name),
            "user" => self.text(TextKey::User),
            "image" => self.text(TextKey::Image),
            "host" => self.text(TextKey::Host),
            "status" => Ok(Filter::Status { is: self.equality()?, value: status(self.value)? }),
            "category" => Ok(Filter::Category { is: self.equality()?, value: category(self.value)? }),
            "submit" => self.time(TimeKey::Submit),
            "update" => self.time(TimeKey::Update),
            "duration" => {
                let value = parse_duration(self.value).map_err(|_| {
                    fault(Part::Value, format!("`{}` is no duration", self.value), "write it like 90s or 2h30m")
                })?;
                Ok(Filter::Ran { is: self.order()?, value })
            }
            key => {
                let keys = KEYS.map(|key| key.name);
                let all = format!("the keys are {}", keys.join(", "));
                let hint = match crate::nearest(key, keys) {
                    Some(near) => format!("did you mean `{near}`? {all}"),
                    None => all,
                };
                Err(fault(Part::Key, format!("unknown key `{key}`"), hint))
            }
        }
    }

    fn text(&self, key: TextKey) -> Result<Filter, Fault> {
        let is = match self.operator {
            Operator::Order(Order::Same) => TextTest::Same,
            Operator::Order(Order::Other) => TextTest::Other,
            Operator::Contains => TextTest::Contains,
            Operator::Order(_) => return Err(self.unfit("=, != or ~")),
        };
        Ok(Filter::Text { key, is, value: self.value.to_owned() })
    }

    fn time(&self, key: TimeKey) -> Result<Filter, Fault> {
        let is = self.order()?;
        if let Ok(value) = parse_duration(self.value) {
            return Ok(Filter::Age { key, is, value });
        }
        let value = self.value.parse::<Timestamp>().ok().or_else(|| midnight(self.value)).ok_or_else(|| {
            fault(
                Part::Value,
                format!("`{}` is neither an age nor a point in time", self.value),
                "write an age like 12w, or a time like 2026-08-01 or 2026-08-01T12:00:00Z",
            )
        })?;
        Ok(Filter::Time { key, is, value })
    }

    fn equality(&self) -> Result<Equality, Fault> {
        match self.operator {
            Operator::Order(Order::Same) => Ok(Equality::Same),
            Operator::Order(Order::Other) => Ok(Equality::Other),
            _ => Err(self.unfit("= or !=")),
        }
    }

    fn order(&self) -> Result<Order, Fault> {
        match self.operator {
            Operator::Order(order) => Ok(order),
            Operator::Contains => Err(self.unfit("=, !=, <, <=, > or >=")),
        }
    }

    fn unfit(&self, possible: &str) -> Fault {
        fault(
            Part::Operator,
            format!("`{}` can't be compared with `{}`", self.key, self.sign),
            format!("write {possible}"),
        )
    }
}

/// The beginning of a day, in UTC.
fn midnight(text: &str) -> Option<Timestamp> {
    let date: jiff::civil::Date = text.parse().ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

fn status(text: &str) -> Result<JobStatus, Fault> {
    let found = JobStatus::ALL.into_iter().find(|status| status.to_string().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let all: Vec<String> = JobStatus::ALL.iter().map(ToString::to_string).collect();
        fault(Part::Value, format!("unknown job status `{text}`"), format!("the statuses are {}", all.join(", ")))
    })
}

fn category(text: &str) -> Result<Category, Fault> {
    text.parse().map_err(|error: UnknownCategory| fault(Part::Value, error.to_string(), error.hint()))
}

fn fault(part: Part, problem: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault { part, problem: problem.into(), hint: hint.into() }
}
