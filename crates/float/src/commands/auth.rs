//! `float login` and `float logout`.
//!
//! With `--sso` a user who has signed in with a browser confirms the login there. OpCenter holds
//! the request meanwhile ([`mooring_api::view::SessionRequest`]), so nothing has to listen on this
//! machine, and the browser may be on another one.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use mooring_api::Client;
use mooring_api::view::{SessionRequest, SessionView};
use serde::Serialize;

use crate::access::{self, Access};
use crate::browser;
use crate::global::Global;
use crate::printer::Printer;
use crate::session::{Session, SessionFile};

/// The arguments of `float login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float login -a 10.0.0.5:8443 -u admin              asks for the password
  MOORING_PASSWORD=... float login -u admin          takes the password from the environment
  float login --ca sha256:6b3c... -u admin           believes this authority alone
  float login --sso -a 10.0.0.5:8443                 asks for a confirmation in a browser
  float login --info                                 shows the session

Beyond this machine, everything goes over TLS. At the first contact with an address, `float` remembers
the fingerprint of OpCenter's authority in ~/.float/known_opcenters.yaml, and refuses another one at
that address afterwards. OpCenter logs its own at its start; `--ca` replaces what is remembered.

A session ends after 168 h, or after 1 h without a request.")]
pub(crate) struct LoginArgs {
    /// show the current session; exits with 1 without one
    #[arg(long)]
    info: bool,
    /// log in with a browser: a user who is signed in there confirms, with a password or by the
    /// OpenID provider of the site
    #[arg(long, conflicts_with_all = ["info", "username", "password", "token"])]
    sso: bool,
    /// only print the address for the browser
    #[arg(long, requires = "sso")]
    print: bool,
}

/// The interval between two looks at a request that waits for its confirmation.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The fields of a session that `float login --info` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionInfo {
    address: String,
    username: String,
    role: String,
    expires_at: String,
}

/// Logs in and stores the session.
pub(crate) async fn login(args: LoginArgs, global: &Global, printer: &Printer) -> Result<()> {
    if args.info {
        return info(global, printer).await;
    }
    let file = SessionFile::of_user()?;
    let client = access::stranger(global).await?;
    let answer = match args.sso {
        true => confirmed(&client, args.print, printer).await?,
        false => client.login(&access::credentials(global)?).await?,
    };
    access::remember(global, &client)?;
    file.store(&Session {
        address: access::short_address(client.address()).to_owned(),
        username: answer.username,
        token: answer.token,
    })?;
    printer.line("Login Succeeded!")
}

/// Asks for a session and waits until a user confirms it in a browser.
async fn confirmed(client: &Client, print: bool, printer: &Printer) -> Result<SessionView> {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if named.trim().is_empty() { "a machine without a name" } else { named.trim() }.to_owned();
    let request = client.session_request(&SessionRequest { machine }).await?;
    let url = format!("{}{}", client.address(), request.path);
    printer.note(&format!("confirm the login within 5 minutes at {url}"));
    printer.note(&format!("the page has to show the code {}", request.code));
    if !print && !browser::open(&url) {
        printer.note("no browser was found: open the address in one, here or on another machine");
    }
    let waiting = client.clone().with_token(request.secret);
    loop {
        if let Some(session) = waiting.session_request_state().await?.session {
            return Ok(session);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn info(global: &Global, printer: &Printer) -> Result<()> {
    let access = Access::open(global).await?;
    let answer = access.client().session_get().await;
    let address = access::short_address(access.client().address()).to_owned();
    access.close().await;
    let session = answer?;
    printer.object(&SessionInfo {
        address,
        username: session.username,
        role: session.role,
        expires_at: session.expires_at.to_string(),
    })
}

/// Ends the session at OpCenter and deletes the session file. The file is deleted even when
/// OpCenter is unreachable.
pub(crate) async fn logout(global: &Global, printer: &Printer) -> Result<()> {
    let file = SessionFile::of_user()?;
    let told = match Access::open(global).await {
        Ok(access) => access.client().logout().await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    file.remove()?;
    told?;
    printer.line("Logout Succeeded!")
}
