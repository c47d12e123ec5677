//! Moments and durations. The page has the moment; the browser's script shows it in local time, or
//! the time that has passed, and goes on counting.

use askama::Template;
use mooring_types::Timestamp;

use super::component;

/// The way in which a moment is shown.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Moment,
    Ago,
    Since,
}

impl Shown {
    fn name(self) -> &'static str {
        match self {
            Self::Moment => "moment",
            Self::Ago => "ago",
            Self::Since => "since",
        }
    }
}

/// A moment.
#[derive(Template)]
#[template(
    source = r#"<time datetime="{{ moment }}" data-time="{{ shown.name() }}">{{ self.text() }}</time>"#,
    ext = "html"
)]
pub(crate) struct Time {
    moment: Timestamp,
    shown: Shown,
}
component!(Time);

impl Time {
    /// Returns the moment for browsers without the script.
    fn text(&self) -> String {
        self.moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }
}

/// Returns a moment, shown in the visitor's own time zone.
pub(crate) fn time(moment: &Timestamp) -> Time {
    Time { moment: *moment, shown: Shown::Moment }
}

/// Returns a moment, shown as `5 min ago`.
pub(crate) fn ago(moment: &Timestamp) -> Time {
    Time { moment: *moment, shown: Shown::Ago }
}

/// Returns the start of something that goes on, shown as the time that has passed: `3m5s`.
pub(crate) fn since(moment: &Timestamp) -> Time {
    Time { moment: *moment, shown: Shown::Since }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_is_there_for_people_and_scripts() {
        let moment: Timestamp = "2026-03-01T09:00:00Z".parse().unwrap();
        let text = since(&moment).render().unwrap();
        assert_eq!(text, r#"<time datetime="2026-03-01T09:00:00Z" data-time="since">2026-03-01 09:00:00 UTC</time>"#);
        assert!(
            ago(&moment).render().unwrap().contains("\"ago\"") && time(&moment).render().unwrap().contains("moment")
        );
    }
}
