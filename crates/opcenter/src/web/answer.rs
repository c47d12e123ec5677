//! The answer to an action: what the open page does next.
//!
//! The script of the page obeys headers. An action that is done closes the dialogue and shows a
//! message, or opens another page. A form with errors comes back as the dialogue's new content.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use mooring_api::ErrorBody;
use serde_json::{Value, json};

use super::problem::Problem;

const TRIGGER: HeaderName = HeaderName::from_static("hx-trigger");
const REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");
const RESWAP: HeaderName = HeaderName::from_static("hx-reswap");

/// Closes the dialogue, if one is open, and shows a message.
pub(crate) fn done(message: &str) -> Response {
    trigger(StatusCode::NO_CONTENT, &json!({ "mooring:done": { "message": message } }))
}

/// Opens another page, which shows a message.
pub(crate) fn go(path: &str, message: &str) -> Response {
    let mut response = trigger(StatusCode::NO_CONTENT, &json!({ "mooring:go": { "path": path, "message": message } }));
    if let Ok(path) = HeaderValue::from_str(path) {
        response.headers_mut().insert(REDIRECT, path);
    }
    response
}

/// Returns a part of a page, or a dialogue.
pub(crate) fn part(template: &impl Template) -> Result<Response, Problem> {
    Ok(Html(template.render()?).into_response())
}

/// Returns a dialogue that replaces the open one with all that was typed in it. A merge would keep
/// what stands in its fields.
pub(crate) fn anew(template: &impl Template) -> Result<Response, Problem> {
    let mut response = part(template)?;
    response.headers_mut().insert(RESWAP, HeaderValue::from_static("innerHTML"));
    Ok(response)
}

/// Returns the dialogue again, with the errors of its form.
pub(crate) fn invalid(template: &impl Template) -> Result<Response, Problem> {
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(template.render()?)).into_response())
}

/// Shows the refusal of an action over the page.
pub(crate) fn refused(error: &ErrorBody) -> Response {
    let status = StatusCode::from_u16(error.error_code().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let told = json!({ "class": error.class, "message": error.message, "hint": error.hint });
    trigger(status, &json!({ "mooring:refused": told }))
}

/// Raises events on the page without changing it.
pub(super) fn trigger(status: StatusCode, events: &Value) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(RESWAP, HeaderValue::from_static("none"));
    if let Ok(events) = HeaderValue::from_str(&ascii(&events.to_string())) {
        response.headers_mut().insert(TRIGGER, events);
    }
    response
}

/// Writes the characters of a JSON text that a header can't hold as escapes.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && !character.is_ascii_control() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            text.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_script_fit_into_a_header() {
        let response = done("job `é 🚀`\nis suspended");
        let header = response.headers()["hx-trigger"].to_str().unwrap();
        let read: Value = serde_json::from_str(header).unwrap();
        assert_eq!(read["mooring:done"]["message"], "job `é 🚀`\nis suspended");
    }

    #[test]
    fn refusal_keeps_the_page() {
        let response = refused(&ErrorBody::new(mooring_api::ErrorCode::NotFound, "no job x"));
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["hx-reswap"], "none");
        assert!(response.headers()["hx-trigger"].to_str().unwrap().contains("no job x"));
    }
}
