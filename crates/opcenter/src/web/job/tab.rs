//! The tabs of the page.

use std::fmt;

use super::connections::ConnectionsTab;
use super::events::EventsTab;
use super::instances::InstancesTab;
use super::metrics::MetricsTab;
use super::migrations::MigrationsTab;
use super::output::{AttachmentsTab, OutputTab};
use super::settings::{SettingsTab, VolumesTab};

/// A tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Output,
    Connections,
    Migrations,
    Events,
    Instances,
    Volumes,
    Settings,
    Attachments,
    Metrics,
}

impl Tab {
    const ALL: [Self; 9] = [
        Self::Output,
        Self::Connections,
        Self::Migrations,
        Self::Events,
        Self::Instances,
        Self::Volumes,
        Self::Settings,
        Self::Attachments,
        Self::Metrics,
    ];

    /// Returns the tabs for a visitor. The job's files are those of its user alone. OpCenter has
    /// neither files nor measurements of an external job.
    pub(super) fn of_visitor(is_own: bool, is_external: bool) -> Vec<Self> {
        let has_files = is_own && !is_external;
        let is_there = |tab: &Self| match tab {
            Self::Output | Self::Attachments => has_files,
            Self::Metrics | Self::Instances | Self::Volumes => !is_external,
            Self::Connections | Self::Migrations | Self::Events | Self::Settings => true,
        };
        Self::ALL.into_iter().filter(is_there).collect()
    }

    /// Returns the name in the address.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Connections => "connections",
            Self::Migrations => "migrations",
            Self::Events => "events",
            Self::Instances => "instances",
            Self::Volumes => "volumes",
            Self::Settings => "settings",
            Self::Attachments => "attachments",
            Self::Metrics => "metrics",
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Output => "Output",
            Self::Connections => "Connections",
            Self::Migrations => "Migrations",
            Self::Events => "Events",
            Self::Instances => "Instances",
            Self::Volumes => "Volumes",
            Self::Settings => "Settings",
            Self::Attachments => "Attachments",
            Self::Metrics => "Metrics",
        }
    }
}

/// The content of the chosen tab.
pub(super) enum Content {
    Output(OutputTab),
    Connections(ConnectionsTab),
    Migrations(MigrationsTab),
    Events(EventsTab),
    Instances(InstancesTab),
    Volumes(VolumesTab),
    Settings(SettingsTab),
    Attachments(AttachmentsTab),
    Metrics(MetricsTab),
}

impl fmt::Display for Content {
    /// Writes HTML: each tab's template has escaped what it shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(tab) => tab.fmt(f),
            Self::Connections(tab) => tab.fmt(f),
            Self::Migrations(tab) => tab.fmt(f),
            Self::Events(tab) => tab.fmt(f),
            Self::Instances(tab) => tab.fmt(f),
            Self::Volumes(tab) => tab.fmt(f),
            Self::Settings(tab) => tab.fmt(f),
            Self::Attachments(tab) => tab.fmt(f),
            Self::Metrics(tab) => tab.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mates_are_not_offered_files() {
        assert_eq!(Tab::of_visitor(true, false), Tab::ALL);
        let of_mate = Tab::of_visitor(false, false);
        assert!(!of_mate.contains(&Tab::Output) && !of_mate.contains(&Tab::Attachments));
        assert!(of_mate.contains(&Tab::Migrations));
        assert_eq!(Tab::of_visitor(true, true)[0], Tab::Connections);
    }
}
