//! The options for OpCenter's certificate.

use std::path::PathBuf;

use mooring_opcenter::AcmeConfig;
use mooring_tls::CertificateFiles;

/// The ACME server without `--acme-directory`.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// The options for OpCenter's certificate.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TlsArgs {
    /// name or address by which browsers reach OpCenter, for the certificate that its own authority
    /// signs, beside those of --listen and --external-url; repeatable
    #[arg(long = "tls-name", value_name = "NAME")]
    tls_names: Vec<String>,
    /// certificate for browsers with its chain, in PEM, instead of one of OpCenter's own authority;
    /// read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// key of --tls-cert, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// name for which an ACME server issues the certificate for browsers; it connects to port 443
    /// of that name, which has to lead to OpCenter; repeatable. With one, you agree to the terms of
    /// the ACME server
    #[arg(long = "acme-domain", value_name = "NAME", conflicts_with = "tls_cert")]
    acme_domains: Vec<String>,
    /// mail address for the ACME server
    #[arg(long, value_name = "ADDRESS", requires = "acme_domains")]
    acme_contact: Option<String>,
    /// directory of the ACME server
    #[arg(long, value_name = "URL", default_value = LETS_ENCRYPT)]
    acme_directory: String,
    /// certificate by which the ACME server is believed, in PEM [default: those of this machine]
    #[arg(long, value_name = "FILE", requires = "acme_domains")]
    acme_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Returns the files of the certificate.
    pub(crate) fn files(&self) -> Option<CertificateFiles> {
        let (certificate, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(CertificateFiles { certificate, key })
    }

    /// Returns the names for the certificate that OpCenter's own authority signs.
    pub(crate) fn names(&self) -> Vec<String> {
        self.tls_names.iter().chain(&self.acme_domains).cloned().collect()
    }

    /// Returns the ACME server.
    pub(crate) fn acme(&self) -> Option<AcmeConfig> {
        let acme = || AcmeConfig {
            directory: self.acme_directory.clone(),
            domains: self.acme_domains.clone(),
            contact: self.acme_contact.clone(),
            ca: self.acme_ca.clone(),
        };
        (!self.acme_domains.is_empty()).then(acme)
    }

    /// Returns the options for OpCenter's process.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        let of_path = |path: &PathBuf| path.display().to_string();
        let names = self.tls_names.iter().map(|name| ("--tls-name", name.clone()));
        let files = [("--tls-cert", &self.tls_cert), ("--tls-key", &self.tls_key)];
        let mut options: Vec<(&'static str, String)> = names.collect();
        options.extend(files.into_iter().filter_map(|(name, path)| Some((name, of_path(path.as_ref()?)))));
        let Some(acme) = self.acme() else { return options };
        options.extend(acme.domains.into_iter().map(|name| ("--acme-domain", name)));
        options.push(("--acme-directory", acme.directory));
        options.extend(acme.contact.map(|address| ("--acme-contact", address)));
        options.extend(acme.ca.map(|path| ("--acme-ca", of_path(&path))));
        options
    }
}
