//! The gateway's certificate of OpCenter's authority, for clients that believe that.
//!
//! Each key is made here, for one certificate, and stays in the state directory. A certificate is
//! asked for when other names are desired and when two thirds of its life are over. Until the next
//! one is there the present one serves, also after a start without OpCenter.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mooring_api::watch::CertificateRequest;
use mooring_api::{Client, ClientError};
use mooring_ops::file::{self, Durability, Mode};
use mooring_ops::log::chain;
use mooring_tls::{PortCertificate, PortRequest, Unusable};
use mooring_types::{Clock, GatewayId, SystemClock};

use super::PortTls;

/// The file with the certificate and its key, in the state directory.
const FILE: &str = "ports.pem";
/// The interval between two looks at the certificate's life.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// The time between two requests that failed.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// A certificate that the gateway did not get.
#[derive(Debug, thiserror::Error)]
enum Missed {
    #[error("can't make a request")]
    Request(#[from] mooring_tls::Error),
    #[error("OpCenter has issued none")]
    OpCenter(#[from] ClientError),
    #[error("OpCenter's answer is of no use")]
    Answer(#[from] Unusable),
    #[error("can't keep it")]
    Keep(#[source] std::io::Error),
}

/// Takes the certificate that an earlier process has kept, if there is one.
pub(crate) fn load(state_dir: &Path, tls: &PortTls) {
    let Ok(text) = std::fs::read_to_string(path(state_dir)) else { return };
    match PortCertificate::read(&text, &text) {
        Ok(certificate) => tls.set_own(certificate),
        Err(error) => tracing::warn!(error = %chain(&error), "the kept certificate of the ports is of no use"),
    }
}

/// Asks for certificates when they are due, for ever.
pub(crate) async fn keep_certified(client: &Client, gateway: &GatewayId, state_dir: &Path, tls: &PortTls) {
    let mut answers = true;
    loop {
        let mut pause = LOOK_INTERVAL;
        if tls.is_due(SystemClock.now()) {
            match ask(client, gateway, state_dir).await {
                Ok(certificate) => {
                    tracing::info!("its ports have a certificate for {}", certificate.names().join(", "));
                    answers = true;
                    tls.set_own(certificate);
                }
                Err(error) => {
                    if std::mem::take(&mut answers) {
                        tracing::warn!(error = %chain(&error), "no new certificate for the ports");
                    }
                    pause = RETRY_DELAY;
                }
            }
        }
        tokio::select! {
            () = tls.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn ask(client: &Client, gateway: &GatewayId, state_dir: &Path) -> Result<PortCertificate, Missed> {
    let request = PortRequest::generate()?;
    let asked = CertificateRequest { certificate_request: request.pem()? };
    let answer = client.gateway_port_certificate(gateway, &asked).await?;
    let text = request.with_certificate(&answer.certificate);
    let certificate = PortCertificate::read(&text, &text)?;
    file::replace(&path(state_dir), Durability::Synced, Mode::Private, text.as_bytes()).map_err(Missed::Keep)?;
    Ok(certificate)
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}
