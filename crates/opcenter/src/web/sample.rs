//! Samples with which templates render without a server.

use mooring_api::view::{
    ApiTokenView, ConnectionState, ConnectionView, DrainJobView, DrainView, GatewayView, GroupView, HostStatus,
    HostView, JobView, MigrationView, OpenSessionView, SecretView, SecurityGroupView, TemplateView, UserView,
};
use mooring_api::watch::ClientObservation;
use mooring_types::gateway::{Access, Cookies, GatewayStatus, HoldLimits, Protocol, Tls, WakeOn, Widget};
use mooring_types::{HostId, MigrationId, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::gateways::fields::GroupChoice;
use crate::auth::User;

/// A text that would do something if a page wrote it as it is.
pub(crate) const MARKUP: &str = "<script>alert('x')</script>";

/// Returns a moment.
pub(crate) fn moment() -> Timestamp {
    "2026-03-01T09:00:00Z".parse().unwrap()
}

pub(crate) fn secret() -> SecretView {
    SecretView { name: "token".into(), create_time: moment(), update_time: moment() }
}

/// Returns a user without groups.
pub(crate) fn user(name: &str) -> User {
    User::sample(name)
}

/// Returns a job that executes.
pub(crate) fn job() -> JobView {
    read(json!({
        "id": "uqaj8l6a407u88v0106ol", "name": "notebook", "workingHost": "10.0.0.1 (4Core8GB/OnDemand)",
        "hostName": "host-1", "user": "ada", "imageID": "quay.io/jupyter/base-notebook:latest", "imageDigest": "",
        "status": "Executing", "category": "running", "submitTime": moment(), "execTime": moment(),
        "lastUpdate": moment(), "duration": "3m5s", "queueTime": "2s", "rc": "", "inputArgs": "-j notebook",
        "vmPolicy": {}, "migratePolicy": "", "resumeOnConnect": false, "dumpMode": "incremental",
        "egress": "host", "customTags": {"project": "course-7"}, "cpu": 2, "cpuMax": 2, "memGB": 4.0, "memGBMax": 4.0,
        "coreHours": 0.1, "scheduler": "mooring", "address": "100.64.0.2", "generation": 1, "portMappings": [],
        "accessUrls": [], "publish": ["8888:8888"], "securityGroups": [], "env": {}, "migrations": [migration()],
    }))
}

/// Returns a migration that has succeeded.
pub(crate) fn migration() -> MigrationView {
    read(json!({
        "id": MigrationId::random(&mut rand::rng()), "kind": "migrate", "from": "host-2", "to": "host-1",
        "startTime": moment(), "reason": "requested by ada", "outcome": "succeeded", "phases": [],
        "pauseSeconds": 0.23, "bytesMoved": 12_000_000,
    }))
}

/// Returns a host that is ready.
pub(crate) fn host() -> HostView {
    read(json!({
        "id": HostId::random(&mut rand::rng()), "name": "host-1", "address": "10.0.0.1", "status": "ready",
        "role": "both", "purchase": "onDemand", "cores": 4, "memGB": 8.0, "coresUsed": 2, "memGBUsed": 4.0,
        "kernel": "6.12", "criu": "4.1", "runc": "1.3", "jobs": 1, "lastSeen": moment(),
    }))
}

/// Returns a private template.
pub(crate) fn template() -> TemplateView {
    read(json!({
        "name": "private::training:2", "description": "trains", "user": "ada", "createTime": moment(),
        "accessPath": "/", "job": {"image": "dir:/"},
    }))
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A gateway with one connected job, which has one client.
pub(crate) fn gateway() -> GatewayView {
    GatewayView {
        id: "g-sidlpgb7oi9p48kxycpmn".parse().unwrap(),
        name: "lab".into(),
        status: GatewayStatus::Running,
        address: "198.18.0.1".into(),
        no_public_ip: false,
        port_range: "10000:10500".into(),
        security_groups: vec!["default".into(), "campus".into()],
        tls: Tls::Off,
        trusted_proxies: Vec::new(),
        external_url: String::new(),
        certificates: Vec::new(),
        cpu: 1,
        mem_gb: 1.0,
        host_name: "gateways".into(),
        create_time: moment(),
        user: "ada".into(),
        ports_used: 1,
        connections: vec![connection()],
    }
}

pub(crate) fn connection() -> ConnectionView {
    ConnectionView {
        job_id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
        job_name: "notebook".into(),
        target_port: 8888,
        gateway_port: 10_000,
        access_url: "http://198.18.0.1:10000/lab?token=f00".into(),
        state: ConnectionState::Open,
        protocol: Protocol::Auto,
        hold_limits: HoldLimits::default(),
        widget: Widget::Shown,
        wake_on: WakeOn::Request,
        cookies: Cookies::Own,
        access: Access::Open,
        shares: Vec::new(),
        held: 3,
        clients: vec![ClientObservation {
            address: "198.18.0.7:51234".parse().unwrap(),
            connected_at: moment(),
            bytes_in: 1234,
            bytes_out: 56_789,
        }],
    }
}

pub(crate) fn security_group() -> SecurityGroupView {
    SecurityGroupView {
        id: "sg-sidlpgb7oi9p48kxycpmn".parse().unwrap(),
        name: "campus".into(),
        description: "the campus network".into(),
        rules: vec!["tcp:10000-10500:172.31.0.0/16".into(), "tcp:8787:fd00::/8".into()],
        user: "ada".into(),
        create_time: moment(),
        used_by: vec!["gateway lab".into()],
    }
}

pub(crate) fn group_choice() -> GroupChoice {
    let id = "sg-sidlpgb7oi9p48kxycpmn".parse().unwrap();
    GroupChoice { id, name: "campus".into(), about: "tcp:8787:fd00::/8".into() }
}

/// Returns a host that is drained.
pub(crate) fn drained_host() -> HostView {
    let traced = DrainJobView {
        job_id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
        job_name: MARKUP.into(),
        leaves: false,
        reason: "process 12 (python3) is traced by strace (11): detach it".into(),
        tries: 2,
        next_attempt: Some(moment()),
    };
    let drain = DrainView {
        since: moment(),
        deadline: None,
        reason: "drained by admin".into(),
        jobs: vec![traced],
        gateways: vec!["lab".into()],
    };
    HostView { status: HostStatus::Draining, drain: Some(drain), jobs: 3, ..host() }
}

/// Returns a user as the list of users has it.
pub(crate) fn account() -> UserView {
    read(json!({
        "id": "u-106oluqaj8l6a407u88v0", "name": "ada", "role": "user", "groups": ["physics"], "signIn": "password",
        "createTime": moment(),
        "quota": {"jobs": 3, "cores": null, "memGb": null, "gateways": null},
        "used": {"jobs": 2, "cores": 4, "memGb": 8.0, "gateways": 0},
    }))
}

pub(crate) fn group() -> GroupView {
    read(json!({
        "name": "physics", "description": "the department", "users": ["ada", "bob"], "createTime": moment(),
        "quota": {"jobs": null, "cores": 8, "memGb": null, "gateways": null},
        "used": {"jobs": 2, "cores": 4, "memGb": 8.0, "gateways": 0},
    }))
}

pub(crate) fn api_token() -> ApiTokenView {
    read(json!({
        "id": "a-106oluqaj8l6a407u88v0", "name": "nightly", "user": "ada", "scope": "jobs", "createTime": moment(),
        "expiresAt": moment(),
    }))
}

/// Returns the session of the visitor.
pub(crate) fn session() -> OpenSessionView {
    read(json!({
        "id": "s-106oluqaj8l6a407u88v0", "user": "ada", "present": true, "createTime": moment(), "lastUsed": moment(),
        "expiresAt": moment(), "address": "192.0.2.1", "client": "float/0.1.0",
    }))
}
