//! The address of a page: the parameters of its path and of its query.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::problem::Problem;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// The address of a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Address {
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

impl Address {
    /// Returns the parameter `id` of the path; empty without one.
    pub(crate) fn id(&self) -> &str {
        self.of_path("id")
    }

    /// Returns a parameter of the path; empty without one.
    pub(crate) fn of_path(&self, key: &str) -> &str {
        first(&self.path, key).unwrap_or_default()
    }

    /// Returns a parameter of the query; empty without one.
    pub(crate) fn one(&self, key: &str) -> &str {
        first(&self.query, key).unwrap_or_default()
    }

    /// Returns all values of a parameter of the query.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Parses a parameter of the query; `None` if it is absent or empty.
    pub(crate) fn parse<T>(&self, key: &str) -> ApiResult<Option<T>>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        match self.one(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|error: T::Err| ApiError::invalid(format!("{key}: {error}"))),
        }
    }
}

#[cfg(test)]
impl Address {
    /// Returns the address of a path with one parameter `id`, and a query.
    pub(crate) fn of(id: &str, query: &[(&str, &str)]) -> Self {
        let query = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { path: vec![("id".into(), id.into())], query }
    }
}

fn first<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find_map(|(name, value)| (name == key).then_some(value.as_str()))
}

impl FromRequestParts<Context> for Address {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Problem> {
        let path = match RawPathParams::from_request_parts(parts, context).await {
            Ok(found) => found.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            Err(error) => return Err(ApiError::invalid(error.body_text()).into()),
        };
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Ok(Self { path, query })
    }
}
