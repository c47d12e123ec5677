//! OpCenter's certificate from an ACME server: a real one, which connects to OpCenter for the
//! proof.
//!
//! The certificates of this server are good for half a minute, so that a renewal is seen.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::wait::wait_for;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, StatusCode};
use serde_json::json;

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// The name of OpCenter, which the ACME server finds by a name server of the test.
const NAME: &str = "float.example.org";
const LIMIT: Duration = Duration::from_secs(90);

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = command.get_program().display().to_string();
        Ok(Self(command.spawn().with_context(|| format!("run {program}"))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What has ended can't be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port that nobody listens at.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The ports of a test.
struct Ports {
    opcenter: u16,
    acme: u16,
    management: u16,
    names: u16,
}

struct Lab<'a> {
    directory: &'a Path,
    ports: Ports,
}

impl Lab<'_> {
    fn new(directory: &Path) -> Result<Lab<'_>> {
        let ports = Ports { opcenter: free_port()?, acme: free_port()?, management: free_port()?, names: free_port()? };
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
        fs::write(directory.join("server.pem"), certificate.pem())?;
        fs::write(directory.join("server.key"), key.serialize_pem())?;
        Ok(Lab { directory, ports })
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.ports.acme)
    }

    /// Starts the ACME server and its name server, which leads every name to this machine.
    fn acme_server(&self) -> Result<[Process; 2]> {
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.ports.acme),
            "managementListenAddress": format!("127.0.0.1:{}", self.ports.management),
            "certificate": self.directory.join("server.pem"),
            "privateKey": self.directory.join("server.key"),
            "httpPort": 1,
            "tlsPort": self.ports.opcenter,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": 30,
        }});
        fs::write(self.directory.join("pebble.json"), config.to_string())?;
        let mut names = Command::new("pebble-challtestsrv");
        names
            .args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-dns01"])
            .arg(format!("127.0.0.1:{}", self.ports.names));
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", "127.0.0.1:0"]);
        let mut server = Command::new("pebble");
        server.arg("-config").arg(self.directory.join("pebble.json"));
        server.arg("-dnsserver").arg(format!("127.0.0.1:{}", self.ports.names));
        server.env("PEBBLE_VA_NOSLEEP", "1");
        Ok([
            Process::start(names, &self.directory.join("names.log"))?,
            Process::start(server, &self.directory.join("pebble.log"))?,
        ])
    }

    fn opcenter(&self) -> Result<Process> {
        let mut command = Command::new(FLOAT);
        command.args(["server", "opcenter", "--state-dir"]).arg(self.directory.join("opcenter"));
        command.args(["--listen", &format!("127.0.0.1:{}", self.ports.opcenter), "--acme-domain", NAME]);
        command.args(["--acme-directory", &self.url(), "--acme-contact", "admin@example.org", "--acme-ca"]);
        command.arg(self.directory.join("server.pem"));
        Process::start(command, &self.directory.join("opcenter.log"))
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.directory.join("opcenter.log"))?)
    }

    /// Returns the root of the ACME server's certificates, which it makes at its start.
    async fn root(&self) -> Result<Certificate> {
        let server = Certificate::from_pem(&fs::read(self.directory.join("server.pem"))?)?;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([server]).build()?;
        let url = format!("https://127.0.0.1:{}/roots/0", self.ports.management);
        let text = wait_for("the ACME server", LIMIT, async || {
            Ok(match http.get(&url).send().await {
                Ok(answer) => Some(answer.text().await?),
                Err(_) => None,
            })
        });
        Ok(Certificate::from_pem(text.await?.as_bytes())?)
    }

    /// Asks OpCenter by its name, as a browser does that believes `root` alone.
    async fn ask(&self, root: &Certificate) -> Result<StatusCode, reqwest::Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.opcenter));
        let http =
            reqwest::Client::builder().no_proxy().tls_certs_only([root.clone()]).resolve(NAME, address).build()?;
        let answer = http.get(format!("https://{NAME}:{}/api/v1/version", self.ports.opcenter)).send().await?;
        Ok(answer.status())
    }

    /// Returns the certificate that OpCenter keeps.
    fn kept(&self) -> Option<String> {
        fs::read_to_string(self.directory.join("opcenter/acme/certificate.pem")).ok()
    }

    async fn answers(&self, root: &Certificate) -> Result<()> {
        let answered = wait_for("a certificate that browsers know", LIMIT, async || {
            Ok(self.ask(root).await.ok().filter(|status| *status == StatusCode::OK).map(|_| ()))
        });
        answered.await.with_context(|| self.log().unwrap_or_default())
    }

    /// Logs in by OpCenter's own authority, at the address.
    async fn own_authority_counts(&self) -> Result<()> {
        let fingerprint = wait_for("OpCenter's fingerprint", LIMIT, async || {
            let log = self.log()?;
            let said = log.split("authority is ").nth(1).and_then(|rest| rest.split_once('\n'));
            Ok(said.map(|(line, _)| line.trim().to_owned()))
        })
        .await?;
        let password = fs::read_to_string(self.directory.join("opcenter/admin-password"))?;
        let mut command = Command::new(FLOAT);
        command.args(["-a", &format!("https://localhost:{}", self.ports.opcenter), "--ca", &fingerprint]);
        command.args(["-u", "admin", "-p", password.trim(), "status"]).env("HOME", self.directory);
        let ran = command.stdin(Stdio::null()).output()?;
        ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    }
}

#[tokio::test]
async fn certificate_of_an_acme_server_is_obtained_kept_and_renewed() -> Result<()> {
    let chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
    chosen.ok().context("this process chooses its cryptography once")?;
    let directory = tempfile::tempdir()?;
    let lab = Lab::new(directory.path())?;
    // The ACME server is away: OpCenter serves with its own certificate, and says what is missing.
    let opcenter = lab.opcenter()?;
    wait_for("the first failure", LIMIT, async || {
        Ok(lab.log()?.contains("there is no new certificate from").then_some(()))
    })
    .await?;
    lab.own_authority_counts().await?;

    let _acme = lab.acme_server()?;
    let root = lab.root().await?;
    lab.answers(&root).await?;
    lab.own_authority_counts().await?;

    // After a kill it has the same certificate, without the ACME server.
    drop(opcenter);
    let before = lab.kept().context("a certificate")?;
    let _opcenter = lab.opcenter()?;
    lab.answers(&root).await?;

    // It is renewed before its end.
    wait_for("a renewal", LIMIT, async || Ok((lab.kept().is_some_and(|kept| kept != before)).then_some(()))).await?;
    ensure!(lab.ask(&root).await? == StatusCode::OK, "{}", lab.log()?);
    let account = fs::read_to_string(lab.directory.join("opcenter/acme/account.json"))?;
    ensure!(account.contains(&lab.url()), "{account}");
    Ok(())
}
