//! OpCenter's certificate from an ACME server (RFC 8555), by which browsers believe it.
//!
//! | file in `acme` of the state directory | content |
//! |---|---|
//! | `account.json` | the ACME server, and the account's key there |
//! | `certificate.pem` | the certificate with its chain, and its key: one file, replaced as a whole |
//!
//! The certificate is renewed when two thirds of its life are over, or when other names are wanted.
//! Until there is one, and when none can be had, OpCenter shows the certificate of its own
//! authority. The proof of a name is by TLS: see [`ServerCertificate::prove`].

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use mooring_ops::file::{self, Durability, Mode};
use mooring_ops::log::chain;
use mooring_tls::{CertificateFiles, ServerCertificate};
use mooring_types::{Clock, SystemClock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::AcmeConfig;

/// The longest time between two looks at the certificate.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// The shortest time between two looks at the certificate.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The time after the first failure until the next attempt; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// The least time after a refusal: ACME servers bound the number of refusals in an hour.
const RETRY_REFUSED: Duration = Duration::from_secs(900);
/// The time limit of an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);
/// The time limit of a wait for the ACME server within an order.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// The type of the error for an account that the ACME server does not know.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// The reason why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the ACME server fails")]
    Acme(#[from] instant_acme::Error),
    #[error("the ACME server refuses {name}: {reason}")]
    Refused { name: String, reason: String },
    #[error("the ACME server takes no proof by TLS (tls-alpn-01) for {0}")]
    NoProof(String),
    #[error("the ACME server has not answered within {} seconds", ORDER_TIMEOUT.as_secs())]
    Slow,
    #[error("can't keep {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("the certificate can't be used")]
    Tls(#[from] mooring_tls::Error),
}

impl Failure {
    /// Returns whether the ACME server does not know the account.
    fn is_of_account(&self) -> bool {
        matches!(self, Self::Acme(instant_acme::Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_ACCOUNT))
    }

    /// Returns whether the ACME server has refused, and would again.
    fn is_refusal(&self) -> bool {
        let has_refused = matches!(self, Self::Refused { .. } | Self::Acme(instant_acme::Error::Api(_)));
        has_refused && !self.is_of_account()
    }
}

/// The account at an ACME server, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptAccount {
    directory: String,
    credentials: AccountCredentials,
}

/// A certificate, as far as its renewal depends on it.
#[derive(Debug, PartialEq, Eq)]
struct Life {
    names: BTreeSet<String>,
    begins_at: Timestamp,
    expires_at: Timestamp,
}

impl Life {
    /// Returns the time of the renewal.
    fn renewal(&self) -> Timestamp {
        let life = self.expires_at.duration_since(self.begins_at);
        self.begins_at + Duration::try_from(life).unwrap_or_default() / 3 * 2
    }
}

/// The ACME server and the files of its certificate.
pub(crate) struct Acme {
    config: AcmeConfig,
    directory: PathBuf,
}

impl Acme {
    /// The files are in a state directory.
    pub(crate) fn new(config: AcmeConfig, state_dir: &Path) -> Self {
        Self { config, directory: state_dir.join("acme") }
    }

    /// Keeps OpCenter's certificate fresh until asked to stop.
    pub(crate) async fn keep(self, certificate: Arc<ServerCertificate>, stop: CancellationToken) {
        if self.certificate().exists()
            && let Err(error) = certificate.use_files(self.files())
        {
            tracing::error!(error = %chain(&error), "the certificate of the ACME server can't be used: another one is asked for");
            // Without the file there is nothing to use, which is as well.
            let _ = fs::remove_file(self.certificate());
        }
        let mut retry = RETRY_FIRST;
        loop {
            let wait = match self.due_in(SystemClock.now()) {
                Some(left) => left.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL),
                None => {
                    let renewed = tokio::select! {
                        renewed = self.renew(&certificate) => renewed,
                        () = stop.cancelled() => return,
                    };
                    match renewed {
                        Ok(()) => {
                            retry = RETRY_FIRST;
                            LOOK_INTERVAL_MIN
                        }
                        Err(failure) => {
                            let wait = self.failed(&failure, retry);
                            retry = (retry * 2).min(LOOK_INTERVAL);
                            wait
                        }
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reports a failure. Returns the time until the next attempt.
    fn failed(&self, failure: &Failure, retry: Duration) -> Duration {
        let wait = if failure.is_refusal() { retry.max(RETRY_REFUSED) } else { retry };
        tracing::error!(
            error = %chain(failure),
            "there is no new certificate from {}: {}; the next attempt is in {} s",
            self.config.directory,
            chain(failure),
            wait.as_secs()
        );
        if failure.is_of_account() {
            // The next attempt makes another account. Without the file there was none.
            let _ = fs::remove_file(self.account_file());
        }
        wait
    }

    fn account_file(&self) -> PathBuf {
        self.directory.join("account.json")
    }

    fn certificate(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles { certificate: self.certificate(), key: self.certificate() }
    }

    /// Returns the time until the certificate is to be renewed; `None` if it is due.
    fn due_in(&self, now: Timestamp) -> Option<Duration> {
        let (names, begins_at, expires_at) = mooring_tls::life(&fs::read_to_string(self.certificate()).ok()?)?;
        let life = Life { names: names.into_iter().collect(), begins_at, expires_at };
        due_in(&life, &self.config.domains, now)
    }

    /// Gets a certificate and shows it.
    async fn renew(&self, certificate: &ServerCertificate) -> Result<(), Failure> {
        let ordered = tokio::time::timeout(ORDER_TIMEOUT, self.order(certificate)).await;
        certificate.withdraw_proofs();
        let text = ordered.map_err(|_| Failure::Slow)??;
        self.write(&self.certificate(), text.as_bytes())?;
        certificate.use_files(self.files())?;
        let until = mooring_tls::life(&text).map_or_else(String::new, |(_, _, end)| format!(" until {end}"));
        tracing::info!(
            "{} has issued a certificate for {}{until}",
            self.config.directory,
            self.config.domains.join(", ")
        );
        Ok(())
    }

    /// Orders a certificate. Returns it with its chain and its key in PEM.
    async fn order(&self, certificate: &ServerCertificate) -> Result<String, Failure> {
        let account = self.account().await?;
        let names: Vec<Identifier> = self.config.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        prove(&mut order, certificate).await?;
        let patience = RetryPolicy::new().timeout(ANSWER_TIMEOUT);
        if order.poll_ready(&patience).await? == OrderStatus::Invalid {
            return Err(refusal(&mut order).await);
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&patience).await?;
        Ok(format!("{key}{chain}"))
    }

    /// Returns the account, which is made the first time.
    async fn account(&self) -> Result<Account, Failure> {
        let builder = || match &self.config.ca {
            Some(ca) => Account::builder_with_root(ca),
            None => Account::builder(),
        };
        let kept = fs::read(self.account_file()).ok();
        let kept = kept.and_then(|text| serde_json::from_slice::<KeptAccount>(&text).ok());
        if let Some(kept) = kept.filter(|kept| kept.directory == self.config.directory) {
            return Ok(builder()?.from_credentials(kept.credentials).await?);
        }
        let contact: Vec<String> = self.config.contact.iter().map(|address| format!("mailto:{address}")).collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder()?.create(&wanted, self.config.directory.clone(), None).await?;
        let kept = KeptAccount { directory: self.config.directory.clone(), credentials };
        let text = serde_json::to_vec(&kept).map_err(|error| Failure::File(self.account_file(), error.into()))?;
        self.write(&self.account_file(), &text)?;
        Ok(account)
    }

    fn write(&self, path: &Path, text: &[u8]) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory)
            .and_then(|()| file::replace(path, Durability::Synced, Mode::Private, text))
            .map_err(|source| Failure::File(path.to_owned(), source))
    }
}

fn due_in(life: &Life, wanted: &[String], now: Timestamp) -> Option<Duration> {
    let has_all = wanted.iter().all(|name| life.names.contains(name));
    let left = Duration::try_from(life.renewal().duration_since(now)).ok().filter(|left| !left.is_zero());
    left.filter(|_| has_all)
}

/// Proves the names of an order that are not proven.
async fn prove(order: &mut Order, certificate: &ServerCertificate) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        let mut challenge =
            authorization.challenge(ChallengeType::TlsAlpn01).ok_or_else(|| Failure::NoProof(name.clone()))?;
        certificate.prove(&name, challenge.key_authorization().digest().as_ref())?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Returns why an order has failed.
async fn refusal(order: &mut Order) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Failure::Refused { name: authorization.identifier().to_string(), reason: problem.to_string() };
        }
    }
    Failure::Refused { name: "the order".to_owned(), reason: "it gives no reason".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_due_by_age_and_names() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let names = ["a.example.org", "b.example.org"].map(str::to_owned);
        let life = Life { names: names.clone().into(), begins_at: at(1000), expires_at: at(1090) };
        let due = |wanted: &[String], now| due_in(&life, wanted, at(now)).map(|left| left.as_secs());
        assert_eq!(due(&names, 1000), Some(60));
        assert_eq!(due(&names[..1], 1059), Some(1));
        assert_eq!(due(&names, 1060), None);
        assert_eq!(due(&names, 5000), None);
        assert_eq!(due(&["c.example.org".to_owned()], 1000), None);
    }
}
