//! The rules of a group: a row each, which becomes a form while its rule is edited, and a row that
//! adds one.
//!
//! A change of the page leaves a row alone that is a form: nothing typed is lost.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use mooring_api::view::SecurityGroupModifyRequest;
use mooring_types::Port;
use mooring_types::security::{InboundRule, InvalidRule};

use super::{Card, card};
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{parse, security_group};
use crate::web::address::Address;
use crate::web::form::Form;
use crate::web::problem::Problem;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// A rule in the parts of its row.
pub(super) struct Rule {
    pub(super) text: String,
    pub(super) ports: String,
    pub(super) source: String,
}

impl Rule {
    /// Reads a rule as the views write it.
    pub(super) fn of(text: &str) -> Option<Self> {
        let rule: InboundRule = text.parse().ok()?;
        let ports = match rule.ports() {
            (Port::MIN, Port::MAX) => "all".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        Some(Self { text: rule.to_string(), ports, source: rule.source().to_string() })
    }

    /// Says what a source means, where it is not plain.
    pub(super) fn about(&self) -> &'static str {
        if self.source.ends_with("/0") { "anywhere" } else { "" }
    }
}

/// The row of a rule.
#[derive(Template)]
#[template(path = "security_groups/rule_row.html")]
pub(super) struct RuleRow<'a> {
    pub(super) id: &'a str,
    pub(super) rule: &'a Rule,
    pub(super) may_change: bool,
}
impl askama::filters::HtmlSafe for RuleRow<'_> {}

/// The row of a rule that is edited.
#[derive(Template)]
#[template(path = "security_groups/edit_rule.html")]
struct RuleEditor<'a> {
    id: &'a str,
    /// The rule as it is.
    rule: &'a str,
    form: Form,
}

/// The row that adds a rule.
#[derive(Template)]
#[template(path = "security_groups/rule.html")]
pub(super) struct RuleForm {
    pub(super) id: String,
    pub(super) form: Form,
}
impl askama::filters::HtmlSafe for RuleForm {}

/// The dialogue that asks before a rule is removed.
#[derive(Template)]
#[template(path = "security_groups/remove_rule.html")]
struct RemoveRuleDialog {
    card: Card,
    rule: String,
}

/// Returns the rules of a block of text, one a line.
pub(crate) fn of_lines(form: &mut Form, key: &'static str) -> Vec<String> {
    let text = form.text(key).to_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.filter_map(|line| form.checked(key, parse::<InboundRule>(line)).map(|_| line.to_owned())).collect()
}

/// Adds a rule; the answer is the row for the next one.
pub(super) async fn add(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let id = address.id().to_owned();
    if let Some(rule) = read(&mut form) {
        let request = SecurityGroupModifyRequest { add_rules: vec![rule], ..SecurityGroupModifyRequest::default() };
        match security_group::modify(&context, &visitor.user, &id, &request).await {
            Ok(_) => return answer::part(&RuleForm { id, form: Form::default() }),
            Err(error) => form.refused_at("ports", error),
        }
    }
    answer::invalid(&RuleForm { id, form })
}

/// Reads the rule of a row; what is wrong stands at the part that is.
fn read(form: &mut Form) -> Option<String> {
    for key in ["ports", "source"] {
        if form.text(key).trim().is_empty() {
            form.refuse(key, "fill in this field");
        }
    }
    if !form.is_valid() {
        return None;
    }
    let ports = match form.text("ports").trim() {
        "all" => "*",
        ports => ports,
    };
    match format!("tcp:{ports}:{}", form.text("source").trim()).parse::<InboundRule>() {
        Ok(rule) => Some(rule.to_string()),
        Err(error) => {
            let key = if matches!(error, InvalidRule::Source(_)) { "source" } else { "ports" };
            form.refuse(key, error.to_string());
            None
        }
    }
}

/// Returns the row of a rule that is in its group.
pub(super) async fn row(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let card = card(&context, &visitor, address.id()).await?;
    match card.rules.iter().find(|rule| rule.text == address.one("rule")) {
        Some(rule) => answer::part(&card.row(rule)),
        // Somebody has removed the rule.
        None => Ok(Html(String::new()).into_response()),
    }
}

/// Makes a form of the row of a rule.
pub(super) async fn edit(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let card = card(&context, &visitor, address.id()).await?;
    security_group::may_change(&visitor.user, &card.group.name, &card.group.user)?;
    let found = card.rules.iter().find(|rule| rule.text == address.one("rule"));
    let rule = found.ok_or_else(|| ApiError::not_found("the group has no such rule any more"))?;
    let mut form = Form::with("ports", &rule.ports);
    form.set("source", &rule.source);
    answer::part(&RuleEditor { id: address.id(), rule: &rule.text, form })
}

/// Replaces a rule in one step; the answer is the row of the new one.
pub(super) async fn replace(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    let (id, rule) = (address.id(), form.text("rule").to_owned());
    if let Some(new) = read(&mut form) {
        let request = SecurityGroupModifyRequest { remove_rules: vec![rule.clone()], add_rules: vec![new.clone()] };
        match security_group::modify(&context, &visitor.user, id, &request).await {
            Err(error) => form.refused_at("ports", error),
            Ok(_) => {
                let rule = Rule::of(&new).ok_or_else(|| ApiError::invalid(format!("`{new}` is no rule")))?;
                return answer::part(&RuleRow { id, rule: &rule, may_change: true });
            }
        }
    }
    answer::invalid(&RuleEditor { id, rule: &rule, form })
}

/// Asks before a rule is removed.
pub(super) async fn remove_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let card = card(&context, &visitor, address.id()).await?;
    security_group::may_change(&visitor.user, &card.group.name, &card.group.user)?;
    answer::part(&RemoveRuleDialog { card, rule: address.one("rule").to_owned() })
}

/// Removes a rule.
pub(super) async fn remove(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    form: Form,
) -> Result<Response, Problem> {
    let rule = form.text("rule").to_owned();
    remove_rule(&context, &visitor, address.id(), rule.clone()).await?;
    Ok(answer::done(&format!("Rule {rule} is removed")))
}

async fn remove_rule(context: &Context, visitor: &Visitor, id: &str, rule: String) -> ApiResult<()> {
    let request = SecurityGroupModifyRequest { remove_rules: vec![rule], ..SecurityGroupModifyRequest::default() };
    security_group::modify(context, &visitor.user, id, &request).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    fn form(ports: &str, source: &str) -> Form {
        let mut form = Form::with("ports", ports);
        form.set("source", source);
        form
    }

    #[test]
    fn errors_stand_at_the_part_that_is_wrong() {
        for (ports, source, key, part) in [
            ("nine", "10.0.0.0/8", "ports", "`nine` is no port"),
            ("80", "nowhere", "source", "`nowhere` is no address"),
            ("", "10.0.0.0/8", "ports", "fill in"),
            ("80", " ", "source", "fill in"),
        ] {
            let mut form = form(ports, source);
            assert_eq!(read(&mut form), None);
            assert!(form.error(key).contains(part), "{ports} {source}: {form:?}");
            let text = RuleForm { id: "sg".into(), form }.render().unwrap();
            assert!(text.contains(part.trim_matches('`')) || text.contains("is no"), "{text}");
        }
        assert_eq!(read(&mut form("all", "10.1.2.3")), Some("tcp:*:10.1.2.3/32".into()));
    }

    #[test]
    fn rule_is_shown_in_its_parts() {
        let rule = Rule::of("tcp:10000-10500:0.0.0.0/0").unwrap();
        assert_eq!((rule.ports.as_str(), rule.source.as_str(), rule.about()), ("10000-10500", "0.0.0.0/0", "anywhere"));
        assert_eq!(Rule::of("tcp:*:fd00::/8").unwrap().ports, "all");
        let mut group = sample::security_group();
        group.used_by.push(sample::MARKUP.into());
        let dialog = RemoveRuleDialog { card: Card::of(&sample::user("ada"), group), rule: rule.text };
        let text = dialog.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("gateway lab"), "{text}");
        assert!(text.contains("are cut at once"), "{text}");
    }
}
