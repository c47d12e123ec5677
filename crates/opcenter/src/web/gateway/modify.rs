//! The dialogue that modifies a gateway.
//!
//! The form carries the spec that it began from, and the use-case compares it in its transaction.
//! If somebody else has changed the gateway since, nothing is saved. The form comes back and says
//! what changed. It follows in the fields that the visitor left alone, and keeps what the visitor
//! typed.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::ErrorCode;
use mooring_api::view::GatewayModifyRequest;
use mooring_types::gateway::{GatewaySpec, Tls};
use mooring_types::{Reference, SecurityGroupId};

use super::find;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::gateway;
use crate::web::address::Address;
use crate::web::dialog::Dialog;
use crate::web::form::Form;
use crate::web::gateways::fields::{Fields, GroupChoice, PLACES};
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The dialogue.
#[derive(Template)]
#[template(path = "gateway/modify.html")]
pub(super) struct ModifyDialog {
    id: String,
    form: Form,
    groups: Vec<GroupChoice>,
    groups_hint: &'static str,
    /// The changes of others since the form was opened.
    meanwhile: Vec<String>,
}

impl ModifyDialog {
    fn of(id: &str, form: Form, groups: Vec<GroupChoice>) -> Self {
        let groups_hint = "Without a group the gateway refuses every client.";
        Self { id: id.to_owned(), form, groups, groups_hint, meanwhile: Vec::new() }
    }
}

impl Dialog for ModifyDialog {
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let row = find(scene, address.id())?;
        gateway::may_change(&scene.user, row)?;
        let mut form = Form::default();
        begin(&mut form, &row.spec);
        for (key, value) in values(&row.spec) {
            form.set(key, value);
        }
        choose(&mut form, &row.spec.security_groups);
        check_tls(&mut form, row.spec.tls);
        Ok(Self::of(row.id.as_str(), form, GroupChoice::all(&scene.views)))
    }
}

/// Saves the changes.
pub(super) async fn modify(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let began: GatewaySpec = serde_json::from_str(form.text("began"))
        .map_err(|_| ApiError::invalid("the form does not say what it began from").hint("open it again"))?;
    let fields = Fields::read(&mut form);
    if form.is_valid() {
        let request = changes(&began, &fields);
        if request == GatewayModifyRequest::default() {
            return Ok(answer::done("Nothing was changed"));
        }
        match gateway::modify_from(&context, &visitor.user, address.id(), Some(&began), &request).await {
            Ok(_) => return Ok(answer::done("Gateway is modified")),
            // The form says below what was changed.
            Err(error) if is_stale(&error) => {}
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let scene = Scene::read(&context, &visitor.user).await?;
    let row = find(&scene, address.id())?;
    let groups = GroupChoice::all(&scene.views);
    let meanwhile = follow(&mut form, &began, &row.spec, &groups);
    answer::invalid(&ModifyDialog { meanwhile, ..ModifyDialog::of(row.id.as_str(), form, groups) })
}

/// Returns whether a refusal says that somebody changed the gateway. It is about no field.
fn is_stale(error: &ApiError) -> bool {
    error.0.error_code() == ErrorCode::WrongStatus && error.0.field.is_none()
}

/// Returns the request for what differs from the beginning.
fn changes(began: &GatewaySpec, fields: &Fields) -> GatewayModifyRequest {
    let chosen: Vec<&SecurityGroupId> = fields.groups.iter().filter_map(id_of).collect();
    let added = chosen.iter().filter(|id| !began.security_groups.contains(id));
    let removed = began.security_groups.iter().filter(|id| !chosen.contains(id));
    GatewayModifyRequest {
        name: fields.name.iter().filter(|name| **name != began.name).map(ToString::to_string).collect(),
        cpu: fields.cpu.filter(|cpu| *cpu != began.resources.cpu),
        mem_gb: fields.mem_gb.filter(|mem_gb| differs(*mem_gb, began.resources.mem_gb)),
        port_range: fields
            .port_range
            .iter()
            .filter(|range| **range != began.port_range)
            .map(ToString::to_string)
            .collect(),
        add_security_groups: added.map(|id| (*id).clone().into()).collect(),
        remove_security_groups: removed.map(|id| id.clone().into()).collect(),
        tls: Some(fields.tls).filter(|tls| *tls != began.tls),
        ..GatewayModifyRequest::default()
    }
}

fn id_of(reference: &Reference<SecurityGroupId>) -> Option<&SecurityGroupId> {
    match reference {
        Reference::Id(id) => Some(id),
        Reference::Name(_) => None,
    }
}

fn differs(one: f64, other: f64) -> bool {
    (one - other).abs() > f64::EPSILON
}

/// The fields of a spec as a form has them, but for the groups.
fn values(spec: &GatewaySpec) -> [(&'static str, String); 4] {
    [
        ("name", spec.name.to_string()),
        ("port_range", spec.port_range.to_string()),
        ("cpu", spec.resources.cpu.to_string()),
        ("mem", spec.resources.mem_gb.to_string()),
    ]
}

/// Writes into the form what it begins from.
fn begin(form: &mut Form, spec: &GatewaySpec) {
    form.replace("began", serde_json::to_string(spec).unwrap_or_default());
}

fn choose(form: &mut Form, groups: &[SecurityGroupId]) {
    for group in groups {
        form.set("groups", group.as_str());
    }
}

fn check_tls(form: &mut Form, tls: Tls) {
    form.replace("tls", if tls == Tls::On { "true" } else { "" });
}

/// Lets a form follow what was changed since its beginning, and says what that was.
fn follow(form: &mut Form, began: &GatewaySpec, now: &GatewaySpec, groups: &[GroupChoice]) -> Vec<String> {
    const LABELS: [&str; 4] = ["the name", "the port range", "the minimum CPU", "the minimum memory"];
    let mut meanwhile = Vec::new();
    for (label, ((key, was), (_, is))) in LABELS.into_iter().zip(values(began).into_iter().zip(values(now))) {
        if was == is {
            continue;
        }
        meanwhile.push(format!("{label} is {is}; it was {was}"));
        if form.text(key).trim() == was {
            form.replace(key, is);
        }
    }
    let named = |id: &SecurityGroupId| {
        groups.iter().find(|group| group.id == *id).map_or_else(|| id.to_string(), |group| group.name.clone())
    };
    for id in now.security_groups.iter().filter(|id| !began.security_groups.contains(id)) {
        meanwhile.push(format!("security group {} was added", named(id)));
        if !form.has("groups", id.as_str()) {
            form.set("groups", id.as_str());
        }
    }
    for id in began.security_groups.iter().filter(|id| !now.security_groups.contains(id)) {
        meanwhile.push(format!("security group {} was removed", named(id)));
        form.remove("groups", id.as_str());
    }
    if began.tls != now.tls {
        meanwhile.push(format!("TLS is {}", now.tls));
        // There are two values: what the visitor changed is what it is now.
        check_tls(form, now.tls);
    }
    begin(form, now);
    meanwhile
}

#[cfg(test)]
mod tests {
    use mooring_types::PortRange;
    use mooring_types::gateway::Exposure;
    use mooring_types::host::Resources;

    use super::*;
    use crate::web::sample;

    fn spec() -> GatewaySpec {
        GatewaySpec {
            name: "lab".parse().unwrap(),
            resources: Resources { cpu: 1, mem_gb: 1.0 },
            port_range: PortRange::DEFAULT,
            exposure: Exposure::Public,
            security_groups: vec![sample::group_choice().id],
            tls: Tls::Off,
            trusted_proxies: Vec::new(),
            external_url: None,
        }
    }

    fn form_of(spec: &GatewaySpec) -> Form {
        let mut form = Form::default();
        begin(&mut form, spec);
        values(spec).into_iter().for_each(|(key, value)| form.set(key, value));
        choose(&mut form, &spec.security_groups);
        check_tls(&mut form, spec.tls);
        form
    }

    #[test]
    fn only_changes_are_requested() {
        let mut form = form_of(&spec());
        assert_eq!(changes(&spec(), &Fields::read(&mut form)), GatewayModifyRequest::default());
        form.replace("cpu", "2");
        form.remove("groups", sample::group_choice().id.as_str());
        form.replace("tls", "true");
        let request = changes(&spec(), &Fields::read(&mut form));
        assert_eq!((request.cpu, request.name.as_str(), request.remove_security_groups.len()), (Some(2), "", 1));
        assert_eq!(request.tls, Some(Tls::On));
    }

    #[test]
    fn stale_form_follows_and_keeps_what_was_typed() {
        let mut form = form_of(&spec());
        form.replace("name", "mine");
        let now = GatewaySpec {
            name: "theirs".parse().unwrap(),
            resources: Resources { cpu: 4, mem_gb: 1.0 },
            security_groups: Vec::new(),
            tls: Tls::On,
            ..spec()
        };
        let told = follow(&mut form, &spec(), &now, &[sample::group_choice()]);
        assert_eq!(
            told,
            [
                "the name is theirs; it was lab",
                "the minimum CPU is 4; it was 1",
                "security group campus was removed",
                "TLS is on"
            ]
        );
        assert_eq!((form.text("name"), form.text("cpu"), form.list("groups").count()), ("mine", "4", 0));
        assert_eq!(serde_json::from_str::<GatewaySpec>(form.text("began")).unwrap(), now);
        let dialog = ModifyDialog { meanwhile: told, ..ModifyDialog::of("g", form, vec![sample::group_choice()]) };
        let text = dialog.render().unwrap();
        assert!(text.contains("the name is theirs") && text.contains("value=\"mine\""), "{text}");
    }
}
