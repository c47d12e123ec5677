//! Downloads of the program, which is the same one that runs OpCenter. Scripts get it from here
//! before they log in.
//!
//! An answer has the hash of the program as its entity tag. So `float release sync` learns without
//! a download that it has the same one.

use std::io::{self, Read};
use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mooring_api::{ErrorCode, paths};
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;

use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// The program of this process, also after its file was replaced.
const OWN: &str = "/proc/self/exe";
/// The size of what is read at once.
const PIECE: usize = 1 << 16;

/// Returns the routes.
pub(super) fn router() -> Router<Context> {
    paths::PLATFORMS.into_iter().fold(Router::new().route(paths::PROGRAM, get(own)), |router, asked| {
        let path = format!("{}.{asked}", paths::PROGRAM);
        router.route(&path, get(move |headers| of_platform(asked, headers)))
    })
}

/// The platform of this process in the names of downloads, like `linux_amd64`.
fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}_{architecture}", std::env::consts::OS)
}

async fn of_platform(asked: &'static str, headers: HeaderMap) -> ApiResult<Response> {
    if asked == platform() {
        return own(headers).await;
    }
    let there_is = format!("there is one for {0}, at {1} and {1}.{0}", platform(), paths::PROGRAM);
    Err(ApiError::not_found(format!("there is no `float` for {asked}: {there_is}")))
}

async fn own(headers: HeaderMap) -> ApiResult<Response> {
    let unreadable = |error: io::Error| {
        tracing::error!(%error, "the program can't be read");
        ApiError::new(ErrorCode::Internal, "OpCenter can't read its own program").hint("OpCenter's log says why")
    };
    let tag = tokio::task::spawn_blocking(tag).await.map_err(io::Error::other).flatten().map_err(unreadable)?;
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let file = tokio::fs::File::open(OWN).await.map_err(unreadable)?;
    let size = file.metadata().await.map_err(unreadable)?.len();
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, size.to_string()),
        (CONTENT_DISPOSITION, "attachment; filename=\"float\"".to_owned()),
        (CACHE_CONTROL, "no-cache".to_owned()),
        (ETAG, tag),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, PIECE))).into_response())
}

/// The entity tag of the program, which does not change while the process runs.
fn tag() -> io::Result<String> {
    static TAG: OnceLock<String> = OnceLock::new();
    if let Some(tag) = TAG.get() {
        return Ok(tag.clone());
    }
    let mut file = std::fs::File::open(OWN)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    Ok(TAG.get_or_init(|| format!("\"{}\"", hex::encode(hash.finalize()))).clone())
}
