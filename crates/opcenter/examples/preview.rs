//! Shows the web interface without a cluster: a real OpCenter with simulated hosts and gateways.
//!
//! ```text
//! cargo run -p mooring-opcenter --example preview -- \
//!     [--port 8080] [--jobs 40] [--gateways 3] [--minutes 30] [--empty]
//! ```
//!
//! Prints the page's address, the admin's name and password, then serves until it is interrupted.
//! Nothing is kept.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mooring_api::Client;
use mooring_api::view::LoginRequest;
use mooring_api::watch::StoreAccess;
use mooring_opcenter::Config;
use mooring_ops::Lifecycle;
use mooring_sim::{OpCenter, Plan, Scenery};
use mooring_types::{Clock, ManualClock, SystemClock};

/// The time between two reports of hosts.
const INTERVAL: Duration = Duration::from_millis(500);

/// The options of the command line.
struct Options {
    port: u16,
    plan: Plan,
    is_empty: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Options { port, plan, is_empty } = options()?;
    let directory = tempfile::tempdir()?;
    // The history ends now.
    let clock = ManualClock::new(SystemClock.now() - plan.history);
    let lifecycle = Lifecycle::new();
    let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let address = listener.local_addr()?.to_string();
    let config = config(directory.path());
    let state_dir = config.state_dir.clone();
    let secret = |name: &str| -> Result<String> {
        let path = state_dir.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    };
    let opcenter = mooring_opcenter::serve(vec![listener], config, Arc::new(clock.clone()), lifecycle.clone());
    let served = lifecycle.tasks().spawn("opcenter", opcenter);

    let anybody = Client::new(&address)?;
    anybody.version_get().await.context("start OpCenter")?;
    let password = secret("admin-password")?;
    let credentials = LoginRequest { username: "admin".into(), password: password.clone() };
    let admin = anybody.clone().with_token(anybody.login(&credentials).await?.token);
    let scenery = match is_empty {
        true => None,
        false => {
            Some(Scenery::build(admin, OpCenter::at(&address, &state_dir)?, &secret("join-token")?, clock, plan).await?)
        }
    };
    writeln!(std::io::stdout(), "http://{address}/\nadmin\n{password}")?;
    match scenery {
        Some(mut scenery) => tokio::select! {
            () = scenery.live(INTERVAL) => {}
            stopped = tokio::signal::ctrl_c() => stopped?,
        },
        None => tokio::signal::ctrl_c().await?,
    }
    lifecycle.stop();
    served.await?.context("OpCenter panicked")??;
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options { port: 0, plan: Plan::default(), is_empty: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--empty" {
            options.is_empty = true;
            continue;
        }
        let value = words.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.with_context(|| format!("{word} needs a number"))?;
        match word.as_str() {
            "--port" => options.port = value.try_into()?,
            "--jobs" => options.plan.jobs = value.try_into()?,
            "--gateways" => options.plan.gateways = value.try_into()?,
            "--minutes" => options.plan.history = Duration::from_secs(60 * value),
            _ => bail!("unknown option `{word}`: choose from --port, --jobs, --gateways, --minutes, --empty"),
        }
    }
    Ok(options)
}

fn config(directory: &Path) -> Config {
    Config {
        store: Some(StoreAccess::in_directory(&directory.join("capsules"))),
        volume_paths: vec!["/data".into()],
        image_paths: vec!["/".into()],
        shared_join_token: true,
        ..Config::new(directory.join("opcenter"))
    }
}
