//! The output of jobs: the list of files, a piece of one, and all pieces as they are written.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::{Extension, Json};
use futures_util::Stream;
use mooring_api::view::{LogFileView, LogPiece};
use mooring_api::watch::{KEEPALIVE, WATCH_CHANGED, WATCH_ENDED};
use mooring_api::{ErrorBody, paths};
use mooring_store::JobRow;
use mooring_types::JobId;
use mooring_types::job::OutputFile;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Asked, Named};
use crate::auth::User;
use crate::error::{ApiResult, At};
use crate::state::context::Context;
use crate::usecase::{find_job, parse};

/// The name of both streams together.
pub(super) const BOTH_STREAMS: &str = "output";

/// The start of a piece of output.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    file: String,
    #[serde(default)]
    offset: u64,
}

/// List the files of a job: standard output, standard error and results.
#[utoipa::path(get, path = paths::JOB_LOGS, params(("id" = String, Path)),
    responses((status = 200, body = [LogFileView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<Vec<LogFileView>>> {
    let job = find(&context, &user, &id).await?;
    let view = |(file, size): (OutputFile, u64)| LogFileView { name: file.to_string(), size };
    Ok(Json(context.logs.list(&job.id)?.into_iter().map(view).collect()))
}

/// Return a piece of a job's file. Without `file`, or with `output`, both streams in the order of
/// their arrival.
#[utoipa::path(get, path = paths::JOB_LOG,
    params(("id" = String, Path), ("file" = Option<String>, Query), ("offset" = Option<u64>, Query)),
    responses((status = 200, body = LogPiece), (status = "4XX", body = ErrorBody)))]
pub(super) async fn piece(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Asked(From { file, offset }): Asked<From>,
) -> ApiResult<Json<LogPiece>> {
    let job = find(&context, &user, &id).await?;
    Ok(Json(read(&context, &job, named(&file)?.as_ref(), offset)?))
}

/// Watch a job's file: server-sent events named `changed`, each with the next piece, the last one
/// with `ended`; `ended` has an error.
#[utoipa::path(get, path = paths::JOB_LOG_WATCH,
    params(("id" = String, Path), ("file" = Option<String>, Query), ("offset" = Option<u64>, Query)),
    responses((status = 200, body = LogPiece, content_type = "text/event-stream"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn watch(
    State(context): State<Context>,
    Extension(stop): Extension<CancellationToken>,
    user: User,
    Named(id): Named<String>,
    Asked(From { file, offset }): Asked<From>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let job = find(&context, &user, &id).await?.id;
    let file = named(&file)?;
    Ok(pieces(context, stop, user, job, file, offset))
}

async fn find(context: &Context, user: &User, id: &str) -> ApiResult<JobRow> {
    find_job(&mut context.store.begin_read().await?, user, id).await
}

/// Parses the name of a file; `None` for both streams together.
fn named(file: &str) -> ApiResult<Option<OutputFile>> {
    match file {
        "" | BOTH_STREAMS => Ok(None),
        file => parse(file).at("file").map(Some),
    }
}

fn read(context: &Context, job: &JobRow, file: Option<&OutputFile>, offset: u64) -> ApiResult<LogPiece> {
    let mut piece = match file {
        None => context.logs.read_both(&job.id, offset)?,
        Some(file) => context.logs.read(&job.id, file, offset)?,
    };
    // A character that is cut in two waits for its other half, unless the job has ended.
    let whole = match std::str::from_utf8(&piece) {
        Err(error) if error.error_len().is_none() && !job.status.is_final() => error.valid_up_to(),
        _ => piece.len(),
    };
    piece.truncate(whole);
    Ok(LogPiece {
        offset,
        next: offset + piece.len() as u64,
        ended: job.status.is_final() && piece.is_empty(),
        text: String::from_utf8_lossy(&piece).into_owned(),
    })
}

/// Streams the pieces of a file until the job, the session or OpCenter ends.
fn pieces(
    context: Context,
    stop: CancellationToken,
    user: User,
    job: JobId,
    file: Option<OutputFile>,
    mut offset: u64,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut appended = context.logs.follow(&job);
    let mut moments = context.moments.subscribe();
    let stream = async_stream::stream! {
        let mut user = user;
        loop {
            appended.mark_unchanged();
            moments.mark_unchanged();
            match next(&context, &mut user, &job, file.as_ref(), offset).await {
                Ok(piece) if piece.text.is_empty() && !piece.ended => {}
                Ok(piece) => {
                    offset = piece.next;
                    yield Ok(Event::default().event(WATCH_CHANGED).data(json(&piece)));
                    if piece.ended {
                        return;
                    }
                    continue;
                }
                Err(error) => {
                    yield Ok(Event::default().event(WATCH_ENDED).data(json(&error.0)));
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                told = appended.changed() => if told.is_err() { return },
                changed = moments.changed() => if changed.is_err() { return },
            }
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEPALIVE))
}

/// Renews the user, and reads the next piece; an empty one at the end.
async fn next(
    context: &Context,
    user: &mut User,
    job: &JobId,
    file: Option<&OutputFile>,
    offset: u64,
) -> ApiResult<LogPiece> {
    *user = user.renewed(context).await?;
    let job = find(context, user, job.as_str()).await?;
    read(context, &job, file, offset)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
