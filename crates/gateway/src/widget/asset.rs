//! The files of the widget, which are embedded in the program.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{self, HeaderName, HeaderValue};

/// The policy of the panel, a frame without an origin that connects to this gateway only.
const PANEL_POLICY: &str = "sandbox allow-scripts allow-forms; default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'";

#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset { path: super::SCRIPT_PATH, kind: "text/javascript; charset=utf-8", content: super::SCRIPT },
    Asset {
        path: "/.mooring/panel",
        kind: "text/html; charset=utf-8",
        content: include_str!("../../../../web/widget/panel.html"),
    },
    Asset {
        path: "/.mooring/panel.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../../../web/widget/panel.js"),
    },
    Asset {
        path: "/.mooring/panel.css",
        kind: "text/css; charset=utf-8",
        content: include_str!("../../../../web/widget/panel.css"),
    },
];

/// Returns the file at a path.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

impl Asset {
    pub(super) fn answer(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.content));
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, self.kind);
        // The files change with the version of the program.
        set(header::CACHE_CONTROL, "no-cache");
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        // A page with cross-origin isolation loads only resources with the first header, and frames
        // only documents with the second.
        set(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
        set(HeaderName::from_static("cross-origin-embedder-policy"), "require-corp");
        if self.kind.starts_with("text/html") {
            set(header::CONTENT_SECURITY_POLICY, PANEL_POLICY);
            set(header::REFERRER_POLICY, "no-referrer");
        }
        response
    }
}
