//! The options of a job, through the real program. Those of the command line and of a job file are
//! in the record and take effect. Filters find them, and they can be changed and used again.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, Ran, World};
use mooring_types::JobId;
use mooring_types::migration::Outcome;
use serde_json::{Value, json};

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// Time limit until a job has an expected status.
const LIMIT: Duration = Duration::from_secs(60);

/// A job file with all options of a job without an end.
const JOB_FILE: &str = "\
image: dir:/
name: web
cpu: 1:2
mem: 0.5:1
env: {MODE: test, API_TOKEN: not-shown}
publish: [8080:80]
command: [sleep, 3600]
vmPolicy: {onDemand: true, retryLimit: 1}
migratePolicy: {cpu: {upperBoundRatio: 80}, evadeOOM: false}
timeLimit: 2h30m
idle: 30m
snapshotInterval: 10m
dumpMode: full
resumeOnConnect: true
wakeOn: page
customTag: [project:course-7, kind:web]
";

fn float(world: &World, line: &[&str]) -> Result<Ran> {
    world.float(line)
}

/// Returns the JSON that a command prints.
fn answer(world: &World, line: &[&str]) -> Result<Value> {
    let ran = float(world, &[&["-F", "json"], line].concat())?;
    ensure!(ran.code == Some(0), "{line:?}: {ran:?}");
    serde_json::from_str(&ran.stdout).with_context(|| format!("{line:?}: {ran:?}"))
}

/// Returns the message of a command that refuses and prints nothing.
fn refusal(world: &World, line: &[&str]) -> Result<String> {
    let ran = float(world, line)?;
    ensure!(ran.code == Some(1) && ran.stdout.is_empty(), "{line:?}: {ran:?}");
    Ok(ran.stderr)
}

fn id(job: &Value) -> Result<String> {
    Ok(job["id"].as_str().context("a job has an id")?.to_owned())
}

fn show(world: &World, job: &str) -> Result<Value> {
    answer(world, &["show", "-j", job])
}

/// Waits until a job has that status.
async fn becomes(world: &World, job: &str, status: &str) -> Result<Value> {
    wait_for(&format!("job {job} to be {status}"), LIMIT, async || {
        let now = show(world, job)?;
        Ok((now["status"] == status).then_some(now))
    })
    .await
}

/// The names of the jobs that a filter finds.
fn found(world: &World, filters: &[&str]) -> Result<Vec<String>> {
    let flags: Vec<&str> = filters.iter().flat_map(|filter| ["-f", *filter]).collect();
    let jobs = answer(world, &[&["list"], flags.as_slice()].concat())?;
    let jobs = jobs.as_array().context("a list")?;
    Ok(jobs.iter().filter_map(|job| job["name"].as_str()).map(str::to_owned).collect())
}

/// The processes of this machine whose command line has that word, jobs' included.
fn processes(word: &str) -> usize {
    let has = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    fs::read_dir("/proc").map(|all| all.flatten().filter(has).count()).unwrap_or_default()
}

#[test]
fn input_args_submit_the_same_job() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let outcome = world.run_inside(async || {
        let file = world.files().join("job.yaml");
        fs::write(&file, JOB_FILE)?;
        let file = file.to_str().context("a path of UTF-8")?;
        let job = answer(&world, &["submit", "--file", file, "--customTag", "kind:shop", "-n", "shop"])?;
        let first = id(&job)?;
        for (key, value) in [
            ("name", json!("shop")),
            ("imageID", json!("dir:/")),
            ("customTags", json!({"kind": "shop", "project": "course-7"})),
            ("vmPolicy", json!({"policy": "onDemand", "retryLimit": 1, "retryInterval": "10m0s"})),
            ("migratePolicy", json!("[disable=false,cpu.upperBoundRatio=80,evadeOOM=false]")),
            ("timeLimit", json!("2h30m0s")),
            ("idle", json!("30m0s")),
            ("snapshotInterval", json!("10m0s")),
            ("dumpMode", json!("full")),
            ("resumeOnConnect", json!(true)),
            ("wakeOn", json!("page")),
            ("egress", json!("host")),
            ("cpu", json!(1)),
            ("cpuMax", json!(2)),
            ("memGB", json!(0.5)),
            ("memGBMax", json!(1.0)),
            ("publish", json!(["8080:80"])),
            ("scheduler", json!("mooring")),
            ("stdout", json!("stdout.autosave")),
        ] {
            ensure!(job[key] == value, "{key} is {}", job[key]);
        }
        becomes(&world, &first, "Executing").await?;
        let text = float(&world, &["show", "-j", &first])?.stdout;
        ensure!(text.starts_with(&format!("id: {first}\n")) && !text.contains("not-shown"), "{text}");

        // What the record says it was asked for with makes the same job, once the secret is put
        // back.
        let arguments = job["inputArgs"].as_str().context("the arguments")?.replace("********", "not-shown");
        let mut shell = Command::new("sh");
        let line = format!("{FLOAT} -a {} -u admin -p {} submit -F json {arguments}", world.url(), world.password()?);
        shell.args(["-c", &line]);
        let ran = world.run(shell)?;
        ensure!(ran.code == Some(0), "{line}: {ran:?}");
        let second: Value = serde_json::from_str(&ran.stdout)?;
        ensure!(second["inputArgs"] == job["inputArgs"], "{} and {}", second["inputArgs"], job["inputArgs"]);

        let third = answer(&world, &["rerun", "-j", &first])?;
        ensure!(third["id"] != job["id"] && third["inputArgs"] == job["inputArgs"], "{third}");
        becomes(&world, &id(&third)?, "Executing").await?;

        refuses_what_a_submission_disables(&world).await
    });
    outcome.unwrap();
}

/// Checks `--disableRerun`, under both names of the command, and `--disableMigrate`.
async fn refuses_what_a_submission_disables(world: &World) -> Result<()> {
    let only_once = answer(world, &["submit", "-i", "dir:/", "--disableRerun", "--", "true"])?;
    becomes(world, &id(&only_once)?, "Completed").await?;
    let told = refusal(world, &["resubmit", "-j", &id(&only_once)?])?;
    ensure!(
        told.starts_with("Error: Permission denied, the job was submitted with `--disableRerun` (code: 1005)\nhint: "),
        "{told}"
    );
    ensure!(found(world, &["name=shop"])?.len() == 3);
    let stays = answer(world, &["submit", "-i", "dir:/", "--disableMigrate", "-m", "0.2", "--", "sleep", "3600"])?;
    becomes(world, &id(&stays)?, "Executing").await?;
    let told = refusal(world, &["migrate", "-j", &id(&stays)?])?;
    ensure!(told.starts_with("Error: Wrong status, the job was submitted with `--disableMigrate`"), "{told}");
    Ok(())
}

#[test]
fn filters_find_jobs_and_what_is_wrong_changes_nothing() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let outcome = world.run_inside(async || {
        let submit = |name: &str, tag: &str, command: &[&str]| {
            let line = ["submit", "-i", "dir:/", "-n", name, "-m", "0.2", "--customTag", tag, "--"];
            id(&answer(&world, &[line.as_slice(), command].concat())?)
        };
        ensure!(float(&world, &["list"])?.stdout == "No jobs\n");
        let alpha = submit("alpha", "team:red", &["sleep", "3600"])?;
        let beta = submit("beta", "team:blue", &["sleep", "3600"])?;
        let gamma = submit("gamma", "team:red", &["true"])?;
        becomes(&world, &alpha, "Executing").await?;
        let host = becomes(&world, &beta, "Executing").await?["hostName"].as_str().unwrap_or_default().to_owned();
        becomes(&world, &gamma, "Completed").await?;
        for (filters, names) in [
            (vec!["status=Executing or status=Floating"], vec!["alpha", "beta"]),
            (vec!["status=executing", "user=admin", "tag:team=blue"], vec!["beta"]),
            (vec!["tag:team=red and (status=Completed or name=nobody)"], vec!["gamma"]),
            (vec!["category=success"], vec!["gamma"]),
            (vec!["category!=running"], vec!["gamma"]),
            (vec!["name~A", "update<=12w"], vec!["alpha", "beta", "gamma"]),
            (vec!["update>12w"], vec![]),
            (vec!["submit>=2020-01-01", "duration>=1h"], vec![]),
            (vec![&format!("id={gamma}") as &str], vec!["gamma"]),
            (
                vec!["image=dir:/", &format!("host!={host}")],
                if host_of(&world, &alpha)? == host { vec!["gamma"] } else { vec!["alpha", "gamma"] },
            ),
        ] {
            ensure!(found(&world, &filters)? == names, "{filters:?}: {:?}", found(&world, &filters)?);
        }
        ensure!(float(&world, &["squeue", "-f", "user=nobody", "-F", "table"])?.stdout == "No jobs\n");
        let table = float(&world, &["ls", "-f", "name=beta", "-F", "table"])?.stdout;
        let row = table.lines().find(|line| line.contains(&beta)).context("a row")?;
        ensure!(row.split_whitespace().nth(3) == Some("beta"), "{table}");
        for (filter, told) in [
            (
                "stat=Executing",
                "unknown key `stat`, at character 1 of `stat=Executing` (code: 1003)\nhint: did you mean `status`?",
            ),
            ("user=a and", "a comparison is expected, at the end of `user=a and` (code: 1003)\nhint: write `status="),
        ] {
            let said = refusal(&world, &["list", "-f", filter])?;
            ensure!(said.starts_with(&format!("Error: Invalid argument, invalid filter: {told}")), "{said}");
        }
        // A filter that can't be read cancels nobody, and one that can, whom it finds.
        refusal(&world, &["cancel", "--filter", "tag:team=", "-f"])?;
        ensure!(found(&world, &["status=Executing"])? == ["alpha", "beta"]);
        let ran = float(&world, &["scancel", "--filter", "tag:team=red", "-f", "-F", "json"])?;
        ensure!(ran.code == Some(0) && ran.stderr.contains("Cancel request has been submitted"), "{ran:?}");
        // Again: it has ended, or is about to.
        let again = float(&world, &["cancel", "-j", &alpha, "-f"])?;
        ensure!(again.code == Some(0) && again.stdout.contains("name: alpha"), "{again:?}");
        let cancelled: Value = serde_json::from_str(&ran.stdout)?;
        ensure!(cancelled.as_array().is_some_and(|jobs| jobs.len() == 1 && jobs[0]["name"] == "alpha"), "{cancelled}");
        becomes(&world, &alpha, "Cancelled").await?;
        ensure!(found(&world, &["status=Executing"])? == ["beta"]);
        ensure!(float(&world, &["cancel", "--filter", "tag:team=red", "-f"])?.stdout == "No jobs\n");
        Ok(())
    });
    outcome.unwrap();
}

fn host_of(world: &World, job: &str) -> Result<String> {
    Ok(show(world, job)?["hostName"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn modify_changes_a_running_job() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let outcome = world.run_inside(async || {
        let line =
            ["submit", "-i", "dir:/", "-m", "0.2", "--customTag", "a:1", "--timeLimit", "1h", "--", "sleep", "3600"];
        let job = id(&answer(&world, &line)?)?;
        becomes(&world, &job, "Executing").await?;
        refuses_modifications(&world, &job)?;
        let line =
            ["modify", "-j", &job, "--addCustomTag", "b:2", "--rmCustomTag", "a", "-n", "renamed", "--timeLimit", "0s"];
        let more =
            ["--idle", "5m", "--resumeOnConnect", "on", "--vmPolicy", "[retryLimit=7]", "-M", "[mem.disable=true]"];
        let last = ["--snapshotInterval", "1m", "--wakeOn", "connection"];
        let after = answer(&world, &[line.as_slice(), more.as_slice(), &last].concat())?;
        ensure!(after["status"] == "Executing" && after["name"] == "renamed", "{after}");
        ensure!(after["customTags"] == json!({"b": "2"}) && after.get("timeLimit").is_none(), "{after}");
        ensure!(after["idle"] == "5m0s" && after["resumeOnConnect"] == true && after["snapshotInterval"] == "1m0s");
        ensure!(after["wakeOn"] == "connection", "{after}");
        ensure!(after["vmPolicy"]["retryLimit"] == 7 && after["migratePolicy"] == "[disable=false,mem.disable=true]");
        let events = float(&world, &["log", "events", "-j", &job])?.stdout;
        ensure!(events.contains("modified by admin: ") && events.contains("time limit none"), "{events}");

        refuses_submissions(&world)?;
        float(&world, &["cancel", "-f", "-j", &job])?;
        becomes(&world, &job, "Cancelled").await?;
        let said = refusal(&world, &["modify", "-j", &job, "-n", "late"])?;
        ensure!(
            said.starts_with("Error: Wrong status, a job that is Cancelled can't be modified (code: 1007)"),
            "{said}"
        );
        Ok(())
    });
    outcome.unwrap();
}

/// Checks that bad modifications are refused and change nothing.
fn refuses_modifications(world: &World, job: &str) -> Result<()> {
    let before = show(world, job)?;
    for (flags, told) in [
        (vec![], "Invalid argument, nothing to modify (code: 1003)"),
        (vec!["--rmCustomTag", "b", "--timeLimit", "2h"], "Resource not found, the job has no tag `b` (code: 1002)"),
        (vec!["--addCustomTag", "b=2"], "Invalid argument, invalid tag `b=2`"),
        (vec!["--vmPolicy", "[spot=true]"], "Invalid argument, invalid VM policy: it has no key `spot` (code: 1003)"),
        (
            vec!["--timeLimit", "1h", "-M", "[cpu.step=x]"],
            "Invalid argument, invalid migrate policy: `cpu.step=x`: a number",
        ),
        (vec!["--idle", "soon"], "Invalid argument, invalid duration `soon`"),
        (vec!["-n", "no name"], "Invalid argument, invalid name `no name`"),
    ] {
        let said = refusal(world, &[&["modify", "-j", job], flags.as_slice()].concat())?;
        ensure!(said.starts_with(&format!("Error: {told}")), "{flags:?}: {said}");
        ensure!(show(world, job)?["lastUpdate"] == before["lastUpdate"], "{flags:?} changed something");
    }
    Ok(())
}

/// Checks that bad submissions are refused and add no job to the only one.
fn refuses_submissions(world: &World) -> Result<()> {
    for (flags, told) in [
        (vec!["--timeLimit", "0s"], "Invalid argument, a time limit of 0s: it takes at least 1s (code: 1003)"),
        (vec!["--egress", "vpn"], "Invalid argument, invalid egress `vpn` (code: 1003)"),
        (
            vec!["-c", "2:1"],
            "Invalid argument, invalid number of cores `2:1`: the least, 2, is more than the most, 1 (code: 1003)",
        ),
        (
            vec!["--dataVolume", "vol-0a1b:/c"],
            "Invalid argument, volume `vol-0a1b:/c` can't be mounted: hosts have no volumes that exist apart from jobs (code: 1003)\nhint: use a fresh volume that lives with the job, `[size=10]:/mount`",
        ),
        (vec!["-j", "abc.sh"], "open abc.sh: no such file or directory\n"),
        (vec!["--file", "abc.yaml"], "open abc.yaml: no such file or directory\n"),
    ] {
        let said = refusal(world, &[&["submit", "-i", "dir:/"], flags.as_slice()].concat())?;
        ensure!(said.starts_with(&format!("Error: {told}")), "{flags:?}: {said}");
    }
    let file = world.files().join("slip.yaml");
    fs::write(&file, "image: dir:/\ntimelimit: 1h\n")?;
    let said = refusal(world, &["submit", "--file", file.to_str().context("a path of UTF-8")?])?;
    ensure!(said.contains("unknown key `timelimit` (code: 1003)\nhint: did you mean `timeLimit`?"), "{said}");
    ensure!(found(world, &[])?.len() == 1, "a refused job was taken in");
    Ok(())
}

#[test]
fn time_limit_and_wait_limit_end_jobs() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let outcome = world.run_inside(async || {
        let hosts = answer(&world, &["hosts"])?;
        let hosts: Vec<&Value> =
            hosts.as_array().context("a list")?.iter().filter(|host| host["role"] == "jobs").collect();
        let cores = hosts[0]["cores"].to_string();
        // How long each would sleep tells whose processes they are.
        let (usual, limited) = (format!("{}.25", std::process::id()), format!("{}.75", std::process::id()));
        let submit_for = |flags: &[&str], time: &str| {
            let line = [&["submit", "-i", "dir:/", "-m", "0.2"], flags, &["--", "sleep", time]].concat();
            id(&answer(&world, &line)?)
        };
        let submit = |flags: &[&str]| submit_for(flags, &usual);
        // One ends; one that is given more time goes on.
        let short = submit_for(&["-n", "short", "--timeLimit", "3s"], &limited)?;
        let longer = submit(&["-n", "longer", "--timeLimit", "5s"])?;
        becomes(&world, &longer, "Executing").await?;
        ensure!(processes(&usual) > 0, "nothing sleeps for {usual} s");
        answer(&world, &["modify", "-j", &longer, "--timeLimit", "1h"])?;
        let ended = becomes(&world, &short, "Timedout").await?;
        ensure!(ended["category"] == "failed" && ended["statusReason"] == "its time limit of 3s is over", "{ended}");
        wait_for("its processes to be gone", LIMIT, async || Ok((processes(&limited) == 0).then_some(()))).await?;
        wait_for("the other to have run for longer", LIMIT, async || {
            let now = show(&world, &longer)?;
            ensure!(now["status"] == "Executing", "{now}");
            let ran = found(&world, &[&format!("id={longer} and duration>7s")])?;
            Ok((!ran.is_empty()).then_some(()))
        })
        .await?;
        answer(&world, &["cancel", "-f", "-j", &longer])?;
        becomes(&world, &longer, "Cancelled").await?;

        // All hosts are taken.
        let fill = |host: &Value| {
            let name = host["name"].as_str().unwrap_or_default();
            submit(&["-c", &cores, "--host", name, "-n", name])
        };
        let fillers: Vec<String> = hosts.iter().map(|host| fill(host)).collect::<Result<_>>()?;
        for filler in &fillers {
            becomes(&world, filler, "Executing").await?;
        }
        let patient = submit(&["-n", "patient"])?;
        let hasty = submit(&["-n", "hasty", "--vmPolicy", "[retryLimit=2,retryInterval=1s]"])?;
        let large = submit(&["-n", "large", "-c", "4000"])?;
        let told = becomes(&world, &large, "NoAvailableHost").await?["statusReason"].clone();
        let told = told.as_str().context("a reason")?;
        ensure!(told.starts_with("no ready host has 4000 cores and 0.2 GB free: host-1 has "), "{told}");
        let told = becomes(&world, &hasty, "NoAvailableHost").await?["statusReason"].clone();
        let told = told.as_str().context("a reason")?;
        ensure!(told.starts_with("no ready host has 1 core and 0.2 GB free: host-1 has 0 cores and "), "{told}");
        ensure!(told.ends_with("; waited for 2s in vain"), "{told}");
        // The one that waits on says what for, in its record and in an event.
        let waiting = show(&world, &patient)?;
        let told = waiting["statusReason"].as_str().context("a reason")?;
        ensure!(
            waiting["status"] == "Submitted" && told.starts_with("waits for a host: no ready host has "),
            "{waiting}"
        );
        ensure!(told.ends_with(" UTC (`--vmPolicy`)"), "{told}");
        ensure!(float(&world, &["log", "events", "-j", "patient"])?.stdout.contains("waits for a host"));
        answer(&world, &["cancel", "-f", "-j", &fillers[0]])?;
        becomes(&world, &patient, "Executing").await?;
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn data_is_where_the_job_asked_for_it_before_and_after_a_move() {
    let world = World::start(Plan::new(FLOAT)).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let data = world.files().join("data");
        fs::create_dir(&data)?;
        fs::write(data.join("given"), "from outside\n")?;
        let shared = format!("{}:/mnt/shared", data.display());
        let read_only = format!("{}:/mnt/kept:ro", data.display());
        // It keeps a file of each open, and says each second what it can see and do.
        let script = "exec 7>>/mnt/shared/log 8>>/mnt/own/log; cat /mnt/kept/given; touch /mnt/kept/x 2>/dev/null || echo kept
            i=0; while :; do i=$((i+1)); echo $i >&7; echo $i >&8; echo \"$i $(wc -l </mnt/shared/log) $(wc -l </mnt/own/log)\"; sleep 0.1; done";
        let line = ["submit", "-i", "dir:/", "-m", "0.2", "--dataVolume", &shared, "--dataVolume", &read_only];
        let own = ["--dataVolume", "[size=1]:/mnt/own", "--", "/bin/bash", "-c", script];
        let job = answer(&world, &[line.as_slice(), own.as_slice()].concat())?;
        ensure!(job["dataVolumes"] == json!([shared, read_only, "[size=1]:/mnt/own"]), "{job}");
        let job: JobId = id(&job)?.parse()?;
        becomes(&world, job.as_str(), "Executing").await?;
        let written = async |at_least: usize| {
            wait_for("lines of the job", LIMIT, async || {
                let text = client.job_log(&job, 0).await?.text;
                Ok((text.lines().count() > at_least).then_some(text))
            })
            .await
        };
        written(10).await?;
        for _ in 0..2 {
            let moved = move_once(&client, &job).await?;
            ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
            let lines = client.job_log(&job, 0).await?.text.lines().count();
            written(lines + 10).await?;
        }
        let text = written(0).await?;
        ensure!(text.starts_with("from outside\nkept\n"), "{text}");
        for (index, line) in text.lines().skip(2).enumerate() {
            let number = index + 1;
            ensure!(line == format!("{number} {number} {number}"), "line {number} is {line}");
        }
        ensure!(fs::read_to_string(data.join("log"))?.lines().count() >= text.lines().count() - 2);

        // What the agent keeps for itself is in nobody's job.
        let root = format!("{}:/mnt/all", world.directory().display());
        let job = id(&answer(&world, &["submit", "-i", "dir:/", "--dataVolume", &root, "--", "ls", "/mnt/all"])?)?;
        let told = becomes(&world, &job, "FailToExecute").await?["statusReason"].clone();
        ensure!(told.as_str().is_some_and(|told| told.ends_with("the agent keeps its own files there")), "{told}");
        Ok(())
    });
    outcome.unwrap();
}
