//! The audit, sessions and settings.

use mooring_types::SessionId;
use reqwest::Method;

use super::{Answer, Client, Download};
use crate::paths::{self, fill};
use crate::view::{
    AuditPage, AuditQuery, LinkRequest, LinkView, OpenSessionView, SessionRequest, SessionRequestState,
    SessionRequestView, SettingsView,
};

impl Client {
    /// Lists entries of the audit, newest first.
    pub async fn audit_list(&self, query: &AuditQuery) -> Answer<AuditPage> {
        let path = format!("{}?{}", paths::AUDIT, written(query));
        self.json(Method::GET, &path, None::<&()>).await
    }

    /// Reads the audit as text, piece by piece: `csv` or `jsonl`.
    pub async fn audit_export(&self, query: &AuditQuery, format: &str) -> Answer<Download> {
        let path = format!("{}?format={format}&{}", paths::AUDIT_EXPORT, written(query));
        self.download(&path).await
    }

    /// Lists the open sessions: the user's own, and all for an admin.
    pub async fn session_list(&self) -> Answer<Vec<OpenSessionView>> {
        self.json(Method::GET, paths::SESSIONS, None::<&()>).await
    }

    /// Ends a session.
    pub async fn session_end(&self, id: &SessionId) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::SESSION_OF_ID, &[id.as_str()]), None::<&()>).await
    }

    /// Asks for a session that a user confirms in a browser.
    pub async fn session_request(&self, request: &SessionRequest) -> Answer<SessionRequestView> {
        self.json(Method::POST, paths::LOGIN_REQUESTS, Some(request)).await
    }

    /// Reads what has become of a request for a session, whose secret is this client's token.
    pub async fn session_request_state(&self) -> Answer<SessionRequestState> {
        self.json(Method::GET, paths::LOGIN_REQUESTS, None::<&()>).await
    }

    /// Makes a link that logs a browser in, once.
    pub async fn session_link(&self, request: &LinkRequest) -> Answer<LinkView> {
        self.json(Method::POST, paths::SESSION_LINK, Some(request)).await
    }

    /// Reads the settings that OpCenter runs with.
    pub async fn settings_get(&self) -> Answer<SettingsView> {
        self.json(Method::GET, paths::SETTINGS, None::<&()>).await
    }
}

fn written(query: &AuditQuery) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(query.pairs()).finish()
}
