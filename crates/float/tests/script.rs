//! A user's script as it is written for the original: a shell, `awk` and the command line, which
//! knows nothing of what is behind it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use mooring_testkit::streams;
use mooring_testkit::world::{Plan, World};

/// The program.
const FLOAT: &str = env!("CARGO_BIN_EXE_float");

/// Logs in, asks who it is, submits to a gateway, polls `show`, reads the port mapping with awk,
/// lists as a table, migrates, cancels. `$FLOAT`, `$OPCENTER`, `$PASSWORD` and `$PROGRAM` are
/// given.
const SCRIPT: &str = r#"
set -eu
float() { "$FLOAT" "$@"; }
fail() { echo "$*" >&2; exit 1; }

float login -a "$OPCENTER" -u admin -p "$PASSWORD" | grep -qx 'Login Succeeded!' || fail 'login says something else'
grep -q '^address: ' ~/.float/session.yaml || fail 'no address in the session file'
float login --info | grep -qx 'username: admin' || fail 'login --info does not tell the user'
float status | grep -qx 'License Status: valid' || fail 'status says something else'
[ "$(float list)" = 'No jobs' ] || fail 'an empty list is not `No jobs`'

gateway=$(float gateway create -c 1 -m 1 -n mygw --portRange 10000:10010 | awk '$1 == "id:" {print $2; exit}')
case $gateway in g-?????????????????????) ;; *) fail "not a gateway id: $gateway" ;; esac

job=$(yes | float submit -i dir:/ -c 1:2 -m 1:2 -n sess -e MODE=test --publish 8888:7000 --gateway "$gateway" --force \
  -- "$PROGRAM" 0.0.0.0:7000 | awk '$1 == "id:" {print $2; exit}')
[ ${#job} = 21 ] || fail "not a job id: $job"

status=
for _ in $(seq 300); do
  status=$(float show -j "$job" | awk '$1 == "status:" {print $2}')
  [ "$status" = Executing ] && break
  sleep 0.1
done
[ "$status" = Executing ] || fail "the job is $status"

where=$(float show -j "$job" | awk '/^portMappings:/ {getline; print $4}')
case $where in *:10000) ;; *) fail "the port mapping is $where" ;; esac

float list | awk -v job="$job" '$2 == job {print $4}' | grep -qx sess || fail 'field 4 of the list is not the name'
float list -F table | awk -F'|' -v job="$job" '$2 ~ job {gsub(/ /, "", $3); print $3}' | grep -qx sess || fail 'not in the table'
[ "$(float list -F json -f "status=Executing or status=Floating" -f user=admin | grep -c '"id"')" = 1 ] || fail 'the filter finds another number'
float gateway info -g mygw -F json | grep -q '"targetPort": *8888' || fail 'the gateway does not show the connection'

float migrate -f -j "$job" >/dev/null
for _ in $(seq 300); do
  float show -j "$job" -F json | grep -q '"outcome": *"succeeded"' && break
  sleep 0.1
done
float show -j "$job" -F json | grep -q '"outcome": *"succeeded"' || fail 'the job was not moved'
[ "$(float show -j "$job" | awk '/^portMappings:/ {getline; print $4}')" = "$where" ] || fail 'the address changed'

float suspend -f -j "$job" | grep -q 'Suspend request has been submitted' || fail 'suspend says something else'
for _ in $(seq 300); do
  status=$(float show -j "$job" -F json | jq -r .status)
  [ "$status" = Suspended ] && break
  sleep 0.1
done
[ "$status" = Suspended ] || fail "the job is $status"
[ "$(float show -j "$job" -F json | jq -r '.workingHost')" = '' ] || fail 'a suspended job has a host'
[ "$(float show -j "$job" | awk '/^portMappings:/ {getline; print $4}')" = "$where" ] || fail 'the address changed with the suspend'
float resume -j "$job" >/dev/null
for _ in $(seq 300); do
  status=$(float show -j "$job" -F json | jq -r .status)
  [ "$status" = Executing ] && break
  sleep 0.1
done
[ "$status" = Executing ] || fail "the job is $status"

float cancel -f -j "$job" | grep -q 'Cancel request has been submitted' || fail 'cancel says something else'
for _ in $(seq 300); do
  status=$(float show -j "$job" | awk '$1 == "status:" {print $2}')
  [ "$status" = Cancelled ] && break
  sleep 0.1
done
[ "$status" = Cancelled ] || fail "the job is $status"
float cancel -f -j "$job" >/dev/null || fail 'a second cancel fails'
float gateway destroy -g mygw -f

ended=$(yes | float submit -i dir:/ -n 010 --imageVolSize 6 --rootVolSize 40 --allowList '[r5*,m*]' --customTag step:align_reads.v2 \
  --vmPolicy '[spotFirst=true,retryLimit=3,retryInterval=600s]' -- /bin/sh -c 'env; exit 42' | awk '$1 == "id:" {print $2; exit}')
for _ in $(seq 300); do
  status=$(float show -j "$ended" | awk '$1 == "status:" {print $2}')
  [ "$status" = FailToComplete ] && break
  sleep 0.1
done
# A line reader takes what is between the double quotes.
[ "$(float show -j "$ended" | sed -n 's/^rc: "\(.*\)"$/\1/p')" = 42 ] || fail 'the exit code is lost'
float log -j "$ended" cat stdout.autosave >"$HOME/env"
for variable in "FLOAT_JOB_ID=$ended" FLOAT_USER=admin FLOAT_USER_ID=admin; do
  grep -qx "$variable" "$HOME/env" || fail "the job does not have $variable"
done
grep -q '^WORKER_ADDR=198[.]18[.]' "$HOME/env" || fail 'the job does not know the address of its host'
float show -j "$ended" | grep -qx 'name: "010"' || fail 'the name is not quoted'
float show -j 010 | grep -qx "id: $ended" || fail 'the job is not found by its name'
[ "$(float list -f tag:step=align_reads.v2 -F json | jq -r '.[0].id')" = "$ended" ] || fail 'the tag finds nothing'
float log ls -j "$ended" -F json | jq -e 'map(.name) | index("stdout.autosave")' >/dev/null || fail 'no list of files'
yes | float cancel -j "$ended" >/dev/null || fail 'cancel of an ended job fails'
float show -j 123456789012345678901 2>&1 | grep -q 'Error: Resource not found, .* (code: 1002)' || fail 'another error'
float logout
! float login --info >/dev/null 2>&1 || fail 'logged in after logout'
echo done
"#;

#[test]
fn a_script_written_for_the_original_runs() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&streams::program().unwrap()).unwrap();
    let script = world.files().join("script.sh");
    fs::write(&script, SCRIPT).unwrap();
    let mut command = Command::new("/bin/bash");
    command.arg(script).env("FLOAT", env!("CARGO_BIN_EXE_float")).env("OPCENTER", world.url());
    command.env("PASSWORD", world.password().unwrap()).env("PROGRAM", program);
    let ran = world.run(command).unwrap();
    assert_eq!((ran.code, ran.stdout.lines().last()), (Some(0), Some("done")), "{}{}", ran.stdout, ran.stderr);
}

/// The program that OpCenter runs, with a byte at its end: another program that does the same.
fn older_program(directory: &Path) -> PathBuf {
    let older = directory.join("float");
    fs::copy(FLOAT, &older).expect("the program is copied");
    let mut file = fs::OpenOptions::new().append(true).open(&older).expect("the copy is opened");
    file.write_all(b"x").expect("the copy is written");
    older
}

#[test]
fn program_comes_from_opcenter() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(FLOAT) }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let older = older_program(directory.path());
    let sync = || {
        let mut command = Command::new(&older);
        command.args(["-a", world.url(), "release", "sync"]);
        let ran = world.run(command).unwrap();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    };
    assert!(sync().ends_with(" is now the program of OpCenter\n"));
    assert!(fs::read(&older).unwrap() == fs::read(FLOAT).unwrap(), "another program");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(sync(), "float is the same program as OpCenter's\n");
    let outcome = world.run_inside(async || {
        let get = async |path: &str| reqwest::get(format!("{}{path}", world.url())).await;
        let program = get("/float").await?;
        assert_eq!((program.status().as_u16(), program.bytes().await?.len() as u64), (200, fs::metadata(FLOAT)?.len()));
        for platform in ["darwin_amd64", "windows_amd64"] {
            let missing = get(&format!("/float.{platform}")).await?;
            assert_eq!(missing.status().as_u16(), 404);
            let told: serde_json::Value = missing.json().await?;
            let message = told["message"].as_str().unwrap_or_default();
            assert!(message.contains("there is one for linux_") && message.contains(platform), "{told}");
        }
        Ok(())
    });
    outcome.unwrap();
}

/// A client of the original's API, with the fields that it sends.
#[test]
fn api_speaks_as_clients_of_the_original_do() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(FLOAT) }).unwrap();
    let password = world.password().unwrap();
    let outcome = world.run_inside(async || {
        let http = reqwest::Client::new();
        let at = |path: &str| format!("{}/api/v1/{path}", world.url());
        let login = http.get(at("login")).basic_auth("admin", Some(&password)).send().await?;
        let token = login.headers()["Authorization"].clone();
        let post = async |json: &str| {
            let request = http.post(at("jobs")).header("Authorization", &token);
            request.header("Content-Type", "application/json").body(json.to_owned()).send().await
        };
        let answer = post(
            r#"{"cpu": 1, "mem": 0.2, "instType": "", "image": "dir:/", "imageVolSize": 6, "jobContent": "env; sleep 600",
                "dataVolumes": [], "customTags": {"step": "a_b.c"}, "envs": ["PY=2.50"]}"#,
        )
        .await?;
        assert_eq!(answer.status().as_u16(), 201);
        let job: serde_json::Value = answer.json().await?;
        assert_eq!(job["warnings"], serde_json::json!(["`imageVolSize` has no effect: volumes grow as they need"]));
        assert_eq!((&job["env"]["PY"], &job["customTags"]["step"]), (&"2.50".into(), &"a_b.c".into()));
        assert_eq!(post(r#"{"image": "dir:/", "instTyp": "x"}"#).await?.status().as_u16(), 400);
        let get = async |path: &str| http.get(at(path)).header("Authorization", &token).send().await;
        let pages: serde_json::Value = get("jobPages").await?.json().await?;
        let jobs: serde_json::Value = get("jobs").await?.json().await?;
        assert_eq!((pages["Jobs"].as_array().map(Vec::len), &pages["Jobs"][0]["id"]), (Some(1), &jobs[0]["id"]));
        let page: serde_json::Value = get("jobPages?limit=1").await?.json().await?;
        assert_eq!(page["Jobs"][0]["id"], job["id"]);
        let one = format!("jobs/{}", job["id"].as_str().unwrap_or_default());
        for _ in 0..3 {
            let cancelled = http.delete(at(&one)).header("Authorization", &token).send().await?;
            assert_eq!(cancelled.status().as_u16(), 200);
        }
        Ok(())
    });
    outcome.unwrap();
}
