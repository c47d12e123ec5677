//! Refusals and their messages: the real program against a world with hosts, jobs and gateways.
//!
//! A refusal has exit code 1 and nothing on stdout. Its class, its number and the next step are on
//! stderr. It leaves every job and gateway as it was. A job that was accepted and can't run has the
//! reason in its record.

mod newcomer;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::{ConnectionState, ConnectionView, GatewayView, HostStatus, JobView};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, Ran, World};
use mooring_types::gateway::GatewayStatus;
use mooring_types::job::JobStatus;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::newcomer::Newcomer;

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// An id that no job has.
const NOBODY: &str = "000000000000000000000";
/// Time limit of a job, a gateway or a migration.
const LIMIT: Duration = Duration::from_secs(60);
/// A host measures itself every 30 s.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
/// The directory in which `scripts/setup` puts the tools; without it they are on PATH.
const TOOLS: &str = "/opt/mooring/bin";

const NOT_FOUND: &str = "Resource not found (1002)";
const INVALID: &str = "Invalid argument (1003)";
const NO_SESSION: &str = "Not logged in (1004)";
const EXISTS: &str = "Already exists (1006)";
const WRONG_STATUS: &str = "Wrong status (1007)";
const EXHAUSTED: &str = "Resource exhausted (1008)";
const UNAVAILABLE: &str = "Unavailable (1009)";

const LIST_JOBS: &str = "`float list` shows the jobs";
const LIST_GATEWAYS: &str = "`float gateway list` shows the gateways";
const LIST_HOSTS: &str = "`float hosts` lists the hosts with what they have free";
const PUBLISHED: &str = "give a port that the job publishes";
const ENDED: &str = "the job has ended; submit it again";

/// A command line, and what it says on stderr.
struct Case {
    line: String,
    told: String,
}

/// A refusal: its class with its number, what exactly, and the next step if there is one.
fn case(line: impl Into<String>, class: &str, what: impl AsRef<str>, hint: &str) -> Case {
    let (class, number) = class.split_once(" (").expect("a class is written with its number");
    let hint = if hint.is_empty() { String::new() } else { format!("hint: {hint}\n") };
    Case { line: line.into(), told: format!("Error: {class}, {} (code: {number}\n{hint}", what.as_ref()) }
}

/// The refusal of a size, without what each host has free.
fn no_room_anywhere(size: &str) -> String {
    format!("no ready host has {size} free: …")
}

/// A message without what each host has free, which depends on this machine.
fn without_details(told: &str) -> String {
    match (told.find(" free: "), told.find(" (code: ")) {
        (Some(free), Some(code)) if free < code => format!("{} free: …{}", &told[..free], &told[code..]),
        _ => told.to_owned(),
    }
}

fn counted(cores: u64) -> String {
    if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") }
}

/// Two hosts, the gateways `lab` and `narrow`, which has one port, and three jobs. `mover` on
/// host-1 is connected to both gateways. `filler` takes all of host-2. The third has ended.
struct Stage<'a> {
    world: &'a World,
    mover: String,
    filler: String,
    ended: String,
    /// The cores of each host.
    cores: u64,
}

impl<'a> Stage<'a> {
    fn set(world: &'a World) -> Result<Self> {
        let cores = hosts(world)?[0]["cores"].as_u64().context("a host has cores")?;
        done(world, "gateway create -n lab")?;
        done(world, "gateway create -n narrow --portRange 11000:11000")?;
        let sleep = "submit -i dir:/ -m 0.2 -n";
        let mover =
            submitted(world, &format!("{sleep} mover --host host-1 --publish 9000 --publish 9001 -- /bin/sleep 9999"))?;
        let filler =
            submitted(world, &format!("{sleep} filler --host host-2 -c {cores} --publish 9000 -- /bin/sleep 9999"))?;
        let ended = submitted(world, &format!("{sleep} ended --host host-1 --publish 9000 -- /bin/true"))?;
        status(world, &mover, JobStatus::Executing)?;
        status(world, &filler, JobStatus::Executing)?;
        status(world, &ended, JobStatus::Completed)?;
        done(world, &format!("gateway connect -g lab -j {mover} --targetPort 9000"))?;
        done(world, &format!("gateway connect -g narrow -j {mover} --targetPort 9000"))?;
        settled(world)?;
        Ok(Self { world, mover, filler, ended, cores })
    }

    fn cases(&self) -> Result<Vec<Case>> {
        let tables =
            [self.of_jobs(), self.of_submissions(), self.of_gateways(), self.of_connections(), self.of_moves()?];
        Ok(tables.into_iter().flatten().collect())
    }

    fn of_jobs(&self) -> Vec<Case> {
        let Self { ended, .. } = self;
        let unknown = format!("no job {NOBODY}");
        let of_job = |id: &str| {
            [
                format!("show -j {id}"),
                format!("cancel -f -j {id}"),
                format!("migrate -j {id}"),
                format!("log -j {id}"),
                format!("log events -j {id}"),
                format!("gateway connect -g lab -j {id}"),
                format!("gateway disconnect -g lab -j {id}"),
            ]
        };
        let mut cases: Vec<Case> =
            of_job(NOBODY).into_iter().map(|line| case(line, NOT_FOUND, &unknown, LIST_JOBS)).collect();
        for unnamed in ["x", "g-sidlpgb7oi9p48kxycpmn"] {
            let hint = format!("an ID has 21 letters and digits, and no job is called `{unnamed}`; {LIST_JOBS}");
            cases.extend(of_job(unnamed).map(|line| case(line, INVALID, "invalid job ID", &hint)));
        }
        let hint = format!("an ID has 21 letters and digits; {LIST_JOBS}");
        cases.extend(of_job("../hosts").map(|line| case(line, INVALID, "invalid job ID", &hint)));
        let no_longer = |action: &str| format!("a job that is Completed can't {action}");
        cases.extend([
            case(format!("migrate -j {ended}"), WRONG_STATUS, no_longer("be migrated"), ENDED),
            case(
                format!("gateway connect -g lab -j {ended}"),
                WRONG_STATUS,
                no_longer("be connected to a gateway"),
                ENDED,
            ),
        ]);
        cases
    }

    fn of_submissions(&self) -> Vec<Case> {
        let command = "-- /bin/sleep 9999";
        vec![
            case(
                format!("submit {command}"),
                INVALID,
                "no image",
                "give `--image dir:/`, `oci:/path` or `oci-archive:/path.tar`, or `--template jupyter`",
            ),
            case(
                "submit --template nothing".to_owned(),
                NOT_FOUND,
                "no template `nothing`",
                "`float template list` shows the templates",
            ),
            case(
                format!("submit -i dir:/ -c 4097 {command}"),
                INVALID,
                "4097 cores: it takes at least 1 and at most 4096",
                "",
            ),
            case(
                format!("submit -i dir:/ -m 0.05 {command}"),
                INVALID,
                "0.05 GB of memory: it takes at least 0.1 and at most 65536",
                "",
            ),
            case(
                format!("submit -i dir:/ --host host-9 {command}"),
                NOT_FOUND,
                "no host is named `host-9`",
                "`float hosts` lists the hosts",
            ),
            case(
                format!("submit -i dir:/ --publish 9000 --gateway nowhere {command}"),
                NOT_FOUND,
                "no gateway `nowhere`",
                LIST_GATEWAYS,
            ),
            case(
                format!("submit -i dir:/ --publish 9000 --gateway narrow {command}"),
                EXHAUSTED,
                "gateway `narrow` has 0 free ports in 11000:11000, needed: 1",
                "disconnect a job, or create another gateway",
            ),
            case(
                format!("submit -i dir:/ --publish 9000 --gateway lab --targetPort 9001 {command}"),
                INVALID,
                "the job does not publish port 9001",
                "it publishes 9000",
            ),
            case(
                format!("submit -i dir:/ --publish http {command}"),
                INVALID,
                "invalid port `http`: a port is a number from 1 to 65535",
                "write 8080:80, or one number for both",
            ),
        ]
    }

    fn of_gateways(&self) -> Vec<Case> {
        let mover = &self.mover;
        let unknown = [
            "gateway info -g nowhere".to_owned(),
            "gateway destroy -f -g nowhere".to_owned(),
            format!("gateway connect -g nowhere -j {mover}"),
            format!("gateway disconnect -g nowhere -j {mover}"),
        ];
        let mut cases: Vec<Case> =
            unknown.into_iter().map(|line| case(line, NOT_FOUND, "no gateway `nowhere`", LIST_GATEWAYS)).collect();
        let create = |name: &str, range: &str| format!("gateway create -n {name} --portRange {range}");
        let ranges = [
            (
                "abc",
                "invalid port range `abc`: write it as `<min>:<max>`, like 10000:10500; gateway ports lie within 1000 and 65535",
            ),
            (
                "1000:70000",
                "invalid port range `1000:70000`: write it as `<min>:<max>`, like 10000:10500; gateway ports lie within 1000 and 65535",
            ),
            ("10500:10000", "invalid port range 10500:10000: its first port is above its last"),
            ("999:2000", "invalid port range 999:2000: gateway ports lie within 1000 and 65535"),
        ];
        cases.extend(ranges.map(|(range, what)| case(create("other", range), INVALID, what, "")));
        cases.extend([
            case(
                create("lab", "12000:12100"),
                EXISTS,
                "a gateway is named `lab` already",
                "choose another name, or use that gateway",
            ),
            case(
                create("other", "10500:10600"),
                INVALID,
                "port range 10500:10600 overlaps 10000:10500 of gateway `lab` on the same address",
                "choose another range with `--portRange`",
            ),
            case(
                format!("{} -c {}", create("other", "12000:12100"), self.cores),
                EXHAUSTED,
                no_room_anywhere(&format!("{} and 1 GB", counted(self.cores))),
                LIST_HOSTS,
            ),
        ]);
        cases
    }

    fn of_connections(&self) -> Vec<Case> {
        let Self { mover, filler, .. } = self;
        let connect = |gateway: &str, job: &str, ports: &[&str]| {
            let ports: String = ports.iter().map(|port| format!(" --targetPort {port}")).collect();
            format!("gateway connect -g {gateway} -j {job}{ports}")
        };
        let no_port = |text: &str| format!("invalid port `{text}`: a port is a number from 1 to 65535");
        let shows = "`float gateway info` shows the connections";
        vec![
            case(
                connect("lab", mover, &["8888"]),
                INVALID,
                "the job does not publish port 8888",
                "it publishes 9000, 9001",
            ),
            case(connect("lab", mover, &["9001", "9001"]), INVALID, "a target port is named twice", ""),
            case(connect("lab", mover, &["http"]), INVALID, no_port("http"), PUBLISHED),
            case(connect("lab", mover, &["65536"]), INVALID, no_port("65536"), PUBLISHED),
            case(
                connect("lab", mover, &["9000"]),
                EXISTS,
                "port 9000 of the job is connected to gateway `lab` already, at port 10000",
                shows,
            ),
            // All of its ports are asked for, and one of them is connected: none is.
            case(
                connect("lab", mover, &[]),
                EXISTS,
                "port 9000 of the job is connected to gateway `lab` already, at port 10000",
                shows,
            ),
            case(
                connect("narrow", mover, &["9001"]),
                EXHAUSTED,
                "gateway `narrow` has 0 free ports in 11000:11000, needed: 1",
                "disconnect a job, or create another gateway",
            ),
            case(
                format!("gateway disconnect -g lab -j {mover} --targetPort 9001"),
                NOT_FOUND,
                "port 9001 of the job is not connected to gateway `lab`",
                shows,
            ),
            case(
                format!("gateway disconnect -g lab -j {filler}"),
                NOT_FOUND,
                "the job is not connected to gateway `lab`",
                shows,
            ),
        ]
    }

    fn of_moves(&self) -> Result<Vec<Case>> {
        let mover = &self.mover;
        let full = hosts(self.world)?.into_iter().find(|host| host["name"] == "host-2").context("host-2 is there")?;
        let [all, used] = ["memGB", "memGBUsed"].map(|key| full[key].as_f64().unwrap_or_default());
        let no_room = format!(
            "host `host-2` lacks room: 0 of {} cores and {:.1} of {all:.1} GB are free",
            self.cores,
            all - used
        );
        Ok(vec![
            case(format!("migrate -j {mover} --host host-9"), NOT_FOUND, "no host is named `host-9`", LIST_HOSTS),
            // It takes no jobs.
            case(
                format!("migrate -j {mover} --host gateways"),
                INVALID,
                "host `gateways` takes no jobs, it is for gateways alone",
                LIST_HOSTS,
            ),
            case(
                format!("migrate -j {mover} --host host-1"),
                INVALID,
                "the job already executes on host `host-1`",
                LIST_HOSTS,
            ),
            case(format!("migrate -j {mover} --host host-2"), EXHAUSTED, no_room, LIST_HOSTS),
            case(format!("migrate -j {mover}"), EXHAUSTED, no_room_anywhere("1 core and 0.2 GB"), LIST_HOSTS),
            case(format!("migrate -j {mover} --wait"), EXHAUSTED, no_room_anywhere("1 core and 0.2 GB"), LIST_HOSTS),
        ])
    }

    /// The refusals of a session. These lines have all of their credentials.
    fn of_sessions(&self) -> Vec<Case> {
        let url = self.world.url();
        let wrong = "the first password of `admin` is in the file `admin-password` of OpCenter's state directory";
        let login = "log in with `float login`, or give `-u` and `-p`";
        vec![
            case(format!("-a {url} -u admin -p wrong list"), NO_SESSION, "wrong user name or password", wrong),
            case(format!("-a {url} -u nobody -p wrong list"), NO_SESSION, "wrong user name or password", wrong),
            case(format!("-a {url} -u admin -p wrong login"), NO_SESSION, "wrong user name or password", wrong),
            case(format!("-a {url} list"), NO_SESSION, format!("no session at {url}"), login),
            case(format!("-a {url} login --info"), NO_SESSION, format!("no session at {url}"), login),
            case(format!("-a {url} -O nonsense cancel -f -j {}", self.mover), NO_SESSION, "no session", login),
        ]
    }
}

/// Splits a command line at its spaces.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Runs the program with these arguments and no others.
fn bare(world: &World, line: &str) -> Result<Ran> {
    let mut command = Command::new(FLOAT);
    command.args(words(line)).env_remove("MOORING_PASSWORD");
    world.run(command)
}

/// Does what has to be possible, and gives back what it answers.
fn done(world: &World, line: &str) -> Result<Value> {
    let ran = world.float(&words(&format!("-F json {line}")))?;
    ensure!(ran.code == Some(0), "`float {line}`: {ran:?}");
    serde_json::from_str(&ran.stdout).with_context(|| format!("`float {line}` answers {}", ran.stdout))
}

fn submitted(world: &World, line: &str) -> Result<String> {
    Ok(done(world, line)?["id"].as_str().context("a job has an id")?.to_owned())
}

fn hosts(world: &World) -> Result<Vec<Value>> {
    let all = done(world, "hosts")?.as_array().context("hosts are a list")?.clone();
    Ok(all.into_iter().filter(|host| host["role"] == "jobs").collect())
}

/// Waits until a job has a status, and gives back why.
fn status(world: &World, job: &str, wanted: JobStatus) -> Result<String> {
    world.run_inside(async || {
        let client = world.client().await?;
        wait_for(&format!("job {job} to be {wanted}"), LIMIT, async || {
            let view = client.job_get(&job.parse()?).await?;
            let ended = view.status.is_final() && view.status != wanted;
            ensure!(!ended, "it is {}: {}", view.status, view.status_reason);
            Ok((view.status == wanted).then_some(view.status_reason))
        })
        .await
    })
}

/// Waits until the state changes no more: every gateway serves its connections, no migration is
/// under way, and ended jobs have given their addresses back.
fn settled(world: &World) -> Result<()> {
    world.run_inside(async || {
        let client = world.client().await?;
        wait_for("jobs and gateways to settle", LIMIT, async || {
            let (gateways, jobs) = (client.gateway_list().await?, client.job_list().await?);
            let is_served = |gateway: &GatewayView| {
                let is_open = |connection: &ConnectionView| connection.state == ConnectionState::Open;
                gateway.status == GatewayStatus::Running && gateway.connections.iter().all(is_open)
            };
            let is_settled = |job: &JobView| match job.status {
                status if status.is_final() => job.address.is_empty(),
                status => status == JobStatus::Executing && !job.address.is_empty(),
            };
            Ok((gateways.iter().all(is_served) && jobs.iter().all(is_settled)).then_some(()))
        })
        .await
    })
}

/// All jobs and gateways, as `float list` and `float gateway list` show them, without what grows by
/// itself.
fn state(world: &World) -> Result<[Value; 2]> {
    let mut jobs = done(world, "list")?;
    for job in jobs.as_array_mut().context("jobs are a list")? {
        let job = job.as_object_mut().context("a job is an object")?;
        // What time alone changes, and what is measured meanwhile.
        job.retain(|key, _| !["duration", "coreHours", "memUsed", "cpuUsed"].contains(&key.as_str()));
    }
    Ok([jobs, done(world, "gateway list")?])
}

#[test]
fn refusals_name_the_next_step_and_change_nothing() {
    let world = &World::start(Plan::new(FLOAT)).unwrap();
    let stage = Stage::set(world).unwrap();
    let before = state(world).unwrap();
    let mut wrong = Vec::new();
    let mut check = |Case { line, told }: Case, ran: Ran| {
        let wanted = Ran { code: Some(1), stdout: String::new(), stderr: told };
        let ran = Ran { stderr: without_details(&ran.stderr), ..ran };
        if ran != wanted {
            wrong.push(format!("float {line}\n  {ran:?}, not\n  {wanted:?}"));
        }
        assert_eq!(state(world).unwrap(), before, "float {line}");
    };
    for case in stage.of_sessions() {
        let ran = bare(world, &case.line).unwrap();
        check(case, ran);
    }
    for case in stage.cases().unwrap() {
        let ran = world.float(&words(&case.line)).unwrap();
        check(case, ran);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn impossible_jobs_say_why_and_hurt_nobody() {
    let world = &World::start(Plan::new(FLOAT)).unwrap();
    let sleeper = submitted(world, "submit -i dir:/ -m 0.2 -n sleeper --host host-1 -- /bin/sleep 9999").unwrap();
    status(world, &sleeper, JobStatus::Executing).unwrap();
    let before = state(world).unwrap();

    let missing = submitted(world, "submit -i dir:/nonexistent -n missing -- /bin/sleep 9999").unwrap();
    let why = status(world, &missing, JobStatus::FailToExecute).unwrap();
    assert_eq!(why, "can't use image dir:/nonexistent: /nonexistent is not on this host");
    let shown = done(world, &format!("show -j {missing}")).unwrap();
    assert_eq!((&shown["status"], &shown["statusReason"]), (&json!("FailToExecute"), &json!(why)));

    let cores = hosts(world).unwrap()[0]["cores"].as_u64().unwrap();
    let large = submitted(world, &format!("submit -i dir:/ -n large -c {} -- /bin/sleep 9999", cores + 1)).unwrap();
    let why = status(world, &large, JobStatus::NoAvailableHost).unwrap();
    assert!(why.starts_with(&format!("no ready host has {} and 2 GB free: ", counted(cores + 1))), "{why}");

    let unhurt = done(world, &format!("show -j {sleeper}")).unwrap();
    assert_eq!(unhurt["lastUpdate"], before[0][0]["lastUpdate"]);

    // A second migration is refused while the first is under way: the destination's agent is
    // stopped.
    let agent = world.daemons(&["agent", "host-2"]).pop().unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    done(world, &format!("migrate -j {sleeper}")).unwrap();
    let line = format!("migrate -j {sleeper}");
    let Case { told, .. } = case(
        &line,
        WRONG_STATUS,
        "a job that is Floating can't be migrated",
        "wait until the present migration has ended: see `float show`",
    );
    let floating = state(world).unwrap();
    let ran = world.float(&words(&line)).unwrap();
    let unchanged = state(world).unwrap();
    agent.signal(Signal::SIGCONT).unwrap();
    assert_eq!(unchanged, floating);
    assert_eq!(ran, Ran { code: Some(1), stdout: String::new(), stderr: told });
    status(world, &sleeper, JobStatus::Executing).unwrap();
    let moved = done(world, &format!("show -j {sleeper}")).unwrap();
    assert_eq!(moved["hostName"], "host-2");
    assert_eq!(moved["migrations"].as_array().unwrap().len(), 1, "{moved}");
    assert_eq!(moved["migrations"][0]["outcome"], "succeeded");
    assert_eq!(moved["execTime"], before[0][0]["execTime"]);
}

#[test]
fn missing_program_is_told_in_the_output() {
    let world = &World::start(Plan { virtual_hosts: 1, ..Plan::new(FLOAT) }).unwrap();
    let job = submitted(world, "submit -i dir:/ -n program -- /nonexistent/program").unwrap();
    let why = status(world, &job, JobStatus::FailToComplete).unwrap();
    assert_eq!(why, "it ended with exit code 127");
    assert_eq!(done(world, &format!("show -j {job}")).unwrap()["rc"], "127");
    let written = world.float(&["log", "-j", &job]).unwrap().stdout;
    assert!(written.contains("/nonexistent/program"), "{written}");
}

#[test]
fn host_without_criu_takes_no_job() {
    let world = &World::start(Plan { virtual_hosts: 1, ..Plan::new(FLOAT) }).unwrap();
    let sleeper = submitted(world, "submit -i dir:/ -m 0.2 -n sleeper --host host-1 -- /bin/sleep 9999").unwrap();
    status(world, &sleeper, JobStatus::Executing).unwrap();
    let newcomer = Newcomer::join(world).unwrap();
    newcomer.lose_criu().unwrap();
    let reason = "CRIU is not installed: scripts/setup installs it";
    newcomer.becomes(&HostStatus::NotReady { reason: reason.to_owned() }).unwrap();
    settled(world).unwrap();
    let before = state(world).unwrap();
    let named = case(
        format!("migrate -j {sleeper} --host newcomer"),
        UNAVAILABLE,
        format!("host `newcomer` is not ready: {reason}"),
        LIST_HOSTS,
    );
    let chosen = case(format!("migrate -j {sleeper}"), EXHAUSTED, no_room_anywhere("1 core and 0.2 GB"), LIST_HOSTS);
    for Case { line, told } in [named, chosen] {
        let ran = world.float(&words(&line)).unwrap();
        let ran = Ran { stderr: without_details(&ran.stderr), ..ran };
        assert_eq!(ran, Ran { code: Some(1), stdout: String::new(), stderr: told }, "float {line}");
        assert_eq!(state(world).unwrap(), before, "float {line}");
    }
}
