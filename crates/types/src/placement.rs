//! Which host a job goes to: the ready one with the most room, ties broken by name so that the choice can be foretold.

use crate::HostId;
use crate::host::Resources;

/// A host as placement sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The host.
    pub id: HostId,
    /// Its name, for ties and messages.
    pub name: String,
    /// All that it has.
    pub capacity: Resources,
    /// What its jobs already take.
    pub used: Resources,
    /// Why it takes no jobs, if it takes none.
    pub refusal: Option<String>,
}

/// Why no host was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    /// There are no hosts at all.
    #[error("no host has joined")]
    None,
    /// No host by that name.
    #[error("no host is named `{0}`")]
    Unknown(String),
    /// The host takes no jobs.
    #[error("host `{name}` is not ready: {reason}")]
    NotReady {
        /// The host.
        name: String,
        /// Why.
        reason: String,
    },
    /// The host has too little left.
    #[error("host `{name}` lacks room: {cpu} of {cpu_all} cores and {mem} of {mem_all} GB are free")]
    NoRoom {
        /// The host.
        name: String,
        /// Free cores.
        cpu: u32,
        /// All cores.
        cpu_all: u32,
        /// Free memory in GB.
        mem: String,
        /// All memory in GB.
        mem_all: String,
    },
    /// A host of that name takes gateways alone.
    #[error("host `{0}` takes no jobs, it is for gateways alone")]
    TakesNoJobs(String),
    /// The job is there already.
    #[error("the job already executes on host `{0}`")]
    AlreadyThere(String),
    /// Nowhere is enough left.
    #[error("no ready host has the room that is asked for")]
    NoRoomAnywhere,
}

impl Candidate {
    /// Whether the host can take `asked`.
    ///
    /// # Errors
    /// It is not ready, or lacks room.
    pub fn admits(&self, asked: Resources) -> Result<(), NoHost> {
        if let Some(reason) = &self.refusal {
            return Err(NoHost::NotReady { name: self.name.clone(), reason: reason.clone() });
        }
        if self.capacity.fits(self.used, asked) {
            return Ok(());
        }
        Err(NoHost::NoRoom {
            name: self.name.clone(),
            cpu: self.capacity.cpu.saturating_sub(self.used.cpu),
            cpu_all: self.capacity.cpu,
            mem: format!("{:.1}", (self.capacity.mem_gb - self.used.mem_gb).max(0.0)),
            mem_all: format!("{:.1}", self.capacity.mem_gb),
        })
    }
}

/// Chooses a host for `asked`, never `away_from`.
///
/// # Errors
/// No host takes it.
pub fn choose<'a>(
    hosts: &'a [Candidate],
    asked: Resources,
    away_from: Option<&HostId>,
) -> Result<&'a Candidate, NoHost> {
    if hosts.is_empty() {
        return Err(NoHost::None);
    }
    let mut fitting: Vec<&Candidate> =
        hosts.iter().filter(|host| Some(&host.id) != away_from && host.admits(asked).is_ok()).collect();
    fitting.sort_by(|a, b| {
        let free = |host: &Candidate| (host.capacity.cpu - host.used.cpu, host.capacity.mem_gb - host.used.mem_gb);
        let ((a_cpu, a_mem), (b_cpu, b_mem)) = (free(a), free(b));
        b_cpu.cmp(&a_cpu).then(b_mem.total_cmp(&a_mem)).then(a.name.cmp(&b.name))
    });
    fitting.first().copied().ok_or(NoHost::NoRoomAnywhere)
}

/// Takes the host of that name for `asked`, or says why not.
///
/// # Errors
/// There is none, it takes no jobs, lacks room, or is the one the job is on.
pub fn choose_named<'a>(
    hosts: &'a [Candidate],
    name: &str,
    asked: Resources,
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

    fn hosts(seed: u64, rooms: &[(u32, u32, bool)]) -> Vec<Candidate> {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let host = |(index, (cpu, used, ready)): (usize, &(u32, u32, bool))| Candidate {
            id: HostId::random(&mut rng),
            name: format!("host-{index}"),
            capacity: Resources { cpu: *cpu, mem_gb: f64::from(*cpu) },
            used: Resources { cpu: (*used).min(*cpu), mem_gb: 0.0 },
            refusal: (!ready).then(|| "criu check fails".to_owned()),
        };
        rooms.iter().enumerate().map(host).collect()
    }

    proptest! {
        #[test]
        fn the_chosen_host_fits_and_none_has_more_room(
            seed: u64, rooms in prop::collection::vec((0_u32..16, 0_u32..16, any::<bool>()), 0..8), cpu in 0_u32..8,
        ) {
            let hosts = hosts(seed, &rooms);
            let asked = Resources { cpu, mem_gb: 0.0 };
            let away = hosts.first().map(|host| host.id.clone());
            let fits = |host: &&Candidate| Some(&host.id) != away.as_ref() && host.admits(asked).is_ok();
            match choose(&hosts, asked, away.as_ref()) {
                Ok(chosen) => {
                    prop_assert!(fits(&chosen));
                    let room = |host: &Candidate| host.capacity.cpu - host.used.cpu;
                    prop_assert!(hosts.iter().filter(fits).all(|host| room(host) <= room(chosen)));
                }
                Err(_) => prop_assert_eq!(hosts.iter().filter(fits).count(), 0),
            }
        }
    }
}
