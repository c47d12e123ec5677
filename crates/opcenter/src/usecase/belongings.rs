//! The belongings of a user, of which a deletion says what becomes of them.

use mooring_types::template::Scope;

use super::{api_token, session, template, user};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::view::job::NamedJob;

/// All that belongs to a user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Belongings {
    /// The jobs that have not ended.
    pub(crate) jobs: Vec<NamedJob>,
    pub(crate) gateways: Vec<String>,
    pub(crate) security_groups: Vec<String>,
    pub(crate) public_templates: Vec<String>,
    pub(crate) private_templates: usize,
    pub(crate) secrets: usize,
    pub(crate) open_sessions: usize,
    pub(crate) api_tokens: usize,
    pub(crate) groups: Vec<String>,
}

/// Returns the belongings of a user. The names of secrets and private templates are nobody else's
/// business.
pub(crate) async fn of_user(context: &Context, actor: &User, name: &str) -> ApiResult<Belongings> {
    actor.refuse_unless_admin("looking at what belongs to a user")?;
    let view = user::show(context, actor, name).await?;
    let sessions = session::list(context, actor).await?;
    let tokens = api_token::list(context, actor).await?;
    let mut tx = context.store.begin_read().await?;
    let live = tx.job_list_live().await?;
    let (private, public): (Vec<_>, Vec<_>) =
        tx.template_list(&view.id).await?.into_iter().partition(|row| row.owner.is_some());
    let is_own = |owner: &str| owner == view.name;
    let gateways = tx.gateway_list().await?.into_iter().filter(|row| is_own(&row.user_name));
    let security_groups = tx.security_group_list().await?.into_iter().filter(|row| is_own(&row.user_name));
    let of_public = public.iter().filter(|row| is_own(&row.user_name));
    Ok(Belongings {
        jobs: NamedJob::all(live.iter().filter(|job| is_own(&job.user_name) && !job.status.is_final())),
        gateways: gateways.map(|row| row.spec.name.to_string()).collect(),
        security_groups: security_groups.map(|row| row.spec.name.to_string()).collect(),
        public_templates: of_public.map(|row| template::name_of(row, Scope::Public)).collect(),
        private_templates: private.len(),
        secrets: tx.secret_list_of_user(&view.id).await?.len(),
        open_sessions: sessions.iter().filter(|session| session.user == view.name).count(),
        api_tokens: tokens.iter().filter(|token| token.user == view.name).count(),
        groups: view.groups,
    })
}
