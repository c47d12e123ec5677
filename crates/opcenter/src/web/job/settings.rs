//! The tabs of settings and volumes: what was asked for.

use askama::Template;
use mooring_api::view::JobView;
use mooring_store::JobRow;
use mooring_types::job::{Volume, VolumeMode};
use mooring_types::policy::{Moves, Rerun};

use crate::web::ui;

/// The tab of settings.
#[derive(Template)]
#[template(path = "job/settings.html")]
pub(super) struct SettingsTab {
    job: JobView,
    may_rerun: bool,
    may_migrate: bool,
    /// The job runs a script, which `float submit` reads from its standard input.
    script: String,
}

impl SettingsTab {
    pub(super) fn new(job: JobView, row: &JobRow, is_own: bool) -> Self {
        let script = row.spec.script.clone().filter(|_| is_own).unwrap_or_default();
        Self {
            job,
            script,
            may_rerun: row.policy.rerun == Rerun::Allowed,
            may_migrate: row.policy.moves == Moves::Allowed,
        }
    }

    /// Returns the command that submits the same job.
    fn command(&self) -> String {
        format!("float submit {}", self.job.input_args)
    }
}

/// A volume, without secrets.
pub(super) struct Mounted {
    source: String,
    mount: String,
    is_read_only: bool,
}

/// The tab of volumes.
#[derive(Template)]
#[template(path = "job/volumes.html")]
pub(super) struct VolumesTab {
    volumes: Vec<Mounted>,
}

impl VolumesTab {
    pub(super) fn new(volumes: &[Volume]) -> Self {
        let shown = |volume: &Volume| {
            let safe = volume.redacted();
            let (text, mount) = (safe.to_string(), safe.mount.display().to_string());
            let source = text.rsplit_once(&format!(":{mount}")).map_or(text.clone(), |(source, _)| source.to_owned());
            Mounted { source, mount, is_read_only: safe.mode == VolumeMode::ReadOnly }
        };
        Self { volumes: volumes.iter().map(shown).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::job::sample;

    #[test]
    fn templates_render() {
        let mut row = sample::row();
        row.spec.script = Some(sample::MARKUP.into());
        let mut job = sample::job();
        job.env.insert("A".into(), sample::MARKUP.into());
        job.custom_tags.insert("project".into(), sample::MARKUP.into());
        let text = SettingsTab::new(job.clone(), &row, true).render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("float submit -i"), "{text}");
        job.input_args.clear();
        let text = SettingsTab::new(job, &row, false).render().unwrap();
        assert!(!text.contains("float submit") && !text.contains("Job script"), "{text}");
    }

    #[test]
    fn volumes_have_source_and_mount_apart() {
        let volumes = ["/data/set:/data:ro", "[size=10]:/scratch", "[accessKey=a,secret=open-sesame]s3://b/p:/s3"];
        let volumes: Vec<Volume> = volumes.iter().map(|text| text.parse().unwrap()).collect();
        let tab = VolumesTab::new(&volumes);
        let found: Vec<_> = tab.volumes.iter().map(|volume| (volume.mount.as_str(), volume.is_read_only)).collect();
        assert_eq!(found, [("/data", true), ("/scratch", false), ("/s3", false)]);
        assert_eq!(tab.volumes[0].source, "/data/set");
        let text = tab.render().unwrap();
        assert!(!text.contains("open-sesame") && text.contains("s3://b/p"), "{text}");
        assert!(VolumesTab::new(&[]).render().unwrap().contains("No volumes"));
    }
}
