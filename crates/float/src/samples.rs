//! Values for the tests of what is printed.

use mooring_api::view::{
    ConnectionState, ConnectionView, EventView, GatewayView, HostStatus, HostView, JobView, MetricView, MigrationView,
    SecurityGroupView,
};
use mooring_api::watch::ClientObservation;
use mooring_types::Event;
use mooring_types::gateway::{Access, Cookies, GatewayStatus, HoldLimits, Protocol, Tls, WakeOn, Widget};
use mooring_types::host::{HostRole, Purchase};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome, Phase, PhaseTime};
use mooring_types::policy::{DumpMode, Egress, MigratePolicy, VmPolicy};

/// A job that has just been submitted.
pub(crate) fn new_job() -> JobView {
    JobView {
        id: "4bzixxwu6l5iocsqemd63".parse().unwrap(),
        name: "calm-otter".into(),
        working_host: String::new(),
        host_name: String::new(),
        user: "alice".into(),
        image: "dir:/".into(),
        image_digest: String::new(),
        status: JobStatus::Submitted,
        category: JobStatus::Submitted.category(),
        status_reason: String::new(),
        submit_time: "2026-08-01T12:30:00.25Z".parse().unwrap(),
        exec_time: None,
        end_time: None,
        last_update: "2026-08-01T12:30:00.25Z".parse().unwrap(),
        duration: "0s".into(),
        queue_time: "2m0s".into(),
        rc: String::new(),
        stdout: "stdout.autosave".into(),
        stderr: "stderr.autosave".into(),
        input_args: "-i dir:/ -n job -c 1 -m 2".into(),
        vm_policy: VmPolicy::default(),
        migrate_policy: MigratePolicy::default().to_string(),
        time_limit: String::new(),
        idle: String::new(),
        awake_limit: String::new(),
        in_use: Vec::new(),
        outward: Vec::new(),
        resume_on_connect: false,
        wake_on: WakeOn::Request,
        snapshot_interval: String::new(),
        dump_mode: DumpMode::Incremental,
        egress: Egress::Host,
        custom_tags: [].into(),
        cpu: 1,
        cpu_max: 1,
        mem_gb: 2.0,
        mem_gb_max: 2.0,
        mem_used: None,
        cpu_used: None,
        core_hours: 0.0,
        scheduler: "mooring".into(),
        address: String::new(),
        generation: 0,
        port_mappings: Vec::new(),
        unserved_ports: Vec::new(),
        access_urls: Vec::new(),
        publish: Vec::new(),
        security_groups: vec!["default".into()],
        endpoints: Vec::new(),
        data_volumes: Vec::new(),
        env: [].into(),
        migrations: Vec::new(),
    }
}

/// A job that is connected and has been moved.
pub(crate) fn moved_job() -> JobView {
    JobView {
        id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
        name: "notebook".into(),
        working_host: "198.18.0.3 (2Core4GB/Spot)".into(),
        host_name: "host-2".into(),
        user: "admin".into(),
        status: JobStatus::Executing,
        category: JobStatus::Executing.category(),
        submit_time: "2026-08-01T12:00:00Z".parse().unwrap(),
        exec_time: Some("2026-08-01T12:00:04.5Z".parse().unwrap()),
        last_update: "2026-08-01T12:20:00Z".parse().unwrap(),
        duration: "32m10s".into(),
        queue_time: "4s".into(),
        input_args: "-i dir:/ -n notebook -c 2:4 -m 4 --publish 8888:8888 --publish 22:22 --gateway lab".into(),
        idle: "30m0s".into(),
        custom_tags: [("project".into(), "course-7".into())].into(),
        cpu: 2,
        cpu_max: 4,
        mem_gb: 4.0,
        mem_gb_max: 4.0,
        mem_used: Some(1.234),
        cpu_used: Some(0.25),
        core_hours: 1.0722,
        address: "100.64.0.2".into(),
        generation: 2,
        port_mappings: vec!["8888 -> 198.18.0.1:10000".into(), "22 -> 198.18.0.1:10001".into()],
        access_urls: vec!["http://198.18.0.1:10000/lab?token=f00".into(), "http://198.18.0.1:10001/".into()],
        publish: vec!["8888:8888".into(), "22:22".into()],
        env: [("LANG".into(), "C.UTF-8".into()), ("JUPYTER_TOKEN".into(), "********".into())].into(),
        migrations: vec![MigrationView {
            id: "m-a407u88v0106oluqaj8l6".parse().unwrap(),
            kind: MigrationKind::Migrate,
            from: "host-1".into(),
            to: "host-2".into(),
            start_time: "2026-08-01T12:19:58Z".parse().unwrap(),
            reason: "requested by admin".into(),
            outcome: Outcome::Succeeded,
            phases: vec![
                PhaseTime { name: Phase::Freeze, seconds: 0.061 },
                PhaseTime { name: Phase::Restore, seconds: 0.094 },
            ],
            pause_seconds: 0.21,
            bytes_moved: 96_468_992,
        }],
        ..new_job()
    }
}

/// A gateway with a client.
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
        create_time: "2026-08-01T11:59:00Z".parse().unwrap(),
        user: "alice".into(),
        ports_used: 1,
        connections: vec![ConnectionView {
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
            held: 0,
            clients: vec![ClientObservation {
                address: "198.18.0.1:51234".parse().unwrap(),
                connected_at: "2026-08-01T12:01:00Z".parse().unwrap(),
                bytes_in: 1_234,
                bytes_out: 56_789,
            }],
        }],
    }
}

/// Two security groups.
pub(crate) fn security_groups() -> Vec<SecurityGroupView> {
    let campus = SecurityGroupView {
        id: "sg-sidlpgb7oi9p48kxycpmn".parse().unwrap(),
        name: "campus".into(),
        description: "the campus network".into(),
        rules: vec!["tcp:10000-10500:172.31.0.0/16".into(), "tcp:8787:fd00::/8".into()],
        user: "alice".into(),
        create_time: "2026-08-01T11:58:00Z".parse().unwrap(),
        used_by: vec!["gateway lab".into(), "job notebook (uqaj8l6a407u88v0106ol)".into()],
    };
    let empty = SecurityGroupView {
        id: "sg-idlpgb7oi9p48kxycpmns".parse().unwrap(),
        name: "empty".into(),
        description: String::new(),
        rules: Vec::new(),
        used_by: Vec::new(),
        ..campus.clone()
    };
    vec![campus, empty]
}

/// A host that is ready and one that is not.
pub(crate) fn hosts() -> Vec<HostView> {
    let ready = HostView {
        id: "h-106oluqaj8l6a407u88v0".parse().unwrap(),
        name: "host-1".into(),
        address: "198.18.0.2".into(),
        public_address: String::new(),
        status: HostStatus::Ready,
        role: HostRole::Jobs,
        cores: 4,
        mem_gb: 8.0,
        purchase: Purchase::OnDemand,
        cores_used: 2,
        mem_gb_used: 4.0,
        kernel: "6.12.0".into(),
        criu: "4.2".into(),
        runc: "1.3.0".into(),
        lacks: Vec::new(),
        jobs: 1,
        last_seen: None,
        problems: Vec::new(),
        drain: None,
    };
    let lost = HostView {
        id: "h-206oluqaj8l6a407u88v0".parse().unwrap(),
        name: "host-2".into(),
        purchase: Purchase::Spot,
        status: HostStatus::NotReady { reason: "CRIU is missing".into() },
        criu: String::new(),
        jobs: 0,
        ..ready.clone()
    };
    vec![ready, lost]
}

/// The use of a job before and after a migration.
pub(crate) fn metrics() -> Vec<MetricView> {
    let before = MetricView {
        time: "2026-08-01T12:19:40.5Z".parse().unwrap(),
        status: JobStatus::Executing,
        cpu_used: 1.875,
        cpu: 2.0,
        mem_used: 3.821,
        mem_gb: 4.0,
        page_cache: 0.12,
        swap: 0.0,
        processes: 17,
        received_per_second: 512,
        sent_per_second: 1_234_567,
        disk: Some(0.034),
    };
    let after = MetricView {
        time: "2026-08-01T12:20:01Z".parse().unwrap(),
        cpu_used: 0.01,
        mem_gb: 6.0,
        disk: None,
        ..before.clone()
    };
    vec![before, after]
}

/// The beginning of a job's event log.
pub(crate) fn events() -> Vec<EventView> {
    let view = |time: &str, event: Event| EventView { time: time.parse().unwrap(), event };
    let status = |status| Event::StatusChanged { status, reason: String::new() };
    vec![
        view("2026-08-01T12:00:00Z", status(JobStatus::Submitted)),
        view("2026-08-01T12:00:04.5Z", status(JobStatus::Executing)),
        view("2026-08-01T12:19:58.001Z", Event::Note { text: "two\nlines".into() }),
    ]
}
