//! API tokens.

use mooring_types::{ApiTokenId, Reference};
use reqwest::Method;

use super::{Answer, Client};
use crate::paths::{self, fill};
use crate::view::{ApiTokenAnswer, ApiTokenRequest, ApiTokenView};

impl Client {
    /// Makes an API token of the caller.
    pub async fn api_token_create(&self, request: &ApiTokenRequest) -> Answer<ApiTokenAnswer> {
        self.json(Method::POST, paths::API_TOKENS, Some(request)).await
    }

    /// All API tokens that the caller may see.
    pub async fn api_token_list(&self) -> Answer<Vec<ApiTokenView>> {
        self.json(Method::GET, paths::API_TOKENS, None::<&()>).await
    }

    /// Deletes an API token.
    pub async fn api_token_delete(&self, token: &Reference<ApiTokenId>) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::API_TOKEN, &[&token.to_string()]), None::<&()>).await
    }
}
