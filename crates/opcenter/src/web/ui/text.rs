//! Texts that can be copied, and empty lists.

use askama::Template;

use super::component;
use crate::web::ui;

/// A text with a button that copies it.
#[derive(Template)]
#[template(
    source = r#"<span class="copyable"><code>{{ text }}</code><button type="button" class="plain" data-copy="{{ text }}" aria-label="Copy {{ what }}" title="Copy">{{ ui::icon("copy") }}</button></span>"#,
    ext = "html"
)]
pub(crate) struct Copyable<'a> {
    text: &'a str,
    what: &'a str,
}
component!(Copyable<'a>);

/// Returns a text with a button that copies it; `what` names it for those who do not see it.
pub(crate) fn copyable<'a>(text: &'a (impl AsRef<str> + ?Sized), what: &'a str) -> Copyable<'a> {
    Copyable { text: text.as_ref(), what }
}

/// The place of a list that is empty.
#[derive(Template)]
#[template(
    source = r#"<div class="empty">{{ ui::icon(picture) }}<p><strong>{{ title }}</strong></p><p class="soft">{{ text }}</p></div>"#,
    ext = "html"
)]
pub(crate) struct Empty<'a> {
    picture: &'a str,
    title: &'a str,
    text: &'a str,
}
component!(Empty<'a>);

/// Returns the place of a list that is empty: what would be here, and how it comes here.
pub(crate) fn empty<'a>(picture: &'a str, title: &'a str, text: &'a str) -> Empty<'a> {
    Empty { picture, title, text }
}

/// The attributes of a button that is not possible.
#[derive(Template)]
#[template(
    source = r#"{% if !reason.is_empty() %} aria-disabled="true" title="{{ reason }}"{% endif %}"#,
    ext = "html"
)]
pub(crate) struct Refused<'a> {
    reason: &'a str,
}
component!(Refused<'a>);

/// Returns the attributes of a button that is refused for a reason; none without a reason.
pub(crate) fn refused(reason: &str) -> Refused<'_> {
    Refused { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_text_is_the_text() {
        let text = copyable("a\"<b>", "the name").render().unwrap();
        assert!(!text.contains("<b>") && text.contains("Copy the name"), "{text}");
        assert!(empty("jobs", "No jobs", "Submit one.").render().unwrap().contains("No jobs"));
        assert_eq!(refused("").render().unwrap(), "");
        assert!(refused("a\"<b>").render().unwrap().starts_with(" aria-disabled=\"true\" title=\"a&#34;"));
    }
}
