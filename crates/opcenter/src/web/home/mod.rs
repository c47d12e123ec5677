//! The overview: what there is, and for a first visitor the way to an open job.
//!
//! The way has five steps: host, gateway, job, connection, open page. It is shown until a job that
//! the visitor may see is connected and answers; each step is ticked when the state says so.

use askama::Template;
use mooring_api::view::{
    ConnectionState, ConnectionView, GatewayView, HostStatus, HostView, JobPage, JobView, MigrationView,
};
use mooring_types::gateway::GatewayStatus;
use mooring_types::job::Category;
use mooring_types::migration::Outcome;

use super::address::Address;
use super::page::{Page, Scene};
use super::routes::Routes;
use super::shell::Section;
use super::ui;
use crate::error::ApiResult;
use crate::view::job_list::{self, Listing};

/// The newest jobs whose migrations are looked at.
const LOOKED_AT: u32 = 50;
/// The most migrations that are shown.
const MOVES_MAX: usize = 8;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.page::<HomePage>("/")
}

/// The overview.
#[derive(Template)]
#[template(path = "home/home.html")]
struct HomePage {
    hosts: Vec<HostView>,
    gateways: Vec<GatewayView>,
    jobs: JobPage,
    is_admin: bool,
    /// The reason why the visitor changes nothing; empty without one.
    refusal: String,
}

/// A step of the way to an open job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Host,
    Gateway,
    Job,
    Connection,
    Page,
}

impl Step {
    const ALL: [Self; 5] = [Self::Host, Self::Gateway, Self::Job, Self::Connection, Self::Page];
}

/// A migration with its job.
struct Moved<'a> {
    job: &'a JobView,
    migration: &'a MigrationView,
}

impl Page for HomePage {
    const SECTION: Section = Section::Home;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        let listing = Listing { limit: LOOKED_AT, ..Listing::default() };
        Ok(Self {
            hosts: scene.views.hosts(&scene.user),
            gateways: scene.views.gateways(&scene.user),
            jobs: job_list::page(&scene.context, &scene.user, listing).await?,
            is_admin: scene.user.is_admin(),
            refusal: scene.user.refusal(),
        })
    }

    fn title(&self) -> String {
        "Overview".into()
    }
}

impl HomePage {
    /// Returns the steps, each with whether it is done, and its class in the style sheet.
    fn steps(&self) -> [(Step, bool, &'static str); 5] {
        let next = self.next_step();
        Step::ALL.map(|step| match self.is_done(step) {
            true => (step, true, "ticked"),
            false if next == Some(step) => (step, false, "next"),
            false => (step, false, "later"),
        })
    }

    fn is_done(&self, step: Step) -> bool {
        match step {
            Step::Host => self.hosts.iter().any(|host| host.status == HostStatus::Ready),
            Step::Gateway => !self.gateways.is_empty(),
            Step::Job => self.jobs.counts.pending + self.jobs.counts.running > 0,
            Step::Connection => self.connections().next().is_some(),
            Step::Page => self.open_connection().is_some(),
        }
    }

    /// Returns whether the way is shown: nobody has gone it yet.
    fn is_beginning(&self) -> bool {
        self.open_connection().is_none() && (self.jobs.counts.success + self.jobs.counts.failed == 0)
    }

    /// Returns the step that comes next.
    fn next_step(&self) -> Option<Step> {
        Step::ALL.into_iter().find(|step| !self.is_done(*step))
    }

    fn connections(&self) -> impl Iterator<Item = &ConnectionView> {
        self.gateways.iter().flat_map(|gateway| &gateway.connections)
    }

    /// Returns a connection whose job answers.
    fn open_connection(&self) -> Option<&ConnectionView> {
        self.connections().find(|connection| connection.state == ConnectionState::Open)
    }

    /// Returns the number of hosts that take jobs or gateways.
    fn ready_hosts(&self) -> usize {
        self.hosts.iter().filter(|host| host.status == HostStatus::Ready).count()
    }

    fn running_gateways(&self) -> usize {
        self.gateways.iter().filter(|gateway| gateway.status == GatewayStatus::Running).count()
    }

    fn clients(&self) -> usize {
        self.connections().map(|connection| connection.clients.len()).sum()
    }

    fn cores(&self) -> u32 {
        self.hosts.iter().map(|host| host.cores).sum()
    }

    fn cores_used(&self) -> u32 {
        self.hosts.iter().map(|host| host.cores_used).sum()
    }

    /// Returns the memory of all hosts in GB.
    fn mem(&self) -> f64 {
        self.hosts.iter().fold(0.0, |sum, host| sum + host.mem_gb)
    }

    fn mem_used(&self) -> f64 {
        self.hosts.iter().fold(0.0, |sum, host| sum + host.mem_gb_used)
    }

    /// Returns the categories with their labels, tones and numbers of jobs.
    fn categories(&self) -> [(Category, &'static str, &'static str, u32); 4] {
        let counts = self.jobs.counts;
        [
            (Category::Pending, "Pending", "busy", counts.pending),
            (Category::Running, "Running", "good", counts.running),
            (Category::Success, "Success", "rest", counts.success),
            (Category::Failed, "Failed", "bad", counts.failed),
        ]
    }

    /// Returns the parts of the bar of categories: tone, start and width, in thousandths.
    fn bar(&self) -> Vec<(&'static str, u32, u32)> {
        let total = self.jobs.counts.total.max(1);
        let mut at = 0;
        let mut parts = Vec::new();
        for (_, _, tone, jobs) in self.categories() {
            let width = u32::try_from(u64::from(jobs) * 1000 / u64::from(total)).unwrap_or(1000);
            // A single job among many is seen as well.
            let width = if jobs > 0 { width.max(8) } else { 0 };
            parts.push((tone, at, width));
            at += width;
        }
        parts
    }

    /// Returns the last migrations of the newest jobs, newest first.
    fn moves(&self) -> Vec<Moved<'_>> {
        let all =
            self.jobs.jobs.iter().flat_map(|job| job.migrations.iter().map(move |migration| Moved { job, migration }));
        let mut moves: Vec<Moved<'_>> = all.collect();
        moves.sort_by_key(|moved| std::cmp::Reverse(moved.migration.start_time));
        moves.truncate(MOVES_MAX);
        moves
    }
}

impl Moved<'_> {
    /// Returns how long the job was frozen; empty if it was not.
    fn pause(&self) -> String {
        let pause = self.migration.pause_seconds;
        match pause {
            _ if pause <= 0.0 => String::new(),
            _ if pause < 1.0 => format!("{:.0} ms", pause * 1000.0),
            _ => format!("{pause:.1} s"),
        }
    }
}

#[cfg(test)]
mod tests;
