//! The paths of the API. A path with `{…}` is a template in the syntax of axum and OpenAPI.

/// `POST`: log in with a JSON body; `GET`: with HTTP Basic. The token comes in the body and in the
/// header `Authorization`.
pub const LOGIN: &str = "/api/v1/login";
/// `POST`: ask for a session that a user confirms in a browser; `GET`, with the secret of the
/// request as a token: its state.
pub const LOGIN_REQUESTS: &str = "/api/v1/login/requests";
/// `POST`: end the session.
pub const LOGOUT: &str = "/api/v1/logout";
/// `GET`: the session.
pub const SESSION: &str = "/api/v1/session";
/// `GET`: the open sessions; an admin sees those of all users.
pub const SESSIONS: &str = "/api/v1/sessions";
/// `DELETE`: end a session.
pub const SESSION_OF_ID: &str = "/api/v1/sessions/{id}";
/// `POST`: make a link that logs a browser in, once.
pub const SESSION_LINK: &str = "/api/v1/session/link";
/// `GET`: the requests that changed something, newest first.
pub const AUDIT: &str = "/api/v1/audit";
/// `GET`: all of them as CSV or lines of JSON.
pub const AUDIT_EXPORT: &str = "/api/v1/audit/export";
/// `GET`: the settings that OpCenter runs with.
pub const SETTINGS: &str = "/api/v1/settings";
/// `GET`: the keys of OpCenter, by their ids.
pub const KEYS: &str = "/api/v1/keys";
/// `POST`: replace the key that seals secrets and capsule keys.
pub const KEYS_ROTATE: &str = "/api/v1/keys/rotate";
/// `GET`: the version, and the numbers of hosts, gateways and jobs.
pub const STATUS: &str = "/api/v1/status";
/// `GET`: list the jobs that match every `?filter=`; `POST`: submit a job.
pub const JOBS: &str = "/api/v1/jobs";
/// `GET`: a page of the jobs that match every `?filter=` and `?category=`: at most `?limit=` of
/// them, `?before=` or `?after=` a job.
pub const JOB_PAGE: &str = "/api/v1/jobs/page";
/// `GET`: the jobs of [`JOBS`], or with a place or a limit those of [`JOB_PAGE`]. They are under
/// the key `Jobs`, as clients of the original expect it.
pub const JOB_PAGES: &str = "/api/v1/jobPages";
/// `GET`: a job; `PATCH`: modify it; `DELETE`: cancel it.
pub const JOB: &str = "/api/v1/jobs/{id}";
/// `GET`: server-sent events, its view now and after each change.
pub const JOB_WATCH: &str = "/api/v1/jobs/{id}/watch";
/// `POST`: submit the job again.
pub const JOB_RERUN: &str = "/api/v1/jobs/{id}/rerun";
/// `POST`: migrate the job.
pub const JOB_MIGRATE: &str = "/api/v1/jobs/{id}/migrate";
/// `POST`: suspend the job.
pub const JOB_SUSPEND: &str = "/api/v1/jobs/{id}/suspend";
/// `POST`: resume the job.
pub const JOB_RESUME: &str = "/api/v1/jobs/{id}/resume";
/// `POST`: take a snapshot of the job.
pub const JOB_SNAPSHOT: &str = "/api/v1/jobs/{id}/snapshot";
/// `POST`: log in for this job only, with a JSON body.
pub const JOB_SESSION: &str = "/api/v1/jobs/{id}/session";
/// `GET`: the job's events, oldest first.
pub const JOB_EVENTS: &str = "/api/v1/jobs/{id}/events";
/// `GET`: what matters to a migration of the job, as its host's agent sees it.
pub const JOB_FINDINGS: &str = "/api/v1/jobs/{id}/findings";
/// `GET`: the measurements of the job's usage within `?last=`, oldest first.
pub const JOB_METRICS: &str = "/api/v1/jobs/{id}/metrics";
/// `GET`: a piece of the job's output, or of `?file=`, from `?offset=`.
pub const JOB_LOG: &str = "/api/v1/jobs/{id}/log";
/// `GET`: server-sent events with the pieces from `?offset=`, as they are written.
pub const JOB_LOG_WATCH: &str = "/api/v1/jobs/{id}/log/watch";
/// `GET`: the job's output files.
pub const JOB_LOGS: &str = "/api/v1/jobs/{id}/logs";
/// `GET`: the bytes of `?name=`, one of the job's output files, as a download.
pub const JOB_FILES: &str = "/api/v1/jobs/{id}/files";
/// `POST`: register an external job.
pub const EXTERNAL_JOBS: &str = "/api/v1/externalJobs";
/// `PATCH`: update the endpoints or the status of an external job.
pub const EXTERNAL_JOB: &str = "/api/v1/externalJobs/{id}";
/// `GET`: list gateways; `POST`: create a gateway.
pub const GATEWAYS: &str = "/api/v1/gateways";
/// `GET`: a gateway, by id or name; `PATCH`: modify it; `DELETE`: destroy it.
pub const GATEWAY: &str = "/api/v1/gateways/{id}";
/// `POST`: connect ports of a job; `DELETE`: disconnect `?job=`, or only its `?targetPort=`.
pub const GATEWAY_CONNECTIONS: &str = "/api/v1/gateways/{id}/connections";
/// `GET`: server-sent events, its view now and after each change.
pub const GATEWAY_WATCH: &str = "/api/v1/gateways/{id}/watch";
/// `GET`: the measurements of the gateway's traffic within `?last=`, oldest first.
pub const GATEWAY_METRICS: &str = "/api/v1/gateways/{id}/metrics";
/// `POST`: restart the gateway's process; connections stay.
pub const GATEWAY_RESTART: &str = "/api/v1/gateways/{id}/restart";
/// `GET` (by a gateway): its slices of desired state, a line of JSON each.
pub const GATEWAY_SLICES: &str = "/api/v1/gateways/{id}/slices";
/// `POST` (by a gateway): a report.
pub const GATEWAY_REPORT: &str = "/api/v1/gateways/{id}/report";
/// `PUT`: give the gateway a certificate for its ports; `DELETE`: remove the one whose first name
/// is `?name=`.
pub const GATEWAY_CERTIFICATES: &str = "/api/v1/gateways/{id}/certificates";
/// `POST` (by a gateway): a certificate for its ports.
pub const GATEWAY_PORT_CERTIFICATE: &str = "/api/v1/gateways/{id}/portCertificate";
/// `POST`: begin the visit of a browser that OpCenter has sent back to a gateway.
pub const GATEWAY_VISITS: &str = "/api/v1/gateways/{id}/visits";
/// `GET`: the findings of all jobs on the host.
pub const HOST_FINDINGS: &str = "/api/v1/hosts/{id}/findings";
/// `GET`: list security groups; `POST`: create a security group.
pub const SECURITY_GROUPS: &str = "/api/v1/securityGroups";
/// `GET`: a security group, by id or name; `PATCH`: add and remove rules; `DELETE`: delete it.
pub const SECURITY_GROUP: &str = "/api/v1/securityGroups/{id}";
/// `GET`: the API tokens, an admin sees those of all users; `POST`: make one.
pub const API_TOKENS: &str = "/api/v1/tokens";
/// `DELETE`: delete an API token, by id or name.
pub const API_TOKEN: &str = "/api/v1/tokens/{id}";
/// `GET`: list users; `POST`: add a user.
pub const USERS: &str = "/api/v1/users";
/// `GET`: a user, by name; `PATCH`: change the user; `DELETE`: delete the user, with
/// `?cancelJobs=true` also the jobs.
pub const USER: &str = "/api/v1/users/{id}";
/// `GET`: list groups; `POST`: add a group.
pub const GROUPS: &str = "/api/v1/groups";
/// `GET`: a group, by name; `PATCH`: change it; `DELETE`: delete it.
pub const GROUP: &str = "/api/v1/groups/{id}";
/// `GET`: list the user's secrets, without their values.
pub const SECRETS: &str = "/api/v1/secrets";
/// `GET`: a secret with its value, by name; `PUT`: set it; `DELETE`: remove it.
pub const SECRET: &str = "/api/v1/secrets/{id}";
/// `GET`: list templates; `POST`: create a template.
pub const TEMPLATES: &str = "/api/v1/templates";
/// `GET`: a template, by `[private::]name[:tag]`; `DELETE`: delete it.
pub const TEMPLATE: &str = "/api/v1/templates/{id}";
/// `GET`: list hosts; `POST` (by an agent with a join token or the key of its host): join.
pub const HOSTS: &str = "/api/v1/hosts";
/// `DELETE`: remove a host, by id or name.
pub const HOST: &str = "/api/v1/hosts/{id}";
/// `GET`: list tokens with which hosts may join; `POST`: make one.
pub const JOIN_TOKENS: &str = "/api/v1/join-tokens";
/// `DELETE`: revoke a token, by id.
pub const JOIN_TOKEN: &str = "/api/v1/join-tokens/{id}";
/// `POST` (by an agent): the next certificate of its host.
pub const HOST_CERTIFICATE: &str = "/api/v1/hosts/{id}/certificate";
/// `POST` (by an agent): a certificate for a gateway that is placed on its host.
pub const HOST_GATEWAY_CERTIFICATE: &str = "/api/v1/hosts/{id}/gateways/{gateway}/certificate";
/// `GET` (by an agent): its slices of desired state, a line of JSON each.
pub const HOST_SLICES: &str = "/api/v1/hosts/{id}/slices";
/// `POST` (by an agent): a report.
pub const HOST_REPORT: &str = "/api/v1/hosts/{id}/report";
/// `PUT` (by an agent): a piece of a job's `?file=` at `?offset=`. The answer is the next expected
/// offset.
pub const HOST_JOB_LOG: &str = "/api/v1/hosts/{id}/jobs/{job}/log";
/// `GET`: server-sent events, its view now and after each change, by id or name.
pub const HOST_WATCH: &str = "/api/v1/hosts/{id}/watch";
/// `POST`: drain a host, by id or name; `DELETE`: end the drain.
pub const HOST_DRAIN: &str = "/api/v1/hosts/{id}/drain";
/// `POST`: let a host that lost its state directory join again, by id or name.
pub const HOST_REJOIN: &str = "/api/v1/hosts/{id}/rejoin";
/// `GET`: the OpenAPI document.
pub const OPENAPI: &str = "/api/v1/openapi.json";
/// `GET`: the program that runs OpCenter.
pub const PROGRAM: &str = "/float";
/// The platforms for which clients ask for the program: `GET` [`PROGRAM`], a dot, and one of them.
pub const PLATFORMS: [&str; 6] =
    ["linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64", "windows_amd64", "windows_arm64"];
/// `GET`: the version.
pub const VERSION: &str = "/api/v1/version";
/// `GET`: whether the process is alive.
pub const HEALTHZ: &str = "/healthz";
/// `GET`: whether the process serves requests.
pub const READYZ: &str = "/readyz";
/// `GET`: OpCenter's metrics for Prometheus.
pub const METRICS: &str = "/metrics";

/// Fills the `{…}` of a template in order.
#[must_use]
pub fn fill(template: &str, values: &[&str]) -> String {
    let mut path = String::with_capacity(template.len() + 24);
    let mut rest = template;
    for value in values {
        let Some((before, after)) = rest.split_once('{') else { break };
        path.push_str(before);
        path.push_str(value);
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
    }
    path.push_str(rest);
    path
}

#[cfg(test)]
mod tests {
    #[test]
    fn templates_are_filled_in_order() {
        assert_eq!(super::fill(super::HOST_JOB_LOG, &["h-1", "j2"]), "/api/v1/hosts/h-1/jobs/j2/log");
        assert_eq!(super::fill(super::JOBS, &[]), "/api/v1/jobs");
    }
}
