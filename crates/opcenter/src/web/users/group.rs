//! The dialogues of groups: add, change, delete.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{GroupAddRequest, GroupUpdateRequest, GroupView};
use mooring_types::Name;

use super::quota;
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{group, user};
use crate::web::address::Address;
use crate::web::dialog::Dialog;
use crate::web::form::{Form, Places};
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::ui::Choice;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

use super::Membership;

/// The fields at which refusals stand.
const PLACES: &Places = &[
    ("name", "name"),
    ("description", "description"),
    ("users", "users"),
    ("addUsers", "users"),
    ("removeUsers", "users"),
    ("quota.jobs", "jobs"),
    ("quota.cores", "cores"),
    ("quota.memGb", "memory"),
    ("quota.gateways", "gateways"),
];

/// The dialogue that adds a group, or changes one.
#[derive(Template)]
#[template(path = "users/group.html")]
pub(super) struct GroupDialog {
    form: Form,
    /// The name of a group that is there; empty for a new one.
    name: String,
    users: Vec<Choice>,
}

/// The dialogue that asks before a group is deleted.
#[derive(Template)]
#[template(path = "users/group_delete.html")]
pub(super) struct DeleteDialog {
    group: GroupView,
}

async fn users(context: &Context, actor: &User) -> ApiResult<Vec<Choice>> {
    Ok(user::list(context, actor).await?.into_iter().map(|user| Choice::plain(user.name)).collect())
}

impl Dialog for GroupDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let Scene { context, user, .. } = scene;
        if address.id().is_empty() {
            user.refuse_unless_admin("adding a group")?;
            return Ok(Self { form: Form::default(), name: String::new(), users: users(context, user).await? });
        }
        let group = for_admin(context, user, address.id()).await?;
        let mut form = Form::with("description", &group.description);
        form.set("before.name", group.name.clone());
        form.set("before.description", group.description);
        for user in group.users {
            form.set("before.users", user.clone());
            form.set("users", user);
        }
        quota::write(&mut form, &group.quota);
        Ok(Self { form, name: group.name, users: users(context, user).await? })
    }
}

impl Dialog for DeleteDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        Ok(Self { group: for_admin(&scene.context, &scene.user, address.id()).await? })
    }
}

pub(super) async fn add(State(context): State<Context>, visitor: Visitor, mut form: Form) -> Result<Response, Problem> {
    let name: Option<Name> = form.require("name");
    if let Some(name) = name.filter(|_| form.is_valid()) {
        let request = GroupAddRequest {
            name: name.to_string(),
            description: form.text("description").to_owned(),
            users: form.list("users").map(ToOwned::to_owned).collect(),
        };
        match group::add(&context, &visitor.user, &request).await {
            Ok(added) => return Ok(answer::done(&format!("Group {} is added", added.name))),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let users = users(&context, &visitor.user).await?;
    answer::invalid(&GroupDialog { form, name: String::new(), users })
}

/// Returns a group for a dialogue that takes an admin.
async fn for_admin(context: &Context, actor: &User, name: &str) -> ApiResult<GroupView> {
    actor.refuse_unless_admin("changing a group")?;
    group::show(context, actor, name).await
}

pub(super) async fn update(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let present = for_admin(&context, &visitor.user, address.id()).await?;
    let users_changed = Membership::of(&form, "before.name", "users").changed(&present.users);
    let quota = quota::read(&mut form, &present.quota);
    if !form.is_valid() {
        let users = users(&context, &visitor.user).await?;
        return answer::invalid(&GroupDialog { form, name: present.name, users });
    }
    let description = form.text("description");
    let is_described = description != form.text("before.description") && description != present.description;
    let request = GroupUpdateRequest {
        description: is_described.then(|| description.to_owned()),
        add_users: users_changed.add,
        remove_users: users_changed.remove,
        quota,
    };
    if request == GroupUpdateRequest::default() {
        return Ok(answer::done(&format!("Group {} stays as it is", present.name)));
    }
    match group::update(&context, &visitor.user, &present.name, &request).await {
        Ok(group) => Ok(answer::done(&format!("Group {} is changed", group.name))),
        Err(error) => {
            form.refused_in(PLACES, error);
            let users = users(&context, &visitor.user).await?;
            answer::invalid(&GroupDialog { form, name: present.name, users })
        }
    }
}

pub(super) async fn delete(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    group::delete(&context, &visitor.user, address.id()).await?;
    Ok(answer::done(&format!("Group {} is deleted", address.id())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn dialogues_render() {
        let mut form = Form::with("description", sample::MARKUP);
        form.set("users", "ada");
        let users = || vec![Choice::plain("ada"), Choice::plain("bob")];
        let text = GroupDialog { form: form.clone(), name: String::new(), users: users() }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("hx-post=\"/groups\""), "{text}");
        let text = GroupDialog { form, name: "physics".into(), users: users() }.render().unwrap();
        assert!(text.contains("/groups/physics/update") && text.contains("value=\"ada\" checked"), "{text}");
        let text = DeleteDialog { group: sample::group() }.render().unwrap();
        assert!(text.contains("/groups/physics/delete") && text.contains("2 users"), "{text}");
    }
}
