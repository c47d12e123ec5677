//! Samples of a job and what belongs to it.

use mooring_api::view::{FindingView, GatewayView, JobView, MetricView, MigrationView};
use mooring_store::JobRow;
use mooring_types::job::{Image, JobSpec};
use serde_json::{Value, json};

pub(super) use crate::web::sample::{MARKUP, moment};

/// The id of the sample.
const ID: &str = "uqaj8l6a407u88v0106ol";

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Returns a job that has migrated twice.
pub(super) fn job() -> JobView {
    read(json!({
        "id": ID, "name": "notebook", "workingHost": "198.18.0.2 (4Core8GB/Spot)", "hostName": "host-2", "user": "ada",
        "imageID": "dir:/srv/jupyter", "imageDigest": "", "status": "Executing", "category": "running",
        "submitTime": "2026-03-01T09:00:00Z", "execTime": "2026-03-01T09:00:02Z",
        "lastUpdate": "2026-03-01T09:10:00Z", "duration": "9m58s", "queueTime": "2s", "rc": "",
        "stdout": "stdout.autosave", "stderr": "stderr.autosave", "inputArgs": "-i dir:/srv/jupyter -c 2 -- sh -c 'a b'",
        "vmPolicy": {"policy": "onDemand"}, "migratePolicy": "[disable=false]", "resumeOnConnect": true,
        "dumpMode": "incremental", "egress": "host", "customTags": {"project": "a"}, "cpu": 2, "cpuMax": 4,
        "memGB": 4.0, "memGBMax": 4.0, "cpuUsed": 0.4, "memUsed": 1.2, "coreHours": 0.33, "scheduler": "mooring",
        "address": "10.77.0.3", "generation": 3, "portMappings": ["8888 -> 198.18.0.2:10000"],
        "accessUrls": ["http://198.18.0.2:10000/lab"], "publish": ["8888:8888"], "securityGroups": ["default"],
        "env": {"LANG": "C.UTF-8", "API_KEY": "********"}, "migrations": [migration(), migration()],
    }))
}

/// Returns a migration with all its phases.
pub(super) fn migration() -> MigrationView {
    let seconds = [0.002, 0.31, 1.9, 0.012, 0.061, 0.048, 0.12, 0.004, 0.0, 0.09];
    let phases = mooring_types::migration::Phase::ALL.iter().zip(seconds);
    let phases: Vec<Value> =
        phases.map(|(phase, seconds)| json!({"name": phase.to_string(), "seconds": seconds})).collect();
    read(json!({
        "id": "m-a407u88v0106oluqaj8l6", "kind": "migrate", "from": "host-1", "to": "host-2",
        "startTime": "2026-03-01T09:05:00Z", "reason": "requested by ada", "outcome": "succeeded", "phases": phases,
        "pauseSeconds": 0.25, "bytesMoved": 48_000_000,
    }))
}

/// Returns the row of a job with tags and limits.
pub(super) fn row() -> JobRow {
    let mut spec = JobSpec::minimal("notebook".parse().unwrap(), "dir:/srv/jupyter".parse::<Image>().unwrap());
    spec.resources.cpu = 2;
    let mut row = JobRow::submitted(ID.parse().unwrap(), "ada", spec, moment());
    row.policy.time_limit = Some(std::time::Duration::from_secs(7200));
    row.policy.custom_tags = [("project", "a"), ("old", "x")].map(|(key, value)| (key.into(), value.into())).into();
    row
}

/// Returns a gateway with a connection of the job, which has a client.
pub(super) fn gateway() -> GatewayView {
    read(json!({
        "id": "g-u88v0106oluqaj8l6a407", "name": "lab", "status": "running", "address": "198.18.0.2",
        "noPublicIP": false, "portRange": "10000:10500", "securityGroups": ["default"], "cpu": 1, "memGB": 1.0,
        "hostName": "host-1", "user": "admin", "portsUsed": 1, "createTime": "2026-03-01T08:00:00Z",
        "connections": [{
            "jobId": ID, "jobName": MARKUP, "targetPort": 8888, "gatewayPort": 10000,
            "accessUrl": "http://198.18.0.2:10000/lab", "state": "open", "protocol": "http",
            "holdLimits": {"holdSeconds": 600, "pageSeconds": 5, "heldMax": 10000}, "widget": "shown",
            "clients": [{"address": "198.18.0.9:51234", "connectedAt": "2026-03-01T09:08:00Z", "bytesIn": 15_340, "bytesOut": 2_000_000}],
        }],
    }))
}

/// Returns a finding that refuses a migration.
pub(super) fn finding() -> FindingView {
    read(json!({
        "jobId": ID, "jobName": "notebook", "kind": "traced", "effect": "refuses", "pid": 7, "program": "gdb",
        "text": format!("process 7 is traced {MARKUP}"),
    }))
}

/// Returns a measurement.
pub(super) fn metric() -> MetricView {
    read(json!({
        "time": "2026-03-01T09:01:00Z", "status": "Executing", "cpuUsed": 0.4, "cpu": 2.0, "memUsed": 1.2, "memGB": 4.0,
        "pageCache": 0.3, "swap": 0.0, "processes": 7, "receivedPerSecond": 100, "sentPerSecond": 2000, "disk": 0.25,
    }))
}
