//! Sign-in at the OpenID provider: the user of a person, and its session.
//!
//! A user is found by issuer and subject alone. At the first sign-in it is added, with the role
//! `user` and the name that the provider tells. Where another user has that name, or had it and
//! left something behind, the new one gets a number: nobody inherits anything by a name.
//!
//! Groups follow the provider at each sign-in, as far as OpCenter has groups of those names. The
//! provider takes away only the memberships that it gave. Groups are not added by a sign-in: their
//! members see each other's jobs, which an admin decides.

use mooring_api::view::SessionView;
use mooring_store::{IdentityRow, MembershipBy, Tx, UserRow};
use mooring_types::name::NAME_LENGTH_MAX;
use mooring_types::quota::Quota;
use mooring_types::{Clock, Name, Role, Timestamp, UserId};

use super::session;
use super::user::refuse_last_admin;
use crate::audit;
use crate::error::{ApiError, ApiResult};
use crate::oidc::{Callback, Flow, Oidc, Person};
use crate::state::context::Context;

/// The name of a person whose own has no usable character.
const NAMELESS: &str = "user";
/// The name under which failed sign-ins of an address are counted. It can't be a user's.
const PACED_AS: &str = "@provider";

/// Returns the provider at which users may sign in.
pub(crate) fn provider(context: &Context) -> ApiResult<&Oidc> {
    context.oidc.as_deref().ok_or_else(|| {
        ApiError::not_found("no provider is set up at which users could sign in")
            .hint("sign in with a password; `float server opcenter --help` lists the options `--oidc-...`")
    })
}

/// Begins the session of a person who comes back from the provider.
pub(crate) async fn finish(context: &Context, flow: Option<&Flow>, callback: &Callback<'_>) -> ApiResult<SessionView> {
    let (oidc, now) = (provider(context)?, context.clock.now());
    let paced = context.login_pace.begin(audit::origin().address, PACED_AS, now);
    let attempt = paced.map_err(|until| session::too_many(until, now))?;
    let person = match flow {
        Some(flow) => oidc.finish(&*context.clock, flow, callback).await,
        None => Err(crate::oidc::Failure::Stale),
    };
    let person = match person {
        Ok(person) => person,
        Err(failure) => {
            if failure.is_of_provider() {
                context.login_pace.succeeded(attempt);
            }
            return Err(failure.told(oidc.name()));
        }
    };
    context.login_pace.succeeded(attempt);
    let mut tx = context.store.begin().await?;
    let user = user_of(&mut tx, oidc, &person, now).await?;
    let session = session::begin(&mut tx, user, now).await?;
    tx.commit().await?;
    context.wake();
    Ok(session)
}

/// Returns the user of a person, added if there is none, as the provider describes it now.
async fn user_of(tx: &mut Tx, oidc: &Oidc, person: &Person, now: Timestamp) -> ApiResult<UserRow> {
    let user = match tx.identity_user(oidc.issuer(), &person.subject).await? {
        Some(user) => user,
        None => add(tx, oidc, person, now).await?,
    };
    let user = follow_role(tx, oidc, person, user).await?;
    follow_groups(tx, person, &user).await?;
    Ok(user)
}

async fn add(tx: &mut Tx, oidc: &Oidc, person: &Person, now: Timestamp) -> ApiResult<UserRow> {
    let name = free_name(tx, &person.name).await?;
    let user = UserRow {
        id: UserId::random(&mut rand::rng()),
        name,
        role: Role::User,
        password_hash: String::new(),
        create_time: now,
        quota: Quota::default(),
    };
    tx.user_insert(&user).await?;
    let (issuer, subject) = (oidc.issuer().to_owned(), person.subject.clone());
    tx.identity_insert(&IdentityRow { issuer, subject, user: user.id.clone(), makes_admin: false }).await?;
    audit::detail(format!("adds user {}", user.name));
    tracing::info!(user = %user.id, "user {} ({}) is added: it signed in by {}", user.name, user.id, oidc.name());
    Ok(user)
}

/// Returns a valid name like the one that a person has at the provider, which no user has and in
/// which nothing is kept.
async fn free_name(tx: &mut Tx, wanted: &str) -> ApiResult<String> {
    let wanted = valid_name(wanted);
    for number in 1_u32.. {
        let name = numbered(&wanted, number);
        if tx.user_get(&name).await?.is_none() && !tx.user_name_is_used(&name).await? {
            return Ok(name);
        }
    }
    Err(ApiError::new(mooring_api::ErrorCode::ResourceExhausted, format!("there is no free name like `{wanted}`"))
        .hint("ask an admin"))
}

/// Returns a name with a number; the first one has none.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let end = format!("-{number}");
    format!("{}{end}", &name[..name.len().min(NAME_LENGTH_MAX - end.len())])
}

/// Makes a valid name of any text: other characters become `-`.
fn valid_name(text: &str) -> String {
    let fits = |one: char| one.is_ascii_alphanumeric() || ".-_".contains(one);
    let replaced: String = text.chars().map(|one| if fits(one) { one } else { '-' }).collect();
    let begun = replaced.trim_start_matches(|one: char| !one.is_ascii_alphanumeric());
    let name = begun[..begun.len().min(NAME_LENGTH_MAX)].trim_end_matches('-');
    if name.is_empty() { NAMELESS.to_owned() } else { name.to_owned() }
}

/// Makes members of the admins' group admins, and takes that role away from those who were admins
/// by that group alone.
async fn follow_role(tx: &mut Tx, oidc: &Oidc, person: &Person, user: UserRow) -> ApiResult<UserRow> {
    let identity = tx.identity_list().await?.into_iter().find(|identity| identity.user == user.id);
    let Some(identity) = identity else { return Ok(user) };
    let makes_admin = oidc.admin_group().is_some_and(|group| person.groups.iter().any(|one| one == group));
    let role = match (makes_admin, identity.makes_admin) {
        (true, _) => Role::Admin,
        (false, true) if user.role == Role::Admin => Role::User,
        (false, _) => user.role,
    };
    if role != Role::Admin && refuse_last_admin(tx, &user).await.is_err() {
        tracing::warn!(user = %user.id, "user {} stays an admin, being the last one", user.name);
        return Ok(user);
    }
    if makes_admin != identity.makes_admin {
        tx.identity_update(&IdentityRow { makes_admin, ..identity }).await?;
    }
    if role == user.role {
        return Ok(user);
    }
    let user = UserRow { role, ..user };
    tx.user_update(&user).await?;
    audit::detail(format!("role {role}"));
    tracing::info!(user = %user.id, "user {} ({}) has the role {role} now, by {}", user.name, user.id, oidc.name());
    Ok(user)
}

/// Makes a user a member of the groups that the provider names, and takes away other memberships
/// that it gave.
async fn follow_groups(tx: &mut Tx, person: &Person, user: &UserRow) -> ApiResult<()> {
    let named: Vec<Name> = person.groups.iter().filter_map(|group| group_name(group)).collect();
    let memberships = tx.membership_list().await?;
    let own: Vec<_> = memberships.into_iter().filter(|membership| membership.user == user.id).collect();
    for group in tx.group_list().await? {
        let group = &group.name;
        let membership = own.iter().find(|membership| membership.group == *group);
        match (named.contains(group), membership.map(|membership| membership.by)) {
            (true, None) => {
                tx.membership_insert(group, &user.id, MembershipBy::Provider).await?;
                audit::detail(format!("joins {group}"));
            }
            (false, Some(MembershipBy::Provider)) => {
                tx.membership_delete(group, &user.id).await?;
                audit::detail(format!("leaves {group}"));
            }
            (true, Some(_)) | (false, _) => {}
        }
    }
    Ok(())
}

/// Returns the name of the group that a provider means. Some write it as a path. A text that is no
/// valid name is no group here: a changed one could be another group's name.
fn group_name(text: &str) -> Option<Name> {
    text.strip_prefix('/').unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_valid() {
        for (told, name) in [
            ("ada", "ada"),
            ("Ada Lovelace", "Ada-Lovelace"),
            ("ada@example.org", "ada-example.org"),
            ("-_.ada", "ada"),
            ("אדה", NAMELESS),
            ("", NAMELESS),
            ("CORP\\ada", "CORP-ada"),
        ] {
            assert_eq!(valid_name(told), name, "{told}");
        }
        assert_eq!(numbered("ada", 1), "ada");
        assert_eq!(numbered("ada", 12), "ada-12");
        assert_eq!(numbered(&"x".repeat(NAME_LENGTH_MAX), 2).len(), NAME_LENGTH_MAX);
    }

    #[test]
    fn groups_are_named_exactly() {
        let of = |text: &str| group_name(text).map(|name| name.to_string());
        assert_eq!((of("physics"), of("/physics")), (Some("physics".into()), Some("physics".into())));
        for text in ["//physics", "/lab/physics", "physics department", ""] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_gives_a_name(text in ".{0,200}", number in 1_u32..100_000) {
            let name = numbered(&valid_name(&text), number);
            prop_assert!(name.parse::<Name>().is_ok(), "{name}");
        }
    }
}
