//! `float` inside a job: it is there in every image, knows OpCenter without a login, and may do
//! what concerns its job. It goes on in the middle of a migration of its own job.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::{JobView, SecretSetRequest};
use mooring_api::{Client, ClientError, ErrorCode, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::oci::Layout;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::{JobStatus, OutputFile};
use mooring_types::migration::Outcome;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
/// The place of the original's program.
const FLOAT: &str = "/opt/memverge/bin/float";

/// Uses `float` as scripts inside jobs do. `$OTHER` is a job of the same user.
const SCRIPT: &str = r#"#!/bin/bash
set -u
float() { /opt/memverge/bin/float "$@"; }
refused() { if float "$@" >/dev/null 2>refusal; then echo "not refused: $*"; else grep -q 'code: 1003\|permission\|the token of job' refusal || { echo "refused: $*"; cat refusal; }; fi; }
cd /tmp
echo "id $(float show -F json | jq -r .id)"
echo "user $(float login --info | sed -n 's/^username: //p')"
echo "secret $(float secret get github)"
refused list
refused show -j "$OTHER"
refused cancel -f -j "$OTHER"
refused secret set github other
refused secret unset github
refused modify --addCustomTag a:b
refused submit -i dir:/ -- true
refused user list
float migrate -f --wait >migrated 2>&1 || { echo "migrate failed"; cat migrated; }
echo "moves $(float show -F json | jq '[.migrations[] | select(.outcome == "succeeded")] | length')"
float suspend -f --wait >suspended 2>&1 || { echo "suspend failed"; cat suspended; }
echo "status $(float show -F json | jq -r .status)"
float log cat stdout.autosave | head -n 1
echo "token $FLOAT_TOKEN"
sleep 3600
"#;

async fn submit(client: &Client, request: Submission) -> Result<JobId> {
    Ok(client.job_submit(&request).await?.id)
}

async fn output(client: &Client, job: &JobId, file: OutputFile) -> Result<String> {
    Ok(client.job_log_file(job, &file, 0).await?.text)
}

/// Writes an image without any program or library, whose user is not root.
fn write_image(files: &Path) -> Result<String> {
    let root = files.join("root");
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/none\nme:x:1234:1234::/:/none\n")?;
    let mut layout = Layout::new(files.join("layout"))?;
    layout.layer(&root)?;
    layout.finish(&json!({ "User": "1234:1234" }))?;
    Ok(format!("oci:{}", files.join("layout").display()))
}

async fn empty_image(client: &Client, image: &str) -> Result<()> {
    let command = [FLOAT, "secret", "get", "github"].map(str::to_owned).to_vec();
    let request = Submission { image: Some(image.parse()?), command, ..Submission::default() };
    let job = submit(client, request).await?;
    let view = ended(client, &job, LIMIT).await?;
    let (stdout, stderr) = (OutputFile::Stdout, OutputFile::Stderr);
    let said = (output(client, &job, stdout).await?, output(client, &job, stderr).await?);
    ensure!(view.rc == "0" && said == ("open sesame\n".into(), String::new()), "{view:?}\n{said:?}");
    Ok(())
}

/// Resumes the job once it has suspended itself.
async fn resume(client: &Client, job: &JobId) -> Result<()> {
    wait_for("the job to suspend itself", LIMIT, async || {
        let view = client.job_get(job).await?;
        ensure!(!view.status.is_final(), "{view:?}");
        Ok((view.status == JobStatus::Suspended).then_some(()))
    })
    .await?;
    client.job_resume(job).await?;
    Ok(())
}

async fn script(client: &Client, other: &JobId) -> Result<(JobView, String)> {
    let env = [("OTHER", other.as_str())].into();
    let request =
        Submission { image: Some("dir:/".parse()?), script: Some(SCRIPT.into()), env, ..Submission::default() };
    let job = submit(client, request).await?;
    executing(client, &job, LIMIT).await?;
    resume(client, &job).await.context(output(client, &job, OutputFile::Stdout).await.unwrap_or_default())?;
    let text = wait_for("the job's token", LIMIT, async || {
        let text = output(client, &job, OutputFile::Stdout).await?;
        Ok(text.lines().any(|line| line.starts_with("token ")).then_some(text))
    })
    .await?;
    let (said, token) = text.split_once("token ").context("a token")?;
    let expected = format!("id {job}\nuser admin\nsecret open sesame\nmoves 1\nstatus Executing\nid {job}\n");
    ensure!(said == expected, "{said}");
    let view = client.job_get(&job).await?;
    let moved = view.migrations.iter().filter(|migration| migration.outcome == Outcome::Succeeded).count();
    ensure!(moved >= 1, "{:?}", view.migrations);
    Ok((view, token.trim().to_owned()))
}

fn refused(answer: Result<impl std::fmt::Debug, ClientError>, code: ErrorCode) -> Result<()> {
    let error = answer.err().context("it is allowed")?;
    ensure!(error.code() == Some(code), "{error}");
    Ok(())
}

#[test]
fn job_uses_float_without_a_login() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let image = write_image(&world.files()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        client.secret_set("github", &SecretSetRequest { value: "open sesame".into() }).await?;
        empty_image(&client, &image).await?;
        let command = vec!["sleep".to_owned(), "3600".to_owned()];
        let other =
            submit(&client, Submission { image: Some("dir:/".parse()?), command, ..Submission::default() }).await?;
        executing(&client, &other, LIMIT).await?;
        let (view, token) = script(&client, &other).await?;

        // The token permits no more from elsewhere than in the job.
        let stolen = client.clone().with_token(&token);
        ensure!(stolen.job_get(&view.id).await?.id == view.id);
        refused(stolen.job_get(&other).await, ErrorCode::PermissionDenied)?;
        refused(stolen.job_list().await, ErrorCode::PermissionDenied)?;
        let proof = token.split_once('.').context("a proof")?.1;
        let forged = client.clone().with_token(format!("{other}.{proof}"));
        refused(forged.job_get(&other).await, ErrorCode::Unauthenticated)?;
        // It ends with the job.
        stolen.job_cancel(&view.id).await?;
        ended(&client, &view.id, LIMIT).await?;
        refused(stolen.job_get(&view.id).await, ErrorCode::Unauthenticated)?;
        shown_nowhere(&client, &view.id, proof).await
    });
    outcome.unwrap();
}

/// Checks that OpCenter tells nobody the token of a job.
async fn shown_nowhere(client: &Client, job: &JobId, proof: &str) -> Result<()> {
    let view: Value = serde_json::to_value(client.job_get(job).await?)?;
    let events = serde_json::to_value(client.job_events(job).await?)?;
    ensure!(!view.to_string().contains(proof) && !events.to_string().contains(proof), "{view}");
    Ok(())
}
