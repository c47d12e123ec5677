//! Templates through the real program: those of users, and built-in ones whose software is on this
//! machine, each with a client of its kind. JupyterLab's is in every test of migrations.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::submission::Environment;
use mooring_api::view::{LoginRequest, UserAddRequest};
use mooring_api::{Client, Submission};
use mooring_linux::netns;
use mooring_testkit::job::ended;
use mooring_testkit::session::Session;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::migration::Outcome;
use reqwest::StatusCode;
use serde_json::Value;

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// Time limit of a server or a job.
const LIMIT: Duration = Duration::from_secs(90);

fn done(world: &World, line: &str) -> Result<Value> {
    let words: Vec<&str> = ["-F", "json"].into_iter().chain(line.split(' ')).collect();
    let ran = world.float(&words)?;
    ensure!(ran.code == Some(0), "`float {line}`: {ran:?}");
    serde_json::from_str(&ran.stdout).with_context(|| format!("`float {line}` answers {}", ran.stdout))
}

fn refused(world: &World, line: &str, code: u16, told: &str) -> Result<()> {
    let ran = world.float(&line.split(' ').collect::<Vec<_>>())?;
    let said = ran.stderr.contains(&format!("(code: {code})")) && ran.stderr.contains(told);
    ensure!(ran.code == Some(1) && ran.stdout.is_empty() && said, "{line}: {ran:?}");
    Ok(())
}

/// Waits for the end of a job and returns its output.
fn output(world: &World, job: &Value) -> Result<String> {
    let job = &job["id"].as_str().context("a job has an id")?.parse()?;
    world.run_inside(async || {
        let client = world.client().await?;
        ended(&client, job, LIMIT).await?;
        wait_for("the output", LIMIT, async || {
            let piece = client.job_log(job, 0).await?;
            let whole = client.job_log(job, piece.next).await?.ended;
            Ok((whole && !piece.text.is_empty()).then_some(piece.text))
        })
        .await
    })
}

/// Lets users who are not admins run jobs on the host's own root file system.
fn everybodys_images() -> Vec<String> {
    ["--image-path", "/"].map(str::to_owned).to_vec()
}

#[test]
fn users_make_templates_from_files_and_jobs() {
    let world = World::start(Plan { virtual_hosts: 1, arguments: everybodys_images(), ..Plan::new(FLOAT) }).unwrap();
    let file = world.files().join("job.yaml");
    let job = r#"{"image": "dir:/", "memGB": 0.2, "env": ["A=1", "B=1"], "publish": ["8000"],
        "command": ["/bin/sh", "-c", "echo $A$B $0", "{token}"]}"#;
    fs::write(&file, job).unwrap();
    let create = |name: &str, more: &str| done(&world, &format!("template create {name} {more}"));
    let from_file = format!("--file {}", file.display());
    let made = create("hello", &format!("{from_file} --accessPath /x?token={{token}} --description greets")).unwrap();
    assert_eq!(
        (&made["name"], &made["description"], &made["user"]),
        (&"hello:1".into(), &"greets".into(), &"admin".into())
    );

    let first = done(&world, "submit --template hello -e B=2").unwrap();
    assert_eq!((&first["memGB"], &first["publish"][0]), (&0.2.into(), &"8000:8000".into()));
    let text = output(&world, &first).unwrap();
    let (greeting, token) = text.trim().split_once(' ').unwrap();
    assert_eq!(greeting, "12");
    assert!(token.len() >= 16 && token.chars().all(|digit| digit.is_ascii_hexdigit()), "{text}");
    // A job's template makes the same, but with a token of its own.
    let from_job = format!("--from-job {}", first["id"].as_str().unwrap());
    let again = create("private::again", &from_job).unwrap();
    assert_eq!((&again["name"], &again["accessPath"]), (&"private::again:1".into(), &"/x?token={token}".into()));
    assert!(!again.to_string().contains(token), "{again}");
    let second = done(&world, "submit --template private::again:1 -e A=3").unwrap();
    let text = output(&world, &second).unwrap();
    assert!(text.starts_with("32 ") && !text.contains(token), "{text}");

    // The newest is meant where there is no tag, and `latest` says that.
    fs::write(&file, job.replace("A=1", "A=9")).unwrap();
    assert_eq!(create("hello:new", &from_file).unwrap()["name"], "hello:new");
    assert_eq!(create("hello", &from_file).unwrap()["name"], "hello:2");
    for (name, env) in [("hello:1", "A=1"), ("hello", "A=9"), ("hello:latest", "A=9"), ("hello:new", "A=9")] {
        let shown = done(&world, &format!("template show {name}")).unwrap();
        assert_eq!(shown["job"]["env"][0], env, "{name}");
    }
    refused(&world, &format!("template create hello:1 {from_file}"), 1006, "there is a template `hello:1` already")
        .unwrap();
    refused(&world, "submit --template hello:3", 1002, "no template `hello:3`").unwrap();
    refused(&world, "submit --template private::hello", 1002, "no template `private::hello`").unwrap();
    refused(&world, "template delete hello -f", 1003, "which tag").unwrap();
    refused(&world, "template delete jupyter -f", 1007, "is built in").unwrap();
    refused(&world, "submit --template jupyter:7", 1002, "has no tags").unwrap();

    world.run_inside(async || others(&world, &world.client().await?).await).unwrap();
    for name in ["hello:1", "hello:2", "hello:new", "private::again:1"] {
        let ran = world.float(&["template", "delete", name, "-f"]).unwrap();
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    refused(&world, "submit --template hello", 1002, "no template `hello`").unwrap();
    let left = done(&world, "template list").unwrap();
    let left: Vec<&str> = left.as_array().unwrap().iter().filter_map(|template| template["name"].as_str()).collect();
    assert_eq!(left, ["code-server", "jupyter", "rstudio", "shiny", "ssh"]);
}

/// Another user has the public templates and none of the private ones, and makes its own alone.
async fn others(world: &World, admin: &Client) -> Result<()> {
    let (name, password) = ("alice".to_owned(), "alice-password".to_owned());
    admin
        .user_add(&UserAddRequest { name: name.clone(), password: password.clone(), ..UserAddRequest::default() })
        .await?;
    let alice = Client::new(world.url())?;
    let token = alice.login(&LoginRequest { username: name, password }).await?.token;
    let alice = alice.with_token(token);
    let names: Vec<String> = alice.template_list().await?.into_iter().map(|template| template.name).collect();
    ensure!(
        names.contains(&"hello:1".to_owned()) && !names.iter().any(|name| name.starts_with("private")),
        "{names:?}"
    );
    let job = alice.job_submit(&Submission { template: Some("hello:1".parse()?), ..Submission::default() }).await?;
    ended(&alice, &job.id, LIMIT).await?;
    let request = |name: &str| mooring_api::view::TemplateCreateRequest {
        name: name.into(),
        from_job: Some(job.id.clone()),
        ..Default::default()
    };
    let refusal = alice.template_create(&request("hello")).await.err().context("a public template takes an admin")?;
    ensure!(refusal.code() == Some(mooring_api::ErrorCode::PermissionDenied), "{refusal}");
    ensure!(alice.template_create(&request("private::again")).await?.name == "private::again:1");
    let refusal = alice.template_delete("hello:1").await.err().context("a public template is an admin's")?;
    ensure!(refusal.code() == Some(mooring_api::ErrorCode::PermissionDenied), "{refusal}");
    // Of the same name as the admin's, and another one.
    let [own, other] = [alice.template_get("private::again").await?, admin.template_get("private::again").await?];
    ensure!(own.user == "alice" && other.user == "admin", "{own:?} {other:?}");
    Ok(())
}

/// Runs a command on the far side of `ssh`, with the host key that the job has told.
fn ssh(world: &World, session: &Session, command: &str) -> Result<String> {
    let files = world.files();
    let SocketAddr::V4(address) = session.address else { anyhow::bail!("an IPv4 gateway") };
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-p", &address.port().to_string(), "-l", "root", "-i"]).arg(files.join("client_key"));
    for option in ["BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=20"] {
        ssh.args(["-o", option]);
    }
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", files.join("known_hosts").display()));
    ssh.arg(address.ip().to_string()).arg(command);
    netns::enter_command(&mut ssh, &world.namespace())?;
    let ran = ssh.output().context("run `ssh`")?;
    ensure!(ran.status.success(), "ssh: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(String::from_utf8(ran.stdout)?)
}

#[test]
fn ssh_lets_in_whoever_has_the_key() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let files = world.files();
    for key in ["client_key", "other_key"] {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(files.join(key)).status();
        assert!(made.unwrap().success());
    }
    refused(&world, "submit --template ssh", 1003, "needs the variable AUTHORIZED_KEY").unwrap();
    let key = fs::read_to_string(files.join("client_key.pub")).unwrap();
    let session = world
        .run_inside(async || {
            let client = world.client().await?;
            let job = Submission {
                name: Some("shell".parse()?),
                template: Some("ssh".parse()?),
                env: Environment::from([("AUTHORIZED_KEY", key.trim())]),
                ..Submission::default()
            };
            let session = Session::launch(&client, job).await?;
            let host_key = wait_for("the host key", LIMIT, async || {
                let text = client.job_log(&session.job, 0).await?.text;
                let line = text.lines().find_map(|line| line.strip_prefix("ssh: the host key is "));
                Ok(line.map(str::to_owned))
            })
            .await?;
            let (address, port) = (session.address.ip(), session.address.port());
            fs::write(files.join("known_hosts"), format!("[{address}]:{port} {host_key}\n"))?;
            wait_for("the server", LIMIT, async || Ok(ssh(&world, &session, "true").ok())).await?;
            Ok(session)
        })
        .unwrap();
    assert_eq!(ssh(&world, &session, "echo kept >/root/kept; id -un").unwrap(), "root\n");
    // It is the same machine after a move, by its key and by its files.
    world
        .run_inside(async || {
            let moved = move_once(&world.client().await?, &session.job).await?;
            ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
            Ok(())
        })
        .unwrap();
    assert_eq!(ssh(&world, &session, "cat /root/kept").unwrap(), "kept\n");
    fs::rename(files.join("other_key"), files.join("client_key")).unwrap();
    let refused = ssh(&world, &session, "true").unwrap_err().to_string();
    assert!(refused.contains("Permission denied"), "{refused}");
}

#[test]
fn shiny_serves_its_demo_and_an_app_of_ones_own() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(FLOAT) }).unwrap();
    let app = world.files().join("app");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("app.R"), "library(shiny)\nshinyApp(fluidPage('of my own'), function(input, output) {})\n")
        .unwrap();
    world
        .run_inside(async || {
            let client = world.client().await?;
            for (name, env, told) in [
                ("demo", Environment::default(), "<h2>Shiny</h2>"),
                ("own", Environment::from([("SHINY_APP", app.display().to_string().as_str())]), "of my own"),
            ] {
                let job = Submission {
                    name: Some(name.parse()?),
                    template: Some("shiny".parse()?),
                    env,
                    ..Submission::default()
                };
                let session = Session::launch(&client, job).await?;
                let http = reqwest::Client::builder().no_proxy().build()?;
                wait_for("the app", LIMIT, async || {
                    let Ok(answer) = http.get(&session.access_url).send().await else { return Ok(None) };
                    Ok(answer.text().await.ok().filter(|text| text.contains(told)).map(drop))
                })
                .await?;
                client.gateway_destroy(&session.gateway.clone().into()).await?;
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn code_server_opens_with_the_password_that_its_output_has() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(FLOAT) }).unwrap();
    world
        .run_inside(async || {
            let client = world.client().await?;
            let job = Submission {
                name: Some("code".parse()?),
                template: Some("code-server".parse()?),
                ..Submission::default()
            };
            let session = Session::launch(&client, job).await?;
            let password = wait_for("the password", LIMIT, async || {
                let text = client.job_log(&session.job, 0).await?.text;
                let line = text.lines().find_map(|line| line.strip_prefix("code-server: the password is "));
                Ok(line.map(str::to_owned))
            })
            .await?;
            let shown = client.job_get(&session.job).await?;
            ensure!(shown.env["PASSWORD"] == "********", "{shown:?}");
            let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
            let login = format!("http://{}/login", session.address);
            let log_in = async |password: &str| {
                let body = format!("base=.&href={login}&password={password}");
                let form = http.post(&login).header("Content-Type", "application/x-www-form-urlencoded").body(body);
                form.send().await
            };
            wait_for("the server", LIMIT, async || {
                let answer = http.get(&session.access_url).send().await;
                // A client without a session is sent to the login.
                Ok(answer.is_ok_and(|answer| answer.status() == StatusCode::FOUND).then_some(()))
            })
            .await?;
            let wrong = log_in("guessed").await?;
            ensure!(wrong.status() == StatusCode::OK && wrong.text().await?.contains("Incorrect password"));
            let right = log_in(&password).await?;
            let cookie = right.headers().get("set-cookie").context("a cookie")?.to_str()?;
            let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
            let page = http.get(format!("http://{}/?folder=/root/work", session.address)).header("Cookie", cookie);
            let page = page.send().await?;
            ensure!(page.status() == StatusCode::OK, "{page:?}");
            ensure!(page.text().await?.contains("workbench"));
            Ok(())
        })
        .unwrap();
}
