//! Hosts, as users read them.

use std::net::IpAddr;

use mooring_api::view::{DrainAnswer, DrainJobView, DrainView, HostStatus, HostView};
use mooring_store::{Drain, HostRow, JobRow};
use mooring_types::HostId;
use mooring_types::host::Readiness;

use super::Views;
use super::job::NamedJob;
use crate::auth::User;
use crate::decide::drain::situation::Known;
use crate::decide::drain::standing::Standing;
use crate::error::{ApiError, ApiResult};

/// Returns the address for clients, if it is not the one for other hosts.
fn public_address(host: &HostRow) -> String {
    let public = host.joined.public_address;
    if public == IpAddr::from(host.joined.address) { String::new() } else { public.to_string() }
}

impl Views {
    /// Returns a host that is drained, with the gateways that stay on it.
    pub(crate) fn drained(&self, user: &User, host: &HostId) -> ApiResult<DrainAnswer> {
        Ok(DrainAnswer { host: self.host_of_id(user, host)?, gateways: self.gateways_on(host) })
    }

    /// Returns the names of the gateways on a host.
    fn gateways_on(&self, host: &HostId) -> Vec<String> {
        let on_it = self.state.gateways.iter().filter(|gateway| gateway.host == *host);
        on_it.map(|gateway| gateway.spec.name.to_string()).collect()
    }

    /// Returns the host with that id.
    pub(crate) fn host_of_id(&self, user: &User, host: &HostId) -> ApiResult<HostView> {
        self.state
            .host(host)
            .map(|host| self.host(user, host))
            .ok_or_else(|| ApiError::not_found(format!("no host {host}")))
    }

    /// Returns the jobs of a host that a user may see, by name.
    pub(crate) fn jobs_on(&self, user: &User, host: &HostId) -> Vec<NamedJob> {
        let here = |job: &&JobRow| !job.status.is_final() && job.host.as_ref() == Some(host);
        let visible = self.state.jobs.values().filter(here).filter(|job| user.may_see(&job.user_name));
        NamedJob::all(visible)
    }

    /// Returns all hosts, with the jobs that a user may see on drained ones.
    pub(crate) fn hosts(&self, user: &User) -> Vec<HostView> {
        self.state.hosts.iter().map(|host| self.host(user, host)).collect()
    }

    fn host(&self, user: &User, host: &HostRow) -> HostView {
        let facts = &host.joined.facts;
        let used = self.state.used(&host.id);
        let carried =
            self.state.jobs.values().filter(|job| !job.status.is_final() && job.host.as_ref() == Some(&host.id));
        HostView {
            id: host.id.clone(),
            name: host.name.to_string(),
            address: host.joined.address.to_string(),
            public_address: public_address(host),
            status: match &facts.readiness {
                _ if !self.observed.host_is_reachable(&host.id) => HostStatus::Unreachable,
                _ if host.drain().is_some() && self.state.is_empty(&host.id) => HostStatus::Drained,
                _ if host.drain().is_some() => HostStatus::Draining,
                Readiness::Ready => HostStatus::Ready,
                Readiness::NotReady { reason } => HostStatus::NotReady { reason: reason.clone() },
            },
            role: host.joined.role,
            purchase: facts.purchase(),
            cores: facts.cores,
            mem_gb: facts.mem_gb,
            cores_used: used.cpu,
            mem_gb_used: used.mem_gb,
            kernel: facts.kernel.clone(),
            criu: facts.criu.clone(),
            runc: facts.runc.clone(),
            lacks: facts.lacks.clone(),
            jobs: u32::try_from(carried.count()).unwrap_or(u32::MAX),
            last_seen: host.last_seen,
            problems: self.observed.host(&host.id).map(|report| report.problems.clone()).unwrap_or_default(),
            drain: host.drain().map(|drain| self.drain(user, host, drain)),
        }
    }

    fn drain(&self, user: &User, host: &HostRow, drain: &Drain) -> DrainView {
        let known = Known { state: &self.state, observed: &self.observed, config: &self.config, now: self.now };
        let jobs = known.standings(host, drain).into_iter().filter_map(|standing| self.drained_job(user, standing));
        DrainView {
            since: drain.since,
            deadline: drain.deadline,
            reason: drain.reason.clone(),
            jobs: jobs.collect(),
            gateways: self.gateways_on(&host.id),
        }
    }

    /// Returns where a job on a drained host stands, if the user may see the job.
    fn drained_job(&self, user: &User, standing: Standing) -> Option<DrainJobView> {
        let Standing { job, leaves, reason, tries, next_attempt } = standing;
        let row = self.state.jobs.get(&job).filter(|row| user.may_see(&row.user_name))?;
        let job_name = row.spec.name.to_string();
        let tries = u32::try_from(tries).unwrap_or(u32::MAX);
        Some(DrainJobView { job_id: job, job_name, leaves, reason, tries, next_attempt })
    }
}
