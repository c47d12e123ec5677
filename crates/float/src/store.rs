//! The options for the capsule store, shared by `float server opcenter` and `float up`.

use mooring_api::watch::StoreAccess;

/// The options for the capsule store.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StoreArgs {
    /// capsule store: dir:/path, shared by all hosts, or s3://bucket/prefix with AWS_ACCESS_KEY_ID
    /// and AWS_SECRET_ACCESS_KEY in the environment
    #[arg(long, value_name = "LOCATION")]
    pub(crate) capsule_store: Option<String>,
    /// URL of an S3-compatible server [default: Amazon S3]
    #[arg(long, value_name = "URL")]
    pub(crate) capsule_store_endpoint: Option<String>,
    /// region of the S3 server
    #[arg(long, value_name = "REGION")]
    pub(crate) capsule_store_region: Option<String>,
}

impl StoreArgs {
    /// The access to the capsule store for OpCenter.
    pub(crate) fn access(self) -> anyhow::Result<Option<StoreAccess>> {
        let Some(location) = self.capsule_store else { return Ok(None) };
        let location = location.parse::<mooring_capsule::Location>()?.to_string();
        let in_bucket = location.starts_with("s3:");
        let given = |text: Option<String>| text.filter(|_| in_bucket).unwrap_or_default();
        // Not as arguments: every process list shows those.
        let key = |name: &str| given(std::env::var(name).ok());
        Ok(Some(StoreAccess {
            location,
            endpoint: given(self.capsule_store_endpoint),
            region: given(self.capsule_store_region),
            access_key: key("AWS_ACCESS_KEY_ID"),
            secret_key: key("AWS_SECRET_ACCESS_KEY"),
            key: String::new(),
        }))
    }
}
