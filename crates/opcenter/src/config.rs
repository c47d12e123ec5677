//! The configuration of OpCenter.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use mooring_api::watch::{Backend, StoreAccess};
use mooring_tls::CertificateFiles;
use mooring_types::address::Overlay;
use mooring_types::external::{EndpointRules, IpNet};
use mooring_types::gateway::usual_checkers;
use mooring_types::host_name::HostPattern;

/// The configuration of OpCenter.
#[derive(Debug, Clone)]
pub struct Config {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The addresses to listen at.
    pub listen: Vec<SocketAddr>,
    /// The URL by which browsers reach OpCenter, like `https://float.example.org`; the address of
    /// the request when absent.
    pub external_url: Option<String>,
    /// The names and addresses by which browsers reach OpCenter, beside those that it finds, for
    /// its certificate.
    pub tls_names: Vec<String>,
    /// The certificate for browsers, in place of one that OpCenter's own authority signs.
    pub tls_files: Option<CertificateFiles>,
    /// The ACME server from which that certificate comes.
    pub acme: Option<AcmeConfig>,
    /// The provider at which users may sign in, beside passwords.
    pub oidc: Option<OidcConfig>,
    /// The network of overlay addresses.
    pub overlay: Overlay,
    /// The backend by which hosts reach each other's jobs.
    pub backend: Backend,
    /// The capsule store, if there is one, without a key: each job has its own.
    pub store: Option<StoreAccess>,
    /// The virtual environment of JupyterLab, for the template `jupyter`.
    pub jupyter: PathBuf,
    /// The image for the template `jupyter`, in place of the virtual environment.
    pub jupyter_image: Option<String>,
    /// The directories of hosts that every user's jobs may mount; an admin's jobs may mount any.
    pub volume_paths: Vec<PathBuf>,
    /// The directories of hosts below which every user's jobs may have their image; an admin's jobs
    /// may use any.
    pub image_paths: Vec<PathBuf>,
    /// The ranges that endpoints of external jobs may have, beside the usual ones.
    pub external_ranges: Vec<IpNet>,
    /// The names by which browsers may reach gateways.
    pub gateway_hosts: Vec<HostPattern>,
    /// The proxies before OpCenter and gateways, whose word about clients is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Words in the user agents of clients that only look whether a job answers.
    pub checkers: Vec<String>,
    /// The number of jobs that leave a drained host at once.
    pub drain_at_once: NonZeroUsize,
    /// True where every host may join that has the token in the file `join-token` of the state
    /// directory.
    pub shared_join_token: bool,
}

/// An ACME server, which issues certificates for names that lead to OpCenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The URL of its directory.
    pub directory: String,
    /// The names for the certificate.
    pub domains: Vec<String>,
    /// The mail address that it may write to.
    pub contact: Option<String>,
    /// The certificate by which it is believed, in place of those of this machine.
    pub ca: Option<PathBuf>,
}

/// An OpenID provider at which users sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    /// Its URL, as the provider itself writes it: `https://`, or `http://` on this machine.
    pub issuer: String,
    /// The name under which the provider knows OpCenter.
    pub client_id: String,
    /// The file with the secret that proves it.
    pub client_secret_file: PathBuf,
    /// The provider's name for people.
    pub name: String,
    /// The claim with the name of a person.
    pub name_claim: String,
    /// The claim with the groups of a person.
    pub group_claim: String,
    /// The group whose members are admins.
    pub admin_group: Option<String>,
    /// The certificates by which the provider is believed, in place of those of this machine.
    pub ca: Option<PathBuf>,
}

impl Config {
    /// Returns the configuration with a state directory and nothing else: no addresses, no capsule
    /// store, no directories for users.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            listen: Vec::new(),
            external_url: None,
            tls_names: Vec::new(),
            tls_files: None,
            acme: None,
            oidc: None,
            overlay: Overlay::default(),
            backend: Backend::default(),
            store: None,
            jupyter: "/opt/mooring/jupyter".into(),
            jupyter_image: None,
            volume_paths: Vec::new(),
            image_paths: Vec::new(),
            external_ranges: Vec::new(),
            gateway_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            checkers: usual_checkers(),
            drain_at_once: NonZeroUsize::MIN,
            shared_join_token: false,
        }
    }

    /// Returns whether browsers reach OpCenter over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.external_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }

    /// The addresses that endpoints of external jobs may have.
    pub(crate) fn endpoint_rules(&self) -> EndpointRules {
        EndpointRules { overlay: self.overlay, allowed: self.external_ranges.clone() }
    }

    /// Returns whether there is a capsule store.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }
}
