//! The tab of events: what happened to the job, newest first, with a filter.

use askama::Template;
use mooring_api::view::EventView;
use mooring_types::{Event, JobId};

use crate::web::ui::{self, Tone};

/// The most events that the tab shows.
const SHOWN_MAX: usize = 500;

/// The groups of events that the tab can be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    All,
    Status,
    Migrations,
    Changes,
}

impl Group {
    const ALL: [Self; 4] = [Self::All, Self::Status, Self::Migrations, Self::Changes];

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Status => "status",
            Self::Migrations => "migrations",
            Self::Changes => "changes",
        }
    }

    /// Returns the group of that name, or all.
    pub(super) fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|group| group.name() == name).unwrap_or(Self::All)
    }

    fn has(self, event: &Event) -> bool {
        let own = match event {
            Event::StatusChanged { .. }
            | Event::OutOfMemory { .. }
            | Event::ShortOfDisk { .. }
            | Event::PortTaken { .. }
            | Event::StaysSuspended { .. } => Self::Status,
            Event::MigrationStarted { .. }
            | Event::PhaseEnded { .. }
            | Event::MigrationFailed { .. }
            | Event::DestinationLost { .. }
            | Event::FoundAgain { .. }
            | Event::Migrated { .. }
            | Event::Suspended { .. }
            | Event::SnapshotTaken { .. }
            | Event::Resumed { .. }
            | Event::Recovered { .. }
            | Event::RestoredWithDifferences { .. }
            | Event::ResizePostponed { .. } => Self::Migrations,
            Event::Rerun { .. } | Event::Modified { .. } | Event::EndpointsChanged { .. } | Event::Note { .. } => {
                Self::Changes
            }
        };
        self == Self::All || self == own
    }
}

/// The tab.
#[derive(Template)]
#[template(path = "job/events.html")]
pub(super) struct EventsTab {
    job: JobId,
    group: Group,
    find: String,
    events: Vec<EventView>,
    /// The number of events that match and are not shown.
    left_out: usize,
}

impl EventsTab {
    /// Returns the tab with the events of a group whose sentence contains a text.
    pub(super) fn new(job: JobId, all: Vec<EventView>, group: Group, find: &str) -> Self {
        let words = find.to_lowercase();
        let matches = |view: &EventView| {
            group.has(&view.event) && (words.is_empty() || view.event.to_string().to_lowercase().contains(&words))
        };
        let mut events: Vec<EventView> = all.into_iter().rev().filter(matches).collect();
        let left_out = events.len().saturating_sub(SHOWN_MAX);
        events.truncate(SHOWN_MAX);
        Self { job, group, find: find.to_owned(), events, left_out }
    }

    /// Returns the tone of an event.
    fn tone_of(event: &Event) -> Tone {
        match event {
            Event::StatusChanged { status, .. } => ui::tone_of(*status),
            Event::MigrationFailed { .. }
            | Event::DestinationLost { .. }
            | Event::FoundAgain { .. }
            | Event::OutOfMemory { .. }
            | Event::RestoredWithDifferences { .. }
            | Event::ShortOfDisk { is_over: false, .. }
            | Event::PortTaken { .. }
            | Event::StaysSuspended { .. } => Tone::Bad,
            Event::Migrated { .. }
            | Event::Suspended { .. }
            | Event::SnapshotTaken { .. }
            | Event::Resumed { .. }
            | Event::Recovered { .. }
            | Event::ShortOfDisk { is_over: true, .. } => Tone::Good,
            Event::MigrationStarted { .. } => Tone::Busy,
            _ => Tone::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    fn events() -> Vec<EventView> {
        let changes = vec![sample::MARKUP.to_owned()];
        [Event::Modified { user: "ada".into(), changes }, Event::Resumed { to: "host-2".into() }]
            .map(|event| EventView { time: sample::moment(), event })
            .into()
    }

    #[test]
    fn template_renders() {
        let tab = |group, find| EventsTab::new(sample::job().id, events(), group, find);
        let text = tab(Group::All, sample::MARKUP).render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("modified by ada"), "{text}");
        let text = tab(Group::All, "nothing of that kind").render().unwrap();
        assert!(text.contains("No events"), "{text}");
    }

    #[test]
    fn filter_takes_group_and_text() {
        let count = |group, find| EventsTab::new(sample::job().id, events(), Group::of(group), find).events.len();
        assert_eq!((count("", ""), count("migrations", ""), count("status", ""), count("", "HOST-2")), (2, 1, 0, 1));
        let many = vec![events().remove(1); SHOWN_MAX + 3];
        assert_eq!(EventsTab::new(sample::job().id, many, Group::All, "").left_out, 3);
    }
}
