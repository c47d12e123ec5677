//! Clients whose connections can't be preserved, since somebody else moved their job: they come back by themselves.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_testkit::browser::Browser;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::lab_page::LabPage;
use mooring_testkit::world::{Plan, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NUMBERS: usize = 150;
const PORT: u16 = 21000;
/// A move by another scheduler, as a person notices it.
const AWAY: Duration = Duration::from_secs(3);

/// A JupyterLab that the test runs itself, outside of any host; it listens at every address of the world, so that the same server is
/// found again at another one.
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

#[test]
fn jupyterlab_comes_back_with_its_output_when_its_job_was_moved_by_somebody_else() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let _lab = Lab::start(&world).unwrap();
    let float = |line: &str| {
        let ran = world.float(&line.split(' ').collect::<Vec<_>>())?;
        ensure!(ran.code == Some(0), "{line}: {}", ran.stderr);
        anyhow::Ok(serde_json::from_str::<serde_json::Value>(&ran.stdout)?)
    };
    float("gateway create -n lab -F json").unwrap();
    let register =
        "job register -n slurm --endpoint 127.0.0.1:21000 --accessPath /lab?token=secret --gateway lab -F json";
    let job = float(register).unwrap();
    let (id, access_url) = (job["id"].as_str().unwrap(), job["accessUrls"][0].as_str().unwrap());
    let outcome = world.run_inside(async || {
        Jupyter::connect(access_url).await?;
        let browser = Browser::start(&world).await?;
        let watched = browser.watched(async |browser| {
            let page = LabPage::open(browser, access_url, NUMBERS).await?;
            page.count().await?;
            page.shown(20).await?;
            float(&format!("job update -j {id} --status Floating -F json"))?;
            tokio::time::sleep(AWAY).await;
            float(&format!("job update -j {id} --status Executing --endpoint 127.0.0.2:21000 -F json"))?;
            ensure!(page.numbers().await?.len() < NUMBERS, "the cell had ended before the move did");
            let remembered = page.counted().await?;
            ensure!(remembered.dialogs.is_empty(), "{remembered:?}");
            let given_up = ["Dead", "Disconnected", "Terminating", "Restarting"];
            ensure!(!remembered.states.iter().any(|state| given_up.contains(&state.as_str())), "{remembered:?}");
            // It was told that its connection ended, or this would show nothing.
            ensure!(remembered.states.iter().any(|state| state == "Connecting"), "{remembered:?}");
            Ok(())
        });
        watched.await?;
        browser.quit().await
    });
    outcome.unwrap();
}
