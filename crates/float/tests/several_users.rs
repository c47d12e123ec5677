//! A job whose processes are several users', as those of RStudio Server are. It migrates where the
//! agent has CAP_SYS_RESOURCE; elsewhere it is refused, and the hosts say so beforehand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_linux::process::has_sys_resource;
use mooring_testkit::job::executing;
use mooring_testkit::oci::{self, Layout};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::host::{Capability, HostRole};
use mooring_types::job::JobStatus;
use mooring_types::migration::{Outcome, Phase};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// The image's users. The machine has none of these.
const USERS: &str = "root:x:0:0:root:/root:/bin/sh
rserver:x:4991:4991::/:/bin/sh
rstudio:x:4992:4992::/:/bin/sh
";
/// The processes, by the first word of their lines.
const WORKERS: [&str; 4] = ["root", "rserver", "rstudio", "bound"];
/// Starts the processes. Each tells its users, groups, capabilities and limits again and again.
const SCRIPT: &str = r#"
worker='ulimit -Sn 512
while :; do
  told=$(ulimit -Sn) hard=$(ulimit -Hn)
  while read -r name values; do
    case $name in Uid:|Gid:|Groups:|NoNewPrivs:|CapPrm:|CapEff:|CapBnd:) told="$told $name $values";; esac
  done </proc/$$/status
  echo "$0 $hard $told"
  /bin/sleep 0.1
done'
run=/usr/bin/setpriv
$run --reuid=4991 --regid=4991 --clear-groups /bin/sh -c "$worker" rserver &
$run --reuid=4992 --regid=4992 --groups=4991,4992 --no-new-privs /bin/sh -c "$worker" rstudio &
$run --reuid=4992 --regid=4992 --clear-groups --bounding-set=-all,+kill /bin/sh -c "ulimit -Hn 1024; $worker" bound &
exec /bin/sh -c "$worker" root
"#;

fn write_image(files: &Path) -> Result<String> {
    let root = files.join("root");
    oci::install(&root, &["/bin/sh", "/bin/sleep", "/usr/bin/setpriv"])?;
    // Where /bin is a link, programs are found by either name.
    if root.join("usr/bin").is_dir() && !root.join("bin").exists() {
        symlink("usr/bin", root.join("bin"))?;
    }
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/passwd"), USERS)?;
    let mut layout = Layout::new(files.join("layout"))?;
    layout.layer(&root)?;
    layout.finish(&json!({ "Entrypoint": ["/bin/sh", "-c", SCRIPT] }))?;
    Ok(format!("oci:{}", files.join("layout").display()))
}

/// Returns the line of each process, which has told the same all the time, once each has told more.
async fn told(client: &Client, job: &JobId) -> Result<Vec<String>> {
    let lines = async || -> Result<Vec<Vec<String>>> {
        let text = client.job_log(job, 0).await?.text;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let of = |worker: &str| whole.lines().filter(|line| line.starts_with(worker)).map(str::to_owned).collect();
        Ok(WORKERS.iter().map(|worker| of(&format!("{worker} "))).collect())
    };
    let before: Vec<usize> = lines().await?.iter().map(Vec::len).collect();
    let after = wait_for("each process to tell more", LIMIT, async || {
        let after = lines().await?;
        Ok(after.iter().zip(&before).all(|(lines, before)| lines.len() > before + 2).then_some(after))
    })
    .await?;
    after
        .iter()
        .map(|lines| {
            let first = lines.first().context("a line")?;
            let other = lines.iter().find(|line| *line != first);
            ensure!(other.is_none(), "\nfirst {first}\nthen  {}", other.map_or("", String::as_str));
            Ok(first.clone())
        })
        .collect()
}

async fn hosts_say_it(world: &World, client: &Client) -> Result<()> {
    let lacks = if has_sys_resource() { Vec::new() } else { vec![Capability::SysResource] };
    for host in client.host_list().await? {
        let wanted = if host.role == HostRole::Gateways { &[][..] } else { &lacks };
        ensure!(host.lacks == wanted, "{host:?}");
    }
    let ran = world.float(&["hosts", "-F", "json"])?;
    let printed: Value = serde_json::from_str(&ran.stdout)?;
    let first = printed.as_array().into_iter().flatten().find(|host| host["name"] == "host-1").context("host-1")?;
    let wanted = if has_sys_resource() { Value::Null } else { json!(["CAP_SYS_RESOURCE"]) };
    ensure!(first["lacks"] == wanted, "{first}");
    let ran = world.float(&["hosts", "-F", "table"])?;
    let note = "CAP_SYS_RESOURCE is lacking on host-1, host-2: jobs with processes of users other than root can't";
    ensure!(ran.code == Some(0) && ran.stderr.contains(note) != has_sys_resource(), "{ran:?}");
    Ok(())
}

#[test]
fn processes_of_several_users_migrate_or_are_refused() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let image = write_image(&world.files()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        hosts_say_it(&world, &client).await?;
        let request = Submission { image: Some(image.parse()?), ..Submission::default() };
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, LIMIT).await?;
        let before = told(&client, &job).await?;
        if !has_sys_resource() {
            let made = move_once(&client, &job).await?;
            let Outcome::Failed { phase: Phase::PreCopy, reason, .. } = &made.outcome else {
                anyhow::bail!("not refused before the freeze: {made:?}")
            };
            ensure!(made.pause_seconds == 0.0, "{made:?}");
            ensure!(reason.contains("(sh) runs as rserver, and the agent of host-"), "{reason}");
            ensure!(reason.contains("lacks CAP_SYS_RESOURCE: give it that"), "{reason}");
            ensure!(told(&client, &job).await? == before);
            return Ok(());
        }
        for _ in 0..3 {
            let made = move_once(&client, &job).await?;
            ensure!(made.outcome == Outcome::Succeeded, "{made:?}");
            ensure!(told(&client, &job).await? == before);
        }
        client.job_suspend(&job).await?;
        wait_for("the job to be suspended", LIMIT, async || {
            Ok((client.job_get(&job).await?.status == JobStatus::Suspended).then_some(()))
        })
        .await?;
        client.job_resume(&job).await?;
        executing(&client, &job, LIMIT).await?;
        ensure!(told(&client, &job).await? == before);
        Ok(())
    });
    outcome.unwrap();
}
