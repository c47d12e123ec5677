//! API tokens: make, list, delete.
//!
//! A token acts in the name of its user, within its scope. It permits no more than the user's role
//! at the time of each request. It is shown once. It ends with its time or its user. A deletion
//! ends it, and so does an admin who sets the user's password.

use std::time::Duration;

use mooring_api::ErrorCode;
use mooring_api::view::{ApiTokenAnswer, ApiTokenRequest, ApiTokenView};
use mooring_store::{ApiTokenRow, Tx};
use mooring_types::api_token::{PREFIX, TokenScope};
use mooring_types::duration::parse_duration;
use mooring_types::{ApiTokenId, Clock, Name, Reference, Timestamp};

use super::{parse, taken};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The time for which a token is good, unless the request says otherwise.
const TTL_DEFAULT: Duration = Duration::from_secs(30 * DAY.as_secs());
/// The longest time for which a token is good.
const TTL_MAX: Duration = Duration::from_secs(365 * DAY.as_secs());
/// The most tokens of a user.
const TOKENS_MAX: usize = 100;
/// The hint of an answer about a token.
const HINT: &str = "`float token list` shows your API tokens";

/// Makes a token.
pub(crate) async fn create(context: &Context, user: &User, request: &ApiTokenRequest) -> ApiResult<ApiTokenAnswer> {
    let name: Name = parse(&request.name).at("name")?;
    let scope: TokenScope = match request.scope.as_str() {
        "" => TokenScope::default(),
        text => parse(text).at("scope")?,
    };
    let ttl = ttl(&request.ttl).at("ttl")?;
    let (now, token) = (context.clock.now(), format!("{PREFIX}{}", new_token()));
    let mut tx = context.store.begin().await?;
    let owner = user.present(&mut tx).await?;
    let own = valid(&mut tx, now).await?.into_iter().filter(|row| row.user.id == owner.id);
    if own.count() >= TOKENS_MAX {
        return Err(ApiError::new(ErrorCode::ResourceExhausted, format!("you have {TOKENS_MAX} API tokens"))
            .hint("delete some with `float token delete`"));
    }
    let row = ApiTokenRow {
        id: ApiTokenId::random(&mut rand::rng()),
        token_hash: hash_token(&token),
        user: owner,
        name,
        scope,
        create_time: now,
        expires_at: now + ttl,
        last_used: None,
    };
    tx.api_token_insert(&row).await.map_err(|error| {
        taken(error, || format!("you have an API token named `{}` already", row.name))
            .hint("choose another name, or delete that token")
            .at("name")
    })?;
    tx.commit().await?;
    context.wake();
    audit::about(Kind::ApiToken, row.id.as_str(), row.name.as_str());
    audit::detail(format!("scope {scope}, until {}", row.expires_at));
    tracing::info!(token = %row.id, user = user.name, "API token {} ({}) of {} is made", row.id, row.name, user.name);
    Ok(ApiTokenAnswer { api_token: view(&row), token })
}

fn ttl(text: &str) -> ApiResult<Duration> {
    if text.is_empty() {
        return Ok(TTL_DEFAULT);
    }
    let ttl = parse_duration(text).map_err(|error| ApiError::invalid(error.to_string()))?;
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(ApiError::invalid(format!(
            "an API token is good for at most {} days",
            TTL_MAX.as_secs() / DAY.as_secs()
        ))
        .hint("give a time like `12h` or `30d`"));
    }
    Ok(ttl)
}

/// Lists the tokens that are good, oldest first: the user's own, and all for an admin.
pub(crate) async fn list(context: &Context, user: &User) -> ApiResult<Vec<ApiTokenView>> {
    let mut tx = context.store.begin().await?;
    let mut rows = valid(&mut tx, context.clock.now()).await?;
    tx.commit().await?;
    rows.retain(|row| user.may_change(&row.user.name));
    Ok(rows.iter().map(view).collect())
}

/// Deletes a token. A name means an own one.
pub(crate) async fn delete(context: &Context, user: &User, reference: &str) -> ApiResult<()> {
    let reference: Reference<ApiTokenId> = parse(reference)?;
    let mut tx = context.store.begin().await?;
    let rows = tx.api_token_list().await?;
    let found = rows.into_iter().find(|row| {
        let is_own = row.user.id == user.id;
        reference.is_to(&row.id, &row.name) && (is_own || user.is_admin() && matches!(reference, Reference::Id(_)))
    });
    let row = found.ok_or_else(|| ApiError::not_found(format!("no API token `{reference}`")).hint(HINT))?;
    audit::about(Kind::ApiToken, row.id.as_str(), row.name.as_str());
    if row.user.id != user.id {
        audit::detail(format!("of {}", row.user.name));
    }
    tx.api_token_delete(&row.id).await?;
    tx.commit().await?;
    context.wake();
    tracing::info!(token = %row.id, actor = user.name, "API token {} of {} is deleted", row.id, row.user.name);
    Ok(())
}

/// Removes tokens that are too old, and returns the others.
async fn valid(tx: &mut Tx, now: Timestamp) -> ApiResult<Vec<ApiTokenRow>> {
    let (rows, old): (Vec<_>, Vec<_>) = tx.api_token_list().await?.into_iter().partition(|row| row.expires_at > now);
    for row in old {
        tx.api_token_delete(&row.id).await?;
    }
    Ok(rows)
}

fn view(row: &ApiTokenRow) -> ApiTokenView {
    ApiTokenView {
        id: row.id.clone(),
        name: row.name.to_string(),
        user: row.user.name.clone(),
        scope: row.scope,
        create_time: row.create_time,
        expires_at: row.expires_at,
        last_used: row.last_used,
    }
}
