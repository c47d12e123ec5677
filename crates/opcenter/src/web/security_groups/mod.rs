//! Security Groups: each with its rules, which are edited in place.

pub(super) mod rules;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{SecurityGroupCreateRequest, SecurityGroupView};
use mooring_types::Name;

use super::address::Address;
use super::form::{Form, Places};
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::visitor::Visitor;
use super::{answer, ui};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::security_group;
use rules::{Rule, RuleForm, RuleRow};

/// The fields of the dialogue at which refusals stand.
const PLACES: &Places = &[("name", "name"), ("description", "description"), ("rules", "rules")];
/// The most members of a group that a card names.
const MEMBERS_SHOWN: usize = 12;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<SecurityGroupsPage>("/security-groups")
        .get("/security-groups/new", create_dialog)
        .post("/security-groups", create)
        .post("/security-groups/{id}/rules", rules::add)
        .get("/security-groups/{id}/rules/row", rules::row)
        .get("/security-groups/{id}/rules/edit", rules::edit)
        .post("/security-groups/{id}/rules/replace", rules::replace)
        .get("/security-groups/{id}/rules/remove", rules::remove_dialog)
        .post("/security-groups/{id}/rules/remove", rules::remove)
        .get("/security-groups/{id}/delete", delete_dialog)
        .post("/security-groups/{id}/delete", delete)
}

/// The list.
#[derive(Template)]
#[template(path = "security_groups/groups.html")]
struct SecurityGroupsPage {
    groups: Vec<Card>,
    /// The reason why the visitor changes nothing; empty without one.
    refusal: String,
}

/// A group with what the visitor may do.
struct Card {
    group: SecurityGroupView,
    rules: Vec<Rule>,
    may_change: bool,
    /// The reason why the group can't be deleted; empty without one.
    refusal: String,
}

impl Card {
    fn of(user: &User, group: SecurityGroupView) -> Self {
        let refused = security_group::may_delete(&group.name, &group.used_by);
        Self {
            rules: group.rules.iter().filter_map(|text| Rule::of(text)).collect(),
            may_change: security_group::may_change(user, &group.name, &group.user).is_ok()
                && user.refuse_viewer().is_ok(),
            refusal: refused.err().map(|error| error.0.message).unwrap_or_default(),
            group,
        }
    }

    fn rule_count(&self) -> String {
        ui::count(self.rules.len(), "rule")
    }

    fn rule_form(&self) -> RuleForm {
        RuleForm { id: self.group.id.to_string(), form: Form::default() }
    }

    fn row<'a>(&'a self, rule: &'a Rule) -> RuleRow<'a> {
        RuleRow { id: self.group.id.as_str(), rule, may_change: self.may_change }
    }

    fn members(&self) -> &[String] {
        let shown = self.group.used_by.len().min(MEMBERS_SHOWN);
        &self.group.used_by[..shown]
    }

    /// Returns the number of members that are not named.
    fn more(&self) -> usize {
        self.group.used_by.len().saturating_sub(MEMBERS_SHOWN)
    }
}

impl Page for SecurityGroupsPage {
    const SECTION: Section = Section::SecurityGroups;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        let groups = scene.views.security_groups(&scene.user);
        let groups = groups.into_iter().map(|group| Card::of(&scene.user, group)).collect();
        Ok(Self { groups, refusal: scene.user.refusal() })
    }

    fn title(&self) -> String {
        "Security Groups".into()
    }
}

/// The dialogue that creates a group.
#[derive(Template)]
#[template(path = "security_groups/create.html")]
struct CreateDialog {
    form: Form,
}

/// The dialogue that asks before a group is deleted.
#[derive(Template)]
#[template(path = "security_groups/delete.html")]
struct DeleteDialog {
    card: Card,
}

async fn create_dialog(_visitor: Visitor) -> Result<Response, Problem> {
    answer::part(&CreateDialog { form: Form::default() })
}

async fn create(State(context): State<Context>, visitor: Visitor, mut form: Form) -> Result<Response, Problem> {
    let name: Option<Name> = form.require("name");
    let name = name.and_then(|name| form.checked("name", security_group::group_name(name.as_str())));
    let rules = rules::of_lines(&mut form, "rules");
    if let Some(name) = name.filter(|_| form.is_valid()) {
        let description = form.text("description").to_owned();
        let request = SecurityGroupCreateRequest { name: name.to_string(), description, rules };
        match security_group::create(&context, &visitor.user, &request).await {
            Ok(_) => return Ok(answer::done(&format!("Security group {name} is created"))),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    answer::invalid(&CreateDialog { form })
}

/// Returns the group with that id.
async fn card(context: &Context, visitor: &Visitor, id: &str) -> ApiResult<Card> {
    let scene = Scene::read(context, &visitor.user).await?;
    let found = scene.views.security_groups(&visitor.user).into_iter().find(|group| group.id.as_str() == id);
    let group =
        found.ok_or_else(|| ApiError::not_found(format!("no security group {id}")).hint("somebody has deleted it"))?;
    Ok(Card::of(&visitor.user, group))
}

async fn delete_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let card = card(&context, &visitor, address.id()).await?;
    security_group::may_change(&visitor.user, &card.group.name, &card.group.user)?;
    answer::part(&DeleteDialog { card })
}

async fn delete(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    let name = card(&context, &visitor, address.id()).await?.group.name;
    security_group::delete(&context, &visitor.user, address.id()).await?;
    Ok(answer::done(&format!("Security group {name} is deleted")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    fn card() -> Card {
        let group = sample::security_group();
        let rules = group.rules.iter().filter_map(|text| Rule::of(text)).collect();
        Card { group, rules, may_change: true, refusal: "in use by gateway lab".into() }
    }

    #[test]
    fn templates_render() {
        let mut marked = card();
        marked.group.description = sample::MARKUP.into();
        marked.group.used_by = (0..15).map(|number| format!("job {number}{}", sample::MARKUP)).collect();
        let text = SecurityGroupsPage { groups: vec![marked], refusal: String::new() }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("and 3 more"), "{text}");
        assert!(text.contains("10000-10500") && text.contains("172.31.0.0/16"), "{text}");
        assert!(text.contains("aria-disabled=\"true\" title=\"in use by gateway lab\""), "{text}");
        let groups = vec![Card { may_change: false, ..card() }];
        let text = SecurityGroupsPage { groups, refusal: String::new() }.render().unwrap();
        assert!(!text.contains("/rules") && !text.contains("/delete"), "{text}");
        let text = DeleteDialog { card: card() }.render().unwrap();
        assert!(text.contains("gateway lab"), "{text}");
        let mut form = Form::with("name", sample::MARKUP);
        form.refuse("name", "invalid name");
        assert!(!CreateDialog { form }.render().unwrap().contains(sample::MARKUP));
    }
}
