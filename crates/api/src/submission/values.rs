//! The types of fields: their forms in JSON and on the command line.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mooring_types::duration::{format_duration, parse_duration};
use mooring_types::gateway::WakeOn;
use mooring_types::job::{Image, Publish, Volume};
use mooring_types::policy::{CustomTag, DumpMode, Egress, InvalidPolicy, MigratePolicy, VmPolicy};
use mooring_types::port::parse_port;
use mooring_types::{GatewayId, JobId, Name, Port, Reference, SecurityGroupId, TemplateName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use super::field::InvalidValue;

type Read<T> = Result<T, InvalidValue>;

/// A type of a field.
pub(crate) trait FieldValue: Sized {
    const IS_LIST: bool = false;

    fn read(value: &Value) -> Read<Self>;

    /// The value in JSON; `None` for an absent one.
    fn write(&self) -> Option<Value>;

    /// The values of the flag, one for each use of it.
    fn words(&self) -> Vec<String>;

    fn schema() -> Schema;

    /// Replaces the value by another one, unless that is absent.
    fn take_over(&mut self, other: Self) {
        if other.write().is_some() {
            *self = other;
        }
    }
}

impl<T: Text> FieldValue for Option<T> {
    fn read(value: &Value) -> Read<Self> {
        match value {
            Value::Null => Ok(None),
            Value::Object(map) if T::IS_POLICY => T::parse(&policy(map)?).map(Some),
            value => match plain(value).ok_or(InvalidValue::Shape { expected: T::EXPECTED })?.as_str() {
                "" => Ok(None),
                text => T::parse(text).map(Some),
            },
        }
    }

    fn write(&self) -> Option<Value> {
        self.as_ref().map(T::write)
    }

    fn words(&self) -> Vec<String> {
        self.iter().map(T::text).collect()
    }

    fn schema() -> Schema {
        T::schema()
    }
}

impl<T: Text> FieldValue for Vec<T> {
    const IS_LIST: bool = true;

    fn read(value: &Value) -> Read<Self> {
        texts(value)?.iter().map(|text| T::parse(text)).collect()
    }

    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(T::write).collect())
    }

    fn words(&self) -> Vec<String> {
        self.iter().map(T::text).collect()
    }

    fn schema() -> Schema {
        list_schema(T::schema())
    }
}

impl FieldValue for bool {
    fn read(value: &Value) -> Read<Self> {
        let expected = InvalidValue::Shape { expected: "`true` or `false`" };
        match value {
            Value::Bool(value) => Ok(*value),
            // As the text of a file.
            Value::String(text) => text.to_ascii_lowercase().parse().map_err(|_| expected),
            _ => Err(expected),
        }
    }

    fn write(&self) -> Option<Value> {
        self.then_some(Value::Bool(true))
    }

    fn words(&self) -> Vec<String> {
        self.then(String::new).into_iter().collect()
    }

    fn schema() -> Schema {
        ObjectBuilder::new().schema_type(Type::Boolean).into()
    }
}

/// Environment variables, `KEY=VALUE` each in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }
}

impl FieldValue for Environment {
    const IS_LIST: bool = true;

    fn read(value: &Value) -> Read<Self> {
        pairs(value, '=')?.iter().map(|entry| variable(entry)).collect::<Read<_>>().map(Self)
    }

    fn write(&self) -> Option<Value> {
        Some(self.words()).filter(|words| !words.is_empty()).map(Value::from)
    }

    fn words(&self) -> Vec<String> {
        self.0.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    fn schema() -> Schema {
        list_schema(text_schema())
    }

    fn take_over(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

fn variable(entry: &str) -> Read<(String, String)> {
    let pair = entry.split_once('=').filter(|(key, _)| !key.is_empty());
    let Some((key, value)) = pair else {
        // Without the value, which may be a secret.
        let start = entry.split('=').next().unwrap_or_default();
        return Err(InvalidValue::new(format!("`{start}` is no environment variable"), "write KEY=VALUE"));
    };
    if entry.contains('\0') {
        let key = key.replace('\0', "?");
        return Err(InvalidValue::new(format!("environment variable `{key}` has a NUL"), "remove the NUL"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Tags by key, a map in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(pub BTreeMap<String, String>);

impl FieldValue for Tags {
    const IS_LIST: bool = true;

    fn read(value: &Value) -> Read<Self> {
        let mut tags = BTreeMap::new();
        for text in pairs(value, ':')? {
            let refused = |error: mooring_types::policy::InvalidTag| {
                InvalidValue::new(error.to_string(), "write key:value, like project:course-7")
            };
            let CustomTag { key, value } = text.parse().map_err(refused)?;
            if tags.insert(key.clone(), value).is_some() {
                return Err(InvalidValue::new(format!("tag `{key}` is given twice"), "give each key once"));
            }
        }
        Ok(Self(tags))
    }

    fn write(&self) -> Option<Value> {
        let pairs = self.0.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        (!self.0.is_empty()).then(|| Value::Object(pairs.collect()))
    }

    fn words(&self) -> Vec<String> {
        self.0.iter().map(|(key, value)| format!("{key}:{value}")).collect()
    }

    fn schema() -> Schema {
        ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(text_schema())).into()
    }

    fn take_over(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// A type that has a text, which is its form in JSON unless [`Text::write`] is another.
pub(crate) trait Text: Sized {
    /// `true` if a map of keys may stand for the text.
    const IS_POLICY: bool = false;
    const EXPECTED: &'static str = "one text";

    fn parse(text: &str) -> Read<Self>;

    fn text(&self) -> String;

    fn write(&self) -> Value {
        self.text().into()
    }

    fn schema() -> Schema {
        text_schema()
    }
}

/// Implements [`Text`] for types with `FromStr` and `Display`, with a hint for a text that can't be
/// parsed.
macro_rules! texts {
    ($($type:ty, $hint:literal;)*) => {$(
        impl Text for $type {
            fn parse(text: &str) -> Read<Self> {
                from_str(text, $hint)
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

texts! {
    Image, "";
    JobId, "`float list` shows the jobs";
    Name, "";
    Publish, "write 8080:80, or one number for both";
    Reference<GatewayId>, "`float gateway list` shows the gateways";
    Reference<SecurityGroupId>, "`float securityGroup list` shows the security groups";
    String, "";
    TemplateName, "`float template list` shows the templates";
    Volume, "write it as /path:/mount, [size=10]:/mount, …";
}

fn from_str<T: FromStr<Err: Display>>(text: &str, hint: &str) -> Read<T> {
    text.parse().map_err(|error: T::Err| InvalidValue::new(error.to_string(), hint))
}

impl Text for PathBuf {
    fn parse(text: &str) -> Read<Self> {
        Ok(text.into())
    }

    fn text(&self) -> String {
        self.to_str().unwrap_or_default().to_owned()
    }
}

impl Text for Duration {
    fn parse(text: &str) -> Read<Self> {
        parse_duration(text).map_err(|error| InvalidValue::new(error.to_string(), ""))
    }

    fn text(&self) -> String {
        format_duration(*self)
    }
}

/// Implements [`Text`] for policies.
macro_rules! policies {
    ($($type:ty)*) => {$(
        impl Text for $type {
            const IS_POLICY: bool = true;
            const EXPECTED: &'static str = "a text like `[key=value]` or a map";

            fn parse(text: &str) -> Read<Self> {
                text.parse().map_err(|error: InvalidPolicy| InvalidValue::new(error.to_string(), error.hint()))
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

policies! { VmPolicy MigratePolicy }

/// Implements [`Text`] for enums by their names in JSON.
macro_rules! names {
    ($($type:ty, $noun:literal, $hint:literal;)*) => {$(
        impl Text for $type {
            fn parse(text: &str) -> Read<Self> {
                by_name(text).ok_or_else(|| InvalidValue::new(format!(concat!("invalid ", $noun, " `{}`"), text), $hint))
            }

            fn text(&self) -> String {
                name(self)
            }
        }
    )*};
}

names! {
    DumpMode, "dump mode", "write `incremental` or `full`";
    Egress, "egress", "write `host` or `gateway`";
    WakeOn, "kind of client to wake for", "write `page`, `request` or `connection`";
}

fn by_name<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(name.into()).ok()
}

fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

impl Text for Port {
    fn parse(text: &str) -> Read<Self> {
        parse_port(text).map_err(|error| InvalidValue::new(error.to_string(), "give a port that the job publishes"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn write(&self) -> Value {
        self.get().into()
    }

    fn schema() -> Schema {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(65535)).into()
    }
}

impl Text for u32 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str) -> Read<Self> {
        text.parse().map_err(|_| InvalidValue::new(format!("invalid number `{text}`"), "write a number like 2"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn write(&self) -> Value {
        (*self).into()
    }

    fn schema() -> Schema {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).into()
    }
}

impl Text for f64 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str) -> Read<Self> {
        text.parse().map_err(|_| InvalidValue::new(format!("invalid number `{text}`"), "write a number like 0.5"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn write(&self) -> Value {
        (*self).into()
    }

    fn schema() -> Schema {
        ObjectBuilder::new().schema_type(Type::Number).into()
    }
}

fn text_schema() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).into()
}

fn list_schema(items: Schema) -> Schema {
    ArrayBuilder::new().items(RefOr::T(items)).into()
}

/// A text, number or truth value as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A list of texts, or its only item.
fn texts(value: &Value) -> Read<Vec<String>> {
    let texts = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => items.iter().map(plain).collect(),
        item => plain(item).map(|text| vec![text]),
    };
    texts.ok_or(InvalidValue::Shape { expected: "texts or one text" })
}

/// A list of pairs, or a map.
fn pairs(value: &Value, separator: char) -> Read<Vec<String>> {
    let expected = "a map or a list of pairs";
    match value {
        Value::Object(map) => {
            let pair = |(key, value)| Some(format!("{key}{separator}{}", plain(value)?));
            map.iter().map(pair).collect::<Option<_>>().ok_or(InvalidValue::Shape { expected })
        }
        list => texts(list).map_err(|_| InvalidValue::Shape { expected }),
    }
}

/// The text of a policy that is given as a map, whose maps stand for keys like `cpu.step`.
fn policy(map: &Map<String, Value>) -> Read<String> {
    let shape = || InvalidValue::Shape { expected: "a text like `[key=value]` or a map" };
    let mut parts = Vec::new();
    for (key, value) in map {
        match value {
            Value::Object(inner) => {
                for (name, value) in inner {
                    parts.push(format!("{key}.{name}={}", plain(value).ok_or_else(shape)?));
                }
            }
            value => parts.push(format!("{key}={}", plain(value).ok_or_else(shape)?)),
        }
    }
    Ok(format!("[{}]", parts.join(",")))
}

/// The form of an optional [`Text`] in other requests, for `#[serde(with = …)]`.
pub(crate) mod text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use serde_json::Value;

    use super::{FieldValue, InvalidValue, Text};

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::write).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Option::<T>::read(&Value::deserialize(deserializer)?).map_err(|error| match error {
            InvalidValue::Shape { expected } => de::Error::custom(format!("expected {expected}")),
            InvalidValue::Content { message, .. } => de::Error::custom(message),
        })
    }
}
