//! Security groups, as users read them.

use mooring_api::view::SecurityGroupView;
use mooring_store::{GatewayRow, JobRow, SecurityGroupRow};
use mooring_types::SecurityGroupId;

use super::Views;
use crate::auth::User;

impl Views {
    /// Returns all security groups, each with the gateways and jobs that have it.
    pub(crate) fn security_groups(&self, user: &User) -> Vec<SecurityGroupView> {
        self.state.security_groups.iter().map(|group| self.security_group(user, group)).collect()
    }

    /// Returns a security group with the gateways and jobs that have it.
    pub(crate) fn security_group(&self, user: &User, group: &SecurityGroupRow) -> SecurityGroupView {
        SecurityGroupView {
            id: group.id.clone(),
            name: group.spec.name.to_string(),
            description: group.spec.description.clone(),
            rules: group.spec.rules.iter().map(ToString::to_string).collect(),
            user: group.user_name.clone(),
            create_time: group.create_time,
            used_by: members(user, &group.id, &self.state.gateways, self.state.jobs.values()),
        }
    }
}

/// Names the gateways and running jobs that have a security group. Jobs that the user may not see
/// are only counted.
pub(crate) fn members<'a>(
    user: &User,
    group: &SecurityGroupId,
    gateways: &[GatewayRow],
    jobs: impl Iterator<Item = &'a JobRow>,
) -> Vec<String> {
    let gateways = gateways.iter().filter(|gateway| gateway.spec.security_groups.contains(group));
    let mut members: Vec<String> = gateways.map(|gateway| format!("gateway {}", gateway.spec.name)).collect();
    let jobs = jobs.filter(|job| !job.status.is_final() && job.security_groups.contains(group));
    let (own, others): (Vec<&JobRow>, Vec<&JobRow>) = jobs.partition(|job| user.may_see(&job.user_name));
    members.extend(own.iter().map(|job| format!("job {} ({})", job.spec.name, job.id)));
    if !others.is_empty() {
        members.push(format!("jobs of other users ({})", others.len()));
    }
    members
}
