//! Secrets in the form that begins with an earlier job. A value that OpCenter does not show has to
//! be typed again; `{secret:NAME}` tells nothing and stays.

use std::collections::BTreeMap;

use mooring_api::Submission;
use mooring_types::secret::references;

use crate::view::masked::{MASK, masked};
use crate::web::form::Form;

/// Puts the mask in place of each value that OpCenter does not show.
pub(super) fn hide(submission: &mut Submission) {
    for (key, value) in &mut submission.env.0 {
        if !is_reference(value) {
            let shown = masked(&BTreeMap::from([(key.clone(), value.clone())]));
            *value = shown.into_values().next().unwrap_or_default();
        }
    }
    for volume in &mut submission.data_volumes {
        let mut shown = volume.redacted();
        for (key, value) in &volume.options {
            if is_reference(value) {
                shown.options.insert(key.clone(), value.clone());
            }
        }
        *volume = shown;
    }
}

/// Notes an error at each field with a value that has to be typed again.
pub(super) fn refuse(form: &mut Form, submission: &Submission) {
    let again = |what: &str| format!("type {what} again, or write `{{secret:NAME}}`: OpCenter does not show it");
    let variables: Vec<&str> =
        submission.env.0.iter().filter(|(_, value)| *value == MASK).map(|(key, _)| key.as_str()).collect();
    if !variables.is_empty() {
        form.refuse("env", again(&format!("the value of {}", variables.join(", "))));
    }
    for volume in &submission.data_volumes {
        if let Some((key, _)) = volume.options.iter().find(|(_, value)| *value == MASK) {
            form.refuse("dataVolumes", again(&format!("`{key}` of {}", volume.mount.display())));
        }
    }
}

/// Returns whether a value is a reference to a secret and nothing else.
fn is_reference(value: &str) -> bool {
    references(value).is_ok_and(|names| matches!(names.as_slice(), [name] if value == format!("{{secret:{name}}}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::web::submit::typed;

    #[test]
    fn what_is_not_shown_is_asked_for_and_references_stay() {
        let mut submission: Submission = serde_json::from_value(json!({
            "env": ["API_KEY=open sesame", "MODE=test", "TOKEN={secret:token}", "PASSWORD=x{secret:token}"],
            "dataVolumes": ["[accessKey={secret:key},secret=sesame]s3://bucket/a:/a", "/data:/data"],
        }))
        .unwrap();
        hide(&mut submission);
        let mut form = typed::write(&submission);
        assert!(!format!("{form:?}").contains("sesame"), "{form:?}");
        assert_eq!(submission.env.0["TOKEN"], "{secret:token}");
        assert_eq!((submission.env.0["MODE"].as_str(), submission.env.0["PASSWORD"].as_str()), ("test", MASK));
        assert_eq!(submission.data_volumes[0].options["accessKey"], "{secret:key}");
        typed::read(&mut form);
        assert!(form.error("env").starts_with("type the value of API_KEY, PASSWORD again"), "{}", form.error("env"));
        assert!(form.error("dataVolumes").starts_with("type `secret` of /a again"), "{}", form.error("dataVolumes"));
    }
}
