//! Secrets.

use reqwest::Method;

use super::{Answer, Client};
use crate::paths::{self, fill};
use crate::view::{SecretSetRequest, SecretValue, SecretView};

impl Client {
    /// Sets one of the caller's secrets.
    pub async fn secret_set(&self, name: &str, request: &SecretSetRequest) -> Answer<SecretView> {
        self.json(Method::PUT, &fill(paths::SECRET, &[name]), Some(request)).await
    }

    /// One of the caller's secrets, with its value.
    pub async fn secret_get(&self, name: &str) -> Answer<SecretValue> {
        self.json(Method::GET, &fill(paths::SECRET, &[name]), None::<&()>).await
    }

    /// The caller's secrets.
    pub async fn secret_list(&self) -> Answer<Vec<SecretView>> {
        self.json(Method::GET, paths::SECRETS, None::<&()>).await
    }

    /// Removes one of the caller's secrets.
    pub async fn secret_unset(&self, name: &str) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::SECRET, &[name]), None::<&()>).await
    }
}
