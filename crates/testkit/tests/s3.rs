//! The program `s3-server` serves those who sign, and nobody else.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Result;
use mooring_testkit::s3;
use mooring_testkit::wait::wait_for;

/// The program, ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("end the program");
        self.0.wait().expect("see its end");
    }
}

#[tokio::test]
async fn the_program_serves_a_bucket_to_those_who_sign_only() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let root = tempfile::tempdir()?;
    s3::make_bucket(root.path(), "capsules")?;
    // Another process may take the port meanwhile; the program would say so and end.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(s3::program()?);
    let _running = Running(command.arg(free.to_string()).arg(root.path()).args(["key", "secret"]).spawn()?);
    let answer = wait_for("an answer", Duration::from_secs(10), async || {
        Ok(reqwest::get(format!("http://{free}/capsules/an-object")).await.ok())
    })
    .await?;
    assert_eq!(answer.status(), reqwest::StatusCode::FORBIDDEN);
    assert!(answer.text().await?.contains("AccessDenied"));
    Ok(())
}
