//! The parts that every dialogue has: a button that closes it, and its foot.

use askama::Template;

use super::component;
use crate::web::ui;

/// The button that closes a dialogue.
#[derive(Template)]
#[template(
    source = r#"<button type="button" class="plain" data-close aria-label="Close">{{ ui::icon("close") }}</button>"#,
    ext = "html"
)]
pub(crate) struct Close;
component!(Close);

/// Returns the button that closes a dialogue.
pub(crate) fn close() -> Close {
    Close
}

/// The foot of a dialogue: cancel, and the button that does it.
#[derive(Template)]
#[template(
    source = r#"<footer><button type="button" data-close>Cancel</button><button class="primary{% if is_dangerous %} danger{% endif %}">{{ label }}</button></footer>"#,
    ext = "html"
)]
pub(crate) struct Footer<'a> {
    label: &'a str,
    is_dangerous: bool,
}
component!(Footer<'a>);

impl Footer<'_> {
    /// Marks an action that destroys something.
    pub(crate) fn dangerous(mut self) -> Self {
        self.is_dangerous = true;
        self
    }
}

/// Returns the foot of a dialogue; the label names what its button does.
pub(crate) fn footer(label: &str) -> Footer<'_> {
    Footer { label, is_dangerous: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foot_cancels_or_acts() {
        let text = footer("Destroy").dangerous().render().unwrap();
        assert!(text.contains("data-close") && text.contains("primary danger"), "{text}");
        assert!(close().render().unwrap().contains("aria-label"));
    }
}
