//! Job Details: all of one job, and what can be done with it.
//!
//! The page has a head with buttons, the job's addresses, the migration that is under way, and one
//! of nine tabs; `?tab=` chooses it. Only the chosen tab is loaded.
//!
//! | module | noun |
//! |---|---|
//! | [`action`] | the buttons, and the actions without a form |
//! | [`migrate`], [`modify`] | dialogues |
//! | [`starting`] | the card of a job that starts |
//! | [`tab`] | the tabs, each in a module of its own |
//! | [`timeline`], [`pauses`] | the pictures of migrations |

mod action;
mod connections;
mod events;
mod instances;
mod metrics;
mod migrate;
mod migrations;
mod modify;
mod output;
mod pauses;
#[cfg(test)]
mod sample;
mod settings;
mod starting;
mod tab;
mod timeline;

use askama::Template;
use mooring_api::view::{EventView, JobView};
use mooring_store::{JobRow, Tx};
use mooring_types::job::{Image, JobStatus};

use self::action::{Button, buttons, refusal};
use self::connections::{Connected, ConnectionsTab};
use self::events::{EventsTab, Group};
use self::instances::InstancesTab;
use self::metrics::MetricsTab;
use self::migrations::{MigrationsTab, UnderWay};
use self::output::{AttachmentsTab, OutputTab};
use self::settings::{SettingsTab, VolumesTab};
use self::starting::Starting;
use self::tab::{Content, Tab};
use super::address::Address;
use super::page::{Page, Scene};
use super::routes::Routes;
use super::shell::Section;
use super::ui;
use crate::error::ApiResult;
use crate::usecase::{allowed, see_job};
use crate::view::finding::findings;
use crate::view::job::{as_seen_by, event};

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<JobPage>("/jobs/{id}")
        .dialog::<migrate::MigrateDialog>("/jobs/{id}/migrate")
        .post("/jobs/{id}/migrate", migrate::migrate)
        .post("/jobs/{id}/suspend", action::suspend)
        .post("/jobs/{id}/resume", action::resume)
        .post("/jobs/{id}/snapshot", action::snapshot)
        .get("/jobs/{id}/modify", modify::dialog)
        .post("/jobs/{id}/modify", modify::modify)
        .post("/jobs/{id}/rerun", action::rerun)
        .get("/jobs/{id}/cancel", action::cancel_dialog)
        .post("/jobs/{id}/cancel", action::cancel)
        .dialog::<connections::ConnectDialog>("/jobs/{id}/connect")
        .post("/jobs/{id}/connect", connections::connect)
        .get("/jobs/{id}/disconnect", connections::disconnect_dialog)
        .post("/jobs/{id}/disconnect", connections::disconnect)
        .get("/jobs/{id}/metrics.csv", metrics::csv)
}

/// The page.
#[derive(Template)]
#[template(path = "job/job.html")]
struct JobPage {
    job: JobView,
    /// The buttons that the visitor is offered.
    buttons: Vec<Button>,
    connections: Vec<Connected>,
    starting: Option<Starting>,
    under_way: Option<UnderWay>,
    /// The dialogue of a migration opens with the page: a list of jobs leads here for that.
    opens_migrate: bool,
    tabs: Vec<TabLink>,
    tab: Tab,
    content: Content,
}

/// The link to a tab.
struct TabLink {
    tab: Tab,
    /// The number of things in it; `None` where there is nothing to count.
    count: Option<usize>,
}

impl JobPage {
    /// Returns whether the job's reason says more than its status.
    fn has_reason(&self) -> bool {
        !self.job.status_reason.is_empty()
    }

    fn address(&self) -> String {
        format!("/jobs/{}?tab={}", self.job.id, self.tab.name())
    }
}

impl Page for JobPage {
    const SECTION: Section = Section::Jobs;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let mut tx = scene.context.store.begin().await?;
        let row = see_job(&mut tx, &scene.user, address.id()).await?;
        let migrations = tx.migration_list_of_job(&row.id).await?;
        let job = as_seen_by(&scene.user, scene.views.job(&row, &migrations));
        let is_own = scene.user.may_change(&row.user_name);
        let tabs = Tab::of_visitor(is_own, row.spec.image == Image::External);
        let first = tabs.first().copied().unwrap_or(Tab::Events);
        let tab = tabs.iter().copied().find(|tab| tab.name() == address.one("tab")).unwrap_or(first);
        let connections = connections::of_job(&scene.views.gateways(&scene.user), &row.id);
        let link = |tab: Tab| {
            let count = match tab {
                Tab::Connections => connections.len(),
                Tab::Migrations => job.migrations.len(),
                Tab::Instances => instances::count(&job),
                Tab::Volumes => row.spec.volumes.len(),
                _ => return TabLink { tab, count: None },
            };
            TabLink { tab, count: Some(count) }
        };
        let tabs = tabs.into_iter().map(link).collect();
        let source = Source { scene, address, row: &row, job: &job, connections: &connections, is_own };
        let content = source.content(&mut tx, tab).await?;
        let opens_migrate =
            scene.user.may_act_on(&row.user_name) && address.one("open") == "migrate" && allowed::migrate(&row).is_ok();
        Ok(Self {
            opens_migrate,
            buttons: if is_own { buttons(&scene.context, &scene.user, &row) } else { Vec::new() },
            starting: Starting::of(&scene.user, &job, &connections),
            under_way: UnderWay::of(&job),
            content,
            job,
            connections,
            tabs,
            tab,
        })
    }

    fn title(&self) -> String {
        format!("Job Details - {}", self.job.name)
    }
}

/// The source of a tab's content.
struct Source<'a> {
    scene: &'a Scene,
    address: &'a Address,
    row: &'a JobRow,
    job: &'a JobView,
    connections: &'a [Connected],
    is_own: bool,
}

impl Source<'_> {
    async fn content(&self, tx: &mut Tx, tab: Tab) -> ApiResult<Content> {
        let (context, row) = (&self.scene.context, self.row);
        Ok(match tab {
            Tab::Output => {
                Content::Output(OutputTab::new(&row.id, &context.logs.list(&row.id)?, self.address.one("file")))
            }
            Tab::Connections => Content::Connections(ConnectionsTab::new(
                row.id.clone(),
                self.connections.to_vec(),
                !row.spec.publish.is_empty(),
                self.scene.user.may_act_on(&row.user_name),
                refusal(allowed::connect(row)),
            )),
            Tab::Migrations => {
                let is_looked_at = row.status == JobStatus::Executing && row.spec.image != Image::External;
                Content::Migrations(MigrationsTab::new(self.job, findings(&context.observed(), row), is_looked_at))
            }
            Tab::Events => {
                let group = Group::of(self.address.one("group"));
                let events = events_of(tx, row).await?;
                Content::Events(EventsTab::new(row.id.clone(), events, group, self.address.one("find")))
            }
            Tab::Instances => {
                let events = events_of(tx, row).await?;
                let hosts = self.scene.views.hosts(&self.scene.user);
                let present = hosts.iter().find(|host| row.host.as_ref() == Some(&host.id));
                let name = present.map(|host| host.name.clone()).unwrap_or_default();
                Content::Instances(InstancesTab::new(self.job.clone(), &events, &name, &hosts))
            }
            Tab::Volumes => Content::Volumes(VolumesTab::new(&row.spec.volumes)),
            Tab::Settings => Content::Settings(SettingsTab::new(self.job.clone(), row, self.is_own)),
            Tab::Attachments => Content::Attachments(AttachmentsTab::new(&row.id, &context.logs.list(&row.id)?)),
            Tab::Metrics => {
                let chosen = self.address.all("last").next();
                Content::Metrics(MetricsTab::new(self.job, chosen))
            }
        })
    }
}

async fn events_of(tx: &mut Tx, job: &JobRow) -> ApiResult<Vec<EventView>> {
    Ok(tx.event_list(&job.id).await?.into_iter().map(event).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(job: JobView) -> JobPage {
        JobPage {
            buttons: Vec::new(),
            connections: connections::of_job(&[sample::gateway()], &job.id),
            starting: None,
            under_way: UnderWay::of(&job),
            opens_migrate: true,
            tabs: Tab::of_visitor(true, false).into_iter().map(|tab| TabLink { tab, count: Some(1) }).collect(),
            tab: Tab::Volumes,
            content: Content::Volumes(VolumesTab::new(&[])),
            job,
        }
    }

    #[test]
    fn template_renders() {
        let job = JobView { name: sample::MARKUP.into(), status_reason: sample::MARKUP.into(), ..sample::job() };
        let page = page(job);
        let text = page.render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
        assert!(
            text.contains("Job Details - ") && text.contains("hx-trigger=\"load\"") && text.contains("No volumes"),
            "{text}"
        );
        assert!(text.contains("href=\"http://198.18.0.2:10000/lab\""), "{text}");
        assert!(page.title().starts_with("Job Details - "));
        let ended = JobView { status: JobStatus::Completed, end_time: Some(sample::moment()), ..sample::job() };
        assert!(!self::page(ended).render().unwrap().contains("data-time=\"since\""));
    }
}
