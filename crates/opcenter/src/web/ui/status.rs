//! Statuses as coloured pills. The colour repeats what the text says.

use askama::Template;
use mooring_api::view::HostStatus;
use mooring_types::gateway::GatewayStatus;
use mooring_types::job::JobStatus;

use super::component;

/// The kind of a status, which its colour shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// All is well.
    Good,
    /// Something is under way.
    Busy,
    /// At rest, on purpose.
    Rest,
    /// Something needs a person.
    Bad,
}

impl Tone {
    /// Returns the class in the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Rest => "rest",
            Self::Bad => "bad",
        }
    }
}

/// A pill.
#[derive(Template)]
#[template(source = r#"<span class="pill {{ tone.class() }}">{{ text }}</span>"#, ext = "html")]
pub(crate) struct Pill {
    text: String,
    tone: Tone,
}
component!(Pill);

/// Returns a pill.
pub(crate) fn pill(text: impl ToString, tone: Tone) -> Pill {
    Pill { text: text.to_string(), tone }
}

/// Returns the tone of a job's status.
pub(crate) fn tone_of(status: JobStatus) -> Tone {
    match status {
        JobStatus::Executing | JobStatus::Completed => Tone::Good,
        JobStatus::Submitted
        | JobStatus::Initializing
        | JobStatus::Starting
        | JobStatus::Floating
        | JobStatus::Suspending
        | JobStatus::Resuming
        | JobStatus::Capturing
        | JobStatus::Cancelling => Tone::Busy,
        JobStatus::Suspended | JobStatus::Cancelled => Tone::Rest,
        JobStatus::FailToComplete
        | JobStatus::FailToExecute
        | JobStatus::CheckpointFailed
        | JobStatus::Timedout
        | JobStatus::NoAvailableHost
        | JobStatus::WaitingForLicense
        | JobStatus::Unknown => Tone::Bad,
    }
}

/// Returns the pill of a job.
pub(crate) fn job_pill(status: &JobStatus) -> Pill {
    pill(status, tone_of(*status))
}

/// Returns the pill of a gateway.
pub(crate) fn gateway_pill(status: &GatewayStatus) -> Pill {
    match status {
        GatewayStatus::Running => pill("running", Tone::Good),
        GatewayStatus::Starting => pill("starting", Tone::Busy),
        GatewayStatus::Unreachable => pill("unreachable", Tone::Bad),
    }
}

/// Returns the pill of a host.
pub(crate) fn host_pill(status: &HostStatus) -> Pill {
    match status {
        HostStatus::Ready => pill("ready", Tone::Good),
        HostStatus::Draining => pill("draining", Tone::Busy),
        HostStatus::Drained => pill("drained", Tone::Rest),
        HostStatus::NotReady { .. } => pill("not ready", Tone::Bad),
        HostStatus::Unreachable => pill("unreachable", Tone::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pill_shows_text_as_text() {
        assert_eq!(pill("<b>", Tone::Bad).render().unwrap(), r#"<span class="pill bad">&#60;b&#62;</span>"#);
        assert!(job_pill(&JobStatus::Floating).render().unwrap().contains("busy"));
    }
}
