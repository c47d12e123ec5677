//! Tokens with which hosts join: each is good once, for a time, and for one name where it has one.

use std::time::Duration;

use mooring_api::ErrorCode;
use mooring_api::view::{JoinTokenAnswer, JoinTokenRequest, JoinTokenView};
use mooring_api::watch::JoinRequest;
use mooring_store::{JoinTokenRow, Tx};
use mooring_types::duration::{format_duration, parse_duration};
use mooring_types::{Clock, JoinTokenId, Name};

use super::parse;
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};

/// The time for which a token is good, unless the request says otherwise.
const TTL_DEFAULT: Duration = Duration::from_secs(3600);
/// The longest time for which a token is good.
const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most tokens that have not been used.
const TOKENS_MAX: usize = 1000;

/// Makes a token, and the commands with which a machine joins by it.
pub(crate) async fn create(context: &Context, user: &User, request: &JoinTokenRequest) -> ApiResult<JoinTokenAnswer> {
    user.refuse_unless_admin("making a join token")?;
    let host_name: Option<Name> = match request.name.as_str() {
        "" => None,
        name => Some(parse(name).at("name")?),
    };
    let (ttl, opcenter) = (ttl(&request.ttl).at("ttl")?, url(&request.opcenter).at("opcenter")?);
    let now = context.clock.now();
    let token = new_token();
    let row = JoinTokenRow {
        id: JoinTokenId::random(&mut rand::rng()),
        token_hash: hash_token(&token),
        host_name,
        user_name: user.name.clone(),
        create_time: now,
        expires_at: now + ttl,
    };
    let mut tx = context.store.begin().await?;
    if unused(context, &mut tx).await?.len() >= TOKENS_MAX {
        return Err(ApiError::new(ErrorCode::ResourceExhausted, format!("there are {TOKENS_MAX} unused join tokens"))
            .hint("revoke some with `float hosts token delete`"));
    }
    tx.join_token_insert(&row).await?;
    tx.commit().await?;
    audit::about(Kind::Host, row.host_name.as_ref().map_or("", Name::as_str), "");
    audit::detail(format!("token {} for {}", row.id, format_duration(ttl)));
    tracing::info!(user = user.name, "join token {} is made", row.id);
    let name = row.host_name.as_ref().map_or_else(|| "\"$(hostname -s)\"".to_owned(), Name::to_string);
    let command = format!(
        "install -m 600 /dev/stdin /run/mooring-join-token <<< {token}\n\
         float server agent --opcenter {opcenter} --ca {} --join-token-file /run/mooring-join-token \\\n  \
         --name {name} --underlay \"$(hostname -I | cut -d' ' -f1)\" --gateway-host",
        context.authority.fingerprint()
    );
    Ok(JoinTokenAnswer { join_token: view(&row), command })
}

fn ttl(text: &str) -> ApiResult<Duration> {
    if text.is_empty() {
        return Ok(TTL_DEFAULT);
    }
    let ttl = parse_duration(text).map_err(|error| ApiError::invalid(error.to_string()))?;
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(ApiError::invalid(format!("a join token is good for at most {}", format_duration(TTL_MAX)))
            .hint("give a time like `30m` or `1h`"));
    }
    Ok(ttl)
}

/// Checks a URL of OpCenter, which becomes a part of a command. A daemon reaches it over TLS.
fn url(text: &str) -> ApiResult<String> {
    let is_url =
        ["http://", "https://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-_[]%".contains(&byte));
    if is_url && is_word {
        return Ok(text.replacen("http://", "https://", 1));
    }
    Err(ApiError::invalid(format!("`{text}` is no URL of OpCenter")).hint("give one like `https://10.0.0.5:8443`"))
}

/// Lists the tokens that can still be used.
pub(crate) async fn list(context: &Context, user: &User) -> ApiResult<Vec<JoinTokenView>> {
    user.refuse_unless_admin("listing join tokens")?;
    let mut tx = context.store.begin().await?;
    let rows = unused(context, &mut tx).await?;
    tx.commit().await?;
    Ok(rows.iter().map(view).collect())
}

/// Revokes a token.
pub(crate) async fn delete(context: &Context, user: &User, id: &str) -> ApiResult<()> {
    user.refuse_unless_admin("revoking a join token")?;
    let id: JoinTokenId = parse(id)?;
    let mut tx = context.store.begin().await?;
    if !tx.join_token_delete(&id).await? {
        return Err(ApiError::not_found(format!("no unused join token `{id}`"))
            .hint("`float hosts token list` lists them; a token is gone once it was used or is too old"));
    }
    tx.commit().await?;
    audit::detail(format!("token {id}"));
    Ok(())
}

/// Removes tokens that are too old, and returns the others.
async fn unused(context: &Context, tx: &mut Tx) -> ApiResult<Vec<JoinTokenRow>> {
    let now = context.clock.now();
    let (rows, old): (Vec<_>, Vec<_>) = tx.join_token_list().await?.into_iter().partition(|row| row.expires_at > now);
    for row in old {
        tx.join_token_delete(&row.id).await?;
    }
    Ok(rows)
}

/// Uses a token up for the join of a host. It counts as used once the transaction is committed.
pub(super) async fn take(context: &Context, tx: &mut Tx, request: &JoinRequest) -> ApiResult<()> {
    // Hashes are compared: the time that a comparison takes reveals nothing of the token.
    let hash = hash_token(&request.join_token);
    if context.join_token.as_deref().is_some_and(|shared| hash_token(shared) == hash) {
        return Ok(());
    }
    let rows = unused(context, tx).await?;
    let Some(row) = rows.into_iter().find(|row| row.token_hash == hash) else {
        return Err(ApiError::new(ErrorCode::Unauthenticated, "the join token is unknown, was used or is too old")
            .hint("an admin makes one with `float hosts token create`"));
    };
    if let Some(name) = row.host_name.filter(|name| *name != request.name) {
        return Err(ApiError::new(ErrorCode::PermissionDenied, format!("the join token is for a host named `{name}`"))
            .hint(format!("start the agent with `--name {name}`, or have a token made for this name")));
    }
    tx.join_token_delete(&row.id).await?;
    audit::detail(format!("with token {}", row.id));
    Ok(())
}

fn view(row: &JoinTokenRow) -> JoinTokenView {
    JoinTokenView {
        id: row.id.clone(),
        name: row.host_name.as_ref().map_or_else(String::new, Name::to_string),
        user: row.user_name.clone(),
        create_time: row.create_time,
        expires_at: row.expires_at,
    }
}
