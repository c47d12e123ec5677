//! Logos of templates: drawings of our own, which show what a template is for. A template without
//! one has its first letter.

use std::fmt;

/// Names of templates, or parts of them, and drawings on a grid of 48 by 48. Strokes have the
/// class of their colour.
const DRAWINGS: &[(&str, &str)] = &[
    ("code", r#"<path class="one" d="M18 16 9 24l9 8M30 16l9 8-9 8"/><path class="two" d="M27 12 21 36"/>"#),
    (
        "jupyter",
        r#"<rect class="one" x="10" y="8" width="28" height="32" rx="4"/><path class="one" d="M10 18h28M10 29h28"/><path class="two" d="M15 13h3M22 13h11M15 23.5h3M22 23.5h7M15 34.5h3M22 34.5h11"/>"#,
    ),
    (
        "rstudio",
        r#"<path class="one" d="M9 8v32h31"/><path class="two" d="M14 33c6 0 6-18 12-18s5 14 12 14"/><path class="two" d="M16 20h.01M33 14h.01M36 21h.01M20 27h.01"/>"#,
    ),
    (
        "shiny",
        r#"<path class="one" d="M9 15h30M9 24h30M9 33h30"/><circle class="two" cx="29" cy="15" r="4"/><circle class="two" cx="17" cy="24" r="4"/><circle class="two" cx="33" cy="33" r="4"/>"#,
    ),
    (
        "ssh",
        r#"<rect class="one" x="7" y="10" width="34" height="28" rx="4"/><path class="two" d="M14 19l6 5-6 5M24 30h9"/>"#,
    ),
    (
        "train",
        r#"<path class="one" d="M9 8v32h31"/><path class="two" d="M14 13c3 16 8 20 24 20"/><path class="one" d="M14 20c4 12 9 15 24 15" opacity=".5"/>"#,
    ),
    (
        "web",
        r#"<rect class="one" x="7" y="9" width="34" height="30" rx="4"/><path class="one" d="M7 18h34"/><path class="two" d="M12 13.5h.01M17 13.5h.01M14 26h20M14 32h12"/>"#,
    ),
];
/// The number of colours of letters in the style sheet.
const COLOURS: u32 = 5;

/// A logo.
#[derive(Debug, Clone)]
pub(super) enum Logo {
    Drawn(&'static str),
    Letter { letter: char, colour: u32 },
}

impl askama::filters::HtmlSafe for Logo {}

impl fmt::Display for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn(drawing) => {
                write!(f, r#"<svg class="logo" viewBox="0 0 48 48" aria-hidden="true">{drawing}</svg>"#)
            }
            // The letters of a name are letters and digits: there is nothing to escape.
            Self::Letter { letter, colour } => {
                write!(f, r#"<span class="logo letter colour-{colour}" aria-hidden="true">{letter}</span>"#)
            }
        }
    }
}

/// Returns the logo of a template with that name.
pub(super) fn logo(name: &str) -> Logo {
    let drawn = DRAWINGS.iter().find(|(part, _)| name.contains(part));
    match drawn {
        Some((_, drawing)) => Logo::Drawn(drawing),
        None => {
            let letter = name.chars().find(char::is_ascii_alphanumeric).unwrap_or('T').to_ascii_uppercase();
            let colour = name.bytes().map(u32::from).sum::<u32>() % COLOURS;
            Logo::Letter { letter, colour }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_a_logo() {
        for name in ["jupyter", "rstudio", "shiny", "code-server", "ssh"] {
            assert!(matches!(logo(name), Logo::Drawn(_)), "{name}");
        }
        let letter = logo("_blast").to_string();
        assert!(letter.contains(">B</span>"), "{letter}");
        assert_eq!(logo("...").to_string().matches('T').count(), 1);
    }
}
