//! The layout of the form. The fields are those of [`FIELDS`]; their labels, hints and choices come
//! from their keys, docs and flags. The tables here say only where a field stands, and what it is
//! called where its key is no word.

use mooring_api::Submission;
use mooring_api::submission::{FIELDS, Field, Section};
use mooring_types::policy::VmPolicy;

use super::existing::Existing;
use super::typed;
use crate::web::form::Form;
use crate::web::ui::Choice;

/// A section of the form, in the order of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Content,
    Instance,
    Volumes,
    Network,
    Environment,
    Policies,
}

impl Place {
    const ALL: [Self; 6] =
        [Self::Content, Self::Instance, Self::Volumes, Self::Network, Self::Environment, Self::Policies];

    /// Returns where a field stands. A field that is not listed here stands by its section of the
    /// help.
    fn of(field: &Field) -> Self {
        match field.key {
            "cpu" | "cpuMax" | "memGB" | "memGBMax" | "host" | "vmPolicy" => Self::Instance,
            "dataVolumes" => Self::Volumes,
            "gateway" | "publish" | "targetPorts" | "securityGroups" | "egress" => Self::Network,
            "env" => Self::Environment,
            _ => match field.section {
                Section::Job => Self::Content,
                Section::Automatic => Self::Policies,
            },
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Content => "Job Content",
            Self::Instance => "Instance Preferences",
            Self::Volumes => "Storage Volumes",
            Self::Network => "Network",
            Self::Environment => "Environment Variables",
            Self::Policies => "Policies",
        }
    }

    fn icon(self) -> &'static str {
        match self {
            Self::Content => "jobs",
            Self::Instance => "host",
            Self::Volumes => "volume",
            Self::Network => "gateway",
            Self::Environment => "key",
            Self::Policies => "settings",
        }
    }

    /// Returns whether the section belongs to the advanced ones, which can be closed.
    fn is_advanced(self) -> bool {
        matches!(self, Self::Network | Self::Environment | Self::Policies)
    }
}

/// The control of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    Line,
    /// A line with values to choose from that takes any other, too.
    Suggested(&'static [&'static str]),
    /// A number and, with this key, the number up to which it may grow.
    Size {
        end: &'static str,
        unit: &'static str,
    },
    Switch,
    /// A block of text with this number of lines.
    Block(u32),
    /// A line for each item.
    Rows,
    /// One of these values.
    One(Vec<Choice>),
    /// Several of these values.
    Several(Vec<Choice>),
}

/// A piece of a hint: text, or what one types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct Piece {
    pub(in crate::web) text: String,
    pub(in crate::web) is_code: bool,
}

/// A field of the form.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) key: &'static str,
    pub(super) label: String,
    pub(super) hint: Vec<Piece>,
    pub(super) placeholder: String,
    pub(super) control: Control,
}

impl Input {
    /// Returns whether the field takes a whole row of the form.
    pub(super) fn is_wide(&self) -> bool {
        matches!(self.control, Control::Rows | Control::Block(_) | Control::Several(_))
    }

    /// Returns the class of the field.
    pub(super) fn class(&self) -> &'static str {
        match (self.key, self.is_wide()) {
            ("command", _) => "wide run-command",
            ("script", _) => "wide run-script",
            (_, true) => "wide",
            (_, false) => "",
        }
    }
}

/// A section of the form.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) icon: &'static str,
    pub(super) is_advanced: bool,
    /// The section is the first of the advanced ones.
    pub(super) begins_advanced: bool,
    /// The section has a value or an error, or is one that most jobs need.
    pub(super) is_open: bool,
    pub(super) inputs: Vec<Input>,
}

/// Returns the sections of the form.
pub(super) fn groups(form: &Form, existing: &Existing) -> Vec<Group> {
    let group = |place: Place| {
        let fields = FIELDS.iter().filter(|field| Place::of(field) == place);
        let is_used = |field: &Field| !form.text(field.key).is_empty() || !form.error(field.key).is_empty();
        Group {
            title: place.title(),
            icon: place.icon(),
            is_advanced: place.is_advanced(),
            begins_advanced: place == Place::Network,
            is_open: place == Place::Network || fields.clone().any(is_used),
            inputs: fields
                .filter(|field| !typed::is_end(field.key))
                .map(|field| input(field, form, existing))
                .collect(),
        }
    };
    Place::ALL.map(group).into()
}

/// Returns the fields that have a place of their own, for their hints and errors.
pub(super) fn inputs() -> Vec<Input> {
    let (form, existing) = (Form::default(), Existing::default());
    FIELDS.iter().filter(|field| !typed::is_end(field.key)).map(|field| input(field, &form, &existing)).collect()
}

fn input(field: &Field, form: &Form, existing: &Existing) -> Input {
    let doc = field.doc();
    let (hint, default) = match doc.split_once(" [default: ") {
        Some((hint, default)) => (hint, default.trim_end_matches(['.', ']'])),
        None => (doc.trim_end_matches('.'), ""),
    };
    let hint = hint.trim_end_matches("; repeatable");
    let control = control(field, default, form, existing);
    let placeholder = match &control {
        Control::Rows => format!("like {}", example(field)),
        // `from the template, else 2`
        Control::Size { .. } => default.rsplit(' ').next().unwrap_or_default().to_owned(),
        Control::Suggested(_) if field.key == "vmPolicy" => VmPolicy::default().to_string(),
        _ => default.to_owned(),
    };
    Input { key: field.key, label: label(field.key), hint: pieces(hint), placeholder, control }
}

fn control(field: &Field, default: &str, form: &Form, existing: &Existing) -> Control {
    let value = field.flag().and_then(|flag| flag.value);
    match field.key {
        "cpu" => return Control::Size { end: "cpuMax", unit: "cores" },
        "memGB" => return Control::Size { end: "memGBMax", unit: "GB" },
        "command" => return Control::Block(2),
        "script" => return Control::Block(8),
        "vmPolicy" => return Control::Suggested(&["[spotFirst=true]", "[spotOnly=true]", "[onDemand=true]"]),
        "migratePolicy" => {
            return Control::Suggested(&[
                "[cpu.upperBoundRatio=90]",
                "[mem.upperBoundRatio=90]",
                "[stepAuto=true]",
                "[evadeOOM=true,cpu.disable=true]",
            ]);
        }
        _ => {}
    }
    if let Some(choices) = existing.choices(field.key) {
        let choices = with_chosen(choices, form, field.key);
        if field.is_list {
            return Control::Several(choices);
        }
        return Control::One(with_none(choices, if default.is_empty() { "none" } else { default }));
    }
    match value {
        None => Control::Switch,
        Some(names) if names.contains('|') => {
            let choices = names.split('|').map(Choice::plain).collect();
            Control::One(with_none(choices, &format!("{default} (default)")))
        }
        Some(_) if field.is_list => Control::Rows,
        Some(_) => Control::Line,
    }
}

/// Returns the choices with those that the form has already, even if they are gone.
fn with_chosen(choices: &[Choice], form: &Form, key: &str) -> Vec<Choice> {
    let mut all = choices.to_vec();
    for chosen in form.list(key) {
        if !all.iter().any(|choice| choice.value == chosen) {
            all.push(Choice::new(chosen, format!("{chosen} (not there any more)")));
        }
    }
    all
}

fn with_none(choices: Vec<Choice>, label: &str) -> Vec<Choice> {
    [Choice::new("", label)].into_iter().chain(choices).collect()
}

/// Returns the first item of a list's example, as a flag takes it.
fn example(field: &Field) -> String {
    typed::texts(field.key, &field.example()).into_iter().next().unwrap_or_default()
}

/// Returns the label of a field.
pub(super) fn label(key: &str) -> String {
    match key {
        "cpu" => return "Cores".into(),
        "memGB" => return "Memory".into(),
        "env" => return "Variables".into(),
        "vmPolicy" => return "VM policy".into(),
        "workingDir" => return "Working directory".into(),
        "publish" => return "Publish port".into(),
        _ => {}
    }
    let mut label = String::new();
    for character in key.chars() {
        if character.is_uppercase() {
            label.push(' ');
        }
        let is_first = label.is_empty();
        label.push(if is_first { character.to_ascii_uppercase() } else { character.to_ascii_lowercase() });
    }
    label
}

/// Splits a text at its backticks.
pub(in crate::web) fn pieces(text: &str) -> Vec<Piece> {
    let parts = text.split('`').enumerate();
    let pieces = parts.map(|(index, part)| Piece { text: part.to_owned(), is_code: index % 2 == 1 });
    pieces.filter(|piece| !piece.text.is_empty()).collect()
}

/// Returns what a submission has, by the labels of its fields.
pub(in crate::web) fn facts(submission: &Submission) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(values)) = serde_json::to_value(submission) else { return Vec::new() };
    let fields = FIELDS.iter().filter_map(|field| Some((field.key, values.get(field.key)?)));
    fields.map(|(key, value)| (label(key), typed::texts(key, value).join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_one_section() {
        let groups = groups(&Form::default(), &Existing::default());
        let mut keys: Vec<&str> = Vec::new();
        for input in groups.iter().flat_map(|group| &group.inputs) {
            keys.push(input.key);
            if let Control::Size { end, .. } = input.control {
                keys.push(end);
            }
        }
        assert_eq!(keys.len(), FIELDS.len());
        for field in FIELDS {
            assert!(keys.contains(&field.key), "{}", field.key);
        }
    }

    #[test]
    fn controls_fit_fields() {
        let (form, existing) = (Form::with("gateway", "old"), Existing::default());
        let of = |key| input(Field::find(key).unwrap(), &form, &existing);
        assert_eq!(of("withRoot").control, Control::Switch);
        assert_eq!(of("publish").control, Control::Rows);
        assert_eq!(of("publish").placeholder, "like 8080:80");
        assert_eq!((of("name").placeholder.as_str(), of("name").label.as_str()), ("generated", "Name"));
        let Control::One(modes) = of("dumpMode").control else { panic!() };
        assert_eq!(modes[1..], ["incremental", "full"].map(Choice::plain));
        let Control::One(gateways) = of("gateway").control else { panic!() };
        assert!(gateways.iter().any(|choice| choice.value == "old"), "{gateways:?}");
        assert_eq!((label("snapshotInterval"), label("env")), ("Snapshot interval".into(), "Variables".into()));
    }
}
