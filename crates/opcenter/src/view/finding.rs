//! Findings about jobs, as users read them.

use mooring_api::view::FindingView;
use mooring_store::JobRow;
use mooring_types::HostId;

use crate::state::observed::Observed;

/// Returns what the host of a job reports of it.
pub(crate) fn findings(observed: &Observed, job: &JobRow) -> Vec<FindingView> {
    let host = job.host.as_ref().filter(|host| observed.host_is_reachable(host));
    let report = host.and_then(|host| observed.job(host, &job.id, job.generation));
    let found = report.into_iter().flat_map(|report| report.findings.iter().cloned());
    found.map(|finding| FindingView::new(job.id.clone(), job.spec.name.to_string(), finding)).collect()
}

/// Returns what a host reports of its jobs, by the order of the jobs.
pub(crate) fn findings_on<'a>(
    observed: &Observed,
    host: &HostId,
    jobs: impl IntoIterator<Item = &'a JobRow>,
) -> Vec<FindingView> {
    let on_host = jobs.into_iter().filter(|job| job.host.as_ref() == Some(host));
    on_host.flat_map(|job| findings(observed, job)).collect()
}
