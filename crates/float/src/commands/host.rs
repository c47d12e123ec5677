//! `float hosts`.

use anyhow::Result;
use mooring_api::Client;

use crate::printer::Printer;

/// Lists the hosts.
pub(crate) async fn list(client: &Client, printer: &Printer) -> Result<()> {
    printer.list(&client.host_list().await?)
}
