//! Icons: paths on a grid of 24 by 24, drawn by strokes.

use std::fmt;

use super::component;

/// Names and paths.
const ICONS: &[(&str, &str)] = &[
    ("alert", "M12 4 2.5 20h19L12 4zM12 10v4M12 17v.5"),
    ("audit", "M6 3h9l4 4v14H6zM9 12h7M9 16h7M9 8h3"),
    ("check", "M5 12.5 10 17.5 19 7"),
    ("chevron", "M9 5l7 7-7 7"),
    ("close", "M6 6l12 12M18 6 6 18"),
    ("copy", "M9 9h11v11H9zM5 15H4V4h11v1"),
    ("download", "M12 4v11M7 11l5 5 5-5M4 20h16"),
    ("edit", "M4 20h4L19 9l-4-4L4 16zM13 7l4 4"),
    ("gateway", "M4 12h5M15 12h5M12 3a9 9 0 1 0 .01 0M9 12a3 3 0 1 0 6 0 3 3 0 1 0-6 0"),
    ("home", "M4 11 12 4l8 7v9h-5v-6H9v6H4z"),
    ("host", "M4 4h16v7H4zM4 13h16v7H4zM7.5 7.5h.01M7.5 16.5h.01"),
    ("jobs", "M4 6h16M4 12h16M4 18h10"),
    ("key", "M14.5 9.5a5 5 0 1 0-4.6 5H12v2.5h2.5V20H19v-3.5l-4.6-4.6z"),
    ("link", "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6"),
    ("menu", "M4 7h16M4 12h16M4 17h16"),
    ("migrate", "M4 8h13M13 4l4 4-4 4M20 16H7M11 12l-4 4 4 4"),
    ("mooring", "M12 8v12M5 13c0 4 3 7 7 7s7-3 7-7M8.5 11.5h7M12 3a2.5 2.5 0 1 0 .01 0"),
    ("more", "M5 12h.01M12 12h.01M19 12h.01"),
    ("pause", "M8 5v14M16 5v14"),
    ("play", "M7 4.5v15l12-7.5z"),
    ("plus", "M12 5v14M5 12h14"),
    ("refresh", "M20 12a8 8 0 1 1-2.4-5.7L20 8.5M20 4v4.5h-4.5"),
    ("rerun", "M4 12a8 8 0 1 0 2.4-5.7L4 8.5M4 4v4.5h4.5"),
    ("search", "M11 4a7 7 0 1 0 .01 0M16 16l4.5 4.5"),
    (
        "settings",
        "M12 9a3 3 0 1 0 .01 0M12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.2 2.2M16.2 16.2l2.2 2.2M18.4 5.6l-2.2 2.2M7.8 16.2l-2.2 2.2",
    ),
    ("shield", "M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6z"),
    ("snapshot", "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 .01 0"),
    ("stop", "M6 6h12v12H6z"),
    ("template", "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM16.5 13v7M13 16.5h7"),
    ("theme", "M12 3a9 9 0 1 0 9 9c-1.5 1.5-6 2-8-1s-1.5-6.5-1-8z"),
    ("trash", "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5"),
    ("user", "M12 4a4 4 0 1 0 .01 0M4 21c0-4.5 3.5-7 8-7s8 2.5 8 7"),
    (
        "users",
        "M9 5a3.5 3.5 0 1 0 .01 0M2.5 20c0-4 3-6 6.5-6s6.5 2 6.5 6M16 5.5a3.5 3.5 0 0 1 0 6.5M18 14.5c2.5.8 3.5 2.8 3.5 5.5",
    ),
    (
        "volume",
        "M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zM4 6v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3",
    ),
];

/// An icon.
pub(crate) struct Icon(&'static str);
component!(Icon);

impl fmt::Display for Icon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path) = self;
        write!(f, r#"<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d="{path}"/></svg>"#)
    }
}

/// Returns an icon by its name; a name that is not on the list shows nothing, and fails a test.
pub(crate) fn icon(name: &str) -> Icon {
    let found = ICONS.iter().find(|(known, _)| *known == name);
    debug_assert!(found.is_some(), "no icon `{name}`");
    Icon(found.map_or("", |(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icons_are_sorted_and_drawn() {
        assert!(ICONS.is_sorted_by_key(|(name, _)| *name));
        for (name, path) in ICONS {
            assert!(icon(name).to_string().contains(path));
        }
    }
}
