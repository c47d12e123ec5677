//! The ports of connections: a connection gets another port as long as another program holds the
//! one that it was given. Once the gateway has listened there, the port stays.

use std::collections::BTreeSet;

use mooring_api::watch::ConnectionObservation;
use mooring_store::{ConnectionRow, StoreError};
use mooring_types::{ConnectionId, Event, Port};

use super::Round;
use crate::state::db_state::DbState;

impl Round<'_> {
    /// Records which new ports their gateways listen at, and moves connections away from ports that
    /// other programs hold.
    pub(super) async fn settle_ports(&mut self, state: &DbState) -> Result<(), StoreError> {
        for connection in state.connections.iter().filter(|connection| !connection.opened) {
            let seen: Vec<ConnectionObservation> = self.observed.connection(connection).cloned().collect();
            if seen.iter().any(|seen| seen.problem.is_none()) {
                self.changed = true;
                self.tx.connection_opened(&connection.id).await?;
            } else if seen.iter().any(|seen| seen.is_port_taken) {
                self.leave_port(state, connection).await?;
            }
        }
        Ok(())
    }

    async fn leave_port(&mut self, state: &DbState, connection: &ConnectionRow) -> Result<(), StoreError> {
        let gateway = state.gateways.iter().find(|gateway| gateway.id == connection.gateway);
        let (Some(job), Some(gateway)) = (state.jobs.get(&connection.job), gateway) else { return Ok(()) };
        // A connection that was moved in this round is at its new port.
        let all = self.tx.connection_list().await?;
        let of_gateway = all.iter().filter(|other| other.gateway == gateway.id);
        let used: BTreeSet<Port> = of_gateway.map(|other| other.gateway_port).collect();
        // Ports below were tried before, or are somebody's.
        let free = gateway.spec.port_range.first_above(connection.gateway_port, &used);
        let (port, gateway) = (connection.gateway_port.get(), gateway.spec.name.to_string());
        let event = Event::PortTaken { gateway, port, instead: free.map(Port::get) };
        // A connection that stays is told of once, as the job's other ones are.
        if free.is_none() && self.tx.event_list(&job.id).await?.iter().any(|row| row.event == event) {
            return Ok(());
        }
        tracing::warn!(job = %job.id, "job {}: {event}", job.id);
        self.changed = true;
        self.tx.event_append(&job.id, &event, self.now).await?;
        if let Some(gateway_port) = free {
            // The gateway knows a port by its connection, so the connection is another one.
            self.tx.connection_delete(&connection.id).await?;
            let id = ConnectionId::random(&mut rand::rng());
            self.tx.connection_insert(&ConnectionRow { id, gateway_port, ..connection.clone() }).await?;
        }
        Ok(())
    }
}
