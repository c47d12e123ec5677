//! A submitted form: its texts as they were typed, and the errors beside its fields.
//!
//! A handler reads values with [`Form::parse`] and its kin, which note an error at the field, and
//! calls a use-case only if [`Form::is_valid`]. With errors the same form goes back into its
//! template: everything typed is still there.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use mooring_api::ErrorBody;

use super::problem::Problem;
use crate::audit;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// The fields at which a form shows refusals: the key of the request, and that of the form.
pub(crate) type Places = [(&'static str, &'static str)];

/// A submitted form, or the values that a new one begins with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    values: Vec<(String, String)>,
    errors: BTreeMap<&'static str, String>,
    /// The refusal of the request as a whole.
    refusal: Option<ErrorBody>,
}

impl Form {
    /// Returns a form that begins with one value.
    pub(crate) fn with(key: &str, value: &str) -> Self {
        let mut form = Self::default();
        form.set(key, value);
        form
    }

    /// Adds a value.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.push((key.to_owned(), value.into()));
    }

    /// Sets the only value of a field.
    pub(crate) fn replace(&mut self, key: &str, value: impl Into<String>) {
        self.values.retain(|(name, _)| name != key);
        self.set(key, value);
    }

    /// Removes one value of a field.
    pub(crate) fn remove(&mut self, key: &str, value: &str) {
        self.values.retain(|(name, known)| name != key || known != value);
    }

    /// Returns the text of a field; empty without one.
    pub(crate) fn text(&self, key: &str) -> &str {
        let found = self.values.iter().find(|(name, value)| name == key && !value.is_empty());
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Returns all texts of a field that are not empty.
    pub(crate) fn list<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Returns whether a field has a value among its texts.
    pub(crate) fn has(&self, key: &str, value: &str) -> bool {
        self.values.iter().any(|(name, found)| name == key && found == value)
    }

    /// Returns whether a box is checked.
    pub(crate) fn is_checked(&self, key: &str) -> bool {
        !self.text(key).is_empty()
    }

    /// Parses a field; `None` if it is empty or wrong.
    pub(crate) fn parse<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text(key).trim();
        if text.is_empty() {
            return None;
        }
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let message = error.to_string();
                self.refuse(key, message);
                None
            }
        }
    }

    /// Parses a field that has to have a value.
    pub(crate) fn require<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        if self.text(key).trim().is_empty() {
            self.refuse(key, "fill in this field");
        }
        self.parse(key)
    }

    /// Parses every text of a field.
    pub(crate) fn parse_list<T>(&mut self, key: &'static str) -> Vec<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let mut values = Vec::new();
        let mut wrong = None;
        for text in self.list(key) {
            match text.trim().parse() {
                Ok(value) => values.push(value),
                Err(error) => wrong = Some(format!("`{}`: {error}", text.trim())),
            }
        }
        if let Some(message) = wrong {
            self.refuse(key, message);
        }
        values
    }

    /// Notes an error at a field; the first one stays.
    pub(crate) fn refuse(&mut self, key: &'static str, message: impl Into<String>) {
        self.errors.entry(key).or_insert(message.into());
    }

    /// Notes a refusal of the request as a whole.
    pub(crate) fn refused(&mut self, error: ApiError) {
        audit::refused(&error.0);
        self.refusal = Some(error.0);
    }

    /// Notes a refusal at the field that it is about; without one, of the request as a whole.
    pub(crate) fn refused_in(&mut self, places: &Places, error: ApiError) {
        let place = places.iter().find(|(key, _)| error.0.field.as_deref() == Some(key));
        match place {
            Some((_, key)) => self.refused_at(key, error),
            None => self.refused(error),
        }
    }

    /// Notes a refusal at a field.
    pub(crate) fn refused_at(&mut self, key: &'static str, error: ApiError) {
        audit::refused(&error.0);
        let message = match error.0.hint {
            Some(hint) => format!("{}; {hint}", error.0.message),
            None => error.0.message,
        };
        self.refuse(key, message);
    }

    /// Returns a value that a use-case has checked; a refusal is noted at its field.
    pub(crate) fn checked<T>(&mut self, key: &'static str, checked: ApiResult<T>) -> Option<T> {
        checked.map_err(|error| self.refused_at(key, error)).ok()
    }

    /// Returns whether no error was noted.
    pub(crate) fn is_valid(&self) -> bool {
        self.errors.is_empty() && self.refusal.is_none()
    }

    /// Returns the error of a field; empty without one.
    pub(crate) fn error(&self, key: &str) -> &str {
        self.errors.get(key).map(String::as_str).unwrap_or_default()
    }

    /// Returns the refusal of the request as a whole.
    pub(crate) fn refusal(&self) -> Option<&ErrorBody> {
        self.refusal.as_ref()
    }
}

impl FromRequest<Context> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_form = kind.starts_with("application/x-www-form-urlencoded");
        let body =
            bytes::Bytes::from_request(request, context).await.map_err(|error| ApiError::invalid(error.body_text()))?;
        if !is_form && !body.is_empty() {
            return Err(ApiError::invalid("the body is not a form")
                .hint("send application/x-www-form-urlencoded")
                .into());
        }
        Ok(Self { values: form_urlencoded::parse(&body).into_owned().collect(), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::{Name, Port};

    use super::*;
    use crate::error::At;

    #[test]
    fn refusal_stands_at_the_field_that_it_is_about() {
        const PLACES: &Places = &[("portRange", "port_range")];
        let refused = |error: ApiError| {
            let mut form = Form::with("port_range", "1:2");
            form.refused_in(PLACES, error);
            form
        };
        let form = refused(ApiError::invalid("no range").hint("write 1:2").at("portRange"));
        assert_eq!((form.error("port_range"), form.refusal()), ("no range; write 1:2", None));
        for error in [ApiError::invalid("no"), ApiError::invalid("no").at("another")] {
            let form = refused(error);
            assert!(form.error("port_range").is_empty() && form.refusal().is_some(), "{form:?}");
        }
    }

    #[test]
    fn errors_stand_beside_fields_and_texts_stay() {
        let mut form = Form::with("name", "no blanks please");
        form.set("port", "8080");
        form.set("port", "99999");
        assert_eq!(form.require::<Name>("name"), None);
        assert_eq!(form.require::<Name>("other"), None);
        assert_eq!(form.parse_list::<Port>("port").len(), 1);
        assert!(!form.is_valid());
        assert!(form.error("port").contains("99999"), "{form:?}");
        assert!(!form.error("name").is_empty() && !form.error("other").is_empty());
        assert_eq!(form.text("name"), "no blanks please");
    }
}
