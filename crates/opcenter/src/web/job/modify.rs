//! The dialogue that modifies the job: name, tags, policies, limits.
//!
//! Only what was changed in the form is sent. So two people who modify different values of one job
//! at the same time don't undo each other's changes.

use std::collections::BTreeMap;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::JobModifyRequest;
use mooring_store::JobRow;
use mooring_types::duration::{format_duration, parse_duration};
use mooring_types::gateway::WakeOn;
use mooring_types::job::Image;
use mooring_types::policy::CustomTag;

use crate::state::context::Context;
use crate::usecase::{allowed, find_job, modify as usecase};
use crate::web::address::Address;
use crate::web::answer;
use crate::web::form::{Form, Places};
use crate::web::problem::Problem;
use crate::web::ui::{self, Choice};
use crate::web::visitor::Visitor;

/// The fields at which refusals stand.
const PLACES: &Places = &[
    ("name", "name"),
    ("addCustomTags", "tags"),
    ("removeCustomTags", "tags"),
    ("vmPolicy", "vmPolicy"),
    ("migratePolicy", "migratePolicy"),
    ("timeLimit", "timeLimit"),
    ("idle", "idle"),
    ("awakeLimit", "awakeLimit"),
    ("snapshotInterval", "snapshotInterval"),
];

/// The dialogue.
#[derive(Template)]
#[template(path = "job/modify.html")]
struct ModifyDialog {
    job: String,
    form: Form,
    /// The fields with the texts that the form began with.
    before: Vec<(&'static str, String)>,
    wakes: Vec<Choice>,
    is_external: bool,
}

impl ModifyDialog {
    /// Returns the dialogue with a form; `before` has the texts that the form began with.
    fn new(job: &JobRow, form: Form, mut before: Vec<(&'static str, String)>) -> Self {
        let is_external = job.spec.image == Image::External;
        // The rest of an external job belongs to another scheduler.
        before.retain(|(key, _)| !is_external || matches!(*key, "name" | "tags"));
        let wakes = WakeOn::ALL.into_iter().map(|kind| Choice::new(kind.name(), kind.description())).collect();
        Self { job: job.id.to_string(), form, before, wakes, is_external }
    }
}

/// The fields of a job's record, as texts.
fn texts(job: &JobRow) -> Vec<(&'static str, String)> {
    let policy = &job.policy;
    let time = |time: Option<Duration>| time.map(format_duration).unwrap_or_default();
    let tags: Vec<String> = policy.custom_tags.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    vec![
        ("name", job.spec.name.to_string()),
        ("tags", tags.join("\n")),
        ("vmPolicy", policy.vm_policy.to_string()),
        ("migratePolicy", policy.migrate_policy.to_string()),
        ("timeLimit", time(policy.time_limit)),
        ("idle", time(policy.idle.map(|idle| idle.after))),
        ("awakeLimit", time(policy.idle.map(|idle| idle.awake_limit))),
        ("snapshotInterval", time(policy.snapshot_interval)),
        ("wakeOn", policy.wake_on.to_string()),
        ("resumeOnConnect", if policy.resume_on_connect { "true".into() } else { String::new() }),
    ]
}

/// The key of the text that a field began with.
fn before_key(key: &str) -> String {
    format!("before.{key}")
}

/// Returns whether a field of the form has another text than it began with.
fn is_changed(form: &Form, key: &str) -> bool {
    // Browsers send line ends as CR LF.
    let plain = |text: &str| text.replace('\r', "").trim().to_owned();
    plain(form.text(key)) != plain(form.text(&before_key(key)))
}

/// Returns the changes that a form asks for; errors are noted beside its fields.
fn request(form: &mut Form) -> JobModifyRequest {
    let mut request = JobModifyRequest::default();
    if is_changed(form, "name") {
        request.name = form.require("name");
    }
    if is_changed(form, "tags") {
        let wanted = tags(form);
        let before: BTreeMap<String, String> = read_tags(form.text(&before_key("tags"))).unwrap_or_default();
        request.remove_custom_tags = before.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        request.add_custom_tags = wanted.into_iter().filter(|(key, value)| before.get(key) != Some(value)).collect();
    }
    if is_changed(form, "vmPolicy") {
        request.vm_policy = form.require("vmPolicy");
    }
    if is_changed(form, "migratePolicy") {
        request.migrate_policy = form.require("migratePolicy");
    }
    request.time_limit = time(form, "timeLimit");
    request.idle = time(form, "idle");
    request.awake_limit = time(form, "awakeLimit");
    request.snapshot_interval = time(form, "snapshotInterval");
    if is_changed(form, "wakeOn") {
        request.wake_on = form.require("wakeOn");
    }
    if is_changed(form, "resumeOnConnect") {
        request.resume_on_connect = Some(form.is_checked("resumeOnConnect"));
    }
    request
}

fn tags(form: &mut Form) -> BTreeMap<String, String> {
    match read_tags(form.text("tags")) {
        Ok(tags) => tags,
        Err(message) => {
            form.refuse("tags", message);
            BTreeMap::new()
        }
    }
}

/// Reads a tag from each line.
fn read_tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tag = |line: &str| match line.parse::<CustomTag>() {
        Ok(CustomTag { key, value }) => Ok((key, value)),
        Err(error) => Err(format!("`{line}`: {error}")),
    };
    lines.map(tag).collect()
}

/// Returns a changed time; an empty one is none at all.
fn time(form: &mut Form, key: &'static str) -> Option<Duration> {
    if !is_changed(form, key) {
        return None;
    }
    match form.text(key).trim() {
        "" => Some(Duration::ZERO),
        text => match parse_duration(text) {
            Ok(time) => Some(time),
            Err(error) => {
                form.refuse(key, error.to_string());
                None
            }
        },
    }
}

pub(super) async fn dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, &visitor.user, address.id()).await?;
    allowed::modify(&job)?;
    let before = texts(&job);
    let mut form = Form::default();
    before.iter().for_each(|(key, text)| form.set(key, text.clone()));
    answer::part(&ModifyDialog::new(&job, form, before))
}

pub(super) async fn modify(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let request = request(&mut form);
    if form.is_valid() {
        match usecase::modify(&context, &visitor.user, address.id(), request).await {
            Ok(_) => return Ok(answer::done("The job is modified")),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, &visitor.user, address.id()).await?;
    // The form keeps the texts that it began with, also if the record has others now.
    let before = texts(&job).into_iter().map(|(key, _)| (key, form.text(&before_key(key)).to_owned())).collect();
    answer::invalid(&ModifyDialog::new(&job, form, before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    fn form(changes: &[(&str, &str)]) -> Form {
        let mut form = Form::default();
        for (key, text) in texts(&sample::row()) {
            form.set(&before_key(key), text.clone());
            let changed = changes.iter().find(|(changed, _)| *changed == key);
            form.set(key, changed.map_or(text, |(_, text)| (*text).to_owned()));
        }
        form
    }

    #[test]
    fn only_changes_are_sent() {
        assert_eq!(request(&mut form(&[])), JobModifyRequest::default());
        let mut form = form(&[("tags", "kind:exam\r\nproject:b\r\n"), ("timeLimit", ""), ("resumeOnConnect", "true")]);
        let request = request(&mut form);
        assert!(form.is_valid(), "{form:?}");
        let added = [("kind", "exam"), ("project", "b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(request.add_custom_tags, added.into());
        assert_eq!(request.remove_custom_tags, ["old"]);
        assert_eq!(
            (request.time_limit, request.idle, request.resume_on_connect),
            (Some(Duration::ZERO), None, Some(true))
        );
        assert_eq!((request.name, request.vm_policy), (None, None));
    }

    #[test]
    fn errors_stand_beside_their_fields() {
        let mut form = form(&[("name", "a b"), ("tags", "no colon"), ("idle", "soon"), ("vmPolicy", "x")]);
        request(&mut form);
        for key in ["name", "tags", "idle", "vmPolicy"] {
            assert!(!form.error(key).is_empty(), "{key}: {form:?}");
        }
        assert!(form.error("timeLimit").is_empty());
    }

    #[test]
    fn template_renders() {
        let mut form = form(&[("name", sample::MARKUP), ("tags", sample::MARKUP)]);
        request(&mut form);
        let mut row = sample::row();
        let text = ModifyDialog::new(&row, form, texts(&row)).render().unwrap();
        assert!(
            !text.contains(sample::MARKUP) && text.contains("name=\"before.timeLimit\" value=\"2h0m0s\""),
            "{text}"
        );
        row.spec.image = Image::External;
        let text = ModifyDialog::new(&row, Form::default(), texts(&row)).render().unwrap();
        assert!(text.contains("name=\"tags\"") && !text.contains("vmPolicy"), "{text}");
    }
}
