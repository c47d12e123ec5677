//! The program's help, exit codes and output streams. The help snapshots follow from a walk of the
//! commands, so a new command gets one automatically.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

/// An address without a listener: port 1 is reserved.
const NOWHERE: &str = "127.0.0.1:1";

fn float(home: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_float"));
    command.env_clear().env("HOME", home).env("COLUMNS", "100").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a temporary directory");
    float(home.path()).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The commands in a help text.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    let names = listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

fn walk(path: &[&str], seen: &mut Vec<String>) {
    let arguments: Vec<&str> = path.iter().copied().chain(["--help"]).collect();
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{path:?}");
    assert!(output.stderr.is_empty(), "{path:?}");
    let help = text(&output.stdout);
    assert!(help.is_ascii(), "{path:?}");
    let below = commands(&help);
    let for_people = !["server", "up"].contains(path.first().unwrap_or(&""));
    assert!(!for_people || !below.is_empty() || help.contains("Example"), "{path:?} has no example");
    let name: Vec<&str> = ["float"].into_iter().chain(path.iter().copied()).collect();
    insta::assert_snapshot!(format!("help-{}", name.join("-")), &help);
    for command in below {
        walk(&[path, &[command]].concat(), seen);
    }
    seen.push(name.join(" "));
}

#[test]
fn help_of_every_command() {
    let mut seen = Vec::new();
    walk(&[], &mut seen);
    for wanted in ["login", "logout", "submit", "list", "show", "migrate", "cancel", "log", "hosts", "up", "version"] {
        assert!(seen.contains(&format!("float {wanted}")), "{wanted}");
    }
    for wanted in ["create", "modify", "list", "info", "connect", "disconnect", "destroy"] {
        assert!(seen.contains(&format!("float gateway {wanted}")), "{wanted}");
    }
    for wanted in ["create", "list", "show", "addRule", "rmRule", "replaceRule", "delete"] {
        assert!(seen.contains(&format!("float securityGroup {wanted}")), "{wanted}");
    }
    for wanted in ["add", "list", "info", "update", "delete"] {
        assert!(seen.contains(&format!("float user {wanted}")), "{wanted}");
        assert!(seen.contains(&format!("float group {wanted}")), "{wanted}");
    }
    for wanted in ["create", "list", "delete"] {
        assert!(seen.contains(&format!("float token {wanted}")), "{wanted}");
    }
    for wanted in ["set", "get", "ls", "unset"] {
        assert!(seen.contains(&format!("float secret {wanted}")), "{wanted}");
    }
    for wanted in ["create", "list", "show", "delete"] {
        assert!(seen.contains(&format!("float template {wanted}")), "{wanted}");
    }
}

#[test]
fn help_is_wrapped_once_at_the_width_of_the_terminal() {
    for width in [60, 80, 100] {
        let mut below = vec![Vec::new()];
        while let Some(path) = below.pop() {
            let home = tempfile::tempdir().unwrap();
            let mut command = float(home.path());
            let output = command.env("COLUMNS", width.to_string()).args(&path).arg("--help").output().unwrap();
            let help = text(&output.stdout);
            is_wrapped_once(&help, width, &path);
            below.extend(commands(&help).into_iter().map(|name| [path.clone(), vec![name.to_owned()]].concat()));
        }
    }
}

/// Checks that no line is too long, and that no line of prose ends where its next word had room.
fn is_wrapped_once(help: &str, width: usize, path: &[String]) {
    let lines: Vec<&str> = help.lines().collect();
    for line in &lines {
        let can_be_broken = line.trim().contains(' ') && !line.starts_with("Usage:") && !line.trim().starts_with('-');
        assert!(line.len() <= width || !can_be_broken, "{path:?} at {width}: {line}");
    }
    for pair in lines.windows(2) {
        let is_prose = |line: &str| line.starts_with(|char: char| char.is_ascii_alphabetic() || char == '`');
        let next = pair[1].split(' ').next().unwrap_or_default();
        let had_room = pair[0].len() + 1 + next.len() <= width;
        assert!(
            !(is_prose(pair[0]) && is_prose(pair[1]) && had_room),
            "{path:?} at {width}:\n{}\n{}",
            pair[0],
            pair[1]
        );
    }
}

#[test]
fn start_page_without_arguments() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    insta::assert_snapshot!("start-page", text(&output.stdout));
}

#[test]
fn invalid_command_line_exits_2() {
    for arguments in [&["frobnicate"][..], &["show"], &["list", "--nonsense"], &["-F", "xml", "list"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn failures_exit_1() {
    for (arguments, said) in [
        (
            &["-a", NOWHERE, "-O", "t", "show", "-j", "a/b"][..],
            "Error: Invalid argument, invalid job ID (code: 1003)\n\
             hint: an ID has 21 letters and digits; `float list` shows the jobs\n",
        ),
        (
            &["-a", NOWHERE, "list"],
            "Error: Not logged in, no session at http://127.0.0.1:1 (code: 1004)\n\
             hint: log in with `float login`, or give `-u` and `-p`\n",
        ),
        (
            &["-a", NOWHERE, "-u", "me", "-p", "x", "list"],
            "Error: can't reach OpCenter at http://127.0.0.1:1: Connection refused (os error 111)\n\
             hint: give another address with `-a`, or start OpCenter on this machine with `float up`\n",
        ),
        (
            &["-a", NOWHERE, "-O", "t", "list", "-f", "age=3"],
            "Error: Invalid argument, invalid filter: unknown key `age`, at character 1 of `age=3` (code: 1003)\n\
             hint: the keys are status, user, name, id, image, host, category, tag:KEY, submit, update, duration\n",
        ),
        (
            &["-a", NOWHERE, "-O", "t", "securityGroup", "show", "-g", "../hosts"],
            "Error: Invalid argument, invalid security group ID (code: 1003)\n\
             hint: `float securityGroup list` shows the security groups\n",
        ),
        (
            &[
                "-a",
                NOWHERE,
                "-O",
                "t",
                "gateway",
                "connect",
                "-g",
                "lab",
                "-j",
                "uqaj8l6a407u88v0106ol",
                "--targetPort",
                "0",
            ],
            "Error: Invalid argument, invalid port `0`: a port is a number from 1 to 65535 (code: 1003)\n\
             hint: give a port that the job publishes\n",
        ),
        (&["-a", NOWHERE, "login"], "Error: no user name\nhint: give one with `-u`\n"),
    ] {
        let output = run(arguments);
        assert_eq!(text(&output.stderr), said, "{arguments:?}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn version_without_server() {
    let output = run(&["-a", NOWHERE, "version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("client: {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completion_for_every_shell() {
    for shell in ["bash", "fish", "zsh", "powershell"] {
        let output = run(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("migrate"), "{shell}");
    }
}

#[test]
fn closed_pipe_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let mut child =
        float(home.path()).args(["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The script is larger than a pipe's buffer: the program still writes when the reader closes
    // it.
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}
