//! Keys of OpCenter.

use reqwest::Method;

use super::{Answer, Client};
use crate::paths;
use crate::view::KeyView;

impl Client {
    /// Lists the keys of OpCenter.
    pub async fn key_list(&self) -> Answer<Vec<KeyView>> {
        self.json(Method::GET, paths::KEYS, None::<&()>).await
    }

    /// Replaces the key that seals secrets and capsule keys.
    pub async fn key_rotate(&self) -> Answer<KeyView> {
        self.json(Method::POST, paths::KEYS_ROTATE, None::<&()>).await
    }
}
