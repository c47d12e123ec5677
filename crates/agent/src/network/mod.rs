//! The network of a host: keeps the table of *which host carries which job's address* in force.
//!
//! ```text
//!                  own overlay address/32 on {prefix}ov, the source of this host's packets to jobs
//! peer's overlay/32 ─┐
//! job/32 (remote)  ──┴─► {prefix}vx │ {prefix}wg │ the underlay (direct)  proto 77
//! job/32 (local)   ────► {prefix}j…  the job's veth                                 not marked
//! ```
//!
//! Two sources say where a job's address leads. The *table* comes with every slice
//! ([`HostNetwork::apply`]). The agent itself says which addresses this host *carries*
//! ([`HostNetwork::carried_here`], [`HostNetwork::carried_elsewhere`]), which has precedence:
//! table and interfaces agree only at the end of a migration. A line of the table that names
//! this host has no effect. A carried address keeps its route until it is carried elsewhere; then
//! its line of the table is put in force at once.
//!
//! Every route is a /32 of metric 0 in the main table. So `ip route replace` replaces a local
//! route by a remote one, or the reverse, in one step. `apply` removes only routes of protocol 77.
//! A change is one batch of the changed lines. The applied table is remembered; it is read from the
//! kernel at the start and after an error.
//!
//! Jobs answer to the overlay address of the host that spoke to them, so the overlay addresses of
//! hosts are routed as well.
//!
//! Everything is in the network namespace of the calling thread; one namespace has one host. It
//! stays when the process ends, and the next process finds it; [`HostNetwork::close`] removes it.

mod direct;
mod egress;
mod error;
pub(crate) mod filter;
pub(crate) mod isolation;
mod key;
mod link;
pub(crate) mod published;
mod table;
mod tunnel;
mod vxlan;
mod wireguard;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use mooring_api::watch::{Backend, Network, Peer};
use mooring_linux::job_net::sysctl;
use mooring_linux::nft::Interfaces;
use mooring_linux::{ip, nft, nft_jobs};
use mooring_ops::Tasks;
use mooring_types::HostId;
use mooring_types::address::Overlay;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use error::NetworkError;

use egress::Egress;
use key::Key;
use table::{Reach, Table};
use vxlan::Vxlan;
use wireguard::Wireguard;

/// The configuration of a host's network before the first slice.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The prefix of device names: 1 to 8 lower-case letters and digits, unique among the hosts of
    /// a machine.
    pub device_prefix: String,
    /// The address by which other hosts reach this host.
    pub underlay: Ipv4Addr,
    /// The directory of the WireGuard key.
    pub state_dir: PathBuf,
}

/// The network of this host. Owned by the agent; the module says how it works.
#[derive(Debug)]
pub struct HostNetwork {
    config: NetworkConfig,
    key: Key,
    tasks: Tasks,
    stop: CancellationToken,
    nft_table: String,
    /// The devices; `None` before the first slice.
    fabric: Option<Fabric>,
    /// The network of the last slice; `None` when it may not be in force completely.
    in_force: Option<(HostId, Network)>,
    /// The overlay's addresses, from the last slice.
    overlay: Option<Overlay>,
    /// The desired table.
    wanted: Table,
    /// The kernel's routes to other hosts; `None` when unknown.
    applied: Option<Table>,
    /// The egress in force; `None` when unknown.
    egress: Option<Egress>,
    /// The addresses that lead to an interface on this host, with its name.
    here: BTreeMap<Ipv4Addr, String>,
}

/// The devices of one backend, overlay and own address.
#[derive(Debug)]
struct Fabric {
    backend: Backend,
    overlay: String,
    own: Ipv4Addr,
    driver: Driver,
}

#[derive(Debug)]
enum Driver {
    Vxlan(Vxlan),
    Direct(String),
    Wireguard(Wireguard),
}

impl HostNetwork {
    /// Reads or creates the WireGuard key. The machine is not changed before the first
    /// [`HostNetwork::apply`].
    ///
    /// The network's tasks belong to `tasks` and end with `stop`, or when this value is dropped.
    /// `stop` should come after the last job has stopped.
    ///
    /// # Errors
    /// The prefix is unusable, or the key can't be kept.
    pub async fn open(config: NetworkConfig, tasks: Tasks, stop: CancellationToken) -> Result<Self, NetworkError> {
        let prefix = &config.device_prefix;
        let usable = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        if !(1..=8).contains(&prefix.len()) || !prefix.bytes().all(usable) {
            return Err(NetworkError::Prefix(prefix.clone()));
        }
        let key = Key::open(&config.state_dir)?;
        let nft_table = format!("mooring_{prefix}");
        let (in_force, wanted, applied, here) = (None, Table::new(), None, BTreeMap::new());
        Ok(Self {
            config,
            key,
            tasks,
            stop,
            nft_table,
            fabric: None,
            in_force,
            overlay: None,
            egress: None,
            wanted,
            applied,
            here,
        })
    }

    /// The host's WireGuard public key, in base64.
    #[must_use]
    pub fn wireguard_public_key(&self) -> &str {
        &self.key.public
    }

    /// The nftables table in which packets towards jobs are held; it is there from the first
    /// [`HostNetwork::apply`] on.
    #[must_use]
    pub fn nft_table(&self) -> &str {
        &self.nft_table
    }

    /// The nftables table of what jobs reach.
    #[must_use]
    pub fn jobs_table(&self) -> String {
        format!("{}_jobs", self.nft_table)
    }

    /// The prefix of the names of jobs' interfaces on this host.
    #[must_use]
    pub fn job_interface_prefix(&self) -> String {
        self.device("j")
    }

    /// The MTU of jobs' interfaces: equal on all hosts of a backend. Before the first
    /// [`HostNetwork::apply`] it is the smallest of all backends.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        match self.fabric.as_ref().map(|fabric| fabric.backend) {
            Some(Backend::Vxlan) => vxlan::MTU,
            Some(Backend::Direct) => direct::MTU,
            Some(Backend::Wireguard) | None => wireguard::MTU,
        }
    }

    /// Puts devices, peers and routes in force. `own` is this host's id. Does nothing without a
    /// change, and runs `ip` once when only routes changed. Continues after an error; the next call
    /// tries everything again.
    ///
    /// # Errors
    /// The slice does not list this host, or the machine refused something.
    pub async fn apply(&mut self, own: &HostId, network: &Network) -> Result<(), NetworkError> {
        let same = self.in_force.as_ref().is_some_and(|(host, last)| host == own && last == network);
        if same && self.fabric.as_ref().is_some_and(Fabric::works) {
            return Ok(());
        }
        self.in_force = None;
        self.overlay = Some(network.overlay);
        let peer = network.peers.iter().find(|peer| peer.host == *own);
        let peer = peer.ok_or_else(|| NetworkError::Unlisted(own.clone()))?;
        self.make_fabric(peer, network).await?;
        let Some(fabric) = &mut self.fabric else { return Ok(()) };
        self.wanted = table::wanted(own, peer.overlay, network, &fabric.reach());
        // Routes are set even when the peers can't be.
        let told = fabric.set_peers(own, network, &self.key).await;
        let egress = egress::wanted(own, network, &fabric.reach());
        self.set_routes().await.and(told)?;
        let known = self.egress.take();
        if known.as_ref() != Some(&egress) {
            egress.put_in_force(known.as_ref(), &network.overlay.range().to_string(), &self.nft_table).await?;
        }
        self.egress = Some(egress);
        self.in_force = Some((own.clone(), network.clone()));
        Ok(())
    }

    /// Routes `address` to `interface`, with precedence over the table, until
    /// [`HostNetwork::carried_elsewhere`]. Unlike `JobNet::route_here` it also sets the source
    /// address, which keeps this host's own connections to the job alive when the job migrates.
    ///
    /// # Errors
    /// The interface is not there.
    pub async fn carried_here(&mut self, address: Ipv4Addr, interface: &str) -> Result<(), NetworkError> {
        let line = table::local_line(address, interface, self.own_overlay());
        ip::batch(None, &[line]).await.map_err(NetworkError::linux("route a job to its interface"))?;
        self.here.insert(address, interface.to_owned());
        if let Some(applied) = &mut self.applied {
            applied.remove(&address);
        }
        Ok(())
    }

    /// Puts the table's line for `address` in force again, at once.
    ///
    /// # Errors
    /// The routes could not be changed.
    pub async fn carried_elsewhere(&mut self, address: Ipv4Addr) -> Result<(), NetworkError> {
        self.here.remove(&address);
        let hop = self.wanted.get(&address).cloned();
        let line = hop.as_ref().map_or_else(|| table::clear_line(address), |hop| table::set_line(address, hop));
        if let Err(error) = ip::batch(None, &[line]).await {
            // The present routes are unknown: the next `apply` reads them.
            (self.applied, self.in_force) = (None, None);
            return Err(NetworkError::linux("route a job away from its interface")(error));
        }
        if let (Some(applied), Some(hop)) = (&mut self.applied, hop) {
            applied.insert(address, hop);
        }
        Ok(())
    }

    /// Stops the tasks of this process; devices and routes stay for the next one.
    pub async fn release(mut self) {
        if let Some(fabric) = self.fabric.take() {
            fabric.release().await;
        }
    }

    /// Removes devices, routes and the nftables table. Continues after errors and returns the
    /// first. Jobs' interfaces, with their routes, stay.
    ///
    /// # Errors
    /// Something could not be removed.
    pub async fn close(&mut self) -> Result<(), NetworkError> {
        if let Some(fabric) = self.fabric.take() {
            fabric.release().await;
        }
        egress::forget_all().await;
        let mut outcome = ip::batch(None, &[table::clear_all_line()]).await;
        for device in [self.device("vx"), self.device("wg"), self.device("ov")] {
            outcome = outcome.and(ip::link_delete(None, &device).await);
        }
        outcome = outcome.and(nft_jobs::remove(&self.jobs_table()).await);
        outcome.and(nft::uninstall(&self.nft_table).await).map_err(NetworkError::linux("remove the host's network"))
    }

    /// Finds or creates the devices, the own address and the settings that routes need.
    async fn make_fabric(&mut self, own: &Peer, network: &Network) -> Result<(), NetworkError> {
        let overlay = network.overlay.range().to_string();
        let fits = |fabric: &Fabric| {
            fabric.backend == network.backend
                && fabric.overlay == overlay
                && fabric.own == own.overlay
                && fabric.works()
        };
        if self.fabric.as_ref().is_some_and(fits) {
            return Ok(());
        }
        self.applied = None;
        if let Some(old) = self.fabric.take() {
            old.release().await;
        }
        sysctl("net/ipv4/ip_forward", "1").map_err(NetworkError::linux("forward packets"))?;
        let jobs = Interfaces { prefix: self.job_interface_prefix(), present: self.find_interfaces().await? };
        nft::install(&self.nft_table, &overlay, &jobs)
            .await
            .map_err(NetworkError::linux("install the host's packet rules"))?;
        self.make_own_address(own.overlay).await?;
        let driver = self.make_driver(network.backend, own.overlay).await?;
        let fence = match network.backend {
            Backend::Wireguard => nft::fence(&self.nft_table, &overlay, &self.config.device_prefix).await,
            Backend::Vxlan | Backend::Direct => nft::unfence(&self.nft_table).await,
        };
        fence.map_err(NetworkError::linux("install the host's packet rules"))?;
        self.fabric = Some(Fabric { backend: network.backend, overlay, own: own.overlay, driver });
        self.add_source_to_local().await
    }

    async fn make_driver(&self, backend: Backend, own: Ipv4Addr) -> Result<Driver, NetworkError> {
        let (vxlan, wireguard) = (self.device("vx"), self.device("wg"));
        // Devices of another backend are removed first: their routes have the same destinations.
        let others = match backend {
            Backend::Vxlan => vec![&wireguard],
            Backend::Direct => vec![&vxlan, &wireguard],
            Backend::Wireguard => vec![&vxlan],
        };
        for device in others {
            ip::link_delete(None, device).await.map_err(NetworkError::linux("remove another backend's device"))?;
        }
        let underlay = self.config.underlay;
        Ok(match backend {
            Backend::Vxlan => Driver::Vxlan(Vxlan::open(vxlan, underlay, own).await?),
            Backend::Direct => Driver::Direct(direct::device(underlay).await?),
            Backend::Wireguard => {
                Driver::Wireguard(Wireguard::open(wireguard, underlay, &self.key, &self.tasks, &self.stop).await?)
            }
        })
    }

    /// Puts the own address on a bridge without ports, which every kernel that runs jobs supports.
    async fn make_own_address(&self, own: Ipv4Addr) -> Result<(), NetworkError> {
        let attempt = "give the host its overlay address";
        let device = self.device("ov");
        if link::find(&device).await?.is_none() {
            ip::batch(None, &[format!("link add name {device} type bridge")])
                .await
                .map_err(NetworkError::linux(attempt))?;
        }
        let old = link::addresses(&device).await?.into_iter().filter(|address| *address != own);
        let mut lines =
            vec![format!("link set {device} addrgenmode none up"), format!("address replace {own}/32 dev {device}")];
        lines.extend(old.map(|old| format!("address del {old}/32 dev {device}")));
        ip::batch(None, &lines).await.map_err(NetworkError::linux(attempt))
    }

    /// Adds the own address as the source of routes that were set before it was known.
    async fn add_source_to_local(&self) -> Result<(), NetworkError> {
        let own = self.own_overlay();
        let lines: Vec<_> =
            self.here.iter().map(|(address, device)| table::local_line(*address, device, own)).collect();
        ip::batch_all(None, &lines).await.map_err(NetworkError::linux("route jobs to their interfaces"))
    }

    async fn set_routes(&mut self) -> Result<(), NetworkError> {
        let applied = match self.applied.take() {
            Some(applied) => applied,
            None => {
                let found = self.find_routes().await?;
                for (address, interface) in found.local {
                    self.here.entry(address).or_insert(interface);
                }
                found.remote
            }
        };
        let lines = table::changes(&applied, &self.wanted, &self.here);
        ip::batch_all(None, &lines).await.map_err(NetworkError::linux("route jobs to the hosts that carry them"))?;
        let in_force = self.wanted.iter().filter(|(address, _)| !self.here.contains_key(address));
        self.applied = Some(in_force.map(|(address, hop)| (*address, hop.clone())).collect());
        Ok(())
    }

    /// The interfaces of jobs with their addresses: those of each job's permanent neighbour.
    async fn find_interfaces(&self) -> Result<Vec<(String, Ipv4Addr)>, NetworkError> {
        #[derive(Deserialize)]
        struct Neighbour {
            dst: Ipv4Addr,
            dev: String,
        }
        let json = ip::query(None, &["-4", "-j", "neighbour", "show", "nud", "permanent"]).await;
        let json = json.map_err(NetworkError::linux("read the neighbours of jobs"))?;
        let json = if json.trim().is_empty() { "[]" } else { &json };
        let found: Vec<Neighbour> = serde_json::from_str(json).map_err(NetworkError::printed("ip neighbour show"))?;
        let prefix = self.job_interface_prefix();
        let of_jobs = found.into_iter().filter(|neighbour| neighbour.dev.starts_with(&prefix));
        Ok(of_jobs.map(|neighbour| (neighbour.dev, neighbour.dst)).collect())
    }

    async fn find_routes(&self) -> Result<table::Found, NetworkError> {
        let json = ip::query(None, &["-4", "-j", "route", "show", "table", "main"]).await;
        let json = json.map_err(NetworkError::linux("read the routes"))?;
        table::read(&json, &self.job_interface_prefix()).map_err(NetworkError::printed("ip route show"))
    }

    /// Returns whether a job's own connections leave through another host.
    #[must_use]
    pub fn leads_away(&self, job: Ipv4Addr) -> bool {
        self.in_force.as_ref().is_some_and(|(_, network)| network.egress.iter().any(|line| line.address == job))
    }

    /// The overlay's addresses, once they are known.
    #[must_use]
    pub fn overlay(&self) -> Option<Overlay> {
        self.overlay
    }

    /// This host's overlay address, once it is known.
    #[must_use]
    pub fn own_overlay(&self) -> Option<Ipv4Addr> {
        self.fabric.as_ref().map(|fabric| fabric.own)
    }

    fn device(&self, name: &str) -> String {
        format!("{}{name}", self.config.device_prefix)
    }
}

impl Fabric {
    fn reach(&self) -> Reach {
        match &self.driver {
            Driver::Vxlan(vxlan) => Reach::Tunnel(vxlan.device.clone()),
            Driver::Direct(device) => Reach::Subnet(device.clone()),
            Driver::Wireguard(wireguard) => Reach::Tunnel(wireguard.device.clone()),
        }
    }

    fn works(&self) -> bool {
        match &self.driver {
            Driver::Vxlan(_) | Driver::Direct(_) => true,
            Driver::Wireguard(wireguard) => wireguard.works(),
        }
    }

    async fn set_peers(&mut self, own: &HostId, network: &Network, key: &Key) -> Result<(), NetworkError> {
        match &mut self.driver {
            Driver::Vxlan(vxlan) => vxlan.set_peers(network.peers.iter().filter(|peer| peer.host != *own)).await,
            Driver::Direct(_) => Ok(()),
            Driver::Wireguard(wireguard) => wireguard.set_peers(own, network, key).await,
        }
    }

    async fn release(self) {
        match self.driver {
            Driver::Vxlan(_) | Driver::Direct(_) => {}
            Driver::Wireguard(wireguard) => wireguard.release().await,
        }
    }
}
