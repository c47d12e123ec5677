//! The job script, read from a submission.

use mooring_api::Submission;

use crate::error::{ApiError, ApiResult, At};

/// The most bytes of a job script: every slice of its host carries it.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// Returns the job script, if there is one.
pub(super) fn script(submission: &Submission) -> ApiResult<Option<String>> {
    let Some(script) = &submission.script else { return Ok(None) };
    if !submission.command.is_empty() {
        return Err(ApiError::invalid("a job script and a command exclude each other")
            .hint("leave out `--job`, or what follows `--`")
            .at("script"));
    }
    if script.len() > SCRIPT_BYTES_MAX {
        let size = script.len();
        return Err(ApiError::invalid(format!("a job script of {size} bytes: it takes at most {SCRIPT_BYTES_MAX}"))
            .hint("mount what is large with `--dataVolume`, or put it into the image")
            .at("script"));
    }
    if script.contains('\0') {
        return Err(ApiError::invalid("the job script is no text").hint("give a script, not a program").at("script"));
    }
    Ok(Some(script.clone()))
}
