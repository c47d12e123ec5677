//! The views for users and Prometheus, made from desired and observed state.

pub(crate) mod finding;
mod gateway;
pub(crate) mod host;
pub(crate) mod job;
pub(crate) mod job_list;
mod known;
pub(crate) mod masked;
pub(crate) mod metrics;
pub(crate) mod request;
pub(crate) mod security_group;
pub(crate) mod status;
pub(crate) mod usage;

use std::sync::Arc;

use mooring_store::{JobRow, Tx};
use mooring_types::{Clock, GatewayId, Name, SecurityGroupId, Timestamp};

use crate::config::Config;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::state::db_state::DbState;
use crate::state::moment::Moment;
use crate::state::observed::Observed;

/// Makes the views of one moment. Each noun has its own file.
pub(crate) struct Views {
    state: Arc<DbState>,
    observed: Arc<Observed>,
    config: Arc<Config>,
    now: Timestamp,
}

impl Views {
    /// Reads all state.
    pub(crate) async fn read(context: &Context, tx: &mut Tx) -> ApiResult<Self> {
        let observed = context.observed().clone();
        let state = DbState::read(tx, &observed).await?;
        Ok(Self::new(context, state.into(), observed.into(), context.clock.now()))
    }

    fn new(context: &Context, state: Arc<DbState>, observed: Arc<Observed>, now: Timestamp) -> Self {
        Self { state, observed, config: context.config.clone(), now }
    }

    /// Returns the state of the last moment where no request has changed it since, and reads all
    /// state otherwise.
    pub(crate) async fn latest(context: &Context, tx: &mut Tx) -> ApiResult<Self> {
        match context.last_moment() {
            Some(Moment { state, observed, .. }) => Ok(Self::new(context, state, observed, context.clock.now())),
            None => Self::read(context, tx).await,
        }
    }

    /// Returns the present reports, with the state as [`Views::latest`] has it.
    pub(crate) async fn present(context: &Context) -> ApiResult<Self> {
        match context.last_moment() {
            Some(Moment { state, .. }) => {
                let observed = context.observed().clone();
                Ok(Self::new(context, state, observed.into(), context.clock.now()))
            }
            None => Self::read(context, &mut context.store.begin_read().await?).await,
        }
    }

    /// Makes views of the state that a pass of the reconciler ended with.
    pub(crate) fn of(context: &Context, moment: Moment) -> Self {
        let Moment { state, observed, now } = moment;
        Self::new(context, state, observed, now)
    }

    /// Reads the state that concerns one job.
    async fn read_for_job(context: &Context, tx: &mut Tx, job: &JobRow) -> ApiResult<Self> {
        let state = DbState::read_for_job(tx, job).await?;
        let observed = context.observed().clone();
        Ok(Self::new(context, state.into(), observed.into(), context.clock.now()))
    }

    /// Returns the desired state that the views are made from.
    pub(crate) fn state(&self) -> &DbState {
        &self.state
    }

    pub(crate) fn gateway_address(&self, id: &GatewayId) -> Option<String> {
        let gateway = self.state.gateways.iter().find(|gateway| gateway.id == *id)?;
        let address = self.state.gateway_address(&gateway.host, gateway.spec.exposure)?;
        Some(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
    }

    fn group_names(&self, ids: &[SecurityGroupId]) -> Vec<Name> {
        let known = ids.iter().filter_map(|id| self.state.security_groups.iter().find(|group| group.id == *id));
        known.map(|group| group.spec.name.clone()).collect()
    }
}

fn texts(names: &[Name]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Returns a URL without its query, which may hold a token.
fn without_query(url: &str) -> String {
    url.split_once('?').map_or(url, |(before, _)| before).to_owned()
}
