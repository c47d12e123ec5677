//! A user's script as it is written for the original: a shell, `awk` and the command line, which
//! knows nothing of what is behind it.

use std::fs;
use std::process::Command;

use mooring_testkit::streams;
use mooring_testkit::world::{Plan, World};

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

float cancel -f -j "$job" >/dev/null
for _ in $(seq 300); do
  status=$(float show -j "$job" | awk '$1 == "status:" {print $2}')
  [ "$status" = Cancelled ] && break
  sleep 0.1
done
[ "$status" = Cancelled ] || fail "the job is $status"
float gateway destroy -g mygw -f
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
