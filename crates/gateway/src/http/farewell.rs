//! What the gateway answers in place of a job that has ended.
//!
//! 410: what was here is gone for good, and nobody has to ask again. Jupyter's page takes its kernel for dead then, which it is, and does not ask
//! for ever, as it would after 503. Nothing that is answered is kept by anybody: the port may be another job's in the next moment.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use mooring_types::job::JobStatus;

use super::answer::{Page, escaped, plain};
use crate::route::{Ending, Route};

/// Gone; as a page for a browser that loads one.
#[must_use]
pub(super) fn answer(route: &Route, ending: &Ending, is_page_load: bool) -> Response<Full<Bytes>> {
    let outcome = outcome(route, ending);
    let time = ending.time.strftime("%Y-%m-%d %H:%M:%S UTC");
    if !is_page_load {
        return plain(StatusCode::GONE, format!("{outcome}\nThe job ended at {time} and does not answer any more.\n"));
    }
    let name = escaped(route.job_name.as_str());
    let said = format!(
        "<p role=\"status\">{}</p>\n\
         <p>It ended as <strong>{}</strong> at {time} and does not answer any more. This address may lead to another job soon.</p>",
        escaped(&outcome),
        route.job_status,
    );
    let title = format!("{name} has ended");
    Page { mark: "data-mooring-ended", head: "", title: &title, name: &name, said: &said }.answer(StatusCode::GONE)
}

/// What became of a job, in a sentence.
#[must_use]
pub(crate) fn outcome(route: &Route, Ending { reason, exit_code, .. }: &Ending) -> String {
    let name = &route.job_name;
    let what = match route.job_status {
        JobStatus::Completed => format!("{name} has completed"),
        JobStatus::Cancelled => format!("{name} was cancelled"),
        JobStatus::FailToComplete => format!("{name} has failed"),
        JobStatus::FailToExecute => format!("{name} could not be started"),
        JobStatus::CheckpointFailed => format!("{name} could not go on after a checkpoint"),
        JobStatus::Timedout => format!("{name} has run out of time"),
        JobStatus::NoAvailableHost => format!("{name} has found no host"),
        _ => format!("{name} has ended"),
    };
    match (reason.trim_end_matches('.'), exit_code) {
        ("", None) => format!("{what}."),
        ("", Some(code)) => format!("{what} with exit code {code}."),
        // A failure's reason has the code in it.
        (reason, _) => format!("{what}: {reason}."),
    }
}

#[cfg(test)]
mod tests {
    use mooring_api::watch::FarewellDirective;
    use mooring_types::gateway::{Protocol, Widget};
    use mooring_types::{ConnectionId, JobId, Port, Timestamp};

    use super::*;

    fn route(job_status: JobStatus, status_reason: &str, exit_code: Option<i32>) -> Route {
        let directive = FarewellDirective {
            connection: ConnectionId::random(&mut rand::rng()),
            job: JobId::random(&mut rand::rng()),
            job_name: "lab".parse().expect("a name"),
            job_status,
            status_reason: status_reason.to_owned(),
            exit_code,
            end_time: Timestamp::UNIX_EPOCH,
            gateway_port: Port::MAX,
            protocol: Protocol::Auto,
            widget: Widget::Shown,
        };
        Route::farewell(&directive, [].into())
    }

    #[test]
    fn the_outcome_has_the_reason_or_the_exit_code() {
        for (status, reason, code, expected) in [
            (JobStatus::Completed, "", Some(0), "lab has completed with exit code 0."),
            (JobStatus::Cancelled, "", None, "lab was cancelled."),
            (
                JobStatus::FailToComplete,
                "it ended with exit code 3",
                Some(3),
                "lab has failed: it ended with exit code 3.",
            ),
            (JobStatus::Timedout, "it was late.", None, "lab has run out of time: it was late."),
        ] {
            let route = route(status, reason, code);
            assert_eq!(route.ending.as_ref().map(|ending| outcome(&route, ending)).as_deref(), Some(expected));
        }
    }

    #[test]
    fn every_final_status_has_an_outcome_of_its_own() {
        for status in JobStatus::ALL.into_iter().filter(|status| status.is_final()) {
            let route = route(status, "", None);
            let told = route.ending.as_ref().map(|ending| outcome(&route, ending)).expect("an ending");
            assert_ne!(told, "lab has ended.", "{status}");
        }
    }
}
