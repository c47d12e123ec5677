//! VS Code in a real browser while its job migrates and a command runs in its terminal.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_testkit::browser::Browser;
use mooring_testkit::code_server::{self, CodePage};
use mooring_testkit::session::Session;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::migration::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 21000;
/// A move by another scheduler, as a person notices it.
const AWAY: Duration = Duration::from_secs(3);
/// Numbers, ten a second, while the job moves; the last word is not in what is typed.
const COUNT: &str = "for i in $(seq 40); do echo $i; sleep 0.1; done; echo count\"\"ed";

async fn type_through_a_move(browser: &Browser, client: &Client, session: &Session) -> Result<()> {
    let page = CodePage::open(browser, &session.access_url).await?;
    page.enter("x=$((6*7)); echo begun-$x").await?;
    page.line("begun-42").await?;
    page.enter("touch notes; tail -f notes /etc/os-release &").await?;
    page.enter(COUNT).await?;
    page.line("5").await?;
    let migration = move_once(client, &session.job).await?;
    ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    page.line("counted").await?;
    page.enter("echo still-$x").await?;
    page.line("still-42").await?;
    // Files are watched on, those of the job's own layer and those of its image.
    page.enter("printf '\\nno%s\\n' ted >>notes").await?;
    page.line("noted").await?;
    let remembered = page.remembered().await?;
    ensure!(remembered.sockets.is_empty() && !remembered.speaks_of_connections(), "{remembered:?}");
    Ok(())
}

#[test]
fn a_terminal_of_vs_code_goes_on_while_its_job_moves() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = Session::launch(&client, code_server::job("code")?).await?;
        let browser = Browser::start(&world).await?;
        browser.watched(async |browser| type_through_a_move(browser, &client, &session).await).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}

/// A server outside of any host. It listens at every address of the world, so that clients find the
/// same server at another address.
struct Elsewhere(Child);

impl Elsewhere {
    fn start(world: &World) -> Result<Self> {
        let home = world.files();
        let words = code_server::command(&home.display().to_string(), PORT);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(home.join("code.log"))?);
        mooring_linux::netns::enter_command(&mut command, &world.namespace())?;
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // A polite stop ends its terminals as well.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn float(world: &World, line: &str) -> Result<Value> {
    let ran = world.float(&format!("{line} -F json").split(' ').collect::<Vec<_>>())?;
    ensure!(ran.code == Some(0), "{line}: {}", ran.stderr);
    Ok(serde_json::from_str(&ran.stdout)?)
}

async fn type_through_a_break(browser: &Browser, world: &World, job: &Value) -> Result<()> {
    let id = job["id"].as_str().context("an id")?;
    let page = CodePage::open(browser, job["accessUrls"][0].as_str().context("an Access URL")?).await?;
    page.enter("x=$((6*7)); echo begun-$x").await?;
    page.line("begun-42").await?;
    page.enter(COUNT).await?;
    page.line("5").await?;
    float(world, &format!("job update -j {id} --status Floating"))?;
    tokio::time::sleep(AWAY).await;
    float(world, &format!("job update -j {id} --status Executing --endpoint 127.0.0.2:{PORT}"))?;
    // It was told that its connections ended, or it would make no new ones.
    wait_for("the page's new connections", LIMIT, async || {
        let sockets = page.remembered().await?.sockets;
        Ok(sockets.iter().any(|socket| socket.contains("reconnection=true")).then_some(()))
    })
    .await?;
    // What was written while nobody was connected is shown, and the shell is the same.
    page.line("counted").await?;
    page.enter("echo still-$x").await?;
    page.line("still-42").await?;
    let remembered = page.remembered().await?;
    ensure!(!remembered.speaks_of_connections(), "{remembered:?}");
    Ok(())
}

#[test]
fn vs_code_terminal_reconnects_after_an_external_migration() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here()).unwrap();
    let _server = Elsewhere::start(&world).unwrap();
    float(&world, "gateway create -n code").unwrap();
    let job = float(&world, &format!("job register -n slurm --endpoint 127.0.0.1:{PORT} --gateway code")).unwrap();
    let outcome = world.run_inside(async || {
        let browser = Browser::start(&world).await?;
        browser.watched(async |browser| type_through_a_break(browser, &world, &job).await).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
