//! The actions of requests, by method and route, in one list.
//!
//! An action is named by the kind of its object and a verb. The names are part of the API.

use std::borrow::Cow;
use std::fmt;

use axum::http::Method;
use mooring_api::paths;

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ApiToken,
    Gateway,
    Group,
    Host,
    Job,
    Key,
    Secret,
    SecurityGroup,
    Session,
    Template,
    User,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::ApiToken,
        Self::Gateway,
        Self::Group,
        Self::Host,
        Self::Job,
        Self::Key,
        Self::Secret,
        Self::SecurityGroup,
        Self::Session,
        Self::Template,
        Self::User,
    ];

    /// Returns the first part of the routes of its pages.
    fn noun_of_pages(self) -> &'static str {
        match self {
            Self::ApiToken => "tokens",
            Self::Gateway => "gateways",
            Self::Group => "groups",
            Self::Host => "hosts",
            Self::Job => "jobs",
            Self::Key => "keys",
            Self::Secret => "secrets",
            Self::SecurityGroup => "security-groups",
            Self::Session => "sessions",
            Self::Template => "templates",
            Self::User => "users",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ApiToken => "token",
            Self::Gateway => "gateway",
            Self::Group => "group",
            Self::Host => "host",
            Self::Job => "job",
            Self::Key => "key",
            Self::Secret => "secret",
            Self::SecurityGroup => "securityGroup",
            Self::Session => "session",
            Self::Template => "template",
            Self::User => "user",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An action, like `job.cancel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action(Cow<'static, str>);

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The routes that are not recorded although their method could change something. Reports and
/// output of hosts and gateways come many a second; certificates are renewed every day; a preview
/// changes nothing.
const UNRECORDED: &[(&str, &str)] = &[
    ("POST", paths::HOST_REPORT),
    ("PUT", paths::HOST_JOB_LOG),
    ("POST", paths::GATEWAY_REPORT),
    ("POST", paths::HOST_CERTIFICATE),
    ("POST", paths::HOST_GATEWAY_CERTIFICATE),
    ("POST", paths::GATEWAY_PORT_CERTIFICATE),
    ("POST", "/submit/preview"),
];

/// The actions of the API, with those that only show something secret.
const OF_API: &[(&str, &str, &str)] = &[
    ("POST", paths::LOGIN, "session.login"),
    ("GET", paths::LOGIN, "session.login"),
    ("POST", paths::LOGIN_REQUESTS, "session.request"),
    ("POST", paths::LOGOUT, "session.logout"),
    ("POST", paths::JOB_SESSION, "session.beginForJob"),
    ("POST", paths::SESSION_LINK, "session.link"),
    ("POST", paths::GATEWAY_VISITS, "session.enter"),
    ("DELETE", paths::SESSION_OF_ID, "session.end"),
    ("POST", paths::API_TOKENS, "token.create"),
    ("DELETE", paths::API_TOKEN, "token.delete"),
    ("POST", paths::JOBS, "job.submit"),
    ("PATCH", paths::JOB, "job.modify"),
    ("DELETE", paths::JOB, "job.cancel"),
    ("POST", paths::JOB_RERUN, "job.rerun"),
    ("POST", paths::JOB_MIGRATE, "job.migrate"),
    ("POST", paths::JOB_SUSPEND, "job.suspend"),
    ("POST", paths::JOB_RESUME, "job.resume"),
    ("POST", paths::JOB_SNAPSHOT, "job.snapshot"),
    ("POST", paths::EXTERNAL_JOBS, "job.register"),
    ("PATCH", paths::EXTERNAL_JOB, "job.update"),
    ("POST", paths::GATEWAYS, "gateway.create"),
    ("PATCH", paths::GATEWAY, "gateway.modify"),
    ("DELETE", paths::GATEWAY, "gateway.destroy"),
    ("POST", paths::GATEWAY_CONNECTIONS, "gateway.connect"),
    ("DELETE", paths::GATEWAY_CONNECTIONS, "gateway.disconnect"),
    ("POST", paths::GATEWAY_RESTART, "gateway.restart"),
    ("PUT", paths::GATEWAY_CERTIFICATES, "gateway.setCertificate"),
    ("DELETE", paths::GATEWAY_CERTIFICATES, "gateway.removeCertificate"),
    ("POST", paths::SECURITY_GROUPS, "securityGroup.create"),
    ("PATCH", paths::SECURITY_GROUP, "securityGroup.modify"),
    ("DELETE", paths::SECURITY_GROUP, "securityGroup.delete"),
    ("POST", paths::USERS, "user.add"),
    ("PATCH", paths::USER, "user.update"),
    ("DELETE", paths::USER, "user.delete"),
    ("POST", paths::GROUPS, "group.add"),
    ("PATCH", paths::GROUP, "group.update"),
    ("DELETE", paths::GROUP, "group.delete"),
    ("GET", paths::SECRET, "secret.get"),
    ("PUT", paths::SECRET, "secret.set"),
    ("DELETE", paths::SECRET, "secret.unset"),
    ("POST", paths::TEMPLATES, "template.create"),
    ("DELETE", paths::TEMPLATE, "template.delete"),
    ("POST", paths::HOSTS, "host.join"),
    ("POST", paths::HOST_DRAIN, "host.drain"),
    ("DELETE", paths::HOST_DRAIN, "host.undrain"),
    ("POST", paths::HOST_REJOIN, "host.rejoin"),
    ("DELETE", paths::HOST, "host.remove"),
    ("POST", paths::JOIN_TOKENS, "host.createJoinToken"),
    ("DELETE", paths::JOIN_TOKEN, "host.deleteJoinToken"),
    ("POST", paths::KEYS_ROTATE, "key.rotate"),
    ("GET", paths::AUDIT_EXPORT, "audit.export"),
];

/// The actions of pages whose routes do not tell them, see [`told`].
const OF_PAGES: &[(&str, &str, &str)] = &[
    ("POST", "/login", "session.login"),
    ("GET", "/login/link", "session.loginByLink"),
    ("POST", "/sign-in-for-job", "session.allowForJob"),
    ("GET", "/login/oidc/callback", "session.loginByProvider"),
    ("POST", "/login/confirm", "session.confirm"),
    ("POST", "/login/confirm/refuse", "session.refuse"),
    ("POST", "/logout", "session.logout"),
    ("POST", "/secrets", "secret.set"),
    ("POST", "/secrets/{id}/remove", "secret.unset"),
    ("POST", "/submit", "job.submit"),
    ("POST", "/submit/template", "template.create"),
    ("POST", "/templates/{id}/start", "job.submit"),
    ("POST", "/gateways/new/group", "securityGroup.create"),
    ("POST", "/gateways/{id}/certificate", "gateway.setCertificate"),
    ("POST", "/gateways/{id}/certificate/remove", "gateway.removeCertificate"),
    ("POST", "/users", "user.add"),
    ("POST", "/groups", "group.add"),
    ("POST", "/account/password", "user.update"),
    ("POST", "/tokens", "token.create"),
    ("POST", "/hosts/join", "host.createJoinToken"),
    ("POST", "/hosts/join/{id}/revoke", "host.deleteJoinToken"),
    ("GET", "/audit/export", "audit.export"),
];

/// Returns the action that the route of a page tells: `/jobs/{id}/cancel` is `job.cancel`, and
/// `/gateways` is `gateway.create`.
fn told(route: &str) -> Option<String> {
    let mut segments = route.split('/').filter(|segment| !segment.is_empty());
    let noun = segments.next()?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.noun_of_pages() == noun)?;
    let verb = segments.rfind(|segment| !segment.starts_with('{')).unwrap_or("create");
    Some(format!("{kind}.{verb}"))
}

impl Action {
    /// A change through a route that no list has.
    pub(crate) const OTHER: Self = Self(Cow::Borrowed("other"));

    /// Returns the action of a request; `None` if it is not recorded.
    pub(crate) fn of(method: &Method, route: &str) -> Option<Self> {
        let found = OF_API.iter().chain(OF_PAGES).find(|(known, path, _)| method == known && *path == route);
        if let Some((_, _, action)) = found {
            return Some(Self(Cow::Borrowed(action)));
        }
        let is_unrecorded = UNRECORDED.iter().any(|(known, path)| method == known && *path == route);
        if method.is_safe() || is_unrecorded || route.is_empty() {
            return None;
        }
        Some(told(route).map_or(Self::OTHER, |action| Self(Cow::Owned(action))))
    }

    /// Returns the action on jobs with that verb.
    pub(crate) fn on_job(verb: &str) -> Self {
        Self(format!("{}.{verb}", Kind::Job).into())
    }

    /// Returns the kind of the action's objects.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let (kind, _) = self.0.split_once('.')?;
        Kind::ALL.into_iter().find(|known| known.name() == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_the_api_has_an_action() {
        let document = serde_json::to_value(crate::api::openapi()).unwrap();
        let mut changes = 0;
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let method: Method = method.to_uppercase().parse().unwrap();
                if !method.is_safe() {
                    changes += 1;
                    assert!(Action::of(&method, path).is_some_and(|found| found != Action::OTHER), "{method} {path}");
                }
            }
        }
        assert!(changes > 30, "{changes}");
    }

    #[test]
    fn every_change_of_the_pages_has_an_action() {
        for route in crate::web_routes().into_iter().filter(|route| !route.method.is_safe()) {
            let Some(action) = Action::of(&route.method, route.path) else {
                assert_eq!(route.path, "/submit/preview");
                continue;
            };
            assert!(action != Action::OTHER, "{route:?}");
            assert!(action.kind().is_some(), "{route:?}: {action}");
        }
        let of = |route| Action::of(&Method::POST, route).unwrap().to_string();
        assert_eq!(of("/jobs/{id}/cancel"), "job.cancel");
        assert_eq!(of("/jobs/cancel"), "job.cancel");
        assert_eq!(of("/gateways"), "gateway.create");
        assert_eq!(of("/security-groups/{id}/delete"), "securityGroup.delete");
    }

    #[test]
    fn unknown_change_is_recorded_and_a_look_is_not() {
        assert_eq!(Action::of(&Method::POST, "/new/page"), Some(Action::OTHER));
        assert_eq!(Action::of(&Method::GET, paths::JOBS), None);
        assert_eq!(Action::of(&Method::POST, paths::HOST_REPORT), None);
        assert_eq!(Action::of(&Method::PUT, paths::HOST_JOB_LOG), None);
    }

    #[test]
    fn actions_name_kinds() {
        let names = OF_API.iter().chain(OF_PAGES).map(|(.., name)| *name);
        for name in names.filter(|name| !name.starts_with("audit.")) {
            assert!(Action(name.into()).kind().is_some(), "{name}");
        }
    }
}
