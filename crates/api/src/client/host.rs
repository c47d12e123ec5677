//! Hosts: removal, and tokens with which they join.

use mooring_types::{HostId, JoinTokenId, Reference};
use reqwest::Method;

use super::{Answer, Client};
use crate::paths::{self, fill};
use crate::view::{HostRemoval, JoinTokenAnswer, JoinTokenRequest, JoinTokenView};

impl Client {
    /// Removes a host.
    pub async fn host_remove(&self, host: &Reference<HostId>, removal: HostRemoval) -> Answer<()> {
        let query = if removal.lost { "?lost=true" } else { "" };
        self.nothing(Method::DELETE, &(fill(paths::HOST, &[&host.to_string()]) + query), None::<&()>).await
    }

    /// Makes a token with which one host may join.
    pub async fn join_token_create(&self, request: &JoinTokenRequest) -> Answer<JoinTokenAnswer> {
        self.json(Method::POST, paths::JOIN_TOKENS, Some(request)).await
    }

    /// Lists the tokens that have not been used.
    pub async fn join_token_list(&self) -> Answer<Vec<JoinTokenView>> {
        self.json(Method::GET, paths::JOIN_TOKENS, None::<&()>).await
    }

    /// Revokes a token.
    pub async fn join_token_delete(&self, id: &JoinTokenId) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::JOIN_TOKEN, &[id.as_str()]), None::<&()>).await
    }
}
