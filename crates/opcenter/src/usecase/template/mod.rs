//! Templates: create, list, show, delete; and the request that a submission with a template stands
//! for.
//!
//! Admins make public templates for everybody; a private template is its user's alone. A name may
//! have many tags; no tag, or `latest`, means the newest. A public template hides the built-in one
//! of its name. Built-in templates have no tags.

pub(crate) mod builtin;
mod pattern;

use std::collections::BTreeMap;

use mooring_api::view::{TemplateCreateRequest, TemplateView};
use mooring_api::{ErrorCode, Submission};
use mooring_store::{TemplateRow, Tx};
use mooring_types::template::Scope;
use mooring_types::{Clock, Name, TemplateName};
use serde_json::Value;

use super::{find_job, parse, taken};

use self::builtin::BuiltIn;
use self::pattern::Pattern;
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::token::new_token;
use crate::view::masked::masked;
use crate::view::request;

const TEMPLATE_HINT: &str = "`float template list` shows the templates";
/// The length of a job's token in hexadecimal digits.
const TOKEN_LENGTH: usize = 32;
/// The most characters of a description.
const DESCRIPTION_MAX: usize = 256;

/// Creates a template.
pub(crate) async fn create(context: &Context, user: &User, request: &TemplateCreateRequest) -> ApiResult<TemplateView> {
    let name: TemplateName = parse(&request.name).at("name")?;
    if name.scope == Scope::Public && !user.is_admin() {
        return Err(ApiError::new(ErrorCode::PermissionDenied, "a public template takes the role `admin`")
            .hint(format!("create `private::{name}` for yourself, or ask an admin"))
            .at("name"));
    }
    if request.description.chars().count() > DESCRIPTION_MAX || request.description.contains(char::is_control) {
        let message = format!("a description is one line of at most {DESCRIPTION_MAX} characters");
        return Err(ApiError::invalid(message).at("description"));
    }
    let mut tx = context.store.begin().await?;
    let mut pattern = match (&request.from_job, &request.job) {
        (None, Some(job)) => Pattern::new(&checked(job).at("job")?, "/")?,
        (None, None) => {
            return Err(ApiError::invalid("nothing to make a template from").hint("name a job or a job file"));
        }
        (Some(job), None) => {
            let job = find_job(&mut tx, user, job.as_str()).await?;
            let groups =
                tx.security_group_list().await?.into_iter().filter(|group| job.security_groups.contains(&group.id));
            let groups: Vec<Name> = groups.map(|group| group.spec.name).collect();
            Pattern::of_job(request::of_job(&job, &groups), &job.spec.access_path)?
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("a template is made from a job or from a job file, not from both"));
        }
    };
    match request.access_path.as_str() {
        "" => {}
        path if path.starts_with('/') && !path.contains(char::is_control) => path.clone_into(&mut pattern.access_path),
        other => {
            return Err(ApiError::invalid(format!("`{other}` is no path"))
                .hint("an access path starts with `/`")
                .at("accessPath"));
        }
    }
    let known = tx.template_list(&user.id).await?;
    let tag = match name.tag.clone() {
        Some(tag) => tag,
        None => next_tag(&known, &name)?,
    };
    let row = TemplateRow {
        owner: (name.scope == Scope::Private).then(|| user.id.clone()),
        name: name.name.clone(),
        tag,
        description: request.description.clone(),
        job: Value::Object(pattern.job),
        access_path: pattern.access_path,
        user_name: user.name.clone(),
        create_time: context.clock.now(),
    };
    let full = full_name(&row);
    tx.template_insert(&row).await.map_err(|error| {
        taken(error, || format!("there is a template `{full}` already"))
            .hint("choose another tag, or delete that one")
            .at("name")
    })?;
    let view = view(row)?;
    tx.commit().await?;
    context.wake();
    audit::about(Kind::Template, &full, "");
    tracing::info!(user = user.name, "template {full} is created");
    Ok(view)
}

/// Lists the templates that a user may use: built-in ones, then the others, oldest first.
pub(crate) async fn list(context: &Context, user: &User) -> ApiResult<Vec<TemplateView>> {
    let mut tx = context.store.begin().await?;
    let made = tx.template_list(&user.id).await?.into_iter().map(view);
    builtin::all(&context.config)?.into_iter().map(view_of_built_in).chain(made).collect()
}

/// Returns one template.
pub(crate) async fn show(context: &Context, user: &User, name: &str) -> ApiResult<TemplateView> {
    let mut tx = context.store.begin().await?;
    match find(context, &mut tx, user, &parse(name)?).await? {
        Found::Made(row) => view(row),
        Found::BuiltIn(template) => view_of_built_in(template),
    }
}

/// Deletes a template; its tag is required.
pub(crate) async fn delete(context: &Context, user: &User, name: &str) -> ApiResult<()> {
    let name: TemplateName = parse(name)?;
    let mut tx = context.store.begin().await?;
    let row = match find(context, &mut tx, user, &name).await? {
        Found::Made(row) => row,
        Found::BuiltIn(_) => {
            return Err(ApiError::new(ErrorCode::WrongStatus, format!("template `{name}` is built in and stays"))
                .hint("a public template of the same name comes before it"));
        }
    };
    may_delete(user, name.scope)?;
    if name.tag.is_none() {
        return Err(
            ApiError::invalid("which tag is to be deleted?").hint(format!("the newest is `{}`", full_name(&row)))
        );
    }
    tx.template_delete(&row).await?;
    tx.commit().await?;
    context.wake();
    tracing::info!(user = user.name, "template {name} is deleted");
    Ok(())
}

/// Returns the template that the name without a tag stands for once a template is deleted.
pub(crate) async fn successor(context: &Context, user: &User, name: &str) -> ApiResult<Option<String>> {
    let name: TemplateName = parse(name)?;
    let mut tx = context.store.begin_read().await?;
    let mut of_name = tx.template_list(&user.id).await?.into_iter().filter(|row| is_of(row, &name));
    let newest = of_name.rfind(|row| Some(&row.tag) != name.tag.as_ref());
    let built_in =
        || builtin::all(&context.config).map(|all| all.into_iter().find(|one| one.name == name.name.as_str()));
    Ok(match newest {
        Some(row) => Some(full_name(&row)),
        None if name.scope == Scope::Public => built_in()?.map(|one| one.name.to_owned()),
        None => None,
    })
}

/// Returns the names of the templates of a user that refer to a secret.
pub(super) fn referring(rows: &[TemplateRow], secret: &Name) -> Vec<String> {
    let reference = format!("{{secret:{secret}}}");
    rows.iter().filter(|row| row.job.to_string().contains(&reference)).map(full_name).collect()
}

/// Checks that a user may delete a template that it can use and that is not built in.
pub(crate) fn may_delete(user: &User, scope: Scope) -> ApiResult<()> {
    match scope {
        Scope::Public => user.refuse_unless_admin("deleting a public template"),
        Scope::Private => Ok(()),
    }
}

/// Returns the request that a submission stands for, and the access path of its job.
pub(crate) async fn complete(context: &Context, user: &User, given: Submission) -> ApiResult<(Submission, String)> {
    let Some(name) = &given.template else { return Ok((given, "/".into())) };
    let mut tx = context.store.begin().await?;
    let found = find(context, &mut tx, user, name).await.at("template")?;
    drop(tx);
    let token = new_token()[..TOKEN_LENGTH].to_owned();
    match found {
        Found::BuiltIn(template) => template.complete(&given, &token),
        Found::Made(row) => {
            let pattern = pattern(row)?.with_token(&token);
            let access_path = pattern.access_path.clone();
            Ok((pattern.complete(&given)?, access_path))
        }
    }
}

enum Found {
    Made(TemplateRow),
    BuiltIn(BuiltIn),
}

async fn find(context: &Context, tx: &mut Tx, user: &User, name: &TemplateName) -> ApiResult<Found> {
    let of_name = tx.template_list(&user.id).await?.into_iter().filter(|row| is_of(row, name));
    let all: Vec<TemplateRow> = of_name.collect();
    let newest = all.iter().rev().find(|row| name.tag.as_ref().is_none_or(|tag| row.tag == *tag));
    if let Some(row) = newest {
        return Ok(Found::Made(row.clone()));
    }
    let built_in = builtin::all(&context.config)?.into_iter().find(|template| template.name == name.name.as_str());
    match (built_in, name.scope, &name.tag) {
        (Some(template), Scope::Public, None) => Ok(Found::BuiltIn(template)),
        (Some(_), Scope::Public, Some(_)) if all.is_empty() => {
            let error = ApiError::not_found(format!("no template `{name}`: the one that is built in has no tags"));
            Err(error.hint(format!("write `{}` alone", name.name)))
        }
        _ => Err(ApiError::not_found(format!("no template `{name}`")).hint(TEMPLATE_HINT)),
    }
}

fn is_of(row: &TemplateRow, name: &TemplateName) -> bool {
    row.name == name.name && row.owner.is_some() == (name.scope == Scope::Private)
}

/// Returns the number after the highest tag.
fn next_tag(known: &[TemplateRow], name: &TemplateName) -> ApiResult<Name> {
    let numbers = known.iter().filter(|row| is_of(row, name)).filter_map(|row| row.tag.as_str().parse::<u32>().ok());
    parse(&numbers.max().unwrap_or(0).saturating_add(1).to_string())
}

/// Checks the request of a new template.
fn checked(job: &Submission) -> ApiResult<Submission> {
    if job.template.is_some() {
        return Err(ApiError::invalid("a template is not made from another template").hint("take `template` out"));
    }
    if job.image.is_none() {
        return Err(ApiError::invalid("the template's job has no image").hint("give `image`"));
    }
    Ok(job.clone())
}

fn pattern(row: TemplateRow) -> ApiResult<Pattern> {
    match row.job {
        Value::Object(job) => Ok(Pattern { job, access_path: row.access_path }),
        _ => Err(ApiError::new(ErrorCode::Internal, "the template's job is not one").hint("create it anew")),
    }
}

fn full_name(row: &TemplateRow) -> String {
    name_of(row, if row.owner.is_some() { Scope::Private } else { Scope::Public })
}

/// Returns the name of a template with its tag.
pub(super) fn name_of(row: &TemplateRow, scope: Scope) -> String {
    TemplateName { scope, name: row.name.clone(), tag: Some(row.tag.clone()) }.to_string()
}

fn view(row: TemplateRow) -> ApiResult<TemplateView> {
    let (name, description) = (full_name(&row), row.description.clone());
    let (user, create_time) = (row.user_name.clone(), Some(row.create_time));
    let pattern = pattern(row)?;
    let job = pattern.shown(hidden)?;
    Ok(TemplateView { name, description, user, create_time, access_path: pattern.access_path, job })
}

fn view_of_built_in(template: BuiltIn) -> ApiResult<TemplateView> {
    Ok(TemplateView {
        name: template.name.to_owned(),
        description: template.description.to_owned(),
        user: String::new(),
        create_time: None,
        job: template.pattern.shown(hidden)?,
        access_path: template.pattern.access_path,
    })
}

/// Returns a value as it is shown: a token's placeholder is no secret.
fn hidden(key: &str, value: &str) -> String {
    if value == "{token}" {
        return value.to_owned();
    }
    masked(&BTreeMap::from([(key.to_owned(), value.to_owned())])).remove(key).unwrap_or_default()
}
