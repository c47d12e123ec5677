//! Users, groups and secrets through the real program: permissions, and where the value of a secret
//! is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_testkit::job::{ended, executing};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, Ran, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// Time limit of a job's start, migration or end.
const LIMIT: Duration = Duration::from_secs(60);
/// The value of a secret, which only the environment of a job may have.
const VALUE: &str = "open-sesame-5f1c77e0";

const NOT_FOUND: u16 = 1002;
const INVALID: u16 = 1003;
const NO_SESSION: u16 = 1004;
const DENIED: u16 = 1005;
const EXISTS: u16 = 1006;
const WRONG_STATUS: u16 = 1007;
const EXHAUSTED: u16 = 1008;

/// A user of a world, by name and password.
#[derive(Clone, Copy)]
struct As<'a> {
    world: &'a World,
    name: &'a str,
    password: &'a str,
}

impl As<'_> {
    /// Runs a command line, split at its spaces.
    fn run(&self, line: &str) -> Result<Ran> {
        let mut command = Command::new(FLOAT);
        command.args(["-a", self.world.url(), "-u", self.name, "-p", self.password, "-F", "json"]);
        command.args(line.split(' '));
        self.world.run(command)
    }

    /// Returns the output of a command line, which has to succeed, in each format.
    fn printed(&self, line: &str) -> Result<String> {
        let mut printed = String::new();
        for format in ["json", "yaml", "table"] {
            let mut command = Command::new(FLOAT);
            command.args(["-a", self.world.url(), "-u", self.name, "-p", self.password, "-F", format]);
            command.args(line.split(' '));
            let ran = self.world.run(command)?;
            ensure!(ran.code == Some(0), "`float {line}`: {ran:?}");
            printed += &ran.stdout;
            printed += &ran.stderr;
        }
        Ok(printed)
    }

    /// The same with a line on stdin.
    fn run_with_stdin(&self, line: &str, stdin: &str) -> Result<Ran> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "printf '%s\\n' \"$STDIN\" | \"$@\"", "sh", FLOAT]);
        command.args(["-a", self.world.url(), "-u", self.name, "-p", self.password, "-F", "json"]);
        command.args(line.split(' ')).env("STDIN", stdin);
        self.world.run(command)
    }

    fn done(&self, line: &str) -> Result<Value> {
        read(line, self.run(line)?)
    }

    fn done_with_stdin(&self, line: &str, stdin: &str) -> Result<Value> {
        read(line, self.run_with_stdin(line, stdin)?)
    }

    fn refused(&self, line: &str, code: u16, told: &str) -> Result<()> {
        refused(line, &self.run(line)?, code, told)
    }
}

fn read(line: &str, ran: Ran) -> Result<Value> {
    ensure!(ran.code == Some(0), "`float {line}`: {ran:?}");
    if ran.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&ran.stdout).with_context(|| format!("`float {line}` answers {}", ran.stdout))
}

fn refused(line: &str, ran: &Ran, code: u16, told: &str) -> Result<()> {
    // With `-F json`, the error is one object on a line of its own.
    let error = ran.stderr.lines().last().and_then(|last| serde_json::from_str::<Value>(last).ok());
    let (has_code, says) = match &error {
        Some(error) => {
            let texts = [&error["message"], &error["hint"]].map(|text| text.as_str().unwrap_or_default());
            (error["code"] == code, texts.iter().any(|text| text.contains(told)))
        }
        None => (ran.stderr.contains(&format!("(code: {code})\n")), ran.stderr.contains(told)),
    };
    ensure!(ran.code == Some(1) && ran.stdout.is_empty() && has_code && says, "{line}: {ran:?}");
    Ok(())
}

fn id(value: &Value) -> Result<JobId> {
    Ok(value["id"].as_str().context("it has an id")?.parse()?)
}

/// The names in a list.
fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

fn people(admin: As<'_>) -> Result<()> {
    for short in ["", "1234567"] {
        let ran = admin.run_with_stdin("user add alice --passwd-stdin", short)?;
        refused("a short password", &ran, INVALID, "at least 8 characters")?;
    }
    let ran = admin.run("user add alice")?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("--passwd-stdin"),
        "without a terminal nothing is asked: {ran:?}"
    );
    admin.done("group add empty")?;
    let alice = admin.done_with_stdin("user add alice --passwd-stdin --group empty", "alice-password")?;
    ensure!(alice["role"] == "user" && alice["groups"] == json!(["empty"]), "{alice}");
    admin.done_with_stdin("user add bob --passwd-stdin", "bob-password")?;
    let again = admin.run_with_stdin("user add bob --passwd-stdin", "bob-password")?;
    refused("a name twice", &again, EXISTS, "a user is named `bob` already")?;
    let nowhere = admin.run_with_stdin("user add carol --passwd-stdin --group nowhere", "carol-password")?;
    refused("a group that is not there", &nowhere, NOT_FOUND, "no group `nowhere`")?;
    ensure!(names(&admin.done("user list")?) == ["admin", "alice", "bob"], "carol is not half there");
    Ok(())
}

/// Without a common group the objects of others are invisible.
fn strangers(alice: As<'_>, bob: As<'_>, job: &JobId) -> Result<()> {
    for line in ["show -j", "cancel -f -j", "migrate -f -j", "log -j", "log events -j", "gateway connect -g lab -j"] {
        bob.refused(&format!("{line} {job}"), NOT_FOUND, &format!("no job {job}"))?;
    }
    ensure!(bob.done("list")? == json!([]), "bob sees no jobs");
    ensure!(alice.done("list")?.as_array().map(Vec::len) == Some(1), "alice sees her own");
    for line in ["user add x --passwd-stdin", "user update alice --role admin", "group add x", "user delete alice -f"] {
        let ran = bob.run_with_stdin(line, "some-password")?;
        refused(line, &ran, DENIED, "takes the role `admin`")?;
    }
    bob.refused("user info alice", NOT_FOUND, "no user `alice`")?;
    bob.refused("group info empty", NOT_FOUND, "no group `empty`")?;
    ensure!(names(&bob.done("user list")?) == ["bob"] && bob.done("group list")? == json!([]));
    // Everybody uses a gateway, who made it and admins change it.
    for line in ["gateway destroy -f -g lab", "gateway modify -g lab --name other", "gateway restart -g lab"] {
        bob.refused(line, DENIED, "gateway `lab` belongs to admin")?;
    }
    bob.done("gateway create -n bobs --portRange 12000:12010 -m 0.2")?;
    alice.refused("gateway destroy -f -g bobs", DENIED, "gateway `bobs` belongs to bob")?;
    let own = bob.run("gateway destroy -f -g bobs")?;
    ensure!(own.code == Some(0), "{own:?}");
    Ok(())
}

/// Members of a group see a job and its status, and nothing that opens it.
fn mates(admin: As<'_>, alice: As<'_>, bob: As<'_>, job: &JobId) -> Result<()> {
    let group = admin.done("group add lab --user alice --user bob")?;
    ensure!(group["users"] == json!(["alice", "bob"]), "{group}");
    let (own, seen) = (alice.done(&format!("show -j {job}"))?, bob.done(&format!("show -j {job}"))?);
    ensure!(own["env"]["MODE"] == "test" && seen["env"]["MODE"] == "********", "{seen}");
    ensure!(own["status"] == seen["status"] && own["portMappings"] == seen["portMappings"], "{seen}");
    let url = own["accessUrls"][0].as_str().context("a URL")?;
    let without = url.split_once("?token=").with_context(|| format!("no token in {url}"))?.0;
    ensure!(seen["accessUrls"] == json!([without]), "{seen}");
    ensure!(!seen.to_string().contains("token="), "{seen}");
    ensure!(bob.done("list")?.as_array().map(Vec::len) == Some(1));
    let gateway = bob.done("gateway info -g lab")?;
    ensure!(gateway["connections"][0]["accessUrl"] == without, "{gateway}");
    let events = bob.done(&format!("log events -j {job}"))?;
    ensure!(events.as_array().is_some_and(|events| !events.is_empty()), "{events}");
    for line in [
        "cancel -f -j",
        "migrate -f -j",
        "log -j",
        "gateway disconnect -g lab -j",
        "template create private::x --from-job",
    ] {
        bob.refused(&format!("{line} {job}"), DENIED, &format!("job {job} belongs to alice"))?;
    }
    ensure!(names(&bob.done("group list")?) == ["lab"]);
    // Out of the group, out of sight.
    admin.done("group update lab --rmUser bob")?;
    bob.refused(&format!("show -j {job}"), NOT_FOUND, "no job")?;
    admin.refused("group update lab --rmUser bob", NOT_FOUND, "user `bob` is not in group `lab`")
}

/// A new password and a deletion end the sessions; there is always an admin.
fn sessions(world: &World, admin: As<'_>, bob: As<'_>) -> Result<()> {
    let with_session = |line: &str| -> Result<Ran> {
        let mut command = Command::new(FLOAT);
        command.args(["-a", world.url()]).args(line.split(' '));
        world.run(command)
    };
    ensure!(bob.run("login")?.code == Some(0));
    let info = with_session("login --info")?;
    ensure!(info.code == Some(0) && info.stdout.contains("username: bob\nrole: user\n"), "{info:?}");
    admin.done_with_stdin("user update bob --passwd-stdin", "bobs-other-password")?;
    refused("a session of before", &with_session("login --info")?, NO_SESSION, "")?;
    bob.refused("list", NO_SESSION, "wrong user name or password")?;
    let bob = As { password: "bobs-other-password", ..bob };

    // A session alone is not enough to change one's own password.
    ensure!(bob.run("login")?.code == Some(0));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo taken-over | \"$@\"", "sh", FLOAT, "-a", world.url(), "user", "update", "bob"]);
    command.arg("--passwd-stdin").env("MOORING_PASSWORD", "guessed");
    refused("a wrong current password", &world.run(command)?, DENIED, "the current password")?;
    bob.done_with_stdin("user update bob --passwd-stdin", "bobs-third-password")?;
    let bob = As { password: "bobs-third-password", ..bob };
    ensure!(bob.done("list")? == json!([]));

    for line in ["user delete admin -f", "user update admin --role user"] {
        admin.refused(line, WRONG_STATUS, "`admin` is the last admin")?;
    }
    admin.done("user update bob --role admin")?;
    ensure!(bob.done("user update admin --role user")?["role"] == "user");
    admin.refused("user update admin --role admin", DENIED, "takes the role `admin`")?;
    bob.refused("user update bob --role user", WRONG_STATUS, "`bob` is the last admin")?;
    ensure!(bob.done("user update admin --role admin")?["role"] == "admin");
    ensure!(bob.run("login")?.code == Some(0));
    ensure!(admin.run("user delete bob -f")?.code == Some(0));
    refused("a session of a user who is gone", &with_session("list")?, NO_SESSION, "")?;
    bob.refused("list", NO_SESSION, "wrong user name or password")
}

/// Lets users who are not admins run jobs on the host's own root file system.
fn everybodys_images() -> Vec<String> {
    ["--image-path", "/"].map(str::to_owned).to_vec()
}

#[test]
fn everybody_has_what_is_theirs_and_groups_look_on() {
    let world = World::start(Plan { virtual_hosts: 1, arguments: everybodys_images(), ..Plan::new(FLOAT) }).unwrap();
    let password = world.password().unwrap();
    let admin = As { world: &world, name: "admin", password: &password };
    let alice = As { name: "alice", password: "alice-password", ..admin };
    let bob = As { name: "bob", password: "bob-password", ..admin };
    people(admin).unwrap();
    admin.done("gateway create -n lab -m 0.2").unwrap();
    let file = world.files().join("job.yaml");
    fs::write(&file, "image: dir:/\ncommand: [/bin/sleep, \"9999\"]\npublish: [\"9000\"]\nmemGB: 0.2\n").unwrap();
    let created = format!("template create private::web --file {} --accessPath /?token={{token}}", file.display());
    alice.done(&created).unwrap();
    let submitted = alice.done("submit --template private::web --gateway lab -e MODE=test").unwrap();
    ensure_user(&submitted, "alice");
    let job = id(&submitted).unwrap();
    strangers(alice, bob, &job).unwrap();
    mates(admin, alice, bob, &job).unwrap();
    sessions(&world, admin, bob).unwrap();

    admin.refused("user delete alice -f", WRONG_STATUS, "user alice has jobs that have not ended").unwrap();
    assert_eq!(admin.run("user delete alice -f --cancelJobs").unwrap().code, Some(0));
    let ended = world.run_inside(async || ended(&world.client().await?, &job, LIMIT).await).unwrap();
    assert_eq!((ended.status, ended.user.as_str()), (JobStatus::Cancelled, "alice"));
    let events = admin.done(&format!("log events -j {job}")).unwrap().to_string();
    assert!(events.contains("requested by admin, who deleted the user alice"), "{events}");
    assert_eq!(names(&admin.done("user list").unwrap()), ["admin"]);
    // Nobody else gets the name, and with it the jobs.
    let again = admin.done_with_stdin("user add alice --passwd-stdin", "alice-password").unwrap_err();
    assert!(format!("{again:#}").contains("`alice` was a user who is deleted"), "{again:#}");
    admin.done_with_stdin("user add alicia --passwd-stdin", "alice-password").unwrap();
}

/// Runs a command line with a token instead of a user and a password.
fn with_token(world: &World, token: &str, line: &str) -> Result<Ran> {
    let mut command = Command::new(FLOAT);
    command.args(["-a", world.url(), "-O", token, "-F", "json"]).args(line.split(' '));
    world.run(command)
}

#[test]
fn tokens_quotas_and_viewers_limit_what_is_possible() {
    let world = World::start(Plan { virtual_hosts: 1, arguments: everybodys_images(), ..Plan::new(FLOAT) }).unwrap();
    let password = world.password().unwrap();
    let admin = As { world: &world, name: "admin", password: &password };
    let alice = As { name: "alice", password: "alice-password", ..admin };
    admin.done_with_stdin("user add alice --passwd-stdin", "alice-password").unwrap();

    let made = alice.done("token create nightly --scope jobs --ttl 1h").unwrap();
    let token = made["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("mrg_") && made["apiToken"]["scope"] == "jobs", "{made}");
    let mut plain = Command::new(FLOAT);
    plain.args(["-a", world.url(), "-u", "alice", "-p", "alice-password", "token", "create", "dashboard"]);
    let plain = world.run(plain).unwrap();
    assert!(plain.stdout.starts_with("mrg_") && plain.stdout.lines().count() == 1, "{plain:?}");
    assert!(plain.stderr.contains("with the scope `read` is good until"), "{plain:?}");
    let dashboard = plain.stdout.trim().to_owned();
    assert_eq!(names(&alice.done("token list").unwrap()), ["nightly", "dashboard"]);
    assert!(!alice.printed("token list").unwrap().contains(&token));

    let quota = admin.done("user quota alice --jobs 1 --cores 8 --memory 1.5").unwrap();
    assert_eq!(quota["quota"], json!({"jobs": 1, "cores": 8, "memGb": 1.5, "gateways": null}));
    let submit = "submit -i dir:/ -m 0.2 -- /bin/sleep 9999";
    refused(submit, &with_token(&world, &dashboard, submit).unwrap(), DENIED, "--scope jobs").unwrap();
    let job = read(submit, with_token(&world, &token, submit).unwrap()).unwrap();
    ensure_user(&job, "alice");
    let again = with_token(&world, &token, submit).unwrap();
    refused(submit, &again, EXHAUSTED, "1 of 1 job are used, and this takes 1 more").unwrap();
    alice.refused("user quota alice --jobs none", DENIED, "admin").unwrap();
    assert_eq!(admin.done("user quota alice --jobs none").unwrap()["used"]["jobs"], 1);

    admin.done("user update alice --role viewer").unwrap();
    let cancel = format!("cancel -f -j {}", id(&job).unwrap());
    refused(&cancel, &with_token(&world, &token, &cancel).unwrap(), DENIED, "looks, and changes nothing").unwrap();
    alice.refused(&cancel, DENIED, "looks, and changes nothing").unwrap();
    assert_eq!(alice.done("list").unwrap().as_array().map(Vec::len), Some(1));
    assert_eq!(alice.run("token delete nightly").unwrap().code, Some(0));
    refused("list", &with_token(&world, &token, "list").unwrap(), NO_SESSION, "").unwrap();

    let opcenter = world.directory().join("opcenter");
    assert_eq!(files_with(&opcenter, &dashboard).unwrap(), Vec::<PathBuf>::new());
    assert!(!world.log().contains(&dashboard) && !world.log().contains(&token));
}

fn ensure_user(job: &Value, name: &str) {
    assert_eq!(job["user"], name, "{job}");
}

/// The files below a directory that hold a text.
fn files_with(directory: &Path, text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_dir() {
            found.extend(files_with(&path, text)?);
        } else if kind.is_file() && fs::read(&path)?.windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Checks a job's first line, removes its secret, and migrates the job, which keeps the value.
async fn goes_on_without_its_secret(client: &Client, job: &JobId, line: &str) -> Result<()> {
    executing(client, job, LIMIT).await?;
    wait_for("the job's first line", LIMIT, async || {
        let text = client.job_log(job, 0).await?.text;
        let Some(first) = text.lines().next() else { return Ok(None) };
        ensure!(first.starts_with(line), "{first}");
        Ok(Some(()))
    })
    .await?;
    client.secret_unset("token").await?;
    let moved = move_once(client, job).await?;
    ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
    let length = client.job_log(job, 0).await?.next;
    wait_for("output after the migration", LIMIT, async || {
        Ok((client.job_log(job, length).await?.next > length).then_some(()))
    })
    .await?;
    ensure!(client.job_get(job).await?.status == JobStatus::Executing);
    Ok(())
}

#[test]
fn secrets_are_in_the_jobs_environment_alone() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let password = world.password().unwrap();
    let admin = As { world: &world, name: "admin", password: &password };
    let bob = As { name: "bob", password: "bob-password", ..admin };
    admin.done_with_stdin("user add bob --passwd-stdin", "bob-password").unwrap();

    admin.refused("submit -i dir:/ -e K={secret:token} -- /bin/true", NOT_FOUND, "no secret `token`").unwrap();
    admin.refused("submit -i dir:/ -e K={secret:token -- /bin/true", INVALID, "not well formed").unwrap();
    let set = admin.done_with_stdin("secret set token --file -", VALUE).unwrap();
    assert_eq!(set["name"], "token");
    assert_eq!(admin.run("secret get token").unwrap().stdout, format!("{VALUE}\n"));
    assert_eq!(names(&admin.done("secret ls").unwrap()), ["token"]);
    // It is nobody else's, though the name is the same.
    bob.refused("secret get token", NOT_FOUND, "no secret `token`").unwrap();
    bob.refused("submit -i dir:/ -e K={secret:token} -- /bin/true", NOT_FOUND, "no secret `token`").unwrap();
    bob.done("secret set token bobs-own").unwrap();

    let script = world.files().join("hash");
    let hash = "printf %s \"$K\" | sha256sum";
    fs::write(&script, format!("{hash}; while :; do echo \"at $(cut -d' ' -f1 /proc/uptime)\"; sleep 0.1; done"))
        .unwrap();
    let line = format!(
        "submit -i dir:/ -m 0.2 -e K=a-{{secret:token}}-z -e API_KEY={{secret:token}} -- /bin/bash {}",
        script.display()
    );
    let job = id(&admin.done(&line).unwrap()).unwrap();
    let expected = hex::encode(Sha256::digest(format!("a-{VALUE}-z")));
    world.run_inside(async || goes_on_without_its_secret(&world.client().await?, &job, &expected).await).unwrap();
    let told = [format!("show -j {job}"), "list".into(), format!("log events -j {job}"), "secret ls".into()];
    let told: String = told.iter().map(|line| admin.printed(line).unwrap()).collect();
    assert!(told.contains("a-{secret:token}-z"), "{told}");
    assert!(!told.contains(VALUE), "{told}");

    let opcenter = world.directory().join("opcenter");
    assert_eq!(fs::metadata(opcenter.join("secret-key")).unwrap().permissions().mode() & 0o777, 0o600);
    // What is looked for would be found: the reference is there.
    assert!(!files_with(&opcenter, "a-{secret:token}-z").unwrap().is_empty());
    assert_eq!(files_with(&opcenter, VALUE).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(files_with(&world.directory().join("log"), VALUE).unwrap(), Vec::<PathBuf>::new());
    assert!(!world.log().contains(VALUE));
}
