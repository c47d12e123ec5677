//! Fields of forms, with the error of each beside it.

use askama::Template;
use mooring_api::ErrorBody;

use super::component;
use crate::web::form::Form;
use crate::web::ui;

/// A field for a line or a block of text.
#[derive(Template)]
#[template(path = "ui/field.html")]
pub(crate) struct Field<'a> {
    key: &'a str,
    label: &'a str,
    value: &'a str,
    error: &'a str,
    hint: &'a str,
    placeholder: &'a str,
    kind: &'a str,
    autocomplete: &'a str,
    unit: &'a str,
    /// The lines of a block of text; 1 for a line.
    rows: u32,
    is_required: bool,
    is_focused: bool,
}
component!(Field<'a>);

impl<'a> Field<'a> {
    fn below(&self) -> Below<'a> {
        Below { key: self.key, error: self.error, hint: self.hint }
    }

    /// Marks a field that has to be filled in.
    pub(crate) fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Explains the field below it.
    pub(crate) fn hint(mut self, hint: &'a str) -> Self {
        self.hint = hint;
        self
    }

    /// Shows an example, or the value that an empty field stands for.
    pub(crate) fn placeholder(mut self, text: &'a str) -> Self {
        self.placeholder = text;
        self
    }

    /// Shows a unit behind the field.
    pub(crate) fn unit(mut self, unit: &'a str) -> Self {
        self.unit = unit;
        self
    }

    /// Makes it the field that the dialogue begins with.
    pub(crate) fn focused(mut self) -> Self {
        self.is_focused = true;
        self
    }

    /// Names the kind of value for the browser's own completion.
    pub(crate) fn autocomplete(mut self, kind: &'a str) -> Self {
        self.autocomplete = kind;
        self
    }

    /// Hides what is typed. It is never sent back.
    pub(crate) fn password(mut self, autocomplete: &'a str) -> Self {
        (self.kind, self.autocomplete, self.value) = ("password", autocomplete, "");
        self
    }

    /// Makes it a block of several lines.
    pub(crate) fn lines(mut self, rows: u32) -> Self {
        self.rows = rows;
        self
    }
}

/// Returns a field of a form.
pub(crate) fn field<'a>(form: &'a Form, key: &'a str, label: &'a str) -> Field<'a> {
    Field {
        key,
        label,
        value: form.text(key),
        error: form.error(key),
        hint: "",
        placeholder: "",
        kind: "text",
        autocomplete: "off",
        unit: "",
        rows: 1,
        is_required: false,
        is_focused: false,
    }
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) label: String,
}

impl Choice {
    /// Returns a choice that is shown as its value.
    pub(crate) fn plain(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { label: value.clone(), value }
    }

    /// Returns a choice with a label.
    pub(crate) fn new(value: impl Into<String>, label: impl Into<String>) -> Self {
        Self { value: value.into(), label: label.into() }
    }
}

/// A list to choose from.
#[derive(Template)]
#[template(path = "ui/choices.html")]
pub(crate) struct Choices<'a> {
    form: &'a Form,
    key: &'a str,
    label: &'a str,
    choices: &'a [Choice],
    hint: &'a str,
    /// Several values can be chosen.
    is_multiple: bool,
}
component!(Choices<'a>);

impl<'a> Choices<'a> {
    /// Explains the field below it.
    pub(crate) fn hint(mut self, hint: &'a str) -> Self {
        self.hint = hint;
        self
    }
}

/// Returns a list of which one value is chosen.
pub(crate) fn select<'a>(form: &'a Form, key: &'a str, label: &'a str, choices: &'a [Choice]) -> Choices<'a> {
    Choices { form, key, label, choices, hint: "", is_multiple: false }
}

/// Returns a list of which several values can be chosen.
pub(crate) fn checkboxes<'a>(form: &'a Form, key: &'a str, label: &'a str, choices: &'a [Choice]) -> Choices<'a> {
    Choices { form, key, label, choices, hint: "", is_multiple: true }
}

/// A box to check.
#[derive(Template)]
#[template(
    source = r#"<label class="check"><input type="checkbox" name="{{ key }}" value="true"{% if is_checked %} checked{% endif %}><span>{{ label }}</span></label>"#,
    ext = "html"
)]
pub(crate) struct Checkbox<'a> {
    key: &'a str,
    label: &'a str,
    is_checked: bool,
}
component!(Checkbox<'a>);

/// Returns a box to check.
pub(crate) fn checkbox<'a>(form: &Form, key: &'a str, label: &'a str) -> Checkbox<'a> {
    Checkbox { key, label, is_checked: form.is_checked(key) }
}

/// The line below a field.
#[derive(Template)]
#[template(
    source = r#"<p class="about" id="e-{{ key }}">{% if error.is_empty() %}{{ hint }}{% else %}<span class="error">{{ error }}</span>{% endif %}</p>"#,
    ext = "html"
)]
pub(crate) struct Below<'a> {
    key: &'a str,
    error: &'a str,
    hint: &'a str,
}
component!(Below<'a>);

/// Returns the line below a field: its error, else its hint.
pub(crate) fn below<'a>(form: &'a Form, key: &'a str, hint: &'a (impl AsRef<str> + ?Sized)) -> Below<'a> {
    Below { key, error: form.error(key), hint: hint.as_ref() }
}

/// The refusal of a form as a whole.
#[derive(Template)]
#[template(
    source = r#"{% if let Some(error) = refusal %}<div class="refusal" role="alert"><strong>{{ error.class }}</strong>: {{ error.message }}{% if let Some(hint) = error.hint %}<br><span class="soft">{{ hint }}</span>{% endif %}</div>{% endif %}"#,
    ext = "html"
)]
pub(crate) struct FormProblem<'a> {
    refusal: Option<&'a ErrorBody>,
}
component!(FormProblem<'a>);

/// Returns the refusal of a form as a whole, if there is one.
pub(crate) fn problem(form: &Form) -> FormProblem<'_> {
    FormProblem { refusal: form.refusal() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_shows_its_error_and_keeps_its_text() {
        let mut form = Form::with("name", "\"><script>");
        form.refuse("name", "a name has no `>`");
        let text = field(&form, "name", "Name").required().hint("letters").render().unwrap();
        assert!(
            text.contains("a name has no") && text.contains("aria-invalid") && !text.contains("<script>"),
            "{text}"
        );
    }

    #[test]
    fn choices_keep_what_was_chosen() {
        let form = Form::with("group", "b");
        let choices = ["a", "b"].map(Choice::plain);
        assert!(select(&form, "group", "Group", &choices).render().unwrap().contains("value=\"b\" selected"));
        assert!(checkboxes(&form, "group", "Groups", &choices).render().unwrap().contains("value=\"b\" checked"));
        assert!(checkbox(&form, "group", "Yes").render().unwrap().contains("checked"));
    }
}
