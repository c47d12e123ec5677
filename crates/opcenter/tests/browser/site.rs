//! An OpCenter with scenery, and a browser in which its admin is signed in.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::Client;
use mooring_api::view::LoginRequest;
use mooring_api::watch::StoreAccess;
use mooring_opcenter::{Config, OidcConfig};
use mooring_ops::Lifecycle;
use mooring_sim::{OpCenter, Plan, Scenery};
use mooring_store::Store;
use mooring_testkit::browser::Browser;
use mooring_types::{Clock, GatewayId, JobId, ManualClock, SystemClock};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// The longest wait for the page.
pub(crate) const SOON: Duration = Duration::from_secs(20);

type Serving = JoinHandle<Option<Result<(), mooring_opcenter::Error>>>;

/// An OpCenter that pages are read from.
pub(crate) struct Site {
    pub(crate) admin: Client,
    pub(crate) origin: String,
    password: String,
    pub(crate) clock: ManualClock,
    config: Config,
    listener: TcpListener,
    running: Option<(Lifecycle, Serving)>,
    pub(crate) jobs: Vec<JobId>,
    pub(crate) gateways: Vec<GatewayId>,
    scenery: Option<Scenery>,
    // The directory outlives all that is in it.
    directory: Option<TempDir>,
}

impl Site {
    /// Starts an OpCenter in whose store there is nothing.
    pub(crate) async fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut site = Self::below(&path).await;
        site.directory = Some(directory);
        site
    }

    /// Starts an OpCenter at which users of an OpenID provider sign in.
    pub(crate) async fn with_provider(oidc: OidcConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { oidc: Some(oidc), ..config(directory.path()) };
        let mut site = Self::of(config).await;
        site.directory = Some(directory);
        site
    }

    /// Starts an OpCenter in whose store there is nothing, with all that it keeps below a directory
    /// that outlives it.
    pub(crate) async fn below(directory: &Path) -> Self {
        Self::of(config(directory)).await
    }

    async fn of(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let clock = ManualClock::new(SystemClock.now());
        let running = Some(serve(&config, &clock, &listener));
        let anybody = Client::new(&address).unwrap();
        anybody.version_get().await.unwrap();
        let password = std::fs::read_to_string(config.state_dir.join("admin-password")).unwrap().trim().to_owned();
        let credentials = LoginRequest { username: "admin".into(), password: password.clone() };
        let admin = anybody.clone().with_token(anybody.login(&credentials).await.unwrap().token);
        let (jobs, gateways, origin) = (Vec::new(), Vec::new(), format!("http://{address}"));
        let scenery = None;
        Self { admin, origin, password, clock, config, listener, running, jobs, gateways, scenery, directory: None }
    }

    /// The OpCenter, for daemons.
    pub(crate) fn opcenter(&self) -> OpCenter {
        let address = self.listener.local_addr().unwrap().to_string();
        OpCenter::at(address, &self.config.state_dir).unwrap()
    }

    /// Starts an OpCenter with hosts, gateways and jobs of every status, where nothing happens any
    /// more. Movement on a page is then the page's own fault.
    pub(crate) async fn furnished() -> Self {
        Self::planned(Plan { history: Duration::from_secs(160), ..Plan::default() }).await
    }

    /// Starts an OpCenter with one gateway and a dozen jobs without a history.
    pub(crate) async fn small() -> Self {
        Self::planned(Plan { jobs: 12, gateways: 1, history: Duration::ZERO }).await
    }

    async fn planned(plan: Plan) -> Self {
        let mut site = Self::empty().await;
        let scenery =
            Scenery::build(site.admin.clone(), site.opcenter(), &site.join_token(), site.clock.clone(), plan).await;
        let scenery = scenery.unwrap();
        site.jobs = scenery.jobs.clone();
        let mut gateways = site.admin.gateway_list().await.unwrap();
        // The first one that was created has the lowest ports.
        gateways.sort_by(|one, other| one.port_range.cmp(&other.port_range));
        site.gateways = gateways.into_iter().map(|gateway| gateway.id).collect();
        site.scenery = Some(scenery);
        site
    }

    /// A connection of a job, with the origin of its pages.
    pub(crate) async fn connection(&self) -> (String, String) {
        let store = Store::open(&self.config.state_dir.join("opcenter.db")).await.unwrap();
        let rows = store.begin().await.unwrap().connection_list().await.unwrap();
        let views = self.admin.gateway_list().await.unwrap().into_iter().flat_map(|gateway| gateway.connections);
        let mut urls = views.map(|view| view.access_url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"));
        let of = |origin: String| {
            let row = rows.iter().find(|row| origin.ends_with(&format!(":{}", row.gateway_port)))?;
            Some((row.id.to_string(), origin))
        };
        urls.find_map(of).unwrap()
    }

    /// The token with which hosts join.
    pub(crate) fn join_token(&self) -> String {
        std::fs::read_to_string(self.config.state_dir.join("join-token")).unwrap().trim().to_owned()
    }

    /// Returns the jobs that execute on hosts that are well.
    pub(crate) fn executing(&self) -> Vec<JobId> {
        let cluster = &self.scenery.as_ref().unwrap().cluster;
        let is_well = |job: &&JobId| matches!(cluster.executing(job)[..], ["rhine" | "danube" | "elbe"]);
        self.jobs.iter().filter(is_well).cloned().collect()
    }

    /// Lets a job end on its host.
    pub(crate) async fn end(&mut self, job: &JobId) {
        let cluster = &mut self.scenery.as_mut().unwrap().cluster;
        for host in cluster.hosts_mut().filter(|host| host.executes(job)) {
            host.exit(job, 0);
            host.report().await.unwrap();
        }
    }

    /// Stops OpCenter and starts it again over the same state, on the same port, after a while.
    pub(crate) async fn restart(&mut self, meanwhile: impl AsyncFnOnce()) {
        let (lifecycle, served) = self.running.take().unwrap();
        lifecycle.stop();
        served.await.unwrap().unwrap().unwrap();
        meanwhile().await;
        self.running = Some(serve(&self.config, &self.clock, &self.listener));
        self.admin.version_get().await.unwrap();
    }

    /// Ends all sessions of browsers.
    pub(crate) async fn end_sessions(&self, browser: &Browser) {
        // The browser's own cookie is closed to scripts, so its session is ended by its page.
        let script = "const token = document.querySelector('meta[name=\"csrf-token\"]').content;
            const headers = {'X-CSRF-Token': token, 'HX-Request': 'true'};
            return (await fetch('/logout', {method: 'POST', headers})).status;";
        let status: u16 = browser.run(script, &[]).await.unwrap();
        assert!(status < 300, "{status}");
    }

    /// Starts a browser in which the admin is signed in, at a page.
    pub(crate) async fn visit(&self, path: &str) -> Browser {
        let browser = Browser::start_alone().await.unwrap();
        browser.note_faults().await.unwrap();
        let login = format!("{}/login?next={}", self.origin, path.replace('/', "%2F"));
        browser.open(&login).await.unwrap();
        self.sign_in(&browser, "body").await;
        until(&browser, "the page after the login", &format!("return location.pathname === {path:?};")).await;
        browser
    }

    /// Types the admin's password into the form below `root`.
    pub(crate) async fn sign_in(&self, browser: &Browser, root: &str) {
        type_into(browser, &format!("{root} [name=username]"), "admin").await;
        type_into(browser, &format!("{root} [name=password]"), &self.password).await;
        click(browser, &format!("{root} button:not([type=button])")).await;
    }

    /// Opens a page.
    pub(crate) async fn open(&self, browser: &Browser, path: &str) {
        browser.open(&format!("{}{path}", self.origin)).await.unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((lifecycle, _)) = &self.running {
            lifecycle.stop();
        }
    }
}

/// Types a text into a field, in place of what is in it.
pub(crate) async fn type_into(browser: &Browser, selector: &str, text: &str) {
    browser.type_into(selector, text, SOON).await.unwrap();
}

/// Clicks an element.
pub(crate) async fn click(browser: &Browser, selector: &str) {
    browser.click(selector, SOON).await.unwrap();
}

/// Waits until a script returns true in the page.
pub(crate) async fn until(browser: &Browser, what: &str, script: &str) {
    browser.until(what, script, SOON).await.unwrap();
}

fn config(directory: &Path) -> Config {
    Config {
        store: Some(StoreAccess::in_directory(&directory.join("capsules"))),
        shared_join_token: true,
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
