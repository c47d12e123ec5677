//! The submission of an earlier job, for a form that begins with it.

use mooring_api::Submission;
use mooring_types::{JobId, Name};

use super::hidden;
use crate::error::ApiResult;
use crate::usecase::find_job;
use crate::view::request;
use crate::web::page::Scene;

/// Returns the submission of a job that the visitor may change, without what is secret.
///
/// The gateway and the groups come by their names: the form offers names.
pub(super) async fn submission(scene: &Scene, id: &JobId) -> ApiResult<Submission> {
    let mut tx = scene.context.store.begin().await?;
    let job = find_job(&mut tx, &scene.user, id.as_str()).await?;
    let groups = tx.security_group_list().await?.into_iter().filter(|group| job.security_groups.contains(&group.id));
    let groups: Vec<Name> = groups.map(|group| group.spec.name).collect();
    let gateway = tx.gateway_list().await?.into_iter().find(|row| Some(&row.id) == job.requested_gateway.as_ref());
    let mut submission = request::of_job(&job, &groups);
    if let Some(gateway) = gateway {
        submission.gateway = Some(mooring_types::Reference::Name(gateway.spec.name));
    }
    hidden::hide(&mut submission);
    Ok(submission)
}
