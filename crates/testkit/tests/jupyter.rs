//! The watching client against a real JupyterLab on this machine.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mooring_testkit::counting::Counting;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::wait::wait_for;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

const INTERVAL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(30);

/// A JupyterLab with a home of its own, in a process group of its own.
struct Lab {
    process: Child,
    access_url: String,
    _home: tempfile::TempDir,
}

impl Lab {
    fn start() -> anyhow::Result<Self> {
        let home = tempfile::tempdir_in("/var/tmp")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(home.path().join("log"))?;
        let process = Command::new("/opt/mooring/jupyter/bin/jupyter")
            .args(["lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--ServerApp.port_retries=0"])
            .args([format!("--port={port}"), "--ServerApp.token=first-light".into()])
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("JUPYTER_RUNTIME_DIR", home.path().join("runtime"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        Ok(Self { process, access_url: format!("http://127.0.0.1:{port}/lab?token=first-light"), _home: home })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).expect("a process id"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A polite stop ends its kernels as well; what is left of the group goes with the last
        // line.
        let _ = kill(self.pid(), Signal::SIGCONT);
        let _ = kill(self.pid(), Signal::SIGTERM);
        let asked = std::time::Instant::now();
        while self.process.try_wait().is_ok_and(|status| status.is_none()) && asked.elapsed() < Duration::from_secs(10)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sees_every_number_once_and_how_long_it_waited() {
    let lab = Lab::start().unwrap();
    let jupyter = Jupyter::connect(&lab.access_url).await.unwrap();

    let kernel = jupyter.kernel_start().await.unwrap();
    let mut channels = jupyter.kernel_channels(&kernel).await.unwrap();
    assert_eq!(channels.run("x = 6 * 7\nprint(x)", LIMIT).await.unwrap(), "42\n");
    assert_eq!(channels.run("print(x + 1)", LIMIT).await.unwrap(), "43\n");
    let error = channels.run("1 / 0", LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("ZeroDivisionError"), "{error}");
    jupyter.kernel_shutdown(&kernel).await.unwrap();

    let counting = Counting::start(&jupyter, INTERVAL).await.unwrap();
    let mark = counting.mark();
    wait_for("a hundred messages", LIMIT, async || Ok((counting.since(mark).messages >= 100).then_some(())))
        .await
        .unwrap();
    let calm = counting.since(mark);
    assert!(calm.typical_gap_seconds >= 0.019 && calm.typical_gap_seconds < 0.05, "{calm:?}");
    assert_eq!((calm.lost, calm.repeated, calm.replies_lost), (0, 0, 0));
    assert_eq!(calm.websocket_closed, None);

    // The server is stopped, as in a migration: late is not lost.
    let mark = counting.mark();
    kill(lab.pid(), Signal::SIGSTOP).unwrap();
    let open = wait_for("a gap", LIMIT, async || {
        let report = counting.since(mark);
        Ok((report.longest_gap_seconds > 0.8).then_some(report))
    });
    open.await.unwrap();
    kill(lab.pid(), Signal::SIGCONT).unwrap();
    counting.caught_up(LIMIT).await.unwrap();
    let stopped = counting.since(mark);
    assert!((0.8..2.0).contains(&stopped.longest_gap_seconds), "{stopped:?}");
    assert_eq!((stopped.lost, stopped.repeated, stopped.replies_lost), (0, 0, 0));

    let after = counting.mark();
    counting.caught_up(LIMIT).await.unwrap();
    assert!(counting.since(after).longest_gap_seconds < 0.8);
    let total = counting.finish().await.unwrap();
    assert!(total.is_clean(), "{total:?}");
    assert!(total.numbers >= 100 && total.requests >= 100, "{total:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_is_closed_is_noticed() {
    let mut lab = Lab::start().unwrap();
    let jupyter = Jupyter::connect(&lab.access_url).await.unwrap();
    let counting = Counting::start(&jupyter, INTERVAL).await.unwrap();
    let mark = counting.mark();
    kill(lab.pid(), Signal::SIGKILL).unwrap();
    lab.process.wait().unwrap();
    let closed = wait_for("the end", LIMIT, async || Ok(counting.since(mark).websocket_closed)).await.unwrap();
    assert!(closed.starts_with("broken") || closed.starts_with("closed with"), "{closed}");
    assert!(counting.caught_up(LIMIT).await.is_err());
    assert!(counting.finish().await.is_err());
}

#[tokio::test]
async fn a_wrong_token_is_refused_at_once() {
    let lab = Lab::start().unwrap();
    Jupyter::connect(&lab.access_url).await.unwrap();
    let wrong = lab.access_url.replace("first-light", "wrong");
    let error = Jupyter::connect(&wrong).await.unwrap_err();
    assert!(format!("{error:#}").contains("403"), "{error:#}");
}
