//! Gateways and security groups as their users manage them: the real program, one world, real
//! clients on both sides of a rule.
//!
//! The jobs are witnesses (see [`mooring_testkit::witness`]): who is let in gets an answer, and
//! over a connection that stays the next one. Clients are told apart by their address, of which the
//! world's own network namespace has several.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mooring_api::watch::Backend;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness;
use mooring_testkit::world::{Plan, Ran, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Phase;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpSocket, TcpStream};

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");
/// Time limit of each step.
const LIMIT: Duration = Duration::from_secs(60);
/// The time after which a client without an answer counts as dropped.
const DROPPED: Duration = Duration::from_millis(700);

/// The addresses of gateways with and without a public address.
const PUBLIC: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PRIVATE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Clients of gateways.
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Clients of hosts.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 99);
/// The hosts.
const HOST_1: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const HOST_2: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);

/// Splits a command line at its spaces.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Does what has to be possible, and gives back what it answers.
fn done(world: &World, line: &str) -> Result<Value> {
    let ran = world.float(&words(&format!("-F json {line}")))?;
    ensure!(ran.code == Some(0), "`float {line}`: {ran:?}");
    if ran.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&ran.stdout).with_context(|| format!("`float {line}` answers {}", ran.stdout))
}

/// Asks for what has to be refused in these words.
fn refused(world: &World, line: &str, code: u16, told: &str) -> Result<()> {
    let Ran { code: exit, stdout, stderr } = world.float(&words(line))?;
    ensure!(exit == Some(1) && stdout.is_empty(), "`float {line}` is not refused: {stdout}{stderr}");
    let (what, hint) = stderr.split_once('\n').unwrap_or_default();
    ensure!(what.contains(told) && what.ends_with(&format!("(code: {code})")), "`float {line}`: {stderr}");
    ensure!(hint.starts_with("hint: ") || code == 1003, "`float {line}` leaves the next step open: {stderr}");
    Ok(())
}

/// Answers the question that a command asks.
fn answered(world: &World, line: &str, answer: &str) -> Result<Ran> {
    let mut command = Command::new("/bin/sh");
    let script = format!("echo {answer} | {FLOAT} -a {} -u admin -p {} {line}", world.url(), world.password()?);
    command.args(["-c", &script]);
    world.run(command)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A client with a connection on which it can ask again.
struct Client(BufStream<TcpStream>);

impl Client {
    async fn connect(from: Ipv4Addr, to: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(Self(BufStream::new(tokio::time::timeout(DROPPED, socket.connect(to)).await??)))
    }

    /// The witness that answers, and how many it has answered.
    async fn ask(&mut self) -> Result<(String, u64)> {
        self.ask_within(DROPPED).await
    }

    async fn ask_within(&mut self, limit: Duration) -> Result<(String, u64)> {
        self.0.write_all(b"\n").await?;
        self.0.flush().await?;
        let mut line = String::new();
        if tokio::time::timeout(limit, self.0.read_line(&mut line)).await.context("no answer")?? == 0 {
            bail!(std::io::Error::from(ErrorKind::UnexpectedEof));
        }
        let mut words = line.split_whitespace();
        let identity = words.next().context("an identity")?.to_owned();
        Ok((identity, words.next().context("a count")?.parse()?))
    }
}

/// Returns whether a client at `from` gets an answer at `to`.
async fn is_answered(from: Ipv4Addr, to: SocketAddr) -> bool {
    match Client::connect(from, to).await {
        Ok(mut client) => client.ask().await.is_ok(),
        Err(_) => false,
    }
}

/// Waits until a client at `from` is let in, or is not.
async fn becomes(from: Ipv4Addr, to: SocketAddr, wanted: Access) -> Result<()> {
    wait_for(&format!("{from} at {to} to be {wanted:?}"), LIMIT, async || {
        let access = if is_answered(from, to).await { Access::LetIn } else { Access::Refused };
        Ok((access == wanted).then_some(()))
    })
    .await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    LetIn,
    Refused,
}

/// Submits a witness that executes when this returns. Its program has been brought.
fn witness_on(world: &World, name: &str, flags: &str) -> Result<JobId> {
    let program = world.files().join("witness");
    let submit = format!("submit -i dir:/ -m 0.2 -n {name} {flags} -- {} 0.0.0.0:9000", program.display());
    let job = text(&done(world, &submit)?["id"]).parse()?;
    executes(world, &job)?;
    Ok(job)
}

fn executes(world: &World, job: &JobId) -> Result<()> {
    world.run_inside(async || {
        let client = world.client().await?;
        wait_for(&format!("job {job} to execute"), LIMIT, async || {
            let view = client.job_get(job).await?;
            ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
            Ok((view.status == JobStatus::Executing).then_some(()))
        })
        .await
    })
}

/// Returns the problems that a host reports, once there are `number` of them.
fn problems(world: &World, host: &str, number: usize) -> Result<Vec<String>> {
    world.run_inside(async || {
        let client = world.client().await?;
        wait_for(&format!("{number} problems of {host}"), LIMIT, async || {
            let hosts = client.host_list().await?;
            let problems = hosts.into_iter().find(|known| known.name == host).context("the host")?.problems;
            Ok((problems.len() == number).then_some(problems))
        })
        .await
    })
}

/// The memory that the control group of a gateway's process may have, in bytes.
fn memory_of(world: &World, gateway: &str) -> Result<u64> {
    let process = world.daemons(&["server", "gateway", gateway]).pop().context("the gateway's process")?;
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid))?;
    let limit = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let file = match controllers {
            "memory" => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
            "" => format!("/sys/fs/cgroup{path}/memory.max"),
            _ => return None,
        };
        fs::read_to_string(file).ok()
    });
    Ok(limit.context("the gateway's control group")?.trim().parse()?)
}

fn groups_are_objects_with_a_life(world: &World) -> Result<()> {
    let default = done(world, "securityGroup show -g default")?;
    ensure!(default["rules"][0] == "tcp:*:127.0.0.0/8" && default["user"] == "admin", "{default}");
    let narrow = done(world, "securityGroup create -n narrow --description clients --rule tcp:10000-10100:127.0.0.1")?;
    let id = text(&narrow["id"]);
    ensure!(id.starts_with("sg-") && narrow["rules"] == json!(["tcp:10000-10100:127.0.0.1/32"]), "{narrow}");
    ensure!(narrow["description"] == "clients" && narrow["usedBy"] == json!([]), "{narrow}");
    let names = done(world, "securityGroup list")?;
    ensure!(names[0]["name"] == "default" && names[1]["name"] == "narrow", "{names}");

    let more = done(world, &format!("securityGroup addRule -g {id} --port 8000-8001 --source 198.18.0.0/24"))?;
    ensure!(more["rules"][1] == "tcp:8000-8001:198.18.0.0/24", "{more}");
    done(world, "securityGroup addRule -g narrow --rule tcp:22:::1 --rule tcp:23:::1")?;
    let replaced = done(world, "sg replaceRule -g narrow --rule tcp:22:::1 --by tcp:24:::1")?;
    ensure!(replaced["rules"][2] == "tcp:24:::1/128" && replaced["rules"][3] == "tcp:23:::1/128", "{replaced}");
    done(world, "sg rmRule -g narrow --rule tcp:24:::1 --rule tcp:23:::1/128")?;
    ensure!(done(world, &format!("sg show -g {id}"))? == more, "{more}");

    let group = |line: &str| format!("securityGroup {line}");
    for (line, code, told) in [
        ("create -n narrow", 1006, "a security group is named `narrow` already"),
        ("create -n a/b", 1003, "invalid name `a/b`"),
        ("create -n x --rule tcp:0:::1", 1003, "`0` is no port"),
        ("create -n x --rule tcp:80:10.0.0.0/33", 1003, "`10.0.0.0/33` is no address"),
        ("create -n x --rule udp:53:::1", 1003, "protocol `udp` is not `tcp`"),
        ("create -n x --rule tcp:1:::1 --rule tcp:1:::1", 1006, "security group `x` has rule `tcp:1:::1/128` already"),
        ("show -g nobody", 1002, "no security group `nobody`"),
        ("addRule -g narrow --port 80 --source nowhere", 1003, "`nowhere` is no address"),
        ("addRule -g narrow --rule tcp:10000-10100:127.0.0.1", 1006, "has rule `tcp:10000-10100:127.0.0.1/32` already"),
        ("replaceRule -g narrow --rule tcp:1:::1 --by tcp:2:::1", 1002, "has no rule `tcp:1:::1/128`"),
        ("rmRule -g narrow --rule tcp:1:::1", 1002, "has no rule `tcp:1:::1/128`"),
        // One that can't be removed keeps the other as well.
        ("rmRule -g narrow --rule tcp:8000-8001:198.18.0.0/24 --rule tcp:1:::1", 1002, "has no rule"),
        ("delete -g nobody", 1002, "no security group `nobody`"),
        ("delete -g default", 1007, "security group `default` can't be deleted"),
    ] {
        refused(world, &group(line), code, told)?;
    }
    ensure!(done(world, "securityGroup list")?[1] == more && done(world, &group("list"))?[2].is_null(), "changed");

    done(world, "securityGroup create -n passing")?;
    done(world, "securityGroup delete -g passing")?;
    refused(world, "securityGroup show -g passing", 1002, "no security group `passing`")
}

fn gateways_are_created_with_groups_and_addresses(world: &World) -> Result<()> {
    let lab = done(
        world,
        "gateway create -n lab -m 0.5 --portRange 10000:10100 --securityGroup narrow --securityGroup default",
    )?;
    ensure!(lab["securityGroups"] == json!(["narrow", "default"]), "{lab}");
    ensure!(lab["address"] == "127.0.0.1" && lab["noPublicIP"] == false, "{lab}");
    // The same ports at another address, and no group named.
    let inner = done(world, "gateway create -n inner -m 0.5 --portRange 10000:10100 --noPublicIP")?;
    ensure!(inner["address"] == "198.18.0.1" && inner["noPublicIP"] == true, "{inner}");
    ensure!(inner["securityGroups"] == json!(["default"]), "{inner}");
    for (line, code, told) in [
        ("gateway create -n x --securityGroup nobody", 1002, "no security group `nobody`"),
        ("gateway create -n x --securityGroup narrow --securityGroup narrow", 1003, "`narrow` is named twice"),
        ("gateway create -n x --noPublicIP --portRange 10100:10200", 1003, "overlaps 10000:10100 of gateway `inner`"),
        ("securityGroup delete -g narrow", 1007, "security group `narrow` is in use by gateway lab"),
    ] {
        refused(world, line, code, told)?;
    }
    let names = done(world, "gateway list")?;
    ensure!(names[0]["name"] == "lab" && names[1]["name"] == "inner" && names[2].is_null(), "{names}");
    Ok(())
}

fn ports_are_connected_together_or_later(world: &World, web: &JobId) -> Result<()> {
    let settings = "--targetPort 8000 --protocol tcp --holdLimit 60 --pagePatience 0 --heldMax 7";
    let first = done(world, &format!("gateway connect -g lab -j {web} {settings}"))?;
    ensure!(first[0]["gatewayPort"] == 10000 && first[0]["protocol"] == "tcp", "{first}");
    ensure!(first[0]["holdLimits"] == json!({"holdSeconds": 60, "pageSeconds": 0, "heldMax": 7}), "{first}");
    let connect = |rest: &str| format!("gateway connect -g lab -j {web} {rest}");
    for (rest, code, told) in [
        ("--targetPort 8001 --targetPort 8000", 1006, "port 8000 of the job is connected to gateway `lab` already"),
        ("--targetPort 8001 --holdLimit 0", 1003, "a hold limit in seconds of 0"),
        ("--targetPort 8001 --pagePatience 604801", 1003, "a page wait in seconds of 604801"),
        ("--targetPort 8001 --heldMax 1000001", 1003, "a number of held requests of 1000001"),
    ] {
        refused(world, &connect(rest), code, told)?;
    }
    let later = done(world, &connect("--targetPort 8001"))?;
    ensure!(later[0]["gatewayPort"] == 10001 && later[0]["protocol"] == "auto", "{later}");
    ensure!(later[0]["holdLimits"] == json!({"holdSeconds": 600, "pageSeconds": 5, "heldMax": 10000}), "{later}");
    // Another gateway at the same time, all that it publishes at once.
    let both = done(world, &format!("gateway connect -g inner -j {web}"))?;
    ensure!(both[0]["gatewayPort"] == 10000 && both[1]["gatewayPort"] == 10001, "{both}");
    world.run_inside(async || {
        becomes(FRIEND, (PUBLIC, 10000).into(), Access::LetIn).await?;
        becomes(FRIEND, (PUBLIC, 10001).into(), Access::LetIn).await?;
        becomes(NEIGHBOUR, (PRIVATE, 10000).into(), Access::LetIn).await
    })
}

fn a_connection_made_early_waits_for_its_job(world: &World) -> Result<()> {
    let cores =
        done(world, "hosts")?.as_array().and_then(|all| all.iter().find(|host| host["role"] == "jobs").cloned());
    let cores = cores.context("a host")?["cores"].clone();
    // It has no room: host-1 carries another job.
    let submit = format!("submit -i dir:/ -n early -c {cores} --host host-1 --publish 9 -- /bin/sleep 9999");
    let early = text(&done(world, &submit)?["id"]);
    let connection = done(world, &format!("gateway connect -g lab -j {early}"))?;
    ensure!(connection[0]["gatewayPort"] == 10002 && connection[0]["state"] == "waiting", "{connection}");
    ensure!(done(world, &format!("show -j {early}"))?["status"] == "Submitted");
    done(world, &format!("gateway disconnect -g lab -j {early}"))?;
    done(world, &format!("cancel -f -j {early}")).map(drop)
}

fn a_gateway_is_modified_under_its_connections(world: &World) -> Result<()> {
    let lab = text(&done(world, "gateway info -g lab")?["id"]);
    let modified = |flags: &str| done(world, &format!("gateway modify -g {lab} {flags}"));
    world.run_inside(async || {
        let mut client = Client::connect(FRIEND, (PUBLIC, 10000).into()).await?;
        let (identity, mut count) = client.ask().await?;
        let mut stays = async || {
            let (answers, next) = client.ask().await?;
            count += 1;
            ensure!(answers == identity && next >= count, "{answers} {next}, not {identity} {count}");
            anyhow::Ok(())
        };
        let renamed = modified("-n labs")?;
        ensure!(renamed["name"] == "labs" && renamed["id"] == lab.as_str(), "{renamed}");
        stays().await?;
        let range = modified("--portRange 9000:10050")?;
        ensure!(range["portRange"] == "9000:10050", "{range}");
        stays().await?;
        ensure!(memory_of(world, &lab)?.abs_diff(500_000_000) < 1 << 20);
        let larger = modified("-c 2 -m 0.75")?;
        ensure!(larger["cpu"] == 2 && larger["memGB"] == 0.75, "{larger}");
        wait_for("the gateway's control group to grow", LIMIT, async || {
            Ok((memory_of(world, &lab)?.abs_diff(750_000_000) < 1 << 20).then_some(()))
        })
        .await?;
        stays().await?;
        let groups = modified("--rmSecurityGroup default --addSecurityGroup default -n lab --portRange 10000:10100")?;
        ensure!(groups["securityGroups"] == json!(["narrow", "default"]) && groups["name"] == "lab", "{groups}");
        stays().await
    })?;
    bad_modifications_are_refused(world)
}

fn bad_modifications_are_refused(world: &World) -> Result<()> {
    let before = done(world, "gateway info -g lab")?;
    let modify = |flags: &str| format!("gateway modify -g lab {flags}");
    for (flags, code, told) in [
        ("--portRange 10000:10000", 1007, "port range 10000:10000 leaves out ports in use: 10001 (web)"),
        ("--portRange 11000:11100", 1007, "leaves out ports in use: 10000 (web), 10001 (web)"),
        ("--portRange 999:2000", 1003, "gateway ports lie within 1000 and 65535"),
        ("-n inner", 1006, "a gateway is named `inner` already"),
        ("-n g-000000000000000000000", 1003, "`g-000000000000000000000` is an id and can't be a name"),
        ("-n -x", 1003, "invalid name"),
        ("-c 4096", 1008, "host `gateways` lacks room"),
        ("-m 60000", 1008, "host `gateways` lacks room"),
        ("--addSecurityGroup narrow", 1006, "gateway `lab` has security group `narrow` already"),
        ("--addSecurityGroup nobody", 1002, "no security group `nobody`"),
        ("--rmSecurityGroup nobody", 1002, "no security group `nobody`"),
        // All of it, or nothing.
        ("--rmSecurityGroup default --portRange 10000:10000", 1007, "leaves out ports in use"),
    ] {
        refused(world, &modify(&flags.replace("-n -x", "--name=-x")), code, told)?;
    }
    refused(world, "gateway modify -g lab", 1003, "nothing to change")?;
    refused(world, "gateway modify -g nowhere -c 1", 1002, "no gateway `nowhere`")?;
    done(world, "gateway create -n third -m 0.5 --portRange 12000:12100")?;
    refused(
        world,
        &modify("--portRange 10000:12000"),
        1003,
        "overlaps 12000:12100 of gateway `third` on the same address",
    )?;
    done(world, "gateway destroy -f -g third")?;
    ensure!(done(world, "gateway info -g lab")?["securityGroups"] == before["securityGroups"]);
    Ok(())
}

fn clients_are_let_in_and_cut_off_as_rules_change(world: &World) -> Result<()> {
    let port = SocketAddr::new(IpAddr::from(PUBLIC), 10000);
    world.run_inside(async || {
        let mut friend = Client::connect(FRIEND, port).await?;
        let mut other = Client::connect(OTHER, port).await?;
        friend.ask().await?;
        other.ask().await?;
        // From here on `narrow` alone counts.
        done(world, "gateway modify -g lab --rmSecurityGroup default")?;
        becomes(OTHER, port, Access::Refused).await?;
        ensure!(other.ask().await.is_err(), "a connection outlives the rule that allowed it");
        friend.ask().await.context("a connection that stays allowed")?;

        done(world, "securityGroup addRule -g narrow --port 10000 --source 127.0.0.2")?;
        becomes(OTHER, port, Access::LetIn).await?;
        ensure!(!is_answered(OTHER, (PUBLIC, 10001).into()).await, "a rule for one port opens another");
        let mut other = Client::connect(OTHER, port).await?;
        other.ask().await?;
        done(world, "securityGroup rmRule -g narrow --port 10000 --source 127.0.0.2")?;
        becomes(OTHER, port, Access::Refused).await?;
        ensure!(other.ask().await.is_err(), "a connection outlives the rule that allowed it");

        // Nothing is allowed where no group is.
        done(world, "gateway modify -g lab --rmSecurityGroup narrow")?;
        becomes(FRIEND, port, Access::Refused).await?;
        ensure!(friend.ask().await.is_err(), "a connection outlives the last group");
        done(world, "gateway modify -g lab --addSecurityGroup narrow")?;
        becomes(FRIEND, port, Access::LetIn).await
    })
}

fn published_ports_obey_security_groups(world: &World, web: &JobId) -> Result<()> {
    let (here, there) = (SocketAddr::new(HOST_1.into(), 8000), SocketAddr::new(HOST_2.into(), 8000));
    world.run_inside(async || {
        becomes(NEIGHBOUR, here, Access::LetIn).await?;
        becomes(STRANGER, here, Access::LetIn).await?;
        done(world, "securityGroup rmRule -g narrow --port 8000-8001 --source 198.18.0.0/24")?;
        becomes(NEIGHBOUR, here, Access::Refused).await?;
        done(world, "securityGroup addRule -g narrow --port 8000-8001 --source 198.18.0.1")?;
        becomes(NEIGHBOUR, here, Access::LetIn).await?;
        ensure!(!is_answered(STRANGER, here).await, "a client that no rule allows reaches a published port");
        // The port inside the container is nobody's business on the host.
        ensure!(!is_answered(NEIGHBOUR, (HOST_1, 9000).into()).await, "a port is open that is not published");
        Ok(())
    })?;

    // The same port of another job on the same host has to wait for it.
    let second = witness_on(world, "second", "--host host-1 --publish 8000:9000 --securityGroup narrow")?;
    let told = problems(world, "host-1", 1)?;
    ensure!(told == [format!("port 8000 of job {second} is not published here: job {web} has it")], "{told:?}");

    // It goes where its job goes; a connection that was made stays.
    world.run_inside(async || {
        let mut client = Client::connect(NEIGHBOUR, here).await?;
        let (identity, before) = client.ask().await?;
        done(world, &format!("migrate -j {web} --host host-2 --wait"))?;
        becomes(NEIGHBOUR, there, Access::LetIn).await?;
        let (answers, after) =
            wait_for("an answer after the move", LIMIT, async || Ok(client.ask().await.ok())).await?;
        ensure!(answers == identity && after > before, "{answers} {after}, not {identity} after {before}");
        let mut anew = Client::connect(NEIGHBOUR, there).await?;
        ensure!(anew.ask().await?.0 == identity, "another job answers");
        ensure!(!is_answered(STRANGER, there).await, "a client that no rule allows reaches a published port");
        // And the port that it left is the other job's.
        becomes(NEIGHBOUR, here, Access::LetIn).await?;
        let mut other = Client::connect(NEIGHBOUR, here).await?;
        ensure!(other.ask().await?.0 != identity, "the job answers at the host that it left");
        Ok(())
    })?;
    problems(world, "host-1", 0)?;
    let users = format!("in use by gateway lab, job web ({web}), job second ({second})");
    refused(world, "securityGroup delete -g narrow", 1007, &users)?;
    done(world, &format!("cancel -f -j {second}"))?;
    world.run_inside(async || becomes(NEIGHBOUR, here, Access::Refused).await)
}

fn destroying_asks_and_names_the_jobs(world: &World, web: &JobId) -> Result<()> {
    let lab = text(&done(world, "gateway info -g lab")?["id"]);
    let question = format!("destroy gateway lab ({lab}); connected: web ({web})? [yes/no]\n");
    let no = answered(world, "gateway destroy -g lab", "no")?;
    ensure!(no.code == Some(1) && no.stderr.starts_with(&question), "{no:?}");
    ensure!(done(world, "gateway info -g lab")?["id"] == lab.as_str());
    let yes = answered(world, "gateway destroy -g lab", "yes")?;
    ensure!(yes.code == Some(0) && yes.stderr.starts_with(&question), "{yes:?}");
    refused(world, "gateway info -g lab", 1002, "no gateway `lab`")?;
    done(world, "gateway destroy -f -g inner")?;
    ensure!(done(world, "gateway list")? == json!([]));
    ensure!(done(world, &format!("show -j {web}"))?["status"] == "Executing");

    // Its last user gone, a group can go.
    let in_use = format!("security group `narrow` is in use by job web ({web})");
    refused(world, "securityGroup delete -g narrow", 1007, &in_use)?;
    done(world, &format!("cancel -f -j {web}"))?;
    world.run_inside(async || {
        let client = world.client().await?;
        wait_for("the job to be cancelled", LIMIT, async || {
            Ok((client.job_get(web).await?.status == JobStatus::Cancelled).then_some(()))
        })
        .await
    })?;
    done(world, "securityGroup delete -g narrow")?;
    ensure!(done(world, "securityGroup list")?[1].is_null());
    Ok(())
}

#[test]
fn gateways_and_security_groups_are_managed() {
    let world = &World::start(Plan::new(FLOAT)).unwrap();
    let mut stranger = Command::new("ip");
    stranger.args(words(&format!("address add {STRANGER}/24 dev mooring0")));
    assert_eq!(world.run(stranger).unwrap().code, Some(0));
    world.bring(&witness::program().unwrap()).unwrap();
    groups_are_objects_with_a_life(world).unwrap();
    gateways_are_created_with_groups_and_addresses(world).unwrap();
    let web = "--host host-1 --publish 8000:9000 --publish 8001:9000 --securityGroup narrow";
    let web = &witness_on(world, "web", web).unwrap();
    ports_are_connected_together_or_later(world, web).unwrap();
    a_connection_made_early_waits_for_its_job(world).unwrap();
    a_gateway_is_modified_under_its_connections(world).unwrap();
    clients_are_let_in_and_cut_off_as_rules_change(world).unwrap();
    published_ports_obey_security_groups(world, web).unwrap();
    destroying_asks_and_names_the_jobs(world, web).unwrap();
}

/// A connection through a host's port, over a move of its job away from that host. It goes on when
/// the job does: the host that the job has left has yet to remove everything of it then.
fn a_published_connection_outlives_a_move(world: &World) -> Result<()> {
    world.bring(&witness::program()?)?;
    let job = witness_on(world, "web", "--host host-1 --publish 8000:9000")?;
    let here = SocketAddr::new(HOST_1.into(), 8000);
    world.run_inside(async || {
        becomes(NEIGHBOUR, here, Access::LetIn).await?;
        let mut client = Client::connect(NEIGHBOUR, here).await?;
        let (identity, before) = client.ask().await?;
        world.failpoint_set(&Phase::Retire.failpoint(), "wait 3")?;
        done(world, &format!("migrate -j {job} --host host-2 --wait"))?;
        let (answers, after) = client.ask_within(LIMIT).await?;
        ensure!(answers == identity && after == before + 1, "{answers} {after}, not {identity} after {before}");
        let phases = world.client().await?.job_get(&job).await?.migrations.pop().context("the move")?.phases;
        ensure!(
            !phases.iter().any(|phase| phase.name == Phase::Retire),
            "the answer waited until nothing of the job was left where it was: {phases:?}"
        );
        Ok(())
    })
}

#[test]
fn a_published_connection_outlives_a_move_over_plain_routes() {
    let world = World::start(Plan { backend: Some(Backend::Direct), ..Plan::new(FLOAT) }).unwrap();
    a_published_connection_outlives_a_move(&world).unwrap();
}

#[test]
fn a_published_connection_outlives_a_move_over_wireguard() {
    let world = World::start(Plan { backend: Some(Backend::Wireguard), ..Plan::new(FLOAT) }).unwrap();
    a_published_connection_outlives_a_move(&world).unwrap();
}
