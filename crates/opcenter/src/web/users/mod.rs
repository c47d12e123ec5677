//! Users and Groups: who may log in, who sees whose jobs, and who is logged in.

mod group;
pub(super) mod quota;
mod user;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{GroupView, OpenSessionView, UserView};
use mooring_types::Role;

use super::address::Address;
use super::form::Form;
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::visitor::Visitor;
use super::{answer, ui};
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<UsersPage>("/users")
        .dialog::<user::AddDialog>("/users/new")
        .post("/users", user::add)
        .dialog::<user::UpdateDialog>("/users/{id}/update")
        .post("/users/{id}/update", user::update)
        .get("/users/{id}/password", user::password_dialog)
        .post("/users/{id}/password", user::password)
        .dialog::<user::DeleteDialog>("/users/{id}/delete")
        .post("/users/{id}/delete", user::delete)
        .dialog::<group::GroupDialog>("/groups/new")
        .post("/groups", group::add)
        .dialog::<group::GroupDialog>("/groups/{id}/update")
        .post("/groups/{id}/update", group::update)
        .dialog::<group::DeleteDialog>("/groups/{id}/delete")
        .post("/groups/{id}/delete", group::delete)
        .post("/sessions/{id}/end", end_session)
}

/// The page.
#[derive(Template)]
#[template(path = "users/users.html")]
struct UsersPage {
    users: Vec<UserView>,
    groups: Vec<GroupView>,
    /// The open sessions of all users, for an admin.
    sessions: Vec<OpenSessionView>,
    own_name: String,
    is_admin: bool,
}

impl Page for UsersPage {
    const SECTION: Section = Section::Users;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        let Scene { context, user, .. } = scene;
        Ok(Self {
            users: usecase::user::list(context, user).await?,
            groups: usecase::group::list(context, user).await?,
            sessions: if user.is_admin() { usecase::session::list(context, user).await? } else { Vec::new() },
            own_name: user.name.clone(),
            is_admin: user.is_admin(),
        })
    }

    fn title(&self) -> String {
        "Users and Groups".into()
    }
}

impl UsersPage {
    /// Returns the number of open sessions of a user.
    fn sessions_of(&self, user: &UserView) -> usize {
        self.sessions.iter().filter(|session| session.user == user.name).count()
    }
}

fn role_pill(role: &Role) -> ui::Pill {
    match role {
        Role::Admin => ui::pill("admin", ui::Tone::Busy),
        Role::User | Role::Viewer => ui::pill(*role, ui::Tone::Rest),
    }
}

/// Ends a session.
async fn end_session(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    usecase::session::end(&context, &visitor.user, address.id()).await?;
    Ok(answer::done("The session is ended"))
}

/// The groups of a user, or the users of a group, as a form chooses them.
///
/// The form carries what it began with. Only the difference is sent, so two people who change one
/// user or group at the same time don't undo each other's changes.
struct Membership {
    chosen: Vec<String>,
    /// Absent in a form that does not say what it began with.
    before: Option<Vec<String>>,
}

/// The names to add and to remove.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    add: Vec<String>,
    remove: Vec<String>,
}

impl Membership {
    /// Reads the names of a field; `mark` is another field that tells what the form began with.
    fn of(form: &Form, mark: &str, key: &str) -> Self {
        let names = |key: &str| form.list(key).map(ToOwned::to_owned).collect();
        let is_marked = !form.text(mark).is_empty();
        Self { chosen: names(key), before: is_marked.then(|| names(&format!("before.{key}"))) }
    }

    /// Returns what the visitor has changed, as far as it is not so at present.
    fn changed(self, present: &[String]) -> Changed {
        let Self { chosen, before } = self;
        let before = before.unwrap_or_else(|| present.to_vec());
        let removed = before.iter().filter(|name| !chosen.contains(name) && present.contains(name));
        let remove = removed.cloned().collect();
        let add = chosen.into_iter().filter(|name| !before.contains(name) && !present.contains(name)).collect();
        Changed { add, remove }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn changes_of_others_stay() {
        let names = |names: &str| names.split_terminator(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let changed = |chosen, before: Option<&str>, present| {
            let Changed { add, remove } =
                Membership { chosen: names(chosen), before: before.map(names) }.changed(&names(present));
            (add.join(" "), remove.join(" "))
        };
        let expected = |add: &str, remove: &str| (add.to_owned(), remove.to_owned());
        // The visitor adds c and removes b; somebody else has added d and removed a.
        assert_eq!(changed("a c", Some("a b"), "b d"), expected("c", "b"));
        // Both have done the same.
        assert_eq!(changed("a c", Some("a b"), "a c"), expected("", ""));
        assert_eq!(changed("a c", None, "a b"), expected("c", "b"));
    }

    #[test]
    fn user_of_a_provider_is_offered_no_password() {
        let user = UserView { sign_in: "https://login.example.org".into(), ..sample::account() };
        let page = |users| UsersPage {
            users,
            groups: Vec::new(),
            sessions: Vec::new(),
            own_name: "admin".into(),
            is_admin: true,
        };
        let text = page(vec![user]).render().unwrap();
        assert!(text.contains("https://login.example.org") && !text.contains("/users/ada/password"), "{text}");
        let text = page(vec![sample::account()]).render().unwrap();
        assert!(text.contains("/users/ada/password"), "{text}");
    }

    #[test]
    fn page_shows_texts_as_texts_and_offers_users_nothing() {
        let group = GroupView { description: sample::MARKUP.into(), ..sample::group() };
        let session = OpenSessionView { present: false, client: sample::MARKUP.into(), ..sample::session() };
        let page = |is_admin| {
            let page = UsersPage {
                users: vec![sample::account()],
                groups: vec![group.clone()],
                sessions: if is_admin { vec![session.clone()] } else { Vec::new() },
                own_name: "admin".into(),
                is_admin,
            };
            page.render().unwrap()
        };
        let text = page(true);
        assert!(!text.contains(sample::MARKUP), "{text}");
        for expected in ["Add User", "Add Group", "/users/ada/delete", "/groups/physics/update", "/end"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let text = page(false);
        for hidden in ["Add User", "Add Group", "/delete", "/update", "Open sessions"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
}
