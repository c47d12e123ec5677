//! The address of OpCenter, as users and daemons give it.

use std::net::IpAddr;
use std::sync::Arc;

use mooring_tls::{OPCENTER_NAME, Trust};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::ClientError;

/// The port of OpCenter, unless it has another one.
const PORT: u16 = 8443;

/// The URL of an OpCenter. Plain HTTP is for this machine's loopback alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    url: String,
    /// The host of the URL, without the brackets of an IPv6 address.
    host: String,
    port: u16,
    is_tls: bool,
    /// The URL with OpCenter's own name in place of the host.
    by_own_name: String,
}

impl Address {
    /// Reads an address with or without a scheme.
    ///
    /// # Errors
    /// It is no address, or plain HTTP beyond the loopback.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        let none = || ClientError::NoAddress { address: text.to_owned() };
        let with_scheme = |scheme: &str| Url::parse(&format!("{scheme}://{text}")).map_err(|_| none());
        let url = match text.contains("://") {
            true => Url::parse(text).map_err(|_| none())?,
            false => match with_scheme("http")? {
                url if is_loopback(&url) => url,
                _ => with_scheme("https")?,
            },
        };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Err(none()) };
        let is_tls = match url.scheme() {
            "https" => true,
            "http" if is_loopback(&url) => false,
            "http" => return Err(ClientError::Plain { address: text.to_owned() }),
            _ => return Err(none()),
        };
        let written = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        let mut own = url.clone();
        own.set_host(Some(OPCENTER_NAME)).map_err(|_| none())?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { url: written(&url), host, port, is_tls, by_own_name: written(&own) })
    }

    /// Reads the addresses at which OpCenter may be, the likeliest one first. A host without a
    /// scheme and a port may have OpCenter at 443 or 8443, over TLS. This machine's loopback may
    /// also have it at 8443 as plain HTTP.
    ///
    /// # Errors
    /// It is no address, or plain HTTP beyond the loopback.
    pub fn candidates(text: &str) -> Result<Vec<Self>, ClientError> {
        let text = text.trim();
        // A scheme without a default port keeps each port that is written.
        let has_port = Url::parse(&format!("opcenter://{text}")).is_ok_and(|url| url.port().is_some());
        let only = Self::parse(text)?;
        if text.contains("://") || has_port {
            return Ok(vec![only]);
        }
        let with = |scheme: &str, port: u16| {
            let mut url = Url::parse(&format!("{scheme}://{text}"))
                .map_err(|_| ClientError::NoAddress { address: text.to_owned() })?;
            url.set_port(Some(port)).map_err(|()| ClientError::NoAddress { address: text.to_owned() })?;
            Self::parse(url.as_str())
        };
        let mut all = Vec::new();
        if !only.is_tls {
            all.push(with("http", PORT)?);
        }
        all.extend([with("https", 443)?, with("https", PORT)?]);
        Ok(all)
    }

    /// Reads the address as a daemon needs it: always over TLS, also on this machine's loopback,
    /// because a daemon is known by its certificate.
    ///
    /// # Errors
    /// It is no address, or plain HTTP.
    pub fn parse_for_daemon(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        match text.split_once("://") {
            Some(("http", _)) => Err(ClientError::Plain { address: text.to_owned() }),
            Some(_) => Self::parse(text),
            None => Self::parse(&format!("https://{text}")),
        }
    }

    /// The URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The host's name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether it is reached over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Returns what URLs of requests begin with. OpCenter shows the certificate of its authority to
    /// those who ask for its own name.
    pub(super) fn base(&self, trust: &Trust) -> &str {
        if self.is_tls && trust.asks_for_own_name() { &self.by_own_name } else { &self.url }
    }

    /// Returns what finds OpCenter's own name at this address, if it is asked for.
    pub(super) fn resolver(&self, trust: &Trust) -> Option<Arc<AtHost>> {
        (self.is_tls && trust.asks_for_own_name()).then(|| Arc::new(AtHost(self.host.clone())))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Finds every name at one host.
#[derive(Debug)]
pub(super) struct AtHost(String);

impl Resolve for AtHost {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_follows_from_where_the_address_is() {
        for (text, url) in [
            ("127.0.0.1:8443", "http://127.0.0.1:8443"),
            ("localhost:8443", "http://localhost:8443"),
            ("[::1]:8443", "http://[::1]:8443"),
            ("https://127.0.0.1:8443/", "https://127.0.0.1:8443"),
            ("10.0.0.5:8443", "https://10.0.0.5:8443"),
            ("float.example.org", "https://float.example.org"),
            ("https://float.example.org/under/", "https://float.example.org/under"),
            ("[fd00::5]:8443", "https://[fd00::5]:8443"),
        ] {
            assert_eq!(Address::parse(text).unwrap().url(), url);
        }
    }

    #[test]
    fn host_alone_has_several_ports() {
        let urls = |text: &str| -> Vec<String> {
            Address::candidates(text).unwrap().iter().map(|address| address.url().to_owned()).collect()
        };
        assert_eq!(urls("10.0.0.5"), ["https://10.0.0.5", "https://10.0.0.5:8443"]);
        assert_eq!(
            urls("float.example.org/under"),
            ["https://float.example.org/under", "https://float.example.org:8443/under"]
        );
        assert_eq!(urls("[fd00::5]"), ["https://[fd00::5]", "https://[fd00::5]:8443"]);
        let local = ["http://127.0.0.1:8443", "https://127.0.0.1", "https://127.0.0.1:8443"];
        assert_eq!(urls("127.0.0.1"), local);
        for (given, only) in [
            ("10.0.0.5:443", "https://10.0.0.5"),
            ("https://10.0.0.5", "https://10.0.0.5"),
            ("127.0.0.1:80", "http://127.0.0.1"),
            ("localhost:8443", "http://localhost:8443"),
        ] {
            assert_eq!(urls(given), [only]);
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for text in
            ["http://10.0.0.5:8443", "http://float.example.org", "http://0.0.0.0:8443", "http://127.0.0.1.evil:1"]
        {
            assert!(matches!(Address::parse(text), Err(ClientError::Plain { .. })), "{text}");
        }
        for text in ["", "ftp://127.0.0.1", "https://", "10.0.0.5:port"] {
            assert!(matches!(Address::parse(text), Err(ClientError::NoAddress { .. })), "{text}");
        }
    }

    #[test]
    fn daemon_is_never_in_the_clear() {
        assert_eq!(Address::parse_for_daemon("127.0.0.1:8443").unwrap().url(), "https://127.0.0.1:8443");
        assert!(matches!(Address::parse_for_daemon("http://127.0.0.1:8443"), Err(ClientError::Plain { .. })));
    }

    #[test]
    fn own_name_is_asked_for_where_the_authority_is_pinned() {
        let address = Address::parse("10.0.0.5:8443").unwrap();
        let pinned = Trust::Pinned(mooring_tls::Fingerprint::of(b""));
        assert_eq!(address.base(&pinned), "https://opcenter.mooring.internal:8443");
        assert_eq!(address.base(&Trust::System), "https://10.0.0.5:8443");
        assert_eq!(Address::parse("127.0.0.1:1").unwrap().base(&pinned), "http://127.0.0.1:1");
    }
}
