//! The submission of an existing job: what makes the same job again.

use mooring_api::Submission;
use mooring_api::submission::{Environment, Tags};
use mooring_store::JobRow;
use mooring_types::gateway::WakeOn;
use mooring_types::policy::{DumpMode, Egress, IdlePolicy, JobPolicy, Moves, Rerun};
use mooring_types::{Name, Port, Reference};

/// Returns the submission that makes the same job without a template.
pub(crate) fn of_job(job: &JobRow, security_groups: &[Name]) -> Submission {
    let (spec, policy, default) = (&job.spec, &job.policy, JobPolicy::default());
    let size = job.size_asked_for();
    Submission {
        name: Some(spec.name.clone()),
        template: None,
        image: Some(spec.image.clone()),
        command: spec.command.clone(),
        script: spec.script.clone(),
        env: Environment(spec.env.clone()),
        working_dir: Some(spec.working_dir.clone()).filter(|path| !path.as_os_str().is_empty()),
        cpu: Some(size.cpu),
        cpu_max: policy.cpu_max,
        mem_gb: Some(size.mem_gb),
        mem_gb_max: policy.mem_gb_max,
        with_root: spec.with_root,
        data_volumes: spec.volumes.clone(),
        publish: spec.publish.clone(),
        gateway: job.requested_gateway.clone().map(Reference::Id),
        target_ports: job.target_ports.iter().filter_map(|port| Port::new(*port)).collect(),
        host: job.requested_host.clone(),
        security_groups: security_groups.iter().cloned().map(Reference::Name).collect(),
        vm_policy: Some(policy.vm_policy).filter(|policy| *policy != default.vm_policy),
        migrate_policy: Some(policy.migrate_policy).filter(|policy| *policy != default.migrate_policy),
        time_limit: policy.time_limit,
        idle: policy.idle.map(|idle| idle.after),
        awake_limit: policy.idle.map(|idle| idle.awake_limit).filter(|limit| *limit != IdlePolicy::AWAKE_LIMIT),
        resume_on_connect: policy.resume_on_connect,
        wake_on: Some(policy.wake_on).filter(|kind| *kind != WakeOn::default()),
        snapshot_interval: policy.snapshot_interval,
        dump_mode: Some(policy.dump_mode).filter(|mode| *mode != DumpMode::default()),
        egress: Some(policy.egress).filter(|egress| *egress != Egress::default()),
        custom_tags: Tags(policy.custom_tags.clone()),
        disable_rerun: policy.rerun == Rerun::Disabled,
        disable_migrate: policy.moves == Moves::Disabled,
    }
}
