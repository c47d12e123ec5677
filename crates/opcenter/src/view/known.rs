//! The values that occur in the fields of jobs, for the completion of filters.

use std::collections::BTreeSet;

use mooring_store::JobRow;

use super::Views;
use crate::auth::User;

/// The most values of a key.
const KNOWN_MAX: usize = 100;

impl Views {
    /// Returns values of a filter's key, of the jobs that a user may see and that have not ended:
    /// users, hosts, images, names and tags. For `tag:KEY` it returns the keys of tags.
    pub(crate) fn known(&self, user: &User, key: &str) -> Vec<String> {
        if key == "host" {
            return self.state.hosts.iter().map(|host| host.name.to_string()).collect();
        }
        let jobs = self.state.jobs.values().filter(|job| user.may_see(&job.user_name));
        let found: BTreeSet<String> = match key {
            "user" => jobs.map(|job| job.user_name.clone()).collect(),
            "name" => jobs.map(|job| job.spec.name.to_string()).collect(),
            "image" => jobs.map(|job| job.spec.image.to_string()).collect(),
            "tag:KEY" => jobs.flat_map(|job| job.policy.custom_tags.keys().cloned()).collect(),
            key => match key.strip_prefix("tag:") {
                Some(tag) => jobs.filter_map(|job: &JobRow| job.policy.custom_tags.get(tag).cloned()).collect(),
                None => BTreeSet::new(),
            },
        };
        found.into_iter().take(KNOWN_MAX).collect()
    }
}
