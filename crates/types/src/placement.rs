//! Placement: the choice of a host for a job.
//!
//! The choice is the ready host with the most free room, of those that the job's VM policy admits.
//! Spot hosts come first where the policy prefers them. Ties are broken by name, so that the choice
//! is predictable.

use crate::HostId;
use crate::host::{Purchase, Resources};
use crate::mounts::{Scheme, Schemes};
use crate::policy::Wanted;

/// The most hosts that a refusal lists.
const LISTED_MAX: usize = 4;

/// The requirements of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    pub resources: Resources,
    /// The kind of host that is allowed, and the one that is preferred; any where absent.
    pub wanted: Option<Wanted>,
    /// The remote file systems to mount.
    pub mounts: Schemes,
}

impl Asked {
    /// Requires resources of any kind of host.
    #[must_use]
    pub fn of_any(resources: Resources) -> Self {
        Self { resources, wanted: None, mounts: Schemes::default() }
    }

    /// Requires resources of a kind of host.
    #[must_use]
    pub fn of(wanted: Wanted, resources: Resources) -> Self {
        Self { wanted: Some(wanted), ..Self::of_any(resources) }
    }

    /// Adds the remote file systems that the host has to mount.
    #[must_use]
    pub fn with(self, mounts: Schemes) -> Self {
        Self { mounts, ..self }
    }

    /// Returns a required file system that the host can't mount.
    fn lacks(&self, host: &Candidate) -> Option<Scheme> {
        self.mounts.iter().find(|scheme| !host.mounts.contains(scheme))
    }

    fn permits(&self, host: &Candidate) -> bool {
        self.wanted.is_none_or(|wanted| wanted.admits(host.purchase))
    }

    fn rank(&self, host: &Candidate) -> u8 {
        self.wanted.map_or(0, |wanted| wanted.rank(host.purchase))
    }

    /// Returns the only kind of host that is allowed, as a word before `host`.
    fn kind(&self) -> String {
        let alone = self.wanted.and_then(Wanted::alone);
        alone.map_or_else(String::new, |purchase| format!("{purchase} "))
    }
}

/// A host that placement considers.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub id: HostId,
    /// The name, for ties and messages.
    pub name: String,
    /// The resources of the host.
    pub capacity: Resources,
    /// The resources that its jobs use.
    pub used: Resources,
    pub purchase: Purchase,
    /// The reason why it takes no jobs, if there is one.
    pub refusal: Option<String>,
    /// The remote file systems that it can mount.
    pub mounts: Vec<Scheme>,
}

/// The reason for which no host was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    #[error("no host has joined")]
    None,
    #[error("no host is named `{0}`")]
    Unknown(String),
    #[error("host `{name}` is not ready: {reason}")]
    NotReady { name: String, reason: String },
    #[error("host `{name}` lacks room: {cpu} of {cpu_all} cores and {mem} of {mem_all} GB are free")]
    NoRoom { name: String, cpu: u32, cpu_all: u32, mem: String, mem_all: String },
    #[error("host `{name}` can't mount {}: it lacks {}", lacks.needs().0, lacks.needs().1)]
    CantMount { name: String, lacks: Scheme },
    #[error("no host can mount {}: that takes {}", .0.needs().0, .0.needs().1)]
    CantMountAnywhere(Scheme),
    #[error("host `{0}` takes no jobs, it is for gateways alone")]
    TakesNoJobs(String),
    #[error("the job already executes on host `{0}`")]
    AlreadyThere(String),
    #[error("host `{name}` is {purchase}, and the job's VM policy is `{wanted}`")]
    Forbidden { name: String, purchase: Purchase, wanted: Wanted },
    /// There are hosts, but none that the VM policy admits.
    #[error("no {purchase} host has joined, and the job's VM policy takes no other")]
    NoneOfKind { purchase: Purchase },
    #[error("no ready {kind}host has {asked} free: {found}")]
    NoRoomAnywhere {
        /// The only kind of host that is allowed, with a trailing blank; empty for any.
        kind: String,
        /// The size that is asked for.
        asked: String,
        /// The resources that are free, and the size that would fit now.
        found: String,
    },
}

impl NoHost {
    /// Says whether no suitable host has joined yet.
    #[must_use]
    pub fn is_for_lack_of_hosts(&self) -> bool {
        matches!(self, Self::None | Self::NoneOfKind { .. } | Self::Forbidden { .. })
    }
}

impl Candidate {
    /// Checks that the host admits and has room for the job.
    pub fn admits(&self, asked: Asked) -> Result<(), NoHost> {
        if let Some(wanted) = asked.wanted.filter(|_| !asked.permits(self)) {
            return Err(NoHost::Forbidden { name: self.name.clone(), purchase: self.purchase, wanted });
        }
        if let Some(reason) = &self.refusal {
            return Err(NoHost::NotReady { name: self.name.clone(), reason: reason.clone() });
        }
        if let Some(lacks) = asked.lacks(self) {
            return Err(NoHost::CantMount { name: self.name.clone(), lacks });
        }
        if self.capacity.fits(self.used, asked.resources) {
            return Ok(());
        }
        let free = self.free();
        Err(NoHost::NoRoom {
            name: self.name.clone(),
            cpu: free.cpu,
            cpu_all: self.capacity.cpu,
            mem: format!("{:.1}", free.mem_gb),
            mem_all: format!("{:.1}", self.capacity.mem_gb),
        })
    }

    /// The resources that are free.
    fn free(&self) -> Resources {
        Resources {
            cpu: self.capacity.cpu.saturating_sub(self.used.cpu),
            mem_gb: (self.capacity.mem_gb - self.used.mem_gb).max(0.0),
        }
    }

    /// Says whether the host would have room if it were empty.
    #[must_use]
    pub fn could_ever_admit(&self, asked: Asked) -> bool {
        asked.permits(self)
            && asked.lacks(self).is_none()
            && self.capacity.fits(Resources { cpu: 0, mem_gb: 0.0 }, asked.resources)
    }
}

/// Chooses a host other than `away_from`.
pub fn choose<'a>(hosts: &'a [Candidate], asked: Asked, away_from: Option<&HostId>) -> Result<&'a Candidate, NoHost> {
    if hosts.is_empty() {
        return Err(NoHost::None);
    }
    if let Some(purchase) = asked.wanted.and_then(Wanted::alone)
        && !hosts.iter().any(|host| asked.permits(host))
    {
        return Err(NoHost::NoneOfKind { purchase });
    }
    let mut lacking = hosts.iter().map(|host| asked.lacks(host));
    if let (Some(Some(lacks)), true) = (lacking.next(), lacking.all(|lacks| lacks.is_some())) {
        return Err(NoHost::CantMountAnywhere(lacks));
    }
    let fitting = hosts.iter().filter(|host| Some(&host.id) != away_from && host.admits(asked).is_ok());
    let best = fitting.min_by(|a, b| {
        let free = |host: &Candidate| (host.capacity.cpu - host.used.cpu, host.capacity.mem_gb - host.used.mem_gb);
        let ((a_cpu, a_mem), (b_cpu, b_mem)) = (free(a), free(b));
        let by_room = b_cpu.cmp(&a_cpu).then(b_mem.total_cmp(&a_mem));
        asked.rank(a).cmp(&asked.rank(b)).then(by_room).then(a.name.cmp(&b.name))
    });
    best.ok_or_else(|| {
        let others = hosts.iter().filter(|host| Some(&host.id) != away_from && asked.permits(host));
        let found = found(&others.collect::<Vec<_>>(), asked);
        NoHost::NoRoomAnywhere { kind: asked.kind(), asked: asked.resources.to_string(), found }
    })
}

/// Tells what hosts have free, and which smaller size would fit now.
fn found(hosts: &[&Candidate], asked: Asked) -> String {
    if hosts.is_empty() {
        return "there is no other host".to_owned();
    }
    let state = |host: &&Candidate| match &host.refusal {
        Some(refusal) => format!("{} is not ready ({refusal})", host.name),
        None => format!("{} has {}", host.name, host.free()),
    };
    let mut told: Vec<String> = hosts.iter().take(LISTED_MAX).map(state).collect();
    if hosts.len() > LISTED_MAX {
        told.push(format!("{} more are full or not ready", hosts.len() - LISTED_MAX));
    }
    let told = told.join(", ");
    let wanted = asked.resources;
    let free = hosts.iter().filter(|host| host.refusal.is_none() && asked.lacks(host).is_none());
    let free: Vec<Resources> = free.map(|host| host.free()).collect();
    let cores = free.iter().filter(|free| free.mem_gb >= wanted.mem_gb).map(|free| free.cpu).max();
    let memory = free.iter().filter(|free| free.cpu >= wanted.cpu).map(|free| free.mem_gb).reduce(f64::max);
    match (cores, memory) {
        (Some(cores), _) if cores > 0 && cores < wanted.cpu => format!("{told}; `-c {cores}` fits now"),
        (_, Some(memory)) if memory >= 0.1 && memory < wanted.mem_gb => {
            // Rounded down: the whole of it has to be free.
            format!("{told}; `-m {:.1}` fits now", (memory * 10.0).floor() / 10.0)
        }
        _ => told,
    }
}

/// Chooses the host of that name, or says why it is unsuitable.
pub fn choose_named<'a>(
    hosts: &'a [Candidate],
    name: &str,
    asked: Asked,
    away_from: Option<&HostId>,
) -> Result<&'a Candidate, NoHost> {
    let host = hosts.iter().find(|host| host.name == name).ok_or_else(|| NoHost::Unknown(name.to_owned()))?;
    if Some(&host.id) == away_from {
        return Err(NoHost::AlreadyThere(name.to_owned()));
    }
    host.admits(asked)?;
    Ok(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn hosts(seed: u64, rooms: &[(u32, u32, bool, bool)]) -> Vec<Candidate> {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let host = |(index, (cpu, used, ready, spot)): (usize, &(u32, u32, bool, bool))| Candidate {
            id: HostId::random(&mut rng),
            name: format!("host-{index}"),
            capacity: Resources { cpu: *cpu, mem_gb: f64::from(*cpu) },
            used: Resources { cpu: (*used).min(*cpu), mem_gb: 0.0 },
            purchase: if *spot { Purchase::Spot } else { Purchase::OnDemand },
            refusal: (!ready).then(|| "criu check fails".to_owned()),
            mounts: Vec::new(),
        };
        rooms.iter().enumerate().map(host).collect()
    }

    #[test]
    fn a_job_goes_where_its_volumes_can_be_mounted() {
        let mut hosts = hosts(1, &[(8, 0, true, false), (2, 0, true, false)]);
        let plain = Asked::of_any(Resources { cpu: 1, mem_gb: 0.5 });
        let asked = plain.with([Scheme::S3].into_iter().collect());
        let chosen = choose(&hosts, asked, None).map(|host| host.name.clone());
        assert_eq!(chosen, Err(NoHost::CantMountAnywhere(Scheme::S3)));
        hosts[1].mounts.push(Scheme::S3);
        assert_eq!(choose(&hosts, asked, None).unwrap().name, "host-1");
        assert_eq!(choose(&hosts, plain, None).unwrap().name, "host-0");
        let told = choose_named(&hosts, "host-0", asked, None).unwrap_err().to_string();
        assert_eq!(told, "host `host-0` can't mount S3 buckets: it lacks the package `s3fs` and `/dev/fuse`");
    }

    const WANTED: [Option<Wanted>; 4] = [None, Some(Wanted::SpotOnly), Some(Wanted::SpotFirst), Some(Wanted::OnDemand)];

    #[test]
    fn lack_of_room_tells_what_would_fit() {
        let hosts = hosts(1, &[(4, 3, true, false), (8, 0, false, false), (2, 2, true, false)]);
        let told =
            |cpu, mem_gb| choose(&hosts, Asked::of_any(Resources { cpu, mem_gb }), None).unwrap_err().to_string();
        let all = "host-0 has 1 core and 4 GB, host-1 is not ready (criu check fails), host-2 has 0 cores and 2 GB";
        assert_eq!(told(4, 1.0), format!("no ready host has 4 cores and 1 GB free: {all}; `-c 1` fits now"));
        assert_eq!(told(1, 4.5), format!("no ready host has 1 core and 4.5 GB free: {all}; `-m 4.0` fits now"));
        assert_eq!(told(4, 9.0), format!("no ready host has 4 cores and 9 GB free: {all}"));
        let away = choose(&hosts[..1], Asked::of_any(Resources { cpu: 1, mem_gb: 1.0 }), Some(&hosts[0].id));
        assert_eq!(away.unwrap_err().to_string(), "no ready host has 1 core and 1 GB free: there is no other host");
    }

    proptest! {
        #[test]
        fn the_chosen_host_is_of_the_best_kind_that_fits_and_none_of_that_kind_has_more_room(
            seed: u64, cpu in 0_u32..8, wanted in prop::sample::select(WANTED.to_vec()),
            rooms in prop::collection::vec((0_u32..16, 0_u32..16, any::<bool>(), any::<bool>()), 0..8),
        ) {
            let hosts = hosts(seed, &rooms);
            let asked = Asked { wanted, ..Asked::of_any(Resources { cpu, mem_gb: 0.0 }) };
            let away = hosts.first().map(|host| host.id.clone());
            let fits = |host: &&Candidate| Some(&host.id) != away.as_ref() && host.admits(asked).is_ok();
            match choose(&hosts, asked, away.as_ref()) {
                Ok(chosen) => {
                    prop_assert!(fits(&chosen));
                    let room = |host: &Candidate| host.capacity.cpu - host.used.cpu;
                    for host in hosts.iter().filter(fits) {
                        let is_preferred = wanted == Some(Wanted::SpotFirst)
                            && (host.purchase, chosen.purchase) == (Purchase::Spot, Purchase::OnDemand);
                        prop_assert!(!is_preferred);
                        let is_as_good = wanted.is_none() || host.purchase == chosen.purchase;
                        prop_assert!(!is_as_good || room(host) <= room(chosen));
                    }
                    match wanted {
                        Some(Wanted::SpotOnly) => prop_assert_eq!(chosen.purchase, Purchase::Spot),
                        Some(Wanted::OnDemand) => prop_assert_eq!(chosen.purchase, Purchase::OnDemand),
                        Some(Wanted::SpotFirst) | None => {}
                    }
                }
                Err(_) => prop_assert_eq!(hosts.iter().filter(fits).count(), 0),
            }
        }

        #[test]
        fn what_is_named_is_refused_exactly_where_it_would_not_be_chosen_alone(
            seed: u64, cpu in 0_u32..8, wanted in prop::sample::select(WANTED.to_vec()),
            room in (0_u32..16, 0_u32..16, any::<bool>(), any::<bool>()),
        ) {
            let hosts = hosts(seed, &[room]);
            let asked = Asked { wanted, ..Asked::of_any(Resources { cpu, mem_gb: 0.0 }) };
            let named = choose_named(&hosts, "host-0", asked, None);
            prop_assert_eq!(named.is_ok(), choose(&hosts, asked, None).is_ok());
            let is_forbidden = matches!(named, Err(NoHost::Forbidden { .. }));
            prop_assert_eq!(is_forbidden, wanted.is_some_and(|wanted| !wanted.admits(hosts[0].purchase)));
            prop_assert!(named.is_err() || hosts[0].could_ever_admit(asked));
        }
    }

    #[test]
    fn a_refusal_says_what_was_looked_for() {
        let hosts = hosts(1, &[(2, 0, true, false)]);
        let told = |wanted, cpu| {
            let resources = Resources { cpu, mem_gb: 0.0 };
            choose(&hosts, Asked::of(wanted, resources), None).unwrap_err().to_string()
        };
        let fits = "host-0 has 2 cores and 2 GB; `-c 2` fits now";
        assert_eq!(told(Wanted::SpotFirst, 3), format!("no ready host has 3 cores and 0 GB free: {fits}"));
        assert_eq!(told(Wanted::OnDemand, 3), format!("no ready on-demand host has 3 cores and 0 GB free: {fits}"));
        assert_eq!(told(Wanted::SpotOnly, 1), "no spot host has joined, and the job's VM policy takes no other");
        let asked = Asked::of(Wanted::SpotOnly, Resources { cpu: 1, mem_gb: 0.0 });
        let named = choose_named(&hosts, "host-0", asked, None).unwrap_err().to_string();
        assert_eq!(named, "host `host-0` is on-demand, and the job's VM policy is `spotOnly`");
    }
}
