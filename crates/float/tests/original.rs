//! Every command and flag of the original, as its users' scripts write them. Each is parsed, or
//! refused with a sentence of our own and exit code 2 before anything is sent.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

/// An address without a listener: port 1 is reserved.
const NOWHERE: &str = "127.0.0.1:1";
const JOB: &str = "uqaj8l6a407u88v0106ol";

/// The commands. Those that are there fail to reach OpCenter, or need none.
const COMMANDS: &[&str] = &[
    "submit -i x -- true",
    "sbatch -i x -- true",
    "list",
    "squeue",
    "ls",
    "show -j JOB",
    "cancel -j JOB -f",
    "cancel --filter user=alice -f",
    "scancel -j JOB --force",
    "migrate -j JOB -f",
    "migrate -f -j JOB --instType m5.large",
    "modify -j JOB --addCustomTag a_b:c.d",
    "suspend -j JOB -f",
    "hibernate -j JOB -f",
    "resume -j JOB",
    "resume -j JOB -f",
    "recover -j JOB",
    "restore -j JOB",
    "rerun -j JOB",
    "requeue -j JOB",
    "resubmit -j JOB",
    "promote -j JOB",
    "boost -j JOB",
    "snapshot -j JOB",
    "hosts",
    "sinfo",
    "log -j JOB ls",
    "log -j JOB cat stderr.autosave",
    "log tail --follow output -j JOB",
    "ps",
    "top",
    "ptop",
    "qtop",
    "df -j JOB",
    "status",
    "login -u a -p b",
    "login --info",
    "logout",
    "secret get x",
    "secret ls",
    "secret set x y",
    "secret unset x",
    "ldap",
    "nis",
    "saml",
    "user add x --passwd-stdin",
    "user delete x -f",
    "user info x",
    "user list",
    "user update x --role admin",
    "group add x",
    "group delete x -f",
    "group info x",
    "group list",
    "group update x --addUser y",
    "quota-policy list",
    "image add x y",
    "image list",
    "mi list",
    "gateway create -c 2 -m 4 -n gw --portRange 10000:10010 --securityGroup a --securityGroup b --noPublicIP",
    "gateway destroy -g gw -f",
    "gateway connect -g gw -j JOB --targetPort 1 --targetPort 2",
    "gateway disconnect -g gw -j JOB",
    "gateway info -g gw",
    "gateway list",
    "gateway modify -g gw --addSecurityGroup a",
    "template list",
    "config get x",
    "config list",
    "license info",
    "license acquire",
    "report list",
    "storage list",
    "version",
    "release sync",
    "restart",
    "reboot",
    "smtp",
    "completion bash",
    "completion fish",
    "completion powershell",
    "completion zsh",
    "cluster",
    "queue",
    "queues",
    "node",
    "project",
];

/// The flags of a submission.
const SUBMIT_FLAGS: &[&str] = &[
    "--tag 3",
    "-j /dev/null",
    "--job /dev/null",
    "-c 2",
    "--cpu 2:4",
    "-m 4",
    "--mem 4:8",
    "-t m5.large",
    "--instType m5.large",
    "-n a",
    "--name a",
    "-e A=B",
    "--env A={secret:B}",
    "--publish 8888:8888",
    "--publish 80",
    "--gateway g",
    "--gateway g --targetPort 80 --publish 80",
    "--securityGroup sg-1",
    "--vmPolicy [spotOnly=true,retryLimit=3,retryInterval=600s]",
    "-M cpu.upperBoundDuration=5s",
    "--migratePolicy [disable=true,evadeOOM=false]",
    "--dataVolume [size=10]:/data",
    "--dataVolume [mode=rw,endpoint=https://s3.example.org,accessKey=a,secret=b,token=c]s3://bucket/pre:/mnt",
    "--dataVolume nfs://10.0.0.1/path:/mnt",
    "--storage s",
    "--template a:b",
    "--template private::a:b",
    "--customTag step:align_reads.v2",
    "--dumpMode full",
    "--dumpMode incremental",
    "--snapLocation [mode=rw]s3://b/p",
    "--withRoot",
    "--dirMap /a:/b",
    "--hostInit x.sh",
    "--hostTerminate x.sh",
    "--extraContainerOpts --privileged",
    "--extraOptions x",
    "--imageVolSize 6",
    "--rootVolSize 40",
    "--allowList [r5*,m*]",
    "--denyList [t*]",
    "--timeLimit 3600s",
    "--disableRerun",
    "--disableMigrate",
    "--gpu-count 1",
    "--zone us-east-1a",
    "--subnet subnet-1",
    "--metricsInterval 10s",
    "-f",
    "--force",
];

/// The flags of every command.
const GLOBAL_FLAGS: &[&str] = &[
    "-a 127.0.0.1:1",
    "--address 127.0.0.1:1",
    "-u a -p b",
    "--username a --password b",
    "-O t",
    "--token t",
    "-F json",
    "--format table",
    "--logLevel info",
    "-v on",
    "--verbose off",
    "--scroll",
];

fn run(words: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_float"));
    command.env_clear().env("HOME", home.path()).stdin(Stdio::null());
    let is_given = |flags: [&str; 2]| words.iter().any(|word| flags.contains(word));
    if !is_given(["-a", "--address"]) {
        command.args(["-a", NOWHERE]);
    }
    if !is_given(["-O", "--token"]) {
        command.args(["-O", "t"]);
    }
    command.args(words).output().expect("the program runs")
}

/// Checks that a line is parsed, or refused in our words. Returns whether it is refused.
fn check(line: &str) -> bool {
    let line = line.replace("JOB", JOB);
    let ran = run(&line.split(' ').collect::<Vec<_>>());
    let told = String::from_utf8(ran.stderr).expect("UTF-8");
    match ran.status.code() {
        Some(0) => false,
        Some(1) => {
            // A password is read before anything is sent; here it is empty.
            let is_unreachable = told.contains("can't reach OpCenter") || told.contains("password");
            assert!(is_unreachable, "{line}: {told}");
            false
        }
        Some(2) => {
            assert!(told.starts_with("Error: `"), "{line}: {told}");
            assert!(told.contains("` is not supported: "), "{line}: {told}");
            assert_eq!(told.lines().count(), 1, "{line}: {told}");
            assert!(ran.stdout.is_empty(), "{line}");
            true
        }
        other => panic!("{line}: {other:?}: {told}"),
    }
}

#[test]
fn every_command_is_there_or_refused_by_name() {
    let refused: Vec<&str> = COMMANDS.iter().copied().filter(|line| check(line)).collect();
    let names = refused.iter().map(|line| line.split(' ').next().unwrap());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "migrate",
            "promote",
            "boost",
            "ps",
            "ptop",
            "qtop",
            "ldap",
            "nis",
            "saml",
            "quota-policy",
            "image",
            "image",
            "mi",
            "config",
            "config",
            "report",
            "storage",
            "restart",
            "reboot",
            "smtp",
            "cluster",
            "queue",
            "queues",
            "node",
            "project",
        ]
    );
}

#[test]
fn every_flag_is_taken_or_refused_by_name() {
    let refused = SUBMIT_FLAGS.iter().filter(|flags| check(&format!("submit -i x {flags} -- true")));
    let names: Vec<&str> = refused.map(|flags| flags.split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "-t",
            "--instType",
            "--storage",
            "--snapLocation",
            "--hostInit",
            "--hostTerminate",
            "--extraContainerOpts",
            "--extraOptions",
            "--gpu-count",
            "--zone",
            "--subnet",
            "--metricsInterval",
        ]
    );
    let refused: Vec<&&str> = GLOBAL_FLAGS.iter().filter(|flags| check(&format!("list {flags}"))).collect();
    assert_eq!(refused, [&"--scroll"]);
}

#[test]
fn flags_without_effect_are_told_once() {
    let ran = run(&"submit -i x --imageVolSize 6 --rootVolSize 9 -- true".split(' ').collect::<Vec<_>>());
    let told = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(told.matches("volumes grow as they need").count(), 1, "{told}");
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    for (line, code, class, number) in [
        ("-F json list --nonsense", 2, "Client error", serde_json::Value::Null),
        ("list --zone x --format json", 2, "Client error", serde_json::Value::Null),
        ("-F json list", 1, "Client error", serde_json::Value::Null),
        ("-F json show -j a/b", 1, "Invalid argument", 1003.into()),
    ] {
        let ran = run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.status.code(), Some(code), "{line}");
        let told: serde_json::Value = serde_json::from_slice(&ran.stderr).unwrap_or_else(|_| panic!("{line}: {ran:?}"));
        assert_eq!((&told["class"], &told["code"]), (&class.into(), &number), "{told}");
        assert!(told["message"].is_string() && (told["hint"].is_string() || told["hint"].is_null()), "{told}");
    }
}

#[test]
fn job_that_a_program_runs_in_is_meant_without_a_flag() {
    for line in ["migrate -f", "suspend -f", "show", "log ls", "cancel -f"] {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_float"));
        command.env_clear().env("HOME", home.path()).args(["-a", NOWHERE, "-O", "t"]).args(line.split(' '));
        assert_eq!(command.output().unwrap().status.code(), Some(if line == "log ls" { 1 } else { 2 }), "{line}");
        let told = command.env("FLOAT_JOB_ID", JOB).output().unwrap();
        let said = String::from_utf8(told.stderr).unwrap();
        assert!(said.contains("can't reach OpCenter"), "{line}: {said}");
    }
}

#[test]
fn every_address_that_was_tried_is_named() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_float"));
    // Nothing listens at 127.0.0.7.
    command.env_clear().env("HOME", home.path()).args(["-a", "127.0.0.7", "-O", "t", "list"]);
    let ran = command.output().unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{told}");
    for address in ["http://127.0.0.7:8443", "https://127.0.0.7: ", "https://127.0.0.7:8443: "] {
        assert!(told.contains(address), "{told}");
    }
}

#[test]
fn server_without_tls_is_recognised() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It answers every connection in plain HTTP, until the test ends.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            // Until the client has read that, and closes.
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_float"));
    command.env_clear().env("HOME", home.path()).args(["-a", &format!("https://127.0.0.1:{port}"), "-O", "t", "list"]);
    let ran = command.output().unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(told.contains("it speaks HTTP without TLS"), "{told}");
}
