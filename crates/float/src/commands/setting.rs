//! `float settings`.

use anyhow::Result;
use mooring_api::Client;
use mooring_api::view::SettingView;

use crate::printer::Printer;
use crate::table::Tabular;

impl Tabular for SettingView {
    const NONE: &'static str = "No settings";
    const COLUMNS: &'static [&'static str] = &["NAME", "VALUE", "FLAG", "DESCRIPTION"];

    fn row(&self) -> Vec<String> {
        vec![self.name.clone(), self.values.join(", "), self.flag.clone(), self.description.clone()]
    }
}

/// Prints the settings that OpCenter runs with.
pub(crate) async fn settings(client: &Client, printer: &Printer) -> Result<()> {
    printer.list(&client.settings_get().await?.settings)
}
