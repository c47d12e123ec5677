//! The dialogue that connects a job: the visitor's jobs, and the ports that the chosen one
//! publishes. A choice of another job asks for the dialogue again.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::ConnectRequest;
use mooring_store::{GatewayRow, JobRow};
use mooring_types::gateway::{Access, Cookies, HoldLimits, Protocol, WakeOn, Widget};
use mooring_types::job::Action;
use mooring_types::{JobId, Port};

use super::find;
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{connection, see_job};
use crate::view::Views;
use crate::web::address::Address;
use crate::web::dialog::Dialog;
use crate::web::form::{Form, Places};
use crate::web::page::Scene;
use crate::web::problem::Problem;
use crate::web::ui::Choice;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The fields of the form.
const FIELDS: [&str; 11] = [
    "job",
    "protocol",
    "wake_on",
    "widget",
    "shared_cookies",
    "access",
    "shares",
    "hold_limit",
    "page_patience",
    "held_max",
    "limits",
];

/// The fields at which refusals stand.
const PLACES: &Places = &[
    ("jobId", "job"),
    ("targetPorts", "ports"),
    ("holdLimit", "hold_limit"),
    ("pagePatience", "page_patience"),
    ("heldMax", "held_max"),
    ("access", "access"),
    ("shares", "shares"),
];

/// The dialogue.
#[derive(Template)]
#[template(path = "gateway/connect.html")]
pub(super) struct ConnectDialog {
    id: String,
    name: String,
    form: Form,
    jobs: Vec<Choice>,
    ports: Vec<PortChoice>,
    /// The number of the visitor's jobs that publish no port.
    portless: usize,
    protocols: Vec<Choice>,
    wakes: Vec<Choice>,
    accesses: Vec<Choice>,
    limits: [String; 3],
}

/// A port that a job publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PortChoice {
    port: Port,
    /// The port on which the job listens.
    listens: Port,
    /// The gateway port that leads to it already.
    taken: Option<Port>,
    is_chosen: bool,
}

impl ConnectDialog {
    /// Loads what there is to choose from. The ports are those of the form's job.
    async fn with(scene: &Scene, gateway: &GatewayRow, form: Form, chosen: Option<&[String]>) -> ApiResult<Self> {
        // A job that ended while the dialogue was open is in no list of live ones.
        let asked = see_job(&mut scene.context.store.begin().await?, &scene.user, form.text("job")).await.ok();
        Ok(Self::of(&scene.views, &scene.user, gateway, form, asked.as_ref(), chosen))
    }

    fn of(
        views: &Views,
        user: &User,
        gateway: &GatewayRow,
        mut form: Form,
        asked: Option<&JobRow>,
        chosen: Option<&[String]>,
    ) -> Self {
        let live = views.state().jobs.values().filter(|job| user.may_change(&job.user_name));
        let (able, portless): (Vec<&JobRow>, Vec<&JobRow>) =
            live.filter(|job| job.status.allows(Action::Connect).is_ok()).partition(|job| !job.spec.publish.is_empty());
        // It stays in sight, with its status.
        let ended = asked.filter(|job| able.iter().all(|other| other.id != job.id));
        if form.text("job").is_empty()
            && let Some(first) = able.first()
        {
            form.replace("job", first.id.as_str());
        }
        let job = able.iter().copied().chain(ended).find(|job| job.id.as_str() == form.text("job"));
        Self {
            id: gateway.id.to_string(),
            name: gateway.spec.name.to_string(),
            ports: job.map(|job| ports(views, gateway, job, chosen)).unwrap_or_default(),
            jobs: able.iter().copied().chain(ended).map(job_choice).collect(),
            form,
            portless: portless.len(),
            protocols: Protocol::ALL.map(protocol_choice).into(),
            wakes: wakes(),
            accesses: accesses(),
            limits: usual_limits(),
        }
    }
}

impl ConnectDialog {
    /// Tells of the jobs that are not offered; empty without any.
    fn left_out(&self) -> String {
        match self.portless {
            0 => String::new(),
            1 => "1 of your jobs publishes no port, and is not offered.".to_owned(),
            jobs => format!("{jobs} of your jobs publish no port, and are not offered."),
        }
    }
}

fn job_choice(job: &JobRow) -> Choice {
    Choice::new(job.id.as_str(), format!("{} ({}), {}", job.spec.name, job.id, job.status))
}

fn protocol_choice(protocol: Protocol) -> Choice {
    Choice::new(protocol.name(), format!("{protocol}: {}", protocol.description()))
}

fn usual_limits() -> [String; 3] {
    let HoldLimits { hold_seconds, page_seconds, held_max } = HoldLimits::default();
    [hold_seconds, page_seconds, held_max].map(|number| number.to_string())
}

/// Returns the ports that a job publishes. Without a choice all free ones are chosen.
fn ports(views: &Views, gateway: &GatewayRow, job: &JobRow, chosen: Option<&[String]>) -> Vec<PortChoice> {
    let connections = &views.state().connections;
    let taken = |port: Port| {
        let mut own = connections.iter().filter(|row| row.gateway == gateway.id && row.job == job.id);
        own.find(|row| row.target_port == port).map(|row| row.gateway_port)
    };
    let choice = |publish: &mooring_types::job::Publish| {
        let taken = taken(publish.host);
        let is_chosen = chosen.is_none_or(|chosen| chosen.contains(&publish.host.to_string()));
        PortChoice { port: publish.host, listens: publish.container, taken, is_chosen: is_chosen && taken.is_none() }
    };
    job.spec.publish.iter().map(choice).collect()
}

impl Dialog for ConnectDialog {
    /// Loads the dialogue for the job of the address, or for the first one.
    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let row = find(scene, address.id())?;
        let mut form = Form::default();
        for key in FIELDS {
            address.all(key).for_each(|value| form.set(key, value));
        }
        if address.one("job").is_empty() {
            form.set("widget", "true");
        }
        Self::with(scene, row, form, None).await
    }
}

/// Connects the chosen ports.
pub(super) async fn connect(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
    mut form: Form,
) -> Result<Response, Problem> {
    if let Some(request) = request(&mut form) {
        match connection::connect(&context, &visitor.user, address.id(), &request).await {
            Ok(_) => return Ok(answer::done("The job is connected: its Access URL is in the table")),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    let scene = Scene::read(&context, &visitor.user).await?;
    let row = find(&scene, address.id())?;
    let chosen: Vec<String> = form.list("ports").map(str::to_owned).collect();
    answer::invalid(&ConnectDialog::with(&scene, row, form, Some(&chosen)).await?)
}

/// Returns the clients to choose from that wake the job.
fn wakes() -> Vec<Choice> {
    let named = WakeOn::ALL.into_iter().map(|kind| Choice::new(kind.name(), kind.description()));
    std::iter::once(Choice::new("", "as the job says")).chain(named).collect()
}

/// Returns the kinds of access to choose from. A link is shown once, by the command line.
fn accesses() -> Vec<Choice> {
    let offered = Access::ALL.into_iter().filter(|access| *access != Access::Link);
    offered.map(|access| Choice::new(access.name(), access.name())).collect()
}

fn request(form: &mut Form) -> Option<ConnectRequest> {
    let job: Option<JobId> = form.require("job");
    let ports: Vec<Port> = form.parse_list("ports");
    if ports.is_empty() {
        form.refuse("ports", "choose at least one port");
    }
    let protocol: Option<Protocol> = form.require("protocol");
    let wake_on: Option<WakeOn> = form.parse("wake_on");
    let hold_limit = limit(form, "hold_limit", connection::hold_seconds);
    let page_patience = limit(form, "page_patience", connection::page_seconds);
    let held_max = limit(form, "held_max", connection::held_max);
    let widget = if form.is_checked("widget") { Widget::Shown } else { Widget::Hidden };
    let cookies = if form.is_checked("shared_cookies") { Cookies::Shared } else { Cookies::Own };
    let access: Option<Access> = form.parse("access");
    let shares =
        form.text("shares").split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let (job, protocol) = job.zip(protocol).filter(|_| form.is_valid())?;
    let target_ports = ports.into_iter().map(Port::get).collect();
    Some(ConnectRequest {
        target_ports,
        protocol,
        hold_limit,
        page_patience,
        held_max,
        wake_on,
        widget,
        cookies,
        access: access.unwrap_or_default(),
        shares,
        ..ConnectRequest::new(job)
    })
}

/// Reads one of the hold limits.
fn limit(form: &mut Form, key: &'static str, check: impl FnOnce(u32) -> ApiResult<u32>) -> Option<u32> {
    let text = form.text(key).trim().to_owned();
    if text.is_empty() {
        return None;
    }
    match text.parse() {
        Ok(value) => form.checked(key, check(value)),
        Err(_) => {
            form.refuse(key, format!("`{text}` is no whole number"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    fn dialog(form: Form) -> ConnectDialog {
        let port = |number: u16| Port::new(number).unwrap();
        ConnectDialog {
            id: "g-sidlpgb7oi9p48kxycpmn".into(),
            name: "lab".into(),
            form,
            jobs: vec![Choice::new("uqaj8l6a407u88v0106ol", sample::MARKUP)],
            ports: vec![
                PortChoice { port: port(8888), listens: port(80), taken: None, is_chosen: true },
                PortChoice { port: port(6006), listens: port(6006), taken: Some(port(10_000)), is_chosen: false },
            ],
            portless: 2,
            protocols: vec![Choice::plain("auto")],
            wakes: wakes(),
            accesses: accesses(),
            limits: usual_limits(),
        }
    }

    #[test]
    fn dialog_offers_ports_with_what_is_behind_them() {
        let text = dialog(Form::with("job", "uqaj8l6a407u88v0106ol")).render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("listens on 80"), "{text}");
        assert!(text.contains("value=\"8888\" checked") && text.contains("connected at port 10000"), "{text}");
        assert!(text.contains("2 of your jobs publish no port") && text.contains("placeholder=\"600\""), "{text}");
        let none = ConnectDialog { jobs: Vec::new(), ports: Vec::new(), ..dialog(Form::default()) };
        assert!(none.render().unwrap().contains("No job to connect"));
    }

    #[test]
    fn wrong_limits_stand_beside_their_fields() {
        let mut form = Form::with("job", "uqaj8l6a407u88v0106ol");
        for (key, value) in
            [("ports", "8888"), ("protocol", "http"), ("hold_limit", "0"), ("page_patience", "soon"), ("held_max", "9")]
        {
            form.set(key, value);
        }
        assert!(request(&mut form).is_none());
        assert!(form.error("hold_limit").contains("at least 1"), "{form:?}");
        assert!(form.error("page_patience").contains("`soon`") && form.error("held_max").is_empty(), "{form:?}");
        form = Form::with("job", "uqaj8l6a407u88v0106ol");
        form.set("ports", "8888");
        form.set("protocol", "http");
        let request = request(&mut form).unwrap();
        assert_eq!((request.target_ports, request.widget, request.cookies), (vec![8888], Widget::Hidden, Cookies::Own));
    }
}
