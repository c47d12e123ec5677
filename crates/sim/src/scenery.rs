//! An OpCenter with much to look at: hosts, gateways, jobs in every status, users and what else its
//! pages show. Previews, browser tests and measurements begin with it.
//!
//! Time is a [`ManualClock`]: [`Scenery::build`] lets a while of it pass, so that jobs have a
//! history. Then [`Scenery::live`] sets it forward by the time that really passes.

use std::f64::consts::TAU;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mooring_api::view::{
    ConnectRequest, DrainRequest, GatewayCreateRequest, GroupAddRequest, MigrateRequest, SecretSetRequest,
    SecurityGroupCreateRequest, TemplateCreateRequest, UserAddRequest,
};
use mooring_api::{Client, Submission};
use mooring_types::gateway::{Access, Cookies, Protocol, Widget};
use mooring_types::host::{HostRole, Purchase, Resources};
use mooring_types::usage::Usage;
use mooring_types::{Clock, GatewayId, JobId, ManualClock};
use serde_json::json;

use crate::{Cluster, Machine, OpCenter, Step};

/// The hosts for jobs. The last two are drained and lost.
const HOSTS: [&str; 5] = ["rhine", "danube", "elbe", "neckar", "oder"];
const DRAINED: &str = "neckar";
const LOST: &str = "oder";
/// The host of gateways.
const EDGE: &str = "edge";
/// The names of jobs, used in turns.
const NAMES: [&str; 8] =
    ["genome-assembly", "notebook", "rstudio", "training", "shiny-survey", "alphafold", "nightly.report", "code"];
/// The longest name that is allowed.
const LONG_NAME: &str = "a-name-of-sixty-three-characters-shows-where-a-page-is-too-slim";
/// Text that a page must not take for markup, in several scripts.
const STRANGE: &str = "<b onclick=\"boom()\">bold</b> & 'quoted' · שלום עולם · 🚢";
/// The time between two measurements of history, shorter than a host's silence may be.
const STEP: Duration = Duration::from_secs(8);

/// The time that passes in a round of a migration. It is for what a host has done in it, so a job
/// is frozen for some rounds.
const ROUND: Duration = Duration::from_millis(70);
/// The rounds without a change after which a migration is over.
const QUIET_ROUNDS: usize = 2;

/// The seconds that steps of migrations take; each migration of a host takes a little longer.
const STEPS: [(Step, f64); 6] = [
    (Step::Prepare, 0.9),
    (Step::PreCopy, 2.1),
    (Step::Freeze, 0.06),
    (Step::Transfer, 0.11),
    (Step::Restore, 0.08),
    (Step::Verify, 0.01),
];

/// The number of jobs and what else there is.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub jobs: usize,
    pub gateways: usize,
    /// The simulated time between the first jobs and now.
    pub history: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self { jobs: 40, gateways: 3, history: Duration::from_secs(1800) }
    }
}

/// Hosts and gateways that act, with what has been made for them.
pub struct Scenery {
    pub cluster: Cluster,
    /// The clients that the gateways count.
    pub connected: Vec<(GatewayId, JobId)>,
    /// All jobs, oldest first.
    pub jobs: Vec<JobId>,
    admin: Client,
    clock: ManualClock,
}

impl Scenery {
    /// Fills an empty OpCenter.
    pub async fn build(
        admin: Client,
        opcenter: OpCenter,
        join_token: &str,
        clock: ManualClock,
        plan: Plan,
    ) -> Result<Self> {
        let cluster = Cluster::start(admin.clone(), opcenter, join_token, machines(plan)).await?;
        let mut scenery = Self { cluster, connected: Vec::new(), jobs: Vec::new(), admin, clock };
        scenery.people().await.context("add users, groups, secrets and security groups")?;
        let gateways = scenery.gateways(plan.gateways).await.context("create gateways")?;
        scenery.submit(plan.jobs).await.context("submit jobs")?;
        scenery.connect(&gateways).await.context("connect jobs")?;
        scenery.pass(plan.history / 2).await?;
        scenery.vary().await.context("move jobs and end some")?;
        scenery.pass(plan.history / 2).await?;
        scenery.trouble().await.context("drain a host and lose another")?;
        scenery.cluster.remove_beacon().await?;
        Ok(scenery)
    }

    /// Lets everything act as time passes, without an end.
    pub async fn live(&mut self, interval: Duration) {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(interval).await;
            let passed = last.elapsed();
            self.clock.advance(passed);
            last = Instant::now();
            self.measure(passed);
            // An OpCenter that is being restarted takes the next reports.
            let _ = self.cluster.round().await;
        }
    }

    /// Lets simulated time pass, with measurements.
    async fn pass(&mut self, time: Duration) -> Result<()> {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            self.clock.advance(step);
            self.measure(step);
            self.cluster.report().await?;
            left -= step;
        }
        self.cluster.settle().await
    }

    /// Sets what jobs have used and clients have moved in the time that has passed: waves, those of
    /// each job of another length.
    fn measure(&mut self, passed: Duration) {
        let (now, seconds) = (self.clock.now(), self.clock.monotonic().as_secs_f64());
        for (number, job) in self.jobs.iter().enumerate() {
            let wave = |length: f64| 0.5 + 0.5 * (seconds / length * TAU + number as f64).sin();
            let usage = Usage {
                seconds: passed.as_secs_f64(),
                cpu_used: 0.1 + 0.8 * wave(300.0 + 20.0 * number as f64),
                cpu: 1.0,
                mem_used: (3e8 + 6e8 * wave(1200.0)) as u64,
                mem: 1 << 30,
                page_cache: 200_000_000,
                processes: 12,
                received: (5e5 * passed.as_secs_f64() * wave(120.0)) as u64,
                sent: (1.1e6 * passed.as_secs_f64() * wave(90.0)) as u64,
                disk: Some((2e7 + 1e5 * seconds) as u64),
                ..Usage::default()
            };
            self.cluster.hosts_mut().for_each(|host| host.measure(job, now, usage));
        }
        for (number, (gateway, job)) in self.connected.iter().enumerate() {
            let Some(gateway) = self.cluster.find_gateway(gateway) else { continue };
            let traffic = gateway.traffic(job);
            let wave = 0.5 + 0.5 * (seconds / 300.0 * TAU + number as f64).sin();
            let moved = |rate: f64| (rate * passed.as_secs_f64() * wave) as u64;
            traffic.bytes_in += moved(25e3);
            traffic.bytes_out += moved(110e3);
            for client in &mut traffic.clients {
                client.bytes_in += moved(12e3);
                client.bytes_out += moved(50e3);
            }
        }
    }

    async fn people(&mut self) -> Result<()> {
        for (name, role) in [("ada", "admin"), ("grace", "user"), ("linus", "user"), (LONG_NAME, "user")] {
            let (name, role) = (name.to_owned(), role.to_owned());
            let user = UserAddRequest { password: format!("password of {name}"), name, role, groups: Vec::new() };
            self.admin.user_add(&user).await?;
        }
        for (name, description, users) in
            [("genomics", "Assembles genomes", vec!["ada", "grace"]), ("teaching", STRANGE, vec!["linus"])]
        {
            let users = users.into_iter().map(str::to_owned).collect();
            let group = GroupAddRequest { name: name.into(), description: description.into(), users };
            self.admin.group_add(&group).await?;
        }
        for name in ["registry-token", "s3.key", LONG_NAME] {
            self.admin.secret_set(name, &SecretSetRequest { value: STRANGE.to_owned() }).await?;
        }
        for (name, description, rules) in [
            ("campus", "The networks of the campus", &["tcp:1-65535:10.0.0.0/8", "tcp:443:2001:db8::/32"][..]),
            ("vpn", STRANGE, &["tcp:8000-9000:192.0.2.0/24"]),
            (LONG_NAME, "", &[]),
        ] {
            let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
            let group = SecurityGroupCreateRequest { name: name.into(), description: description.into(), rules };
            self.admin.security_group_create(&group).await?;
        }
        Ok(())
    }

    async fn gateways(&mut self, number: usize) -> Result<Vec<GatewayId>> {
        let mut gateways = Vec::new();
        for index in 0..number {
            let name = match index {
                0 => "lab".to_owned(),
                1 => "course-7".to_owned(),
                2 => LONG_NAME.to_owned(),
                _ => format!("gateway-{index}"),
            };
            let first = 10_000 + 500 * u32::try_from(index)?;
            let security_groups =
                if index == 0 { vec!["campus".parse()?, "vpn".parse()?] } else { vec!["default".parse()?] };
            let request = GatewayCreateRequest {
                name,
                port_range: format!("{first}:{}", first + 19),
                security_groups,
                no_public_ip: index == 1,
                ..GatewayCreateRequest::default()
            };
            gateways.push(self.admin.gateway_create(&request).await?.id);
        }
        self.cluster.settle().await?;
        Ok(gateways)
    }

    async fn submit(&mut self, number: usize) -> Result<()> {
        for index in 0..number {
            let name = match index {
                3 => LONG_NAME.to_owned(),
                _ => format!("{}-{index}", NAMES[index % NAMES.len()]),
            };
            let hosts = if index % 7 == 5 { DRAINED } else { HOSTS[index % 3] };
            let mut job = json!({
                "image": "dir:/", "name": name, "cpu": 1, "memGB": 1, "host": hosts,
                "customTags": [format!("project:course-{}", index % 5), "owner:chair-of-statistics"],
                "env": { "NOTE": STRANGE, "MODE": "preview" },
                "command": ["sh", "-c", "python3 -m http.server 8080 # <i>markup</i>"],
                "publish": [format!("{}:8080", 8000 + index % 1000)],
            });
            if index == 5 {
                job["host"] = json!(LOST);
            }
            if index % 11 == 10 {
                // No host has so much: the job waits.
                (job["cpu"], job["host"]) = (json!(512), json!(null));
            }
            let job: Submission = serde_json::from_value(job)?;
            self.jobs.push(self.admin.job_submit(&job).await?.id);
            self.clock.advance(Duration::from_millis(5));
        }
        self.cluster.settle().await?;
        for job in self.jobs.iter().take(40) {
            let text = format!("\x1b[1mready\x1b[0m on port 8080\n{STRANGE}\n").repeat(40);
            for host in self.cluster.hosts_mut() {
                host.write(job, text.as_bytes()).await?;
            }
        }
        if let Some(job) = self.jobs.first() {
            let template = TemplateCreateRequest {
                name: "private::assembly".into(),
                description: STRANGE.into(),
                from_job: Some(job.clone()),
                ..TemplateCreateRequest::default()
            };
            self.admin.template_create(&template).await?;
        }
        Ok(())
    }

    async fn connect(&mut self, gateways: &[GatewayId]) -> Result<()> {
        for (index, gateway) in gateways.iter().enumerate() {
            let ours = self.jobs.iter().skip(index).step_by(gateways.len().max(3)).take(4);
            for job in ours.cloned().collect::<Vec<_>>() {
                let request = ConnectRequest {
                    job_id: job.clone(),
                    target_ports: Vec::new(),
                    protocol: Protocol::default(),
                    hold_limit: None,
                    page_patience: None,
                    held_max: None,
                    wake_on: None,
                    widget: Widget::default(),
                    cookies: Cookies::default(),
                    access: Access::default(),
                    shares: Vec::new(),
                };
                // A job that waits for a host has no ports to connect.
                if self.admin.gateway_connect(&gateway.clone().into(), &request).await.is_ok() {
                    self.connected.push((gateway.clone(), job));
                }
            }
        }
        self.cluster.settle().await?;
        let now = self.clock.now();
        for (number, (gateway, job)) in self.connected.iter().enumerate() {
            let Some(gateway) = self.cluster.find_gateway(gateway) else { continue };
            for client in 0..=number % 3 {
                gateway.connect_client(job, &format!("203.0.113.{}:{}", number % 250 + 1, 50_000 + client), now)?;
            }
        }
        Ok(())
    }

    /// Moves, suspends and ends jobs, so that every status is there.
    async fn vary(&mut self) -> Result<()> {
        let jobs = self.jobs.clone();
        for (index, job) in jobs.iter().step_by(8).take(6).enumerate() {
            for (number, host) in ["danube", "elbe"].into_iter().enumerate() {
                let factor = 1.0 + 0.2 * (2 * index + number) as f64;
                for host in self.cluster.hosts_mut() {
                    STEPS.iter().for_each(|(step, seconds)| host.take(*step, seconds * factor));
                }
                let request = MigrateRequest { host: host.to_owned(), ..MigrateRequest::default() };
                if self.admin.job_migrate(job, &request).await.is_ok() {
                    self.act(ROUND.mul_f64(factor)).await?;
                }
            }
        }
        for (index, job) in jobs.iter().enumerate() {
            match index % 10 {
                2 => self.cluster.hosts_mut().for_each(|host| host.exit(job, 0)),
                4 if index > 10 => self.cluster.hosts_mut().for_each(|host| host.exit(job, 137)),
                6 => drop(self.admin.job_suspend(job).await),
                9 => drop(self.admin.job_cancel(job).await),
                _ => {}
            }
        }
        self.act(ROUND).await
    }

    /// Lets all act until nothing changes any more, while time passes.
    async fn act(&mut self, round: Duration) -> Result<()> {
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            self.clock.advance(round);
            quiet = if self.cluster.round().await? { 0 } else { quiet + 1 };
        }
        Ok(())
    }

    /// Drains a host whose jobs take long to leave, and loses another.
    async fn trouble(&mut self) -> Result<()> {
        self.cluster.host(DRAINED).hold(Step::PreCopy);
        self.admin.host_drain(&DRAINED.parse()?, &DrainRequest::default()).await?;
        self.cluster.host(LOST).cut_off();
        self.pass(Duration::from_secs(24)).await
    }
}

fn machines(plan: Plan) -> Vec<Machine> {
    let share = u32::try_from(plan.jobs).unwrap_or(u32::MAX).max(32);
    let size = Resources { cpu: share, mem_gb: f64::from(share) * 4.0 };
    let mut machines: Vec<_> = HOSTS.map(|name| Machine { size, ..Machine::named(name) }).into();
    machines[3].purchase = Purchase::Spot;
    let size = Resources { cpu: 256, mem_gb: 512.0 };
    machines.push(Machine { size, role: HostRole::Gateways, ..Machine::named(EDGE) });
    machines
}
