//! The JSON form of a submission, and its schema. The keys come in the order of the table.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::{FIELDS, Submission};

impl Serialize for Submission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in FIELDS {
            if let Some(value) = (field.get)(self) {
                map.serialize_entry(field.key, &value)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Submission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Map::<String, Value>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl PartialSchema for Submission {
    fn schema() -> RefOr<Schema> {
        let mut object = ObjectBuilder::new().schema_type(Type::Object).description(Some("A job to be submitted."));
        for field in FIELDS {
            let mut schema = (field.schema)();
            match &mut schema {
                Schema::Object(object) => {
                    (object.description, object.example) = (Some(field.doc()), Some((field.example)()));
                }
                Schema::Array(array) => {
                    (array.description, array.example) = (Some(field.doc()), Some((field.example)()));
                }
                _ => {}
            }
            object = object.property(field.key, schema);
        }
        object.additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false))).into()
    }
}

impl ToSchema for Submission {
    fn name() -> Cow<'static, str> {
        "Submission".into()
    }
}
