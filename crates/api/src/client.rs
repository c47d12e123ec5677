//! The typed client. Every call sends the token; an error body becomes [`ClientError::Refused`].
//! The client never retries: its caller decides with [`crate::ErrorCode`] whether a retry is safe.

mod account;
mod address;
mod api_token;
mod audit;
mod download;
mod host;
mod key;
mod program;
mod secret;
mod template;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use mooring_tls::{Identity, Trust};
use mooring_types::duration::format_duration;
use mooring_types::job::OutputFile;
use mooring_types::{GatewayId, HostId, JobId, Reference, SecurityGroupId};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Submission;
use crate::error::{ErrorBody, ErrorCode};
use crate::paths::{self, fill};
use crate::view::{
    ConnectRequest, ConnectionView, DrainAnswer, DrainRequest, EventView, ExternalRegisterRequest,
    ExternalUpdateRequest, FindingView, GatewayCertificateRequest, GatewayCreateRequest, GatewayMetricView,
    GatewayModifyRequest, GatewayView, HostView, JobModifyRequest, JobPage, JobPageRequest, JobSessionRequest, JobView,
    LogFileView, LogPiece, LoginRequest, MetricView, MigrateRequest, SecurityGroupCreateRequest,
    SecurityGroupModifyRequest, SecurityGroupView, SessionView, StatusView, VersionView,
};
use crate::watch::{
    AgentSlice, CertificateAnswer, CertificateRequest, GatewayReport, GatewaySlice, HostReport, JoinAnswer,
    JoinRequest, VisitAnswer, VisitRequest,
};

/// The time limit of a TCP connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of a call; watches have none.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

pub use self::address::Address;
pub use self::download::Download;
pub use self::watch::{Slices, Watch};

/// The failure of a call.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// OpCenter refused the request.
    #[error("{}, {}", .0.class, .0.message)]
    Refused(ErrorBody),
    /// OpCenter is unreachable, or the connection broke.
    #[error("can't reach OpCenter at {address}")]
    Unreachable {
        address: String,
        #[source]
        source: reqwest::Error,
    },
    /// This version can't parse the answer.
    #[error("can't read OpCenter's answer to {what}")]
    Unreadable {
        /// The path of the call.
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A watch had no keep-alive for too long.
    #[error("OpCenter at {address} went silent")]
    Silent { address: String },
    /// The address would send passwords and tokens in the clear.
    #[error("{address} is plain HTTP, which is for addresses of this machine alone")]
    Plain { address: String },
    #[error("`{address}` is no address of OpCenter")]
    NoAddress { address: String },
    /// A certificate can't be used.
    #[error("can't prepare TLS for OpCenter at {address}")]
    Tls {
        address: String,
        #[source]
        source: mooring_tls::Error,
    },
}

impl ClientError {
    /// The error code of a refusal.
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
    address: Address,
    trust: Arc<Trust>,
    token: Option<String>,
}

impl Client {
    /// Makes a client that believes OpCenter by the certificates of this machine; see
    /// [`Client::connect`].
    ///
    /// # Errors
    /// See [`Client::connect`].
    pub fn new(address: &str) -> Answer<Self> {
        Self::connect(address, Trust::System)
    }

    /// Makes a client for an address like `10.0.0.5:8443` or a URL. Without a scheme, an address of
    /// this machine's loopback is `http://`, and every other one `https://`.
    ///
    /// # Errors
    /// The address is none, or is plain `http://` beyond the loopback; the certificates to trust
    /// can't be used.
    pub fn connect(address: &str, trust: Trust) -> Answer<Self> {
        Self::at(Address::parse(address)?, trust, None)
    }

    /// Makes a client for a daemon, over TLS also on this machine's loopback. It shows the daemon's
    /// certificate; for a join there is none to show.
    ///
    /// # Errors
    /// The address is none, or is plain `http://`; the certificates to trust can't be used.
    pub fn for_daemon(address: &str, trust: Trust, identity: Option<Arc<Identity>>) -> Answer<Self> {
        Self::at(Address::parse_for_daemon(address)?, trust, identity)
    }

    fn at(address: Address, trust: Trust, identity: Option<Arc<Identity>>) -> Answer<Self> {
        Ok(Self { http: http(&address, &trust, identity)?, address, trust: Arc::new(trust), token: None })
    }

    /// The same client with a token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The URL of OpCenter.
    #[must_use]
    pub fn address(&self) -> &str {
        self.address.url()
    }

    /// The certificates by which this client believes OpCenter.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    // Sessions

    /// Logs in; the answer has the token.
    pub async fn login(&self, credentials: &LoginRequest) -> Answer<SessionView> {
        self.json(Method::POST, paths::LOGIN, Some(credentials)).await
    }

    /// Begins a session for one job only, by a code of OpCenter's page; the answer has the token.
    pub async fn job_session_begin(&self, id: &JobId, request: &JobSessionRequest) -> Answer<SessionView> {
        self.json(Method::POST, &fill(paths::JOB_SESSION, &[id.as_str()]), Some(request)).await
    }

    /// Ends the session.
    pub async fn logout(&self) -> Answer<()> {
        self.nothing(Method::POST, paths::LOGOUT, None::<&()>).await
    }

    /// Reads the session.
    pub async fn session_get(&self) -> Answer<SessionView> {
        self.json(Method::GET, paths::SESSION, None::<&()>).await
    }

    /// Reads the version of OpCenter.
    pub async fn version_get(&self) -> Answer<VersionView> {
        self.json(Method::GET, paths::VERSION, None::<&()>).await
    }

    /// Reads the numbers of hosts, gateways and jobs.
    pub async fn status_get(&self) -> Answer<StatusView> {
        self.json(Method::GET, paths::STATUS, None::<&()>).await
    }

    // Jobs

    /// Submits a job.
    pub async fn job_submit(&self, job: &Submission) -> Answer<JobView> {
        self.json(Method::POST, paths::JOBS, Some(job)).await
    }

    /// Lists the jobs that the user may see, newest last.
    pub async fn job_list(&self) -> Answer<Vec<JobView>> {
        self.json(Method::GET, paths::JOBS, None::<&()>).await
    }

    /// Lists the jobs that the user may see and that match every filter, newest last.
    pub async fn job_list_where(&self, filters: &[String]) -> Answer<Vec<JobView>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filters.iter().map(|filter| ("filter", filter)));
        self.json(Method::GET, &format!("{}?{}", paths::JOBS, query.finish()), None::<&()>).await
    }

    /// Reads a page of the jobs that the user may see, newest first.
    pub async fn job_page(&self, request: &JobPageRequest) -> Answer<JobPage> {
        self.json(Method::GET, &format!("{}?{}", paths::JOB_PAGE, request.query()), None::<&()>).await
    }

    /// Changes a job's policies, limits, tags or name.
    pub async fn job_modify(&self, id: &JobId, request: &JobModifyRequest) -> Answer<JobView> {
        self.json(Method::PATCH, &fill(paths::JOB, &[id.as_str()]), Some(request)).await
    }

    /// Submits a job again, with the same options.
    pub async fn job_rerun(&self, id: &JobId) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_RERUN, &[id.as_str()]), None::<&()>).await
    }

    /// Reads a job.
    pub async fn job_get(&self, id: &JobId) -> Answer<JobView> {
        self.json(Method::GET, &fill(paths::JOB, &[id.as_str()]), None::<&()>).await
    }

    /// Cancels a job.
    pub async fn job_cancel(&self, id: &JobId) -> Answer<JobView> {
        self.json(Method::DELETE, &fill(paths::JOB, &[id.as_str()]), None::<&()>).await
    }

    /// Starts a migration; the answer does not wait for its end.
    pub async fn job_migrate(&self, id: &JobId, request: &MigrateRequest) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_MIGRATE, &[id.as_str()]), Some(request)).await
    }

    /// Starts a suspend.
    pub async fn job_suspend(&self, id: &JobId) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_SUSPEND, &[id.as_str()]), None::<&()>).await
    }

    /// Starts a resume.
    pub async fn job_resume(&self, id: &JobId) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_RESUME, &[id.as_str()]), None::<&()>).await
    }

    /// Starts a snapshot.
    pub async fn job_snapshot(&self, id: &JobId) -> Answer<JobView> {
        self.json(Method::POST, &fill(paths::JOB_SNAPSHOT, &[id.as_str()]), None::<&()>).await
    }

    /// Lists what matters to a migration of a job.
    pub async fn job_findings(&self, id: &JobId) -> Answer<Vec<FindingView>> {
        self.json(Method::GET, &fill(paths::JOB_FINDINGS, &[id.as_str()]), None::<&()>).await
    }

    /// Lists a job's events, oldest first.
    pub async fn job_events(&self, id: &JobId) -> Answer<Vec<EventView>> {
        self.json(Method::GET, &fill(paths::JOB_EVENTS, &[id.as_str()]), None::<&()>).await
    }

    /// Lists the measurements of a job's usage, oldest first; all without a time.
    pub async fn job_metrics(&self, id: &JobId, last: Option<Duration>) -> Answer<Vec<MetricView>> {
        let query = last.map(|last| format!("?last={}", format_duration(last))).unwrap_or_default();
        self.json(Method::GET, &format!("{}{query}", fill(paths::JOB_METRICS, &[id.as_str()])), None::<&()>).await
    }

    /// Reads a piece of a job's output: both streams in the order of the writes.
    pub async fn job_log(&self, id: &JobId, offset: u64) -> Answer<LogPiece> {
        let path = format!("{}?offset={offset}", fill(paths::JOB_LOG, &[id.as_str()]));
        self.json(Method::GET, &path, None::<&()>).await
    }

    /// Reads a piece of an output file of a job.
    pub async fn job_log_file(&self, id: &JobId, file: &OutputFile, offset: u64) -> Answer<LogPiece> {
        let path = format!("{}?file={file}&offset={offset}", fill(paths::JOB_LOG, &[id.as_str()]));
        self.json(Method::GET, &path, None::<&()>).await
    }

    /// Lists the output files of a job.
    pub async fn job_log_list(&self, id: &JobId) -> Answer<Vec<LogFileView>> {
        self.json(Method::GET, &fill(paths::JOB_LOGS, &[id.as_str()]), None::<&()>).await
    }

    // External jobs

    /// Registers an external job.
    pub async fn external_register(&self, request: &ExternalRegisterRequest) -> Answer<JobView> {
        self.json(Method::POST, paths::EXTERNAL_JOBS, Some(request)).await
    }

    /// Updates the endpoints or the status of an external job.
    pub async fn external_update(&self, id: &JobId, request: &ExternalUpdateRequest) -> Answer<JobView> {
        self.json(Method::PATCH, &fill(paths::EXTERNAL_JOB, &[id.as_str()]), Some(request)).await
    }

    // Gateways

    /// Creates a gateway.
    pub async fn gateway_create(&self, gateway: &GatewayCreateRequest) -> Answer<GatewayView> {
        self.json(Method::POST, paths::GATEWAYS, Some(gateway)).await
    }

    /// Lists the measurements of a gateway's traffic, oldest first; all without a time.
    pub async fn gateway_metrics(
        &self,
        gateway: &Reference<GatewayId>,
        last: Option<Duration>,
    ) -> Answer<Vec<GatewayMetricView>> {
        let query = last.map(|last| format!("?last={}", format_duration(last))).unwrap_or_default();
        let path = format!("{}{query}", fill(paths::GATEWAY_METRICS, &[&gateway.to_string()]));
        self.json(Method::GET, &path, None::<&()>).await
    }

    /// Lists the gateways.
    pub async fn gateway_list(&self) -> Answer<Vec<GatewayView>> {
        self.json(Method::GET, paths::GATEWAYS, None::<&()>).await
    }

    /// Reads a gateway.
    pub async fn gateway_get(&self, gateway: &Reference<GatewayId>) -> Answer<GatewayView> {
        self.json(Method::GET, &fill(paths::GATEWAY, &[&gateway.to_string()]), None::<&()>).await
    }

    /// Modifies a gateway: all changes or none.
    pub async fn gateway_modify(
        &self,
        gateway: &Reference<GatewayId>,
        request: &GatewayModifyRequest,
    ) -> Answer<GatewayView> {
        self.json(Method::PATCH, &fill(paths::GATEWAY, &[&gateway.to_string()]), Some(request)).await
    }

    /// Destroys a gateway; its jobs keep running.
    pub async fn gateway_destroy(&self, gateway: &Reference<GatewayId>) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::GATEWAY, &[&gateway.to_string()]), None::<&()>).await
    }

    /// Restarts a gateway's process; its connections stay.
    pub async fn gateway_restart(&self, gateway: &Reference<GatewayId>) -> Answer<GatewayView> {
        self.json(Method::POST, &fill(paths::GATEWAY_RESTART, &[&gateway.to_string()]), None::<&()>).await
    }

    /// Connects ports of a job: all or none.
    pub async fn gateway_connect(
        &self,
        gateway: &Reference<GatewayId>,
        request: &ConnectRequest,
    ) -> Answer<Vec<ConnectionView>> {
        self.json(Method::POST, &fill(paths::GATEWAY_CONNECTIONS, &[&gateway.to_string()]), Some(request)).await
    }

    /// Disconnects a job, or one port of it.
    pub async fn gateway_disconnect(
        &self,
        gateway: &Reference<GatewayId>,
        job: &JobId,
        target_port: Option<u16>,
    ) -> Answer<()> {
        let port = target_port.map(|port| format!("&targetPort={port}")).unwrap_or_default();
        let path = format!("{}?job={job}{port}", fill(paths::GATEWAY_CONNECTIONS, &[&gateway.to_string()]));
        self.nothing(Method::DELETE, &path, None::<&()>).await
    }

    // Security groups

    /// Creates a security group.
    pub async fn security_group_create(&self, group: &SecurityGroupCreateRequest) -> Answer<SecurityGroupView> {
        self.json(Method::POST, paths::SECURITY_GROUPS, Some(group)).await
    }

    /// Lists the security groups.
    pub async fn security_group_list(&self) -> Answer<Vec<SecurityGroupView>> {
        self.json(Method::GET, paths::SECURITY_GROUPS, None::<&()>).await
    }

    /// Reads a security group.
    pub async fn security_group_get(&self, group: &Reference<SecurityGroupId>) -> Answer<SecurityGroupView> {
        self.json(Method::GET, &fill(paths::SECURITY_GROUP, &[&group.to_string()]), None::<&()>).await
    }

    /// Adds and removes rules of a security group: all or none.
    pub async fn security_group_modify(
        &self,
        group: &Reference<SecurityGroupId>,
        request: &SecurityGroupModifyRequest,
    ) -> Answer<SecurityGroupView> {
        self.json(Method::PATCH, &fill(paths::SECURITY_GROUP, &[&group.to_string()]), Some(request)).await
    }

    /// Deletes a security group that is not in use.
    pub async fn security_group_delete(&self, group: &Reference<SecurityGroupId>) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::SECURITY_GROUP, &[&group.to_string()]), None::<&()>).await
    }

    // Hosts

    /// Lists the hosts.
    pub async fn host_list(&self) -> Answer<Vec<HostView>> {
        self.json(Method::GET, paths::HOSTS, None::<&()>).await
    }

    /// Lists what matters to the migrations of the jobs on a host.
    pub async fn host_findings(&self, host: &Reference<HostId>) -> Answer<Vec<FindingView>> {
        self.json(Method::GET, &fill(paths::HOST_FINDINGS, &[&host.to_string()]), None::<&()>).await
    }

    /// Starts a drain of a host.
    pub async fn host_drain(&self, host: &Reference<HostId>, request: &DrainRequest) -> Answer<DrainAnswer> {
        self.json(Method::POST, &fill(paths::HOST_DRAIN, &[&host.to_string()]), Some(request)).await
    }

    /// Ends the drain of a host.
    pub async fn host_undrain(&self, host: &Reference<HostId>) -> Answer<HostView> {
        self.json(Method::DELETE, &fill(paths::HOST_DRAIN, &[&host.to_string()]), None::<&()>).await
    }

    /// Lets a host that lost its state directory join again under its name.
    pub async fn host_rejoin(&self, host: &Reference<HostId>) -> Answer<HostView> {
        self.json(Method::POST, &fill(paths::HOST_REJOIN, &[&host.to_string()]), None::<&()>).await
    }

    /// Joins as a host.
    pub async fn host_join(&self, request: &JoinRequest) -> Answer<JoinAnswer> {
        self.json(Method::POST, paths::HOSTS, Some(request)).await
    }

    /// Renews a host's certificate.
    pub async fn host_certificate(&self, host: &HostId, request: &CertificateRequest) -> Answer<CertificateAnswer> {
        self.json(Method::POST, &fill(paths::HOST_CERTIFICATE, &[host.as_str()]), Some(request)).await
    }

    /// Gets a certificate for a gateway that is placed on a host.
    pub async fn gateway_certificate(
        &self,
        host: &HostId,
        gateway: &GatewayId,
        request: &CertificateRequest,
    ) -> Answer<CertificateAnswer> {
        let path = fill(paths::HOST_GATEWAY_CERTIFICATE, &[host.as_str(), gateway.as_str()]);
        self.json(Method::POST, &path, Some(request)).await
    }

    /// Gives a gateway a certificate for its ports.
    pub async fn gateway_certificate_set(
        &self,
        gateway: &Reference<GatewayId>,
        request: &GatewayCertificateRequest,
    ) -> Answer<GatewayView> {
        self.json(Method::PUT, &fill(paths::GATEWAY_CERTIFICATES, &[&gateway.to_string()]), Some(request)).await
    }

    /// Removes the certificate of a gateway that has that first name.
    pub async fn gateway_certificate_remove(&self, gateway: &Reference<GatewayId>, name: &str) -> Answer<GatewayView> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", name).finish();
        let path = format!("{}?{query}", fill(paths::GATEWAY_CERTIFICATES, &[&gateway.to_string()]));
        self.json(Method::DELETE, &path, None::<&()>).await
    }

    /// Gets a certificate for the ports of a gateway: it and the authority's, in PEM.
    pub async fn gateway_port_certificate(
        &self,
        gateway: &GatewayId,
        request: &CertificateRequest,
    ) -> Answer<CertificateAnswer> {
        self.json(Method::POST, &fill(paths::GATEWAY_PORT_CERTIFICATE, &[gateway.as_str()]), Some(request)).await
    }

    /// Sends an agent's report.
    pub async fn host_report(&self, host: &HostId, report: &HostReport) -> Answer<()> {
        self.nothing(Method::POST, &fill(paths::HOST_REPORT, &[host.as_str()]), Some(report)).await
    }

    /// Watches a host's slice.
    pub async fn host_slices(&self, host: &HostId) -> Answer<Slices<AgentSlice>> {
        self.slices(&fill(paths::HOST_SLICES, &[host.as_str()])).await
    }

    /// Sends a piece of a job's output file. The answer is the next offset that OpCenter expects,
    /// or [`crate::watch::OUTPUT_ENOUGH`].
    pub async fn host_job_log(
        &self,
        host: &HostId,
        job: &JobId,
        file: &OutputFile,
        offset: u64,
        piece: Vec<u8>,
    ) -> Answer<u64> {
        let path = format!("{}?file={file}&offset={offset}", fill(paths::HOST_JOB_LOG, &[host.as_str(), job.as_str()]));
        let request = self.request(Method::PUT, &path).timeout(CALL_TIMEOUT).body(piece);
        self.read(&path, self.send(request).await?).await
    }

    /// Sends a gateway's report.
    pub async fn gateway_report(&self, gateway: &GatewayId, report: &GatewayReport) -> Answer<()> {
        self.nothing(Method::POST, &fill(paths::GATEWAY_REPORT, &[gateway.as_str()]), Some(report)).await
    }

    /// Begins a browser's visit at a gateway.
    pub async fn gateway_visit_begin(&self, gateway: &GatewayId, request: &VisitRequest) -> Answer<VisitAnswer> {
        self.json(Method::POST, &fill(paths::GATEWAY_VISITS, &[gateway.as_str()]), Some(request)).await
    }

    /// Watches a gateway's slice.
    pub async fn gateway_slices(&self, gateway: &GatewayId) -> Answer<Slices<GatewaySlice>> {
        self.slices(&fill(paths::GATEWAY_SLICES, &[gateway.as_str()])).await
    }

    // Requests

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.address.base(&self.trust)));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Answer<reqwest::Response> {
        let unreachable = |source| ClientError::Unreachable { address: self.address().to_owned(), source };
        self.success(request.send().await.map_err(unreachable)?).await
    }

    /// Returns the response if it is a success, else the refusal in it.
    async fn success(&self, response: reqwest::Response) -> Answer<reqwest::Response> {
        let unreachable = |source| ClientError::Unreachable { address: self.address().to_owned(), source };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(unreachable)?;
        Err(ClientError::Refused(serde_json::from_str(&text).unwrap_or_else(|_| foreign_error(status, self.address()))))
    }

    async fn read<T: DeserializeOwned>(&self, what: &str, response: reqwest::Response) -> Answer<T> {
        let bytes = response
            .bytes()
            .await
            .map_err(|source| ClientError::Unreachable { address: self.address().to_owned(), source })?;
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

/// Makes the HTTP client.
fn http(address: &Address, trust: &Trust, identity: Option<Arc<Identity>>) -> Answer<reqwest::Client> {
    let config = mooring_tls::client_config(trust, identity)
        .map_err(|source| ClientError::Tls { address: address.url().to_owned(), source })?;
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .no_proxy()
        .user_agent(concat!("float/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(config);
    if let Some(resolver) = address.resolver(trust) {
        builder = builder.dns_resolver(resolver);
    }
    builder.build().map_err(|source| ClientError::Unreachable { address: address.url().to_owned(), source })
}

fn unreadable(what: &str, source: serde_json::Error) -> ClientError {
    ClientError::Unreadable { what: what.to_owned(), source: Box::new(source) }
}

/// The answer did not come from OpCenter: another server, or a proxy.
fn foreign_error(status: StatusCode, address: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, format!("{address} answered with HTTP status {status}"))
        .hint("check the address: `-a` names OpCenter")
}
