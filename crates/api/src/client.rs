//! The typed client. It sends the token with every call, turns error bodies into [`ClientError::Refused`], and retries nothing by
//! itself: who calls knows whether a retry is safe ([`crate::ErrorCode`] tells).

mod account;
mod secret;
mod template;
mod watch;

use std::time::Duration;

use mooring_types::duration::format_duration;
use mooring_types::job::OutputFile;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ErrorBody, ErrorCode};
use crate::paths::{self, fill};
use crate::tls;
use crate::view::{
    ConnectRequest, ConnectionView, DrainAnswer, DrainRequest, EventView, ExternalRegisterRequest,
    ExternalUpdateRequest, GatewayCreateRequest, GatewayModifyRequest, GatewayView, HostView, JobModifyRequest,
    JobView, LogFileView, LogPiece, LoginRequest, MetricView, MigrateRequest, SecurityGroupCreateRequest,
    SecurityGroupModifyRequest, SecurityGroupView, SessionView, StatusView, SubmitRequest, VersionView,
};
use crate::watch::{AgentSlice, GatewayReport, GatewaySlice, HostReport, JoinAnswer, JoinRequest};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

pub use self::watch::{Slices, Watch};

/// Why a call did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// OpCenter said no.
    #[error("{}, {}", .0.class, .0.message)]
    Refused(ErrorBody),
    /// OpCenter could not be reached, or the connection broke.
    #[error("can't reach OpCenter at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer was not what this version understands.
    #[error("can't read OpCenter's answer to {what}")]
    Unreadable {
        /// The call.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came on a watch for several keep-alives.
    #[error("OpCenter at {address} went silent")]
    Silent {
        /// Where it is.
        address: String,
    },
}

impl ClientError {
    /// The code, if OpCenter gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(body) => Some(body.error_code()),
            _ => None,
        }
    }
}

type Answer<T> = Result<T, ClientError>;

/// A client of one OpCenter.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: String,
    token: Option<String>,
}

impl Client {
    /// Makes a client for an address like `http://127.0.0.1:8443`; `http://` is assumed where no scheme is given.
    ///
    /// # Errors
    /// The TLS roots of this machine can't be read.
    pub fn new(address: &str) -> Answer<Self> {
        let address = address.trim_end_matches('/');
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy()
            .tls_backend_preconfigured(tls::client_config())
            .build()
            .map_err(|source| ClientError::Unreachable { address: address.clone(), source })?;
        Ok(Self { http, address, token: None })
    }

    /// The same client with a token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Where OpCenter is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    // Sessions

    /// Logs in; the answer has the token.
    pub async fn login(&self, credentials: &LoginRequest) -> Answer<SessionView> {
        self.json(Method::POST, paths::LOGIN, Some(credentials)).await
    }

    /// Logs in for one job alone; the answer has the token.
    pub async fn job_login(&self, id: &str, credentials: &LoginRequest) -> Answer<SessionView> {
        self.json(Method::POST, &fill(paths::JOB_SESSION, &[id]), Some(credentials)).await
    }

    /// Ends the session.
    pub async fn logout(&self) -> Answer<()> {
        self.nothing(Method::POST, paths::LOGOUT, None::<&()>).await
    }

    /// Who is logged in.
    pub async fn session_get(&self) -> Answer<SessionView> {
        self.json(Method::GET, paths::SESSION, None::<&()>).await
    }

    /// What serves.
    pub async fn version_get(&self) -> Answer<VersionView> {
        self.json(Method::GET, paths::VERSION, None::<&()>).await
    }

    /// How everything is, in numbers.
    pub async fn status_get(&self) -> Answer<StatusView> {
        self.json(Method::GET, paths::STATUS, None::<&()>).await
    }

    // Jobs

    /// Submits a job.
    pub async fn job_submit(&self, job: &SubmitRequest) -> Answer<JobView> {
        self.json(Method::POST, paths::JOBS, Some(job)).await
    }

    /// All jobs that the user may see, newest last.
    pub async fn job_list(&self) -> Answer<Vec<JobView>> {
        self.json(Method::GET, paths::JOBS, None::<&()>).await
    }

    /// The jobs that the user may see and for which every filter holds, newest last.
    pub async fn job_list_where(&self, filters: &[String]) -> Answer<Vec<JobView>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filters.iter().map(|filter| ("filter", filter)));
        self.json(Method::GET, &format!("{}?{}", paths::JOBS, query.finish()), None::<&()>).await
    }

    /// Changes what is to happen to a job by itself, its tags, or its name.
    pub async fn job_modify(&self, id: &str, request: &JobModifyRequest) -> Answer<JobView> {
        self.json(Method::PATCH, &fill(paths::JOB, &[id]), Some(request)).await
    }

    /// Submits a job anew, with the same spec and options.
    pub async fn job_rerun(&self, id: &str) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_RERUN, &[id]), None::<&()>).await
    }

    /// One job.
    pub async fn job_get(&self, id: &str) -> Answer<JobView> {
        self.json(Method::GET, &fill(paths::JOB, &[id]), None::<&()>).await
    }

    /// Cancels a job.
    pub async fn job_cancel(&self, id: &str) -> Answer<JobView> {
        self.json(Method::DELETE, &fill(paths::JOB, &[id]), None::<&()>).await
    }

    /// Starts a move; it goes on by itself.
    pub async fn job_migrate(&self, id: &str, request: &MigrateRequest) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_MIGRATE, &[id]), Some(request)).await
    }

    /// Starts to put a job into the capsule store.
    pub async fn job_suspend(&self, id: &str) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_SUSPEND, &[id]), None::<&()>).await
    }

    /// Starts to have a suspended job execute again.
    pub async fn job_resume(&self, id: &str) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_RESUME, &[id]), None::<&()>).await
    }

    /// Starts to take a capsule of a job that goes on.
    pub async fn job_snapshot(&self, id: &str) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_SNAPSHOT, &[id]), None::<&()>).await
    }

    /// A job's events, oldest first.
    pub async fn job_events(&self, id: &str) -> Answer<Vec<EventView>> {
        self.json(Method::GET, &fill(paths::JOB_EVENTS, &[id]), None::<&()>).await
    }

    /// What a job used, oldest first; all that is kept where no time is given.
    pub async fn job_metrics(&self, id: &str, last: Option<Duration>) -> Answer<Vec<MetricView>> {
        let query = last.map(|last| format!("?last={}", format_duration(last))).unwrap_or_default();
        self.json(Method::GET, &format!("{}{query}", fill(paths::JOB_METRICS, &[id])), None::<&()>).await
    }

    /// A piece of a job's output, both streams in the order in which they came.
    pub async fn job_log(&self, id: &str, offset: u64) -> Answer<LogPiece> {
        let path = format!("{}?offset={offset}", fill(paths::JOB_LOG, &[id]));
        self.json(Method::GET, &path, None::<&()>).await
    }

    /// A piece of one of the files that are kept of a job.
    pub async fn job_log_file(&self, id: &str, file: &OutputFile, offset: u64) -> Answer<LogPiece> {
        let path = format!("{}?file={file}&offset={offset}", fill(paths::JOB_LOG, &[id]));
        self.json(Method::GET, &path, None::<&()>).await
    }

    /// The files that are kept of a job.
    pub async fn job_log_list(&self, id: &str) -> Answer<Vec<LogFileView>> {
        self.json(Method::GET, &fill(paths::JOB_LOGS, &[id]), None::<&()>).await
    }

    // External jobs

    /// Registers a job that somebody else runs.
    pub async fn external_register(&self, request: &ExternalRegisterRequest) -> Answer<JobView> {
        self.json(Method::POST, paths::EXTERNAL_JOBS, Some(request)).await
    }

    /// Says where it listens now, and how it is.
    pub async fn external_update(&self, id: &str, request: &ExternalUpdateRequest) -> Answer<JobView> {
        self.json(Method::PATCH, &fill(paths::EXTERNAL_JOB, &[id]), Some(request)).await
    }

    // Gateways

    /// Creates a gateway.
    pub async fn gateway_create(&self, gateway: &GatewayCreateRequest) -> Answer<GatewayView> {
        self.json(Method::POST, paths::GATEWAYS, Some(gateway)).await
    }

    /// All gateways.
    pub async fn gateway_list(&self) -> Answer<Vec<GatewayView>> {
        self.json(Method::GET, paths::GATEWAYS, None::<&()>).await
    }

    /// One gateway, by id or name.
    pub async fn gateway_get(&self, id: &str) -> Answer<GatewayView> {
        self.json(Method::GET, &fill(paths::GATEWAY, &[id]), None::<&()>).await
    }

    /// Modifies a gateway, all of it or nothing.
    pub async fn gateway_modify(&self, id: &str, request: &GatewayModifyRequest) -> Answer<GatewayView> {
        self.json(Method::PATCH, &fill(paths::GATEWAY, &[id]), Some(request)).await
    }

    /// Destroys a gateway; connected jobs keep running.
    pub async fn gateway_destroy(&self, id: &str) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::GATEWAY, &[id]), None::<&()>).await
    }

    /// Has a gateway's process replaced; its connections stay.
    pub async fn gateway_restart(&self, id: &str) -> Answer<GatewayView> {
        self.json(Method::POST, &fill(paths::GATEWAY_RESTART, &[id]), None::<&()>).await
    }

    /// Connects ports of a job, all or none.
    pub async fn gateway_connect(&self, id: &str, request: &ConnectRequest) -> Answer<Vec<ConnectionView>> {
        self.json(Method::POST, &fill(paths::GATEWAY_CONNECTIONS, &[id]), Some(request)).await
    }

    /// Disconnects a job, or one port of it.
    pub async fn gateway_disconnect(&self, id: &str, job: &str, target_port: Option<u16>) -> Answer<()> {
        let port = target_port.map(|port| format!("&targetPort={port}")).unwrap_or_default();
        let path = format!("{}?job={job}{port}", fill(paths::GATEWAY_CONNECTIONS, &[id]));
        self.nothing(Method::DELETE, &path, None::<&()>).await
    }

    // Security groups

    /// Creates a security group.
    pub async fn security_group_create(&self, group: &SecurityGroupCreateRequest) -> Answer<SecurityGroupView> {
        self.json(Method::POST, paths::SECURITY_GROUPS, Some(group)).await
    }

    /// All security groups.
    pub async fn security_group_list(&self) -> Answer<Vec<SecurityGroupView>> {
        self.json(Method::GET, paths::SECURITY_GROUPS, None::<&()>).await
    }

    /// One security group, by id or name.
    pub async fn security_group_get(&self, id: &str) -> Answer<SecurityGroupView> {
        self.json(Method::GET, &fill(paths::SECURITY_GROUP, &[id]), None::<&()>).await
    }

    /// Adds and removes rules of a security group, all or none.
    pub async fn security_group_modify(
        &self,
        id: &str,
        request: &SecurityGroupModifyRequest,
    ) -> Answer<SecurityGroupView> {
        self.json(Method::PATCH, &fill(paths::SECURITY_GROUP, &[id]), Some(request)).await
    }

    /// Deletes a security group that nobody uses.
    pub async fn security_group_delete(&self, id: &str) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::SECURITY_GROUP, &[id]), None::<&()>).await
    }

    // Hosts

    /// All hosts.
    pub async fn host_list(&self) -> Answer<Vec<HostView>> {
        self.json(Method::GET, paths::HOSTS, None::<&()>).await
    }

    /// Begins to drain a host.
    pub async fn host_drain(&self, host: &str, request: &DrainRequest) -> Answer<DrainAnswer> {
        self.json(Method::POST, &fill(paths::HOST_DRAIN, &[host]), Some(request)).await
    }

    /// Has a host take jobs again.
    pub async fn host_undrain(&self, host: &str) -> Answer<HostView> {
        self.json(Method::DELETE, &fill(paths::HOST_DRAIN, &[host]), None::<&()>).await
    }

    /// Lets a host that lost its state directory join again under its name.
    pub async fn host_rejoin(&self, host: &str) -> Answer<HostView> {
        self.json(Method::POST, &fill(paths::HOST_REJOIN, &[host]), None::<&()>).await
    }

    /// Joins as a host.
    pub async fn host_join(&self, request: &JoinRequest) -> Answer<JoinAnswer> {
        self.json(Method::POST, paths::HOSTS, Some(request)).await
    }

    /// Reports what an agent observed.
    pub async fn host_report(&self, host: &str, report: &HostReport) -> Answer<()> {
        self.nothing(Method::POST, &fill(paths::HOST_REPORT, &[host]), Some(report)).await
    }

    /// Watches a host's slice.
    pub async fn host_slices(&self, host: &str) -> Answer<Slices<AgentSlice>> {
        self.slices(&fill(paths::HOST_SLICES, &[host])).await
    }

    /// Delivers a piece of a job's file; the answer is the offset wanted next, or [`crate::watch::OUTPUT_ENOUGH`].
    pub async fn host_job_log(
        &self,
        host: &str,
        job: &str,
        file: &OutputFile,
        offset: u64,
        piece: Vec<u8>,
    ) -> Answer<u64> {
        let path = format!("{}?file={file}&offset={offset}", fill(paths::HOST_JOB_LOG, &[host, job]));
        let request = self.request(Method::PUT, &path).timeout(CALL_TIMEOUT).body(piece);
        self.read(&path, self.send(request).await?).await
    }

    /// Reports what a gateway observed.
    pub async fn gateway_report(&self, gateway: &str, report: &GatewayReport) -> Answer<()> {
        self.nothing(Method::POST, &fill(paths::GATEWAY_REPORT, &[gateway]), Some(report)).await
    }

    /// Watches a gateway's slice.
    pub async fn gateway_slices(&self, gateway: &str) -> Answer<Slices<GatewaySlice>> {
        self.slices(&fill(paths::GATEWAY_SLICES, &[gateway])).await
    }

    // How

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.address));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Answer<reqwest::Response> {
        let unreachable = |source| ClientError::Unreachable { address: self.address.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(unreachable)?;
        Err(ClientError::Refused(serde_json::from_str(&text).unwrap_or_else(|_| foreign_error(status, &self.address))))
    }

    async fn read<T: DeserializeOwned>(&self, what: &str, response: reqwest::Response) -> Answer<T> {
        let bytes = response
            .bytes()
            .await
            .map_err(|source| ClientError::Unreachable { address: self.address.clone(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| unreadable(what, source))
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Answer<T> {
        let mut request = self.request(method, path).timeout(CALL_TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.read(path, self.send(request).await?).await
    }

    async fn nothing(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Answer<()> {
        let mut request = self.request(method, path).timeout(CALL_TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await.map(drop)
    }
}

fn unreadable(what: &str, source: serde_json::Error) -> ClientError {
    ClientError::Unreadable { what: what.to_owned(), source: Box::new(source) }
}

/// What answered is no OpCenter, or a proxy in between.
fn foreign_error(status: StatusCode, address: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, format!("{address} answered with HTTP status {status}"))
        .hint("check the address: `-a` names OpCenter")
}
