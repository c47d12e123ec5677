//! The card of a job that starts: how far it is, and its Access URLs as soon as they are known.

use askama::Template;
use mooring_api::view::JobView;
use mooring_types::job::JobStatus;
use mooring_types::{JobId, Timestamp};

use super::connections::Connected;
use crate::auth::User;
use crate::web::ui;

/// The statuses of a job that starts, in their order.
const STEPS: [JobStatus; 4] =
    [JobStatus::Submitted, JobStatus::Initializing, JobStatus::Starting, JobStatus::Executing];

/// The card.
#[derive(Template)]
#[template(path = "job/starting.html")]
pub(super) struct Starting {
    id: JobId,
    status: JobStatus,
    reason: String,
    submit_time: Timestamp,
    connections: Vec<Connected>,
    publishes: bool,
    /// The job is the visitor's own.
    is_own: bool,
}

/// A step on the way to the execution.
struct Step {
    status: JobStatus,
    is_done: bool,
    is_now: bool,
}

impl Starting {
    /// Returns the card of a job that starts, or that did not start. An external job is started
    /// elsewhere.
    pub(super) fn of(user: &User, job: &JobView, connections: &[Connected]) -> Option<Self> {
        let is_ours = job.scheduler == "mooring";
        let starts = STEPS[..3].contains(&job.status) || has_failed(job.status);
        (is_ours && starts).then(|| Self {
            id: job.id.clone(),
            status: job.status,
            reason: job.status_reason.clone(),
            submit_time: job.submit_time,
            connections: connections.to_vec(),
            publishes: !job.publish.is_empty(),
            is_own: user.name == job.user,
        })
    }

    fn has_failed(&self) -> bool {
        has_failed(self.status)
    }

    fn whose(&self) -> &'static str {
        if self.is_own { "Your job" } else { "The job" }
    }

    fn steps(&self) -> Vec<Step> {
        let now = STEPS.iter().position(|status| *status == self.status).unwrap_or_default();
        let step =
            |(place, status): (usize, &JobStatus)| Step { status: *status, is_done: place < now, is_now: place == now };
        STEPS.iter().enumerate().map(step).collect()
    }
}

fn has_failed(status: JobStatus) -> bool {
    matches!(status, JobStatus::FailToExecute | JobStatus::NoAvailableHost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::{connections, sample};
    use crate::web::sample::user;

    fn card(status: JobStatus, has_gateway: bool) -> Option<String> {
        let job = JobView { status, status_reason: sample::MARKUP.into(), ..sample::job() };
        let gateways = if has_gateway { vec![sample::gateway()] } else { Vec::new() };
        let card = Starting::of(&user("ada"), &job, &connections::of_job(&gateways, &job.id));
        card.map(|card| card.render().unwrap())
    }

    #[test]
    fn card_shows_how_far_the_job_is_and_its_address() {
        let text = card(JobStatus::Initializing, true).unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("Your job is starting"), "{text}");
        assert!(
            text.contains("<li class=\"done\"><span>Submitted") && text.contains("aria-current=\"step\"><span>Init")
        );
        assert!(text.contains("href=\"http://198.18.0.2:10000/lab\"") && text.contains("data-copy="), "{text}");
        let text = card(JobStatus::Submitted, false).unwrap();
        assert!(text.contains("when it is connected to a gateway") && !text.contains("data-copy"), "{text}");
    }

    #[test]
    fn job_that_did_not_start_says_what_to_do() {
        let text = card(JobStatus::NoAvailableHost, false).unwrap();
        assert!(text.contains("Your job did not start") && text.contains("/submit?from=uqaj8l"), "{text}");
        assert!(!text.contains(sample::MARKUP) && !text.contains("aria-current"), "{text}");
        for status in [JobStatus::Executing, JobStatus::Floating, JobStatus::Resuming, JobStatus::Completed] {
            assert!(card(status, true).is_none(), "{status}");
        }
    }
}
