//! Downloads of jobs' output files, byte by byte.
//!
//! A job's user writes these files, and their content is never a page of OpCenter: they come as
//! attachments of no type.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mooring_api::{ErrorBody, paths};
use mooring_types::JobId;
use mooring_types::job::OutputFile;
use serde::Deserialize;

use super::job_log::BOTH_STREAMS;
use super::{Asked, Named};
use crate::auth::User;
use crate::error::{ApiError, ApiResult, Error};
use crate::state::context::Context;
use crate::usecase::{find_job, parse};

/// The name of a file.
#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    name: String,
}

/// Download an output file of a job: `stdout.autosave`, `stderr.autosave`, `results/<name>`, or
/// both streams without a name. The answer ends with the last byte that the file has now.
#[utoipa::path(get, path = paths::JOB_FILES, params(("id" = String, Path), ("name" = Option<String>, Query)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", body = ErrorBody)))]
pub(super) async fn download(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Asked(File { name }): Asked<File>,
) -> ApiResult<Response> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, &user, &id).await?;
    drop(tx);
    let file: Option<OutputFile> = match name.as_str() {
        "" | BOTH_STREAMS => None,
        name => Some(parse(name)?),
    };
    let files = context.logs.list(&job.id)?;
    let size = match &file {
        None => files.iter().filter(|(known, _)| !matches!(known, OutputFile::Result(_))).map(|(_, size)| size).sum(),
        Some(file) => files.iter().find(|(known, _)| known == file).map(|(_, size)| *size).ok_or_else(|| {
            ApiError::not_found(format!("the job has no file `{file}`")).hint("`float log ls` lists the files")
        })?,
    };
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, size.to_string()),
        // The names of output files need no quoting.
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", plain_name(file.as_ref()))),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, content(context, job.id, file, size)).into_response())
}

fn plain_name(file: Option<&OutputFile>) -> String {
    match file {
        None => format!("{BOTH_STREAMS}.txt"),
        Some(OutputFile::Result(name)) => name.clone(),
        Some(stream) => stream.to_string(),
    }
}

/// Streams the first `size` bytes of a file. A file only grows, so these are there.
fn content(context: Context, job: JobId, file: Option<OutputFile>, size: u64) -> Body {
    Body::from_stream(async_stream::stream! {
        let mut offset = 0;
        while offset < size {
            let read = match &file {
                None => context.logs.read_both(&job, offset),
                Some(file) => context.logs.read(&job, file, offset),
            };
            let mut piece = match read {
                Ok(piece) => piece,
                Err(error) => {
                    tracing::error!(job = %job, %error, "a download of job {job} ends early");
                    yield Err(error);
                    return;
                }
            };
            piece.truncate(usize::try_from(size - offset).unwrap_or(usize::MAX));
            if piece.is_empty() {
                return;
            }
            offset += piece.len() as u64;
            yield Ok::<Bytes, Error>(piece.into());
        }
    })
}
