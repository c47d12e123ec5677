//! The hosts on which a job ran, and when.

use askama::Template;
use mooring_api::view::{EventView, HostView, JobView};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::{Event, Timestamp};

use crate::web::ui;

/// A stay of a job on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stay {
    pub(super) host: String,
    pub(super) from: Timestamp,
    /// The end; `None` while the job is there.
    pub(super) until: Option<Timestamp>,
    pub(super) came: &'static str,
    /// The way in which it left; empty while it is there.
    pub(super) left: &'static str,
}

/// Returns the stays of a job, newest first, from its events.
///
/// The events name the hosts of migrations. The first host is the one that the first migration
/// left, or `present` without any.
pub(super) fn stays(events: &[EventView], present: &str) -> Vec<Stay> {
    let mut stays: Vec<Stay> = Vec::new();
    let begin = |stays: &mut Vec<Stay>, host: &str, from, came| {
        stays.push(Stay { host: host.to_owned(), from, until: None, came, left: "" });
    };
    let end = |stays: &mut Vec<Stay>, until, left| {
        if let Some(stay) = stays.last_mut().filter(|stay| stay.until.is_none()) {
            (stay.until, stay.left) = (Some(until), left);
        }
    };
    for EventView { time, event } in events {
        match event {
            Event::StatusChanged { status: JobStatus::Executing, .. } if stays.is_empty() => {
                begin(&mut stays, "", *time, "started");
            }
            Event::Migrated { from, to, .. } => {
                name(&mut stays, from);
                end(&mut stays, *time, "migrated");
                begin(&mut stays, to, *time, "migrated");
            }
            Event::Suspended { from, .. } => {
                name(&mut stays, from);
                end(&mut stays, *time, "suspended");
            }
            Event::Resumed { to } => begin(&mut stays, to, *time, "resumed"),
            Event::Recovered { to } => {
                end(&mut stays, *time, "lost");
                begin(&mut stays, to, *time, "recovered");
            }
            Event::StatusChanged { status: JobStatus::Unknown, .. } => {
                end(&mut stays, *time, "lost");
            }
            Event::StatusChanged { status, .. } if status.is_final() => {
                end(&mut stays, *time, "ended");
            }
            _ => {}
        }
    }
    name(&mut stays, present);
    stays.reverse();
    stays
}

/// Names the host of the first stay, if only it is there.
fn name(stays: &mut [Stay], host: &str) {
    if let [only] = stays
        && only.host.is_empty()
    {
        host.clone_into(&mut only.host);
    }
}

/// A stay with its host, if it is still known.
pub(super) struct Instance {
    stay: Stay,
    host: Option<HostView>,
}

impl Instance {
    /// Returns the status as users' scripts know it: `reclaimed` once the job has left.
    fn status(&self) -> ui::Pill {
        match self.stay.left {
            "" => ui::pill("normal", ui::Tone::Good),
            "ended" => ui::pill("ended", ui::Tone::Rest),
            _ => ui::pill("reclaimed", ui::Tone::Rest),
        }
    }
}

/// Returns the number of stays of a job, as its migrations tell it.
pub(super) fn count(job: &JobView) -> usize {
    let arrives = |kind: MigrationKind| match kind {
        MigrationKind::Migrate | MigrationKind::Resume | MigrationKind::Recover => true,
        MigrationKind::Suspend | MigrationKind::Snapshot => false,
    };
    let arrived = job.migrations.iter().filter(|row| arrives(row.kind) && row.outcome == Outcome::Succeeded);
    usize::from(job.exec_time.is_some()) + arrived.count()
}

/// The tab.
#[derive(Template)]
#[template(path = "job/instances.html")]
pub(super) struct InstancesTab {
    instances: Vec<Instance>,
    job: JobView,
}

impl InstancesTab {
    pub(super) fn new(job: JobView, events: &[EventView], present: &str, hosts: &[HostView]) -> Self {
        let with_host = |stay: Stay| Instance { host: hosts.iter().find(|host| host.name == stay.host).cloned(), stay };
        Self { instances: stays(events, present).into_iter().map(with_host).collect(), job }
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::event::CapsuleSize;

    use super::*;
    use crate::web::job::sample;

    fn events(all: Vec<Event>) -> Vec<EventView> {
        let at = |minute: usize| format!("2026-03-01T09:{minute:02}:00Z").parse().unwrap();
        all.into_iter().enumerate().map(|(minute, event)| EventView { time: at(minute), event }).collect()
    }

    fn status(status: JobStatus) -> Event {
        Event::StatusChanged { status, reason: String::new() }
    }

    #[test]
    fn stays_follow_the_job() {
        let capsule = CapsuleSize { bytes: 1, stored_bytes: 1, is_incremental: false };
        let happened = events(vec![
            status(JobStatus::Starting),
            status(JobStatus::Executing),
            Event::Migrated { from: "a".into(), to: "b".into(), pause_seconds: 0.1 },
            status(JobStatus::Executing),
            Event::Suspended { from: "b".into(), capsule },
            Event::Resumed { to: "c".into() },
            status(JobStatus::Completed),
        ]);
        let found = stays(&happened, "");
        let short: Vec<_> = found.iter().map(|stay| (stay.host.as_str(), stay.came, stay.left)).collect();
        let expected = [("c", "resumed", "ended"), ("b", "migrated", "suspended"), ("a", "started", "migrated")];
        assert_eq!(short, expected);
        assert_eq!((found[2].from, found[2].until), (happened[1].time, Some(happened[2].time)));
    }

    #[test]
    fn job_that_never_migrated_is_where_its_record_says() {
        let found = stays(&events(vec![status(JobStatus::Executing)]), "host-1");
        assert_eq!((found.len(), found[0].host.as_str(), found[0].until), (1, "host-1", None));
        assert!(stays(&events(vec![status(JobStatus::Starting)]), "host-1").is_empty());
    }

    #[test]
    fn stays_are_counted_by_arrivals() {
        let job = sample::job();
        assert_eq!((job.migrations.len(), count(&job)), (2, 3));
        assert_eq!(count(&JobView { exec_time: None, migrations: Vec::new(), ..job }), 0);
    }

    #[test]
    fn host_shows_both_addresses() {
        let host =
            HostView { name: "host-1".into(), public_address: "203.0.113.7".into(), ..crate::web::sample::host() };
        let happened = events(vec![
            status(JobStatus::Executing),
            Event::Migrated { from: "host-1".into(), to: "b".into(), pause_seconds: 0.1 },
        ]);
        let text = InstancesTab::new(sample::job(), &happened, "", std::slice::from_ref(&host)).render().unwrap();
        for part in [host.id.as_str(), "203.0.113.7", "10.0.0.1", "reclaimed", "4 cores"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn template_renders() {
        let tab = InstancesTab::new(sample::job(), &events(vec![status(JobStatus::Executing)]), sample::MARKUP, &[]);
        let text = tab.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("started") && text.contains("normal"), "{text}");
    }
}
