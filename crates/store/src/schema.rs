//! The schema: the files of `migrations/`, each applied once, in the order of their versions.
//!
//! The files are listed here instead of being found by `sqlx::migrate!`. That macro has SQLite and
//! half of sqlx compiled a second time, for the compiler's use.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};

/// A file of `migrations/`.
struct File {
    version: i64,
    description: &'static str,
    statements: &'static str,
}

macro_rules! files {
    ($($version:literal $description:literal $name:literal),* $(,)?) => {
        [$(File {
            version: $version,
            description: $description,
            statements: include_str!(concat!("../migrations/", $name)),
        }),*]
    };
}

const FILES: &[File] = &files![
    1 "first" "0001_first.sql",
    2 "migration times" "0002_migration_times.sql",
    3 "external job" "0003_external_job.sql",
    4 "security groups" "0004_security_groups.sql",
    7 "gateway restart" "0007_gateway_restart.sql",
    8 "job policy" "0008_job_policy.sql",
    9 "users secrets templates" "0009_users_secrets_templates.sql",
    10 "capsules" "0010_capsules.sql",
    11 "usage" "0011_usage.sql",
    12 "drain" "0012_drain.sql",
    13 "image digest" "0013_image_digest.sql",
    14 "widget" "0014_widget.sql",
    15 "awaits host" "0015_awaits_host.sql",
    16 "farewell" "0016_farewell.sql",
    17 "capsule base" "0017_capsule_base.sql",
    18 "one language" "0018_one_language.sql",
    19 "host key" "0019_host_key.sql",
    20 "event data" "0020_event_data.sql",
    21 "job listing" "0021_job_listing.sql",
    22 "audit" "0022_audit.sql",
    23 "job listing by status" "0023_job_listing_by_status.sql",
    24 "capsule key" "0024_capsule_key.sql",
    25 "join tokens" "0025_join_tokens.sql",
    26 "gateway ports" "0026_gateway_ports.sql",
    27 "api tokens" "0027_api_tokens.sql",
    28 "quotas" "0028_quotas.sql",
    29 "public keys" "0029_public_keys.sql",
    30 "gateway certificates" "0030_gateway_certificates.sql",
    31 "session parent" "0031_session_parent.sql",
    32 "identities" "0032_identities.sql",
    33 "connection opened" "0033_connection_opened.sql",
    34 "wake" "0034_wake.sql",
    36 "awake limit" "0036_awake_limit.sql",
];

/// Returns what brings a database to this version's schema.
pub(crate) fn migrator() -> Migrator {
    let migration = |file: &File| {
        let File { version, description, statements } = *file;
        Migration::new(version, description.into(), MigrationType::Simple, statements.into(), false)
    };
    Migrator { migrations: Cow::Owned(FILES.iter().map(migration).collect()), ..Migrator::DEFAULT }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn every_migration_is_listed() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let found = Migrator::new(directory).await.unwrap();
        let fields = |migrator: &Migrator| {
            let of = |one: &Migration| (one.version, one.description.clone(), one.checksum.clone(), one.no_tx);
            migrator.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(fields(&migrator()), fields(&found));
    }
}
