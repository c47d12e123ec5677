//! The options for sign-in by an OpenID provider, shared by `float server opcenter` and `float up`.

use std::path::PathBuf;

use mooring_opcenter::OidcConfig;

/// The options for sign-in by an OpenID provider.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OidcArgs {
    /// URL of an OpenID provider at which users sign in, beside those with passwords; it has to
    /// know the URL /login/oidc/callback of OpCenter
    #[arg(long, value_name = "URL", requires_all = ["oidc_client_id", "oidc_client_secret_file"])]
    pub(crate) oidc_issuer: Option<String>,
    /// client ID under which the provider knows OpCenter
    #[arg(long, value_name = "ID", requires = "oidc_issuer")]
    pub(crate) oidc_client_id: Option<String>,
    /// file with the client secret; read again for each sign-in
    #[arg(long, value_name = "FILE", requires = "oidc_issuer")]
    pub(crate) oidc_client_secret_file: Option<PathBuf>,
    /// name of the provider on the login page [default: its host name]
    #[arg(long, value_name = "NAME", requires = "oidc_issuer")]
    pub(crate) oidc_name: Option<String>,
    /// claim with the name for a new user
    #[arg(long, value_name = "CLAIM", default_value = "preferred_username")]
    pub(crate) oidc_name_claim: String,
    /// claim with the groups of a user, who joins those that OpCenter has as well
    #[arg(long, value_name = "CLAIM", default_value = "groups")]
    pub(crate) oidc_group_claim: String,
    /// group of the provider whose members are admins
    #[arg(long, value_name = "GROUP", requires = "oidc_issuer")]
    pub(crate) oidc_admin_group: Option<String>,
    /// file with certificates by which the provider is believed [default: those of this machine]
    #[arg(long, value_name = "FILE", requires = "oidc_issuer")]
    pub(crate) oidc_ca: Option<PathBuf>,
}

impl OidcArgs {
    /// The configuration for OpCenter.
    pub(crate) fn config(self) -> Option<OidcConfig> {
        let issuer = self.oidc_issuer?;
        Some(OidcConfig {
            name: self.oidc_name.unwrap_or_else(|| host(&issuer).to_owned()),
            issuer,
            client_id: self.oidc_client_id?,
            client_secret_file: self.oidc_client_secret_file?,
            name_claim: self.oidc_name_claim,
            group_claim: self.oidc_group_claim,
            admin_group: self.oidc_admin_group,
            ca: self.oidc_ca,
        })
    }

    /// The options that were given, for `float server opcenter`.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        if self.oidc_issuer.is_none() {
            return Vec::new();
        }
        let given = [
            ("--oidc-issuer", self.oidc_issuer.clone()),
            ("--oidc-client-id", self.oidc_client_id.clone()),
            ("--oidc-client-secret-file", path(&self.oidc_client_secret_file)),
            ("--oidc-name", self.oidc_name.clone()),
            ("--oidc-name-claim", Some(self.oidc_name_claim.clone())),
            ("--oidc-group-claim", Some(self.oidc_group_claim.clone())),
            ("--oidc-admin-group", self.oidc_admin_group.clone()),
            ("--oidc-ca", path(&self.oidc_ca)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The host name of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Only {
        #[command(flatten)]
        oidc: OidcArgs,
    }

    fn parse(line: &str) -> Result<OidcArgs, clap::Error> {
        Only::try_parse_from(line.split_whitespace()).map(|only| only.oidc)
    }

    #[test]
    fn provider_takes_id_and_secret() {
        assert!(parse("float --oidc-issuer https://a").is_err());
        assert!(parse("float --oidc-client-id a").is_err());
        assert_eq!(parse("float").unwrap().config(), None);
        assert_eq!(parse("float").unwrap().options(), []);
    }

    #[test]
    fn options_are_handed_on_whole() {
        let line = "--oidc-issuer https://login.example.org/a --oidc-client-id id --oidc-client-secret-file /s \
                    --oidc-name-claim nickname --oidc-group-claim roles --oidc-admin-group ops --oidc-ca /ca";
        let given = parse(&format!("float {line}")).unwrap();
        let again: Vec<String> =
            given.options().into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        let config = parse(&format!("float {}", again.join(" "))).unwrap().config().unwrap();
        assert_eq!(given.config(), Some(config.clone()));
        assert_eq!((config.name.as_str(), config.admin_group.as_deref()), ("login.example.org", Some("ops")));
    }
}
