//! Reconstructs the `SubmitRequest`, and the command line of `float submit`, that would recreate a
//! job.

use mooring_api::view::SubmitRequest;
use mooring_store::JobRow;
use mooring_types::duration::format_duration;
use mooring_types::policy::{DumpMode, Egress, JobPolicy, Moves, Rerun};

/// Returns the request that recreates a job without its template.
pub(crate) fn of_job(job: &JobRow, security_groups: &[String]) -> SubmitRequest {
    let (spec, policy, usual) = (&job.spec, &job.policy, JobPolicy::default());
    let size = job.size_asked_for();
    SubmitRequest {
        name: spec.name.to_string(),
        template: String::new(),
        image: spec.image.to_string(),
        command: spec.command.clone(),
        script: spec.script.clone().unwrap_or_default(),
        env: spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        working_dir: spec.working_dir.to_str().unwrap_or_default().to_owned(),
        cpu: Some(size.cpu),
        cpu_max: policy.cpu_max,
        mem_gb: Some(size.mem_gb),
        mem_gb_max: policy.mem_gb_max,
        with_root: spec.with_root,
        data_volumes: spec.volumes.iter().map(ToString::to_string).collect(),
        publish: spec.publish.iter().map(ToString::to_string).collect(),
        gateway: job.requested_gateway.as_ref().map(ToString::to_string).unwrap_or_default(),
        target_ports: job.target_ports.clone(),
        host: job.requested_host.as_ref().map(ToString::to_string).unwrap_or_default(),
        security_groups: security_groups.to_vec(),
        vm_policy: unless_usual(policy.vm_policy, usual.vm_policy),
        migrate_policy: unless_usual(policy.migrate_policy, usual.migrate_policy),
        time_limit: policy.time_limit.map(format_duration).unwrap_or_default(),
        idle: policy.idle.map(|idle| format_duration(idle.after)).unwrap_or_default(),
        resume_on_connect: policy.resume_on_connect,
        snapshot_interval: policy.snapshot_interval.map(format_duration).unwrap_or_default(),
        dump_mode: if policy.dump_mode == DumpMode::Full { "full".into() } else { String::new() },
        egress: if policy.egress == Egress::Gateway { "gateway".into() } else { String::new() },
        custom_tags: policy.custom_tags.clone(),
        disable_rerun: policy.rerun == Rerun::Disabled,
        disable_migrate: policy.moves == Moves::Disabled,
    }
}

fn unless_usual<T: PartialEq + ToString>(policy: T, usual: T) -> String {
    if policy == usual { String::new() } else { policy.to_string() }
}

/// Returns the arguments of `float submit` for a request, quoted for a shell. The job script is
/// expected on stdin.
pub(crate) fn arguments(request: &SubmitRequest) -> String {
    let mut words = Words::default();
    words.text("-i", &request.image);
    words.text("-n", &request.name);
    words.size("-c", request.cpu, request.cpu_max);
    words.size("-m", request.mem_gb, request.mem_gb_max);
    words.each("-e", &request.env);
    words.text("--workDir", &request.working_dir);
    words.on("--withRoot", request.with_root);
    words.each("--dataVolume", &request.data_volumes);
    words.each("--publish", &request.publish);
    words.each("--securityGroup", &request.security_groups);
    words.text("--gateway", &request.gateway);
    words.each("--targetPort", &request.target_ports);
    words.text("--host", &request.host);
    words.text("--vmPolicy", &request.vm_policy);
    words.text("--migratePolicy", &request.migrate_policy);
    words.text("--timeLimit", &request.time_limit);
    words.text("--idle", &request.idle);
    words.on("--resumeOnConnect", request.resume_on_connect);
    words.text("--snapshotInterval", &request.snapshot_interval);
    words.text("--dumpMode", &request.dump_mode);
    words.text("--egress", &request.egress);
    words.each("--customTag", request.custom_tags.iter().map(|(key, value)| format!("{key}:{value}")));
    words.on("--disableRerun", request.disable_rerun);
    words.on("--disableMigrate", request.disable_migrate);
    words.text("--job", if request.script.is_empty() { "" } else { "-" });
    if !request.command.is_empty() {
        words.0.push("--".into());
        words.0.extend(request.command.iter().cloned());
    }
    // A word with a NUL can be neither quoted nor given to a program.
    let quoted = words.0.iter().map(|word| shlex::try_quote(word).unwrap_or_default());
    quoted.collect::<Vec<_>>().join(" ")
}

#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn text(&mut self, flag: &str, value: &str) {
        if !value.is_empty() {
            self.0.extend([flag.to_owned(), value.to_owned()]);
        }
    }

    fn each<T: ToString>(&mut self, flag: &str, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.0.extend([flag.to_owned(), value.to_string()]);
        }
    }

    fn size<T: ToString>(&mut self, flag: &str, least: Option<T>, most: Option<T>) {
        let size = match (least, most) {
            (Some(least), Some(most)) => format!("{}:{}", least.to_string(), most.to_string()),
            (Some(least), None) => least.to_string(),
            (None, _) => return,
        };
        self.text(flag, &size);
    }

    fn on(&mut self, flag: &str, is: bool) {
        if is {
            self.0.push(flag.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_given_to_a_shell() {
        let request = SubmitRequest {
            image: "dir:/".into(),
            name: "web".into(),
            cpu: Some(2),
            cpu_max: Some(4),
            mem_gb: Some(0.5),
            env: vec!["GREETING=it's me".into()],
            vm_policy: "[onDemand=true]".into(),
            custom_tags: [("project".to_owned(), "x".to_owned())].into(),
            target_ports: vec![80],
            disable_rerun: true,
            command: vec!["sh".into(), "-c".into(), "echo $GREETING".into()],
            ..SubmitRequest::default()
        };
        let text = arguments(&request);
        let words = shlex::split(&text).unwrap();
        let wanted = "-i|dir:/|-n|web|-c|2:4|-m|0.5|-e|GREETING=it's me|--targetPort|80|--vmPolicy|[onDemand=true]|\
                      --customTag|project:x|--disableRerun|--|sh|-c|echo $GREETING";
        assert_eq!(words.join("|"), wanted);
    }
}
