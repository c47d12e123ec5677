//! `float web`: OpCenter's pages in a browser, signed in.

use anyhow::Result;
use clap::Args;
use mooring_api::view::LinkRequest;

use crate::access::Access;
use crate::browser;
use crate::global::Global;
use crate::printer::Printer;

/// The arguments of `float web`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float web
  float web /gateways
  float web --print                                  the address alone, for a browser elsewhere

The address signs in once, within a minute. Whoever opens it first is you: do not pass it on.")]
pub(crate) struct WebArgs {
    /// page to open, for example /jobs [default: the overview]
    #[arg(value_name = "PAGE")]
    page: Option<String>,
    /// only print the address
    #[arg(long)]
    print: bool,
}

/// Opens a page in the browser, signed in.
///
/// A session of `-u` stays open, since its end would end the link.
pub(crate) async fn web(args: WebArgs, global: &Global, printer: &Printer) -> Result<()> {
    let access = Access::open(global).await?;
    let client = access.client();
    let page = args.page.unwrap_or_default();
    let page = if page.is_empty() || page.starts_with('/') { page } else { format!("/{page}") };
    let link = client.session_link(&LinkRequest { page }).await?;
    let url = format!("{}{}", client.address(), link.path);
    printer.line(&url)?;
    if !args.print && !browser::open(&url) {
        printer.note("no browser was found: open the address in one within a minute");
    }
    Ok(())
}
