//! A real OpCenter with its real database, in process, with simulated hosts and gateways and a
//! clock that the test sets.
//!
//! [`Lab::settle`] lets OpCenter, hosts and gateways act until nothing changes any more;
//! [`Lab::advance`] does so while time passes. Between two calls nothing happens: a test asserts on
//! a state that stays. Methods panic with the job's record where something can't be so.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_api::Submission;
use mooring_api::view::{GatewayCreateRequest, HostView, JobView, LoginRequest, MigrateRequest, UserAddRequest};
use mooring_api::watch::StoreAccess;
use mooring_api::{Client, ClientError, ErrorCode};
use mooring_opcenter::{Config, OidcConfig};
use mooring_ops::Lifecycle;
use mooring_sim::{Cluster, Machine, OpCenter, SimAgent, SimGateway, Step};
use mooring_store::Store;
use mooring_types::job::JobStatus;
use mooring_types::{GatewayId, JobId, ManualClock, Timestamp};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// The longest step of [`Lab::advance`], shorter than the lease of a host.
const ADVANCE_STEP: Duration = Duration::from_secs(5);

/// An OpCenter that serves; `None` after a panic.
type Serving = JoinHandle<Option<Result<(), mooring_opcenter::Error>>>;

/// An OpCenter with simulated hosts.
pub(crate) struct Lab {
    pub(crate) admin: Client,
    pub(crate) cluster: Cluster,
    pub(crate) clock: ManualClock,
    config: Config,
    listener: TcpListener,
    running: Option<(Lifecycle, Serving)>,
    // The directory outlives all that is in it.
    _directory: TempDir,
}

impl Lab {
    /// Starts an OpCenter with a capsule store and three hosts: `host-1`, `host-2`, `host-3`.
    pub(crate) async fn start() -> Self {
        Self::with(["host-1", "host-2", "host-3"].map(Machine::named).into(), Plan::default()).await
    }

    /// Starts an OpCenter with a capsule store and these hosts.
    pub(crate) async fn with(machines: Vec<Machine>, plan: Plan) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let config = config(directory.path(), &plan);
        let clock = ManualClock::new(plan.begin);
        let running = Some(serve(&config, &clock, &listener));
        let secret = |name: &str| std::fs::read_to_string(config.state_dir.join(name)).unwrap().trim().to_owned();
        let anybody = Client::new(&listener.local_addr().unwrap().to_string()).unwrap();
        // The socket takes connections at once; they are answered when the state directory is open.
        anybody.version_get().await.unwrap();
        let admin = login(&anybody, "admin", &secret("admin-password")).await;
        let opcenter = OpCenter::at(listener.local_addr().unwrap().to_string(), &config.state_dir).unwrap();
        let cluster = Cluster::start(admin.clone(), opcenter, &secret("join-token"), machines).await.unwrap();
        Self { admin, cluster, clock, config, listener, running, _directory: directory }
    }

    /// Stops OpCenter and starts it again over the same state, on the same port.
    pub(crate) async fn restart_opcenter(&mut self) {
        self.stop().await;
        self.running = Some(serve(&self.config, &self.clock, &self.listener));
        self.admin.version_get().await.unwrap();
    }

    /// Copies the database of the running OpCenter.
    pub(crate) async fn database_copied(&mut self) -> PathBuf {
        let copy = self.config.state_dir.with_file_name("copy.db");
        self.stop().await;
        std::fs::copy(self.config.state_dir.join("opcenter.db"), &copy).unwrap();
        self.restart_opcenter().await;
        self.settle().await;
        copy
    }

    /// Stops OpCenter, puts a copy of its database back, and starts it again.
    pub(crate) async fn restart_opcenter_with(&mut self, database: &Path) {
        self.stop().await;
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.config.state_dir.join(format!("opcenter.db{ending}")));
        }
        std::fs::copy(database, self.config.state_dir.join("opcenter.db")).unwrap();
        self.restart_opcenter().await;
    }

    /// The password of `admin`.
    pub(crate) fn admin_password(&self) -> String {
        std::fs::read_to_string(self.config.state_dir.join("admin-password")).unwrap().trim().to_owned()
    }

    /// Opens the database beside OpCenter.
    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.config.state_dir.join("opcenter.db")).await.unwrap()
    }

    async fn stop(&mut self) {
        if let Some((lifecycle, served)) = self.running.take() {
            lifecycle.stop();
            served.await.unwrap().unwrap().unwrap();
        }
    }

    // Time

    /// Lets OpCenter, hosts and gateways act until nothing changes any more.
    pub(crate) async fn settle(&mut self) {
        self.cluster.settle().await.unwrap();
    }

    /// Lets time pass while hosts and gateways report, then settles.
    pub(crate) async fn advance(&mut self, time: Duration) {
        self.pass_time(time).await;
        self.settle().await;
    }

    /// Lets time pass in which hosts and gateways only repeat their last reports.
    pub(crate) async fn pass_time(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(ADVANCE_STEP);
            self.clock.advance(step);
            self.cluster.pass_time(step);
            self.cluster.report().await.unwrap();
            self.cluster.sync().await.unwrap();
            left -= step;
        }
    }

    // Hosts and gateways

    /// The state directory of OpCenter.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.config.state_dir
    }

    /// The OpCenter, for daemons.
    pub(crate) fn opcenter(&self) -> OpCenter {
        OpCenter::at(self.listener.local_addr().unwrap().to_string(), &self.config.state_dir).unwrap()
    }

    /// The token with which hosts join.
    pub(crate) fn join_token(&self) -> String {
        std::fs::read_to_string(self.config.state_dir.join("join-token")).unwrap().trim().to_owned()
    }

    pub(crate) fn host(&mut self, name: &str) -> &mut SimAgent {
        self.cluster.host(name)
    }

    pub(crate) fn gateway(&mut self, id: &GatewayId) -> &mut SimGateway {
        self.cluster.gateway(id)
    }

    pub(crate) async fn host_view(&self, name: &str) -> HostView {
        let hosts = self.admin.host_list().await.unwrap();
        hosts.into_iter().find(|host| host.name == name).unwrap_or_else(|| panic!("no host `{name}`"))
    }

    /// Cuts a host off and lets the time pass after which it counts as unreachable.
    pub(crate) async fn lose_host(&mut self, name: &str) {
        self.host(name).cut_off();
        self.advance(Duration::from_secs(12)).await;
    }

    /// Creates a gateway and lets its host start it.
    pub(crate) async fn create_gateway(&mut self, name: &str) -> GatewayId {
        let request = GatewayCreateRequest { name: name.to_owned(), ..GatewayCreateRequest::default() };
        let id = self.admin.gateway_create(&request).await.unwrap().id;
        self.settle().await;
        id
    }

    // Users

    /// Adds a user with a role and returns a client that is logged in as that user.
    pub(crate) async fn user(&self, name: &str) -> Client {
        let password = format!("password of {name}");
        let request = UserAddRequest { name: name.to_owned(), password: password.clone(), ..UserAddRequest::default() };
        self.admin.user_add(&request).await.unwrap();
        login(&Client::new(self.admin.address()).unwrap(), name, &password).await
    }

    /// Logs in as a user.
    pub(crate) async fn login(&self, name: &str, password: &str) -> Client {
        login(&Client::new(self.admin.address()).unwrap(), name, password).await
    }

    /// Logs in as the admin once more: after an hour the first session has ended.
    pub(crate) async fn admin_again(&self) -> Client {
        self.login("admin", &self.admin_password()).await
    }

    // Jobs

    /// Submits a job to `host-1` and lets it execute.
    pub(crate) async fn job(&mut self) -> JobId {
        self.job_on("host-1", Submission::default()).await
    }

    /// Submits a job to a host and lets it execute.
    pub(crate) async fn job_on(&mut self, host: &str, request: Submission) -> JobId {
        let job = self.submit(Submission { host: Some(host.to_string().parse().unwrap()), ..request }).await;
        self.settle().await;
        self.expect(&job, JobStatus::Executing).await;
        job
    }

    /// Submits a job.
    pub(crate) async fn submit(&self, request: Submission) -> JobId {
        let (image, name) = (Some("dir:/".parse().unwrap()), Some("work".parse().unwrap()));
        let is_bare = request.command.is_empty() && request.script.is_none();
        let command = if is_bare { vec!["true".to_owned()] } else { request.command };
        let request = Submission { image: request.image.or(image), name: request.name.or(name), command, ..request };
        self.admin.job_submit(&request).await.unwrap().id
    }

    pub(crate) async fn view(&self, job: &JobId) -> JobView {
        self.admin.job_get(job).await.unwrap()
    }

    /// Checks the status of a job and returns its record.
    pub(crate) async fn expect(&self, job: &JobId, status: JobStatus) -> JobView {
        let view = self.view(job).await;
        assert!(view.status == status, "expected {status}, found:\n{}", self.record(&view).await);
        view
    }

    /// Checks that a job executes on a host, and nowhere else.
    pub(crate) async fn expect_on(&self, job: &JobId, host: &str) -> JobView {
        let view = self.expect(job, JobStatus::Executing).await;
        assert!(view.host_name == host, "expected on {host}, found:\n{}", self.record(&view).await);
        assert_eq!(self.cluster.executing(job), [host], "{}", self.record(&view).await);
        view
    }

    /// Checks the outcome of a job's last migration, and that it is over.
    pub(crate) async fn expect_outcome(&self, job: &JobId, outcome: &str) -> JobView {
        let view = self.view(job).await;
        let last = view.migrations.last().map(|migration| migration.outcome.to_string());
        assert!(last.as_deref() == Some(outcome), "expected `{outcome}`, found:\n{}", self.record(&view).await);
        view
    }

    /// Begins to migrate a job to a host.
    pub(crate) async fn migrate(&self, job: &JobId, host: &str) {
        let request = MigrateRequest { host: host.to_owned(), ..MigrateRequest::default() };
        self.admin.job_migrate(job, &request).await.unwrap();
    }

    /// Begins to migrate a job from `host-1` to `host-2` and stops before the step.
    pub(crate) async fn migrate_until(&mut self, job: &JobId, step: Step) {
        self.hold(step);
        self.migrate(job, "host-2").await;
        self.settle().await;
    }

    /// Holds a step on all hosts.
    pub(crate) fn hold(&mut self, step: Step) {
        self.cluster.hosts_mut().for_each(|host| host.hold(step));
    }

    /// Lets the next attempt of a step fail on each host.
    pub(crate) fn fail(&mut self, step: Step, reason: &str) {
        self.cluster.hosts_mut().for_each(|host| host.fail(step, reason));
    }

    /// Lets a held step happen on all hosts, and settles.
    pub(crate) async fn release(&mut self, step: Step) {
        self.cluster.hosts_mut().for_each(|host| host.release(step));
        self.settle().await;
    }

    pub(crate) async fn suspend(&mut self, job: &JobId) {
        self.admin.job_suspend(job).await.unwrap();
        self.settle().await;
    }

    pub(crate) async fn resume(&mut self, job: &JobId) {
        self.admin.job_resume(job).await.unwrap();
        self.settle().await;
    }

    pub(crate) async fn snapshot(&mut self, job: &JobId) {
        self.admin.job_snapshot(job).await.unwrap();
        self.settle().await;
    }

    pub(crate) async fn cancel(&mut self, job: &JobId) {
        self.admin.job_cancel(job).await.unwrap();
        self.settle().await;
    }

    /// The messages of a job's events.
    pub(crate) async fn events(&self, job: &JobId) -> Vec<String> {
        let events = self.admin.job_events(job).await.unwrap();
        events.into_iter().map(|event| event.event.to_string()).collect()
    }

    /// All that is known of a job, for the message of a failed test.
    async fn record(&self, view: &JobView) -> String {
        let mut text = format!("{}: {} on `{}`: {}", view.id, view.status, view.host_name, view.status_reason);
        for migration in &view.migrations {
            text += &format!("\n  {} {} → {}: {}", migration.kind, migration.from, migration.to, migration.outcome);
        }
        for (name, agent) in self.cluster.hosts() {
            text += &format!("\n  {name}: {:?}, told {:?}", agent.state(&view.id), agent.order(&view.id));
        }
        for event in self.events(&view.id).await {
            text += &format!("\n  {event}");
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some((lifecycle, _)) = &self.running {
            lifecycle.stop();
        }
    }
}

/// The configuration of an OpCenter.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// OpCenter has a capsule store.
    pub(crate) has_store: bool,
    /// The number of jobs that leave a drained host at a time.
    pub(crate) drain_at_once: usize,
    /// The OpenID provider at which users sign in.
    pub(crate) oidc: Option<OidcConfig>,
    /// The time at which the clock stands first.
    pub(crate) begin: Timestamp,
}

impl Default for Plan {
    fn default() -> Self {
        let begin = "2026-03-01T09:00:00Z".parse().unwrap();
        Self { has_store: true, drain_at_once: 1, oidc: None, begin }
    }
}

fn config(directory: &Path, plan: &Plan) -> Config {
    Config {
        store: plan.has_store.then(|| StoreAccess::in_directory(&directory.join("capsules"))),
        jupyter: "/opt/jupyter".into(),
        drain_at_once: NonZeroUsize::new(plan.drain_at_once).unwrap(),
        shared_join_token: true,
        oidc: plan.oidc.clone(),
        ..Config::new(directory.join("opcenter"))
    }
}

fn serve(config: &Config, clock: &ManualClock, listener: &TcpListener) -> (Lifecycle, Serving) {
    let lifecycle = Lifecycle::new();
    let listener = tokio::net::TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
    let config = Config { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..config.clone() };
    let opcenter = mooring_opcenter::serve(vec![listener], config, Arc::new(clock.clone()), lifecycle.clone());
    let served = lifecycle.tasks().spawn("opcenter", opcenter);
    (lifecycle, served)
}

async fn login(client: &Client, name: &str, password: &str) -> Client {
    let credentials = LoginRequest { username: name.to_owned(), password: password.to_owned() };
    let session = client.login(&credentials).await.unwrap();
    client.clone().with_token(session.token)
}

/// Checks that a request was refused with a code and a text.
pub(crate) fn refused<T>(answer: Result<T, ClientError>, code: ErrorCode, text: &str) {
    let Err(error) = answer else { panic!("expected `{text}`, and it was accepted") };
    assert_eq!((error.code(), error.to_string().contains(text)), (Some(code), true), "expected `{text}`: {error}");
}

/// A duration in seconds.
pub(crate) const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}
