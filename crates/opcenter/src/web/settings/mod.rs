//! Settings: what OpCenter runs with.

use askama::Template;
use mooring_api::view::SettingsView;

use super::address::Address;
use super::page::{Page, Scene};
use super::routes::Routes;
use super::shell::Section;
use super::ui;
use crate::error::ApiResult;
use crate::usecase::setting;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.page::<SettingsPage>("/settings")
}

/// The page.
#[derive(Template)]
#[template(path = "settings/settings.html")]
struct SettingsPage {
    view: SettingsView,
}

impl Page for SettingsPage {
    const SECTION: Section = Section::Settings;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        Ok(Self { view: setting::list(&scene.context, &scene.user)? })
    }

    fn title(&self) -> String {
        "Settings".into()
    }
}

#[cfg(test)]
mod tests {
    use mooring_api::view::SettingView;

    use super::*;
    use crate::web::sample;

    #[test]
    fn page_shows_values_and_flags() {
        let setting = |name: &str, values: &[&str], flag: &str| SettingView {
            name: name.into(),
            values: values.iter().map(ToString::to_string).collect(),
            flag: flag.into(),
            description: "a directory".into(),
        };
        let view = SettingsView {
            version: "0.1.0".into(),
            start_time: sample::moment(),
            settings: vec![setting("stateDir", &[sample::MARKUP], "--state-dir"), setting("sessionIdle", &[], "")],
        };
        let text = SettingsPage { view }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("--state-dir") && text.contains("not set"), "{text}");
    }
}
