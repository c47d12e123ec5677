//! The dialogue that creates a gateway, and security groups for it on the spot.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{GatewayCreateRequest, SecurityGroupCreateRequest};
use mooring_types::security::DEFAULT_GROUP;
use mooring_types::{Name, Reference, SecurityGroupId};

use super::fields::{Fields, GroupChoice, PLACES};
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{gateway, security_group};
use crate::web::address::Address;
use crate::web::dialog::Dialog;
use crate::web::form::{Form, Places};
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::security_groups::rules;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The fields of the new security group at which refusals stand.
const GROUP_PLACES: &Places = &[("name", "group_name"), ("rules", "group_rules"), ("description", "group_description")];

/// The dialogue.
#[derive(Template)]
#[template(path = "gateways/create.html")]
pub(super) struct CreateDialog {
    form: Form,
    groups: Vec<GroupChoice>,
    groups_hint: &'static str,
}

impl CreateDialog {
    async fn of(context: &Context, visitor: &Visitor, form: Form) -> ApiResult<Self> {
        let scene = Scene::read(context, &visitor.user).await?;
        Ok(Self::with(form, GroupChoice::all(&scene.views)))
    }

    fn with(form: Form, groups: Vec<GroupChoice>) -> Self {
        Self { form, groups, groups_hint: "They say which clients may connect. Without a choice it is `default`." }
    }
}

impl Dialog for CreateDialog {
    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        let mut dialog = Self::with(Form::default(), GroupChoice::all(&scene.views));
        if let Some(group) = dialog.groups.iter().find(|group| group.name == DEFAULT_GROUP) {
            dialog.form.set("groups", group.id.as_str());
        }
        Ok(dialog)
    }
}

/// Makes the security group that is filled in, and chooses it.
pub(super) async fn add_group(
    State(context): State<Context>,
    visitor: Visitor,
    mut form: Form,
) -> Result<Response, Problem> {
    form.require::<Name>("group_name");
    make_group(&context, &visitor, &mut form).await;
    let dialog = CreateDialog::of(&context, &visitor, form).await?;
    if dialog.form.is_valid() { answer::anew(&dialog) } else { answer::invalid(&dialog) }
}

/// Creates the gateway, after the security group if one is filled in.
pub(super) async fn create(
    State(context): State<Context>,
    visitor: Visitor,
    mut form: Form,
) -> Result<Response, Problem> {
    let fields = Fields::read(&mut form);
    if ["group_name", "group_rules", "group_description"].iter().any(|key| !form.text(key).trim().is_empty()) {
        form.require::<Name>("group_name");
        if form.is_valid() {
            make_group(&context, &visitor, &mut form).await;
        }
    }
    let Some(name) = fields.name.filter(|_| form.is_valid()) else {
        return answer::invalid(&CreateDialog::of(&context, &visitor, form).await?);
    };
    let request = GatewayCreateRequest {
        name: name.to_string(),
        cpu: fields.cpu,
        mem_gb: fields.mem_gb,
        port_range: fields.port_range.map(String::from).unwrap_or_default(),
        security_groups: form.parse_list::<Reference<SecurityGroupId>>("groups"),
        no_public_ip: form.is_checked("no_public_ip"),
        tls: fields.tls,
        ..GatewayCreateRequest::default()
    };
    match gateway::create(&context, &visitor.user, request).await {
        Ok(id) => Ok(answer::go(&format!("/gateways/{id}"), &format!("Gateway {name} is created"))),
        Err(error) => {
            form.refused_in(PLACES, error);
            answer::invalid(&CreateDialog::of(&context, &visitor, form).await?)
        }
    }
}

/// Makes the security group that is filled in. What goes wrong stands beside its fields.
async fn make_group(context: &Context, visitor: &Visitor, form: &mut Form) {
    let Some(request) = group_request(form) else { return };
    match security_group::create(context, &visitor.user, &request).await {
        Ok(id) => {
            form.set("groups", id.as_str());
            for key in ["group_name", "group_rules", "group_description"] {
                form.replace(key, "");
            }
        }
        Err(error) => form.refused_in(GROUP_PLACES, error),
    }
}

fn group_request(form: &mut Form) -> Option<SecurityGroupCreateRequest> {
    let name = form.text("group_name").trim().to_owned();
    form.checked("group_name", security_group::group_name(&name));
    let rules = rules::of_lines(form, "group_rules");
    let description = form.text("group_description").trim().to_owned();
    form.is_valid().then_some(SecurityGroupCreateRequest { name, description, rules })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn dialog_keeps_what_was_typed() {
        let mut form = Form::with("name", sample::MARKUP);
        form.set("port_range", "1:2");
        form.set("groups", "sg-sidlpgb7oi9p48kxycpmn");
        let _ = Fields::read(&mut form);
        let text = CreateDialog::with(form, vec![sample::group_choice()]).render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("value=\"1:2\""), "{text}");
        assert!(text.contains("value=\"sg-sidlpgb7oi9p48kxycpmn\" checked") && text.contains("invalid name"), "{text}");
    }

    #[test]
    fn group_on_the_spot_is_checked_by_its_fields() {
        let mut form = Form::with("group_name", "campus");
        form.set("group_rules", "tcp:80:10.0.0.0/8\r\n\r\n tcp:nine:10.0.0.0/8");
        assert!(group_request(&mut form).is_none());
        assert!(form.error("group_rules").contains("`nine` is no port"), "{form:?}");
        let mut form = Form::with("group_name", "campus");
        form.set("group_rules", "tcp:80:10.0.0.0/8\n");
        assert_eq!(group_request(&mut form).unwrap().rules, ["tcp:80:10.0.0.0/8"]);
    }
}
