//! The dialogues of users: add, change role and groups, set a password, delete.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{UserAddRequest, UserUpdateRequest, UserView};

use super::quota;
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::belongings::{self, Belongings};
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
    ("password", "password"),
    ("role", "role"),
    ("groups", "groups"),
    ("addGroups", "groups"),
    ("removeGroups", "groups"),
    ("cancelJobs", "cancelJobs"),
    ("quota.jobs", "jobs"),
    ("quota.cores", "cores"),
    ("quota.memGb", "memory"),
    ("quota.gateways", "gateways"),
];

/// The dialogue that adds a user.
#[derive(Template)]
#[template(path = "users/add.html")]
pub(super) struct AddDialog {
    form: Form,
    roles: Vec<Choice>,
    groups: Vec<Choice>,
}

/// The dialogue that changes the role and the groups of a user.
#[derive(Template)]
#[template(path = "users/update.html")]
pub(super) struct UpdateDialog {
    form: Form,
    name: String,
    roles: Vec<Choice>,
    groups: Vec<Choice>,
}

/// The dialogue that sets the password of another user.
#[derive(Template)]
#[template(path = "users/password.html")]
struct PasswordDialog<'a> {
    form: Form,
    name: &'a str,
}

/// The dialogue that asks before a user is deleted.
#[derive(Template)]
#[template(path = "users/delete.html")]
pub(super) struct DeleteDialog {
    form: Form,
    name: String,
    of: Belongings,
}

impl DeleteDialog {
    /// Says what goes with the user.
    fn removed(&self) -> String {
        let parts = [
            ui::count(self.of.secrets, "secret"),
            ui::count(self.of.private_templates, "private template"),
            ui::count(self.of.open_sessions, "open session"),
            ui::count(self.of.api_tokens, "API token"),
        ];
        parts.join(", ")
    }
}

fn roles() -> Vec<Choice> {
    vec![
        Choice::new("user", "user: own jobs, and those of the groups to look at"),
        Choice::new("viewer", "viewer: the same to look at, and to change nothing"),
        Choice::new("admin", "admin: everything"),
    ]
}

async fn groups(context: &Context, actor: &User) -> ApiResult<Vec<Choice>> {
    let groups = group::list(context, actor).await?;
    Ok(groups.into_iter().map(|group| Choice::plain(group.name)).collect())
}

/// Returns the texts of a field.
fn listed(form: &Form, key: &str) -> Vec<String> {
    form.list(key).map(ToOwned::to_owned).collect()
}

/// Reads a new password that was typed twice.
fn new_password(form: &mut Form) -> String {
    if form.text("password").is_empty() {
        form.refuse("password", "fill in this field");
    } else if form.text("password") != form.text("again") {
        form.refuse("again", "the two passwords differ");
    }
    form.text("password").to_owned()
}

impl Dialog for AddDialog {
    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        scene.user.refuse_unless_admin("adding a user")?;
        let groups = groups(&scene.context, &scene.user).await?;
        Ok(Self { form: Form::with("role", "user"), roles: roles(), groups })
    }
}

pub(super) async fn add(State(context): State<Context>, visitor: Visitor, mut form: Form) -> Result<Response, Problem> {
    form.require::<mooring_types::Name>("name");
    let password = new_password(&mut form);
    if form.is_valid() {
        let request = UserAddRequest {
            name: form.text("name").trim().to_owned(),
            password,
            role: form.text("role").to_owned(),
            groups: listed(&form, "groups"),
        };
        match user::add(&context, &visitor.user, &request).await {
            Ok(added) => return Ok(answer::done(&format!("User {} is added", added.name))),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let groups = groups(&context, &visitor.user).await?;
    answer::invalid(&AddDialog { form, roles: roles(), groups })
}

/// Returns a user for a dialogue that takes an admin.
async fn for_admin(context: &Context, actor: &User, name: &str) -> ApiResult<UserView> {
    actor.refuse_unless_admin("changing a user")?;
    user::show(context, actor, name).await
}

impl Dialog for UpdateDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let user = for_admin(&scene.context, &scene.user, address.id()).await?;
        let mut form = Form::with("role", &user.role.to_string());
        form.set("before.role", user.role.to_string());
        for group in user.groups {
            form.set("before.groups", group.clone());
            form.set("groups", group);
        }
        quota::write(&mut form, &user.quota);
        let groups = groups(&scene.context, &scene.user).await?;
        Ok(Self { form, name: user.name, roles: roles(), groups })
    }
}

pub(super) async fn update(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let present = for_admin(&context, &visitor.user, address.id()).await?;
    let groups_changed = Membership::of(&form, "before.role", "groups").changed(&present.groups);
    let role = form.text("role").to_owned();
    let is_role_changed = role != form.text("before.role") && role != present.role.to_string();
    let quota = quota::read(&mut form, &present.quota);
    if !form.is_valid() {
        let groups = groups(&context, &visitor.user).await?;
        return answer::invalid(&UpdateDialog { form, name: present.name, roles: roles(), groups });
    }
    let request = UserUpdateRequest {
        role: if is_role_changed { role } else { String::new() },
        add_groups: groups_changed.add,
        remove_groups: groups_changed.remove,
        quota,
        ..UserUpdateRequest::default()
    };
    if request == UserUpdateRequest::default() {
        return Ok(answer::done(&format!("User {} stays as it is", present.name)));
    }
    match user::update(&context, &visitor.user, &present.name, &request).await {
        Ok(user) => Ok(answer::done(&format!("User {} is changed", user.name))),
        Err(error) => {
            form.refused_in(PLACES, error);
            let groups = groups(&context, &visitor.user).await?;
            answer::invalid(&UpdateDialog { form, name: present.name, roles: roles(), groups })
        }
    }
}

pub(super) async fn password_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let user = for_admin(&context, &visitor.user, address.id()).await?;
    answer::part(&PasswordDialog { form: Form::default(), name: &user.name })
}

pub(super) async fn password(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    visitor.user.refuse_unless_admin("setting the password of another user")?;
    let request = UserUpdateRequest { password: new_password(&mut form), ..UserUpdateRequest::default() };
    if form.is_valid() {
        match user::update(&context, &visitor.user, address.id(), &request).await {
            Ok(user) => return Ok(answer::done(&format!("The password of {} is set", user.name))),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    answer::invalid(&PasswordDialog { form, name: address.id() })
}

impl Dialog for DeleteDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let user = for_admin(&scene.context, &scene.user, address.id()).await?;
        let of = belongings::of_user(&scene.context, &scene.user, &user.name).await?;
        Ok(Self { form: Form::default(), name: user.name, of })
    }
}

pub(super) async fn delete(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let jobs = if form.is_checked("cancelJobs") { user::Jobs::Cancel } else { user::Jobs::Refuse };
    match user::delete(&context, &visitor.user, address.id(), jobs).await {
        Ok(()) => Ok(answer::done(&format!("User {} is deleted", address.id()))),
        Err(error) => {
            form.refused_in(PLACES, error);
            let of = belongings::of_user(&context, &visitor.user, address.id()).await?;
            answer::invalid(&DeleteDialog { form, name: address.id().to_owned(), of })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn dialogues_keep_what_was_typed_but_passwords() {
        let mut form = Form::with("name", "ada<");
        form.set("password", "first-secret");
        form.set("again", "second-secret");
        form.set("groups", "physics");
        new_password(&mut form);
        assert_eq!(form.error("again"), "the two passwords differ");
        let groups = || vec![Choice::plain("physics"), Choice::plain("law")];
        let text = AddDialog { form: form.clone(), roles: roles(), groups: groups() }.render().unwrap();
        assert!(
            !text.contains("-secret") && text.contains("ada&#60;") && text.contains("two passwords differ"),
            "{text}"
        );
        assert!(text.contains("value=\"physics\" checked") && text.contains("value=\"law\""), "{text}");
        let text = PasswordDialog { form: form.clone(), name: "ada" }.render().unwrap();
        assert!(!text.contains("-secret") && text.contains("/users/ada/password"), "{text}");
        let text =
            UpdateDialog { form: form.clone(), name: "ada".into(), roles: roles(), groups: groups() }.render().unwrap();
        assert!(text.contains("/users/ada/update") && text.contains("value=\"physics\" checked"), "{text}");
    }

    #[test]
    fn deletion_says_what_becomes_of_each() {
        let job = crate::view::job::NamedJob {
            id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
            name: sample::MARKUP.into(),
            user: "ada".into(),
            status: mooring_types::job::JobStatus::Executing,
        };
        let of = Belongings {
            jobs: vec![job],
            gateways: vec!["lab".into()],
            secrets: 2,
            groups: vec!["physics".into()],
            ..Belongings::default()
        };
        let text = DeleteDialog { form: Form::default(), name: "ada".into(), of }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("name=\"cancelJobs\""), "{text}");
        for part in
            ["not ended: 1", ">lab<", ">physics<", "2 secrets, 0 private templates, 0 open sessions, 0 API tokens"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text =
            DeleteDialog { form: Form::default(), name: "ada".into(), of: Belongings::default() }.render().unwrap();
        assert!(text.contains("/users/ada/delete") && !text.contains("cancelJobs"), "{text}");
    }
}
