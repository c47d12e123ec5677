//! All hosts and gateways of an OpCenter, and the invariants over them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use mooring_api::Client;
use mooring_api::client::Slices;
use mooring_api::view::{GatewayCreateRequest, GatewayModifyRequest};
use mooring_api::watch::{GatewaySlice, JobOrder};
use mooring_types::host::HostRole;
use mooring_types::{GatewayId, JobId};

use crate::{Machine, OpCenter, SimAgent, SimGateway, Wire};

/// The host on which gateways are placed.
pub const GATEWAYS_HOST: &str = "gateways";
/// The gateway whose name tells how far OpCenter's reconciler is. It leads nowhere.
const BEACON: &str = "beacon";
/// Time limit for each slice that has to come.
const SLICE_LIMIT: Duration = Duration::from_secs(20);
/// More rounds without an end would be a circle.
const ROUNDS_MAX: usize = 100;

/// All hosts and gateways of an OpCenter.
pub struct Cluster {
    admin: Client,
    opcenter: OpCenter,
    join_token: String,
    agents: BTreeMap<String, SimAgent>,
    gateways: BTreeMap<GatewayId, SimGateway>,
    wire: Wire,
    beacon: Option<GatewayId>,
    beats: u64,
}

impl Cluster {
    /// Joins a host for gateways, and the machines.
    pub async fn start(admin: Client, opcenter: OpCenter, join_token: &str, machines: Vec<Machine>) -> Result<Self> {
        let join_token = join_token.to_owned();
        let (agents, gateways, wire) = (BTreeMap::new(), BTreeMap::new(), Wire::default());
        let mut cluster = Self { admin, opcenter, join_token, agents, gateways, wire, beacon: None, beats: 0 };
        cluster.join(Machine { role: HostRole::Gateways, ..Machine::named(GATEWAYS_HOST) }).await?;
        let name = BEACON.to_owned();
        let request = GatewayCreateRequest { name, port_range: "9000:9000".into(), ..GatewayCreateRequest::default() };
        cluster.beacon = Some(cluster.admin.gateway_create(&request).await.context("create the beacon")?.id);
        for machine in machines {
            cluster.join(machine).await?;
        }
        cluster.settle().await?;
        Ok(cluster)
    }

    /// Lets a machine join.
    pub async fn join(&mut self, machine: Machine) -> Result<()> {
        let number = u8::try_from(self.agents.len() + 1)?;
        let name = machine.name.clone();
        let agent = SimAgent::join(&self.opcenter, &self.join_token, machine, number, self.wire.clone()).await?;
        self.agents.insert(name, agent);
        Ok(())
    }

    /// The host of that name.
    ///
    /// # Panics
    /// There is none.
    pub fn host(&mut self, name: &str) -> &mut SimAgent {
        self.agents.get_mut(name).unwrap_or_else(|| panic!("no simulated host is named `{name}`"))
    }

    /// All hosts, for the test to change their behaviour.
    pub fn hosts_mut(&mut self) -> impl Iterator<Item = &mut SimAgent> {
        self.agents.values_mut()
    }

    /// All hosts by their names.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &SimAgent)> {
        self.agents.iter().map(|(name, agent)| (name.as_str(), agent))
    }

    /// A gateway.
    ///
    /// # Panics
    /// Its host has not started it.
    pub fn gateway(&mut self, id: &GatewayId) -> &mut SimGateway {
        self.gateways.get_mut(id).unwrap_or_else(|| panic!("gateway {id} is not started"))
    }

    /// A gateway, if its host has started it.
    pub fn find_gateway(&mut self, id: &GatewayId) -> Option<&mut SimGateway> {
        self.gateways.get_mut(id)
    }

    /// Destroys the beacon: from then on [`Cluster::sync`] waits for nothing.
    pub async fn remove_beacon(&mut self) -> Result<()> {
        let Some(beacon) = self.beacon.take() else { return Ok(()) };
        self.admin.gateway_destroy(&beacon.into()).await.context("destroy the beacon")
    }

    /// The hosts on which a job's processes run.
    #[must_use]
    pub fn executing(&self, job: &JobId) -> Vec<&str> {
        self.hosts().filter(|(_, agent)| agent.executes(job)).map(|(name, _)| name).collect()
    }

    /// Takes rounds until one changes nothing.
    pub async fn settle(&mut self) -> Result<()> {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            quiet = if self.round().await? { 0 } else { quiet + 1 };
            // What the last reports of a round cause shows in the slices of the next one.
            if quiet == 2 {
                return Ok(());
            }
        }
        bail!("hosts and OpCenter still change after {ROUNDS_MAX} rounds")
    }

    /// Takes one round: every reachable host and gateway takes its slice, one step, and reports.
    /// Returns whether any of them changed.
    pub async fn round(&mut self) -> Result<bool> {
        self.round_of(|_| true).await
    }

    /// Takes a round in which only the hosts that `acts` names act; the others are slow.
    pub async fn round_of(&mut self, acts: impl Fn(&str) -> bool) -> Result<bool> {
        let acting = |(name, agent): &(&String, &mut SimAgent)| !agent.is_cut_off() && acts(name.as_str());
        self.sync().await?;
        for (_, agent) in self.agents.iter_mut().filter(acting) {
            tokio::time::timeout(SLICE_LIMIT, agent.fetch()).await.context("wait for a slice")??;
        }
        self.start_gateways().await?;
        for gateway in self.gateways.values_mut().filter(|gateway| !gateway.is_cut_off()) {
            tokio::time::timeout(SLICE_LIMIT, gateway.fetch()).await.context("wait for a gateway's slice")??;
        }
        self.check_orders()?;
        let mut changed = false;
        for (_, agent) in self.agents.iter_mut().filter(acting) {
            changed |= agent.obey()?;
        }
        for gateway in self.gateways.values_mut().filter(|gateway| !gateway.is_cut_off()) {
            changed |= gateway.obey();
        }
        self.check_executions()?;
        self.report().await?;
        Ok(changed)
    }

    /// Lets time pass on the clocks of all hosts.
    pub fn pass_time(&mut self, time: Duration) {
        self.agents.values_mut().for_each(|agent| agent.pass_time(time));
    }

    /// Lets every reachable host and gateway report.
    pub async fn report(&mut self) -> Result<()> {
        for agent in self.agents.values_mut().filter(|agent| !agent.is_cut_off()) {
            agent.report().await?;
        }
        for gateway in self.gateways.values().filter(|gateway| !gateway.is_cut_off()) {
            gateway.report().await?;
        }
        Ok(())
    }

    /// Waits until OpCenter has published all that follows from the reports and requests so far.
    ///
    /// The beacon's new name comes with a pass that began after the renaming, and a pass publishes
    /// all slices at once.
    pub async fn sync(&mut self) -> Result<()> {
        let Some(beacon) = self.beacon.clone() else { return Ok(()) };
        self.beats += 1;
        let name = format!("{BEACON}-{}", self.beats);
        let request = GatewayModifyRequest { name: name.clone(), ..GatewayModifyRequest::default() };
        self.admin.gateway_modify(&beacon.clone().into(), &request).await.context("rename the beacon")?;
        // Its host may have a slice of a pass before the beacon was created.
        while !self.gateways.contains_key(&beacon) {
            tokio::time::timeout(SLICE_LIMIT, self.host(GATEWAYS_HOST).fetch())
                .await
                .context("wait for the beacon")??;
            self.start_gateways().await?;
        }
        let mut watch: Slices<GatewaySlice> = self.gateway(&beacon).watch().await?;
        let passed = async {
            while let Some(slice) = watch.next().await {
                if slice?.name.as_str() == name {
                    return Ok(());
                }
            }
            bail!("the watch of the beacon has ended")
        };
        tokio::time::timeout(SLICE_LIMIT, passed).await.context("wait for a pass of the reconciler")?
    }

    /// Starts the gateways that are placed on hosts, and ends the others.
    async fn start_gateways(&mut self) -> Result<()> {
        let hosts = self.agents.values().filter_map(|agent| Some((agent, agent.slice.as_ref()?)));
        let placements: Vec<_> =
            hosts.flat_map(|(host, slice)| slice.gateways.iter().map(move |placement| (host, placement))).collect();
        self.gateways.retain(|id, _| placements.iter().any(|(_, placement)| placement.gateway == *id));
        for (host, placement) in placements {
            if !self.gateways.contains_key(&placement.gateway) {
                let gateway = SimGateway::start(&self.opcenter, host, placement).await?;
                self.gateways.insert(placement.gateway.clone(), gateway);
            }
        }
        Ok(())
    }

    /// Checks that at most one host is told to execute each job.
    fn check_orders(&self) -> Result<()> {
        let mut executors: BTreeMap<&JobId, Vec<String>> = BTreeMap::new();
        for (name, agent) in self.hosts() {
            for directive in agent.slice.iter().flat_map(|slice| &slice.jobs) {
                if matches!(directive.order, JobOrder::Run { .. } | JobOrder::Rollback { .. }) && !agent.is_cut_off() {
                    executors.entry(&directive.job).or_default().push(format!("{name} {:?}", directive.order));
                }
            }
        }
        for (job, hosts) in executors {
            ensure!(hosts.len() <= 1, "job {job} is to execute on several hosts: {}", hosts.join(", "));
        }
        Ok(())
    }

    /// Checks that each job executes on at most one host, whichever are cut off.
    fn check_executions(&self) -> Result<()> {
        let mut executors: BTreeMap<&JobId, Vec<&str>> = BTreeMap::new();
        for (name, agent) in self.hosts() {
            for (job, local) in &agent.jobs {
                if local.executes {
                    executors.entry(job).or_default().push(name);
                }
            }
        }
        for (job, hosts) in executors {
            ensure!(hosts.len() <= 1, "job {job} executes on several hosts: {}", hosts.join(", "));
        }
        Ok(())
    }
}
