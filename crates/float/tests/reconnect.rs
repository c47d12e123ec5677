//! Clients whose connections can't be preserved, since somebody else moved their job: they come
//! back by themselves.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::browser::Browser;
use mooring_testkit::job::mapped;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::lab_page::LabPage;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const NUMBERS: usize = 150;
const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 21000;
/// A move by another scheduler, as a person notices it.
const AWAY: Duration = Duration::from_secs(3);

/// A JupyterLab outside of any host. It listens at every address of the world, so that clients find
/// the same server at another address.
struct Lab(Child);

impl Lab {
    fn start(world: &World) -> Result<Self> {
        let home = world.files();
        let mut command = Command::new("/opt/mooring/jupyter/bin/jupyter");
        command
            .args(["lab", "--no-browser", "--allow-root", "--ip=0.0.0.0", "--ServerApp.port_retries=0"])
            .args([
                &format!("--port={PORT}"),
                "--IdentityProvider.token=secret",
                "--ServerApp.allow_remote_access=True",
                // The page's own objects can be asked, where what it draws can't be read.
                "--LabApp.expose_app_in_browser=True",
            ])
            .current_dir(&home)
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.join("lab.log"))?);
        mooring_linux::netns::enter_command(&mut command, &world.namespace())?;
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A polite stop ends its kernels as well.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A job that runs elsewhere, behind a gateway.
struct Slurm<'a> {
    world: &'a World,
    _lab: Lab,
    job: String,
    access_url: String,
}

impl<'a> Slurm<'a> {
    fn start(world: &'a World) -> Result<Self> {
        let lab = Lab::start(world)?;
        let mut slurm = Self { world, _lab: lab, job: String::new(), access_url: String::new() };
        slurm.float("gateway create -n lab")?;
        let endpoint = format!("--endpoint 127.0.0.1:{PORT} --accessPath /lab?token=secret --gateway lab");
        let job = slurm.float(&format!("job register -n slurm {endpoint}"))?;
        job["id"].as_str().context("an id")?.clone_into(&mut slurm.job);
        slurm.access_url = world.run_inside(async || {
            let (client, job) = (world.client().await?, slurm.job.parse()?);
            mapped(&client, &job, LIMIT).await?;
            client.job_get(&job).await?.access_urls.into_iter().next().context("an Access URL")
        })?;
        Ok(slurm)
    }

    fn float(&self, line: &str) -> Result<Value> {
        let ran = self.world.float(&format!("{line} -F json").split(' ').collect::<Vec<_>>())?;
        ensure!(ran.code == Some(0), "{line}: {}", ran.stderr);
        Ok(serde_json::from_str(&ran.stdout)?)
    }

    /// Away for a while, and back at another address.
    async fn is_moved(&self) -> Result<()> {
        self.float(&format!("job update -j {} --status Floating", self.job))?;
        tokio::time::sleep(AWAY).await;
        self.float(&format!("job update -j {} --status Executing --endpoint 127.0.0.2:{PORT}", self.job))?;
        Ok(())
    }

    /// Runs `work` with a browser once the server answers.
    fn browse(&self, work: impl AsyncFnOnce(&Browser) -> Result<()> + Send) -> Result<()> {
        self.world.run_inside(async || {
            Jupyter::connect(&self.access_url).await?;
            let browser = Browser::start(self.world).await?;
            browser.watched(work).await?;
            browser.quit().await;
            Ok(())
        })
    }
}

async fn count_through_a_move(browser: &Browser, slurm: &Slurm<'_>) -> Result<()> {
    let page = LabPage::open(browser, &slurm.access_url, NUMBERS).await?;
    page.count().await?;
    page.shown(20).await?;
    slurm.is_moved().await?;
    ensure!(page.numbers().await?.len() < NUMBERS, "the cell had ended before the move did");
    let remembered = page.counted().await?;
    ensure!(remembered.dialogs.is_empty(), "{remembered:?}");
    let given_up = ["Dead", "Disconnected", "Terminating", "Restarting"];
    ensure!(!remembered.states.iter().any(|state| given_up.contains(&state.as_str())), "{remembered:?}");
    // It was told that its connection ended, or this would show nothing.
    ensure!(remembered.states.iter().any(|state| state == "Connecting"), "{remembered:?}");
    Ok(())
}

/// Opens a terminal in the page and has it remember every state of its connection.
const OPEN_TERMINAL: &str = "
    const widget = await window.jupyterapp.commands.execute('terminal:create-new');
    const session = widget.content.session;
    window.terminal = {widget, session, states: [session.connectionStatus]};
    session.connectionStatusChanged.connect((_, state) => window.terminal.states.push(state));";

const TYPE: &str = "window.terminal.session.send({type: 'stdin', content: [given[0] + '\\r']});";

/// The terminal's text, line by line.
const SCREEN: &str = "
    const buffer = window.terminal.widget.content._term?.buffer.active;
    if (!buffer) return [];
    return [...Array(buffer.length).keys()].map(line => buffer.getLine(line).translateToString(true)).filter(line => line);";

const STATES: &str = "return window.terminal.states";

async fn line(browser: &Browser, wanted: &str) -> Result<()> {
    wait_for(&format!("`{wanted}` in the terminal"), LIMIT, async || {
        let screen: Vec<String> = browser.run(SCREEN, &[]).await?;
        Ok(screen.iter().any(|line| line == wanted).then_some(()))
    })
    .await
}

async fn type_through_a_move(browser: &Browser, slurm: &Slurm<'_>) -> Result<()> {
    browser.open(&slurm.access_url).await?;
    browser.element("#jp-main-dock-panel", LIMIT).await?;
    browser.run::<()>(OPEN_TERMINAL, &[]).await?;
    wait_for("the terminal's connection", LIMIT, async || {
        let states: Vec<String> = browser.run(STATES, &[]).await?;
        Ok((states.last().is_some_and(|state| state == "connected")).then_some(()))
    })
    .await?;
    browser.run::<()>(TYPE, &[json!("x=$((6*7)); echo begun-$x")]).await?;
    line(browser, "begun-42").await?;
    browser.run::<()>(TYPE, &[json!("sleep 2; echo meanwhile-$x")]).await?;
    slurm.is_moved().await?;
    wait_for("the terminal to come back", LIMIT, async || {
        let states: Vec<String> = browser.run(STATES, &[]).await?;
        let ended = states.iter().rposition(|state| state != "connected");
        Ok((ended > Some(0) && ended < Some(states.len() - 1)).then_some(()))
    })
    .await?;
    // What was written while nobody was connected is shown, and the shell is the same.
    line(browser, "meanwhile-42").await?;
    browser.run::<()>(TYPE, &[json!("echo still-$x")]).await?;
    line(browser, "still-42").await
}

#[test]
fn kernel_reconnects_after_an_external_migration() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here()).unwrap();
    let slurm = Slurm::start(&world).unwrap();
    slurm.browse(async |browser| count_through_a_move(browser, &slurm).await).unwrap();
}

#[test]
fn terminal_reconnects_after_an_external_migration() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here()).unwrap();
    let slurm = Slurm::start(&world).unwrap();
    slurm.browse(async |browser| type_through_a_move(browser, &slurm).await).unwrap();
}
