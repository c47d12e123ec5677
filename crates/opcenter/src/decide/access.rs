//! The users whom a connection with a login lets in: a pure function of desired state.
//!
//! A gateway lets a browser in by the hash of its token. So what a user loses, by a role, a group
//! or a session, is gone with the next slice.

use mooring_store::{ConnectionRow, MembershipRow, VisitRow};
use mooring_types::Role;
use mooring_types::gateway::Access;

use crate::state::db_state::DbState;

/// A user at the door of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: Role,
}

/// Returns whether a connection to a job of `owner` lets a user in.
pub(crate) fn admits(
    connection: &ConnectionRow,
    owner: &str,
    caller: Caller<'_>,
    memberships: &[MembershipRow],
) -> bool {
    let is_mate = || {
        let owners = memberships.iter().filter(|row| row.user_name == owner);
        let mut own = memberships.iter().filter(|row| row.user_name == caller.name);
        own.any(|own| owners.clone().any(|other| other.group == own.group))
    };
    let is_known = caller.role == Role::Admin
        || caller.name == owner
        || connection.shares.iter().any(|shared| shared == caller.name);
    match connection.access {
        Access::Open => true,
        Access::Private | Access::Link => is_known,
        Access::Group => is_known || is_mate(),
    }
}

/// Returns the hashes of the tokens with which a gateway lets browsers in, sorted.
pub(crate) fn visits(state: &DbState, connection: &ConnectionRow, owner: &str) -> Vec<String> {
    let is_admitted = |visit: &&VisitRow| {
        let caller = Caller { name: &visit.user_name, role: visit.role };
        visit.connection == connection.id && admits(connection, owner, caller, &state.memberships)
    };
    let of_users = state.visits.iter().filter(is_admitted).map(|visit| visit.token_hash.clone());
    let mut all: Vec<String> = of_users.chain(connection.link_hash.clone()).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use mooring_store::MembershipBy;
    use mooring_types::gateway::{Cookies, HoldLimits, Protocol, Widget};
    use mooring_types::{ConnectionId, GatewayId, JobId, Port, UserId};

    use super::*;

    #[test]
    fn access_says_who_is_let_in() {
        let connection = |access| ConnectionRow {
            opened: true,
            id: ConnectionId::random(&mut rand::rng()),
            gateway: GatewayId::random(&mut rand::rng()),
            job: JobId::random(&mut rand::rng()),
            target_port: Port::MAX,
            gateway_port: Port::MAX,
            protocol: Protocol::Auto,
            hold_limits: HoldLimits::default(),
            wake_on: None,
            widget: Widget::Shown,
            cookies: Cookies::Own,
            access,
            shares: vec!["shared".into()],
            link_hash: None,
        };
        let member = |user: &str| MembershipRow {
            group: "lab".parse().unwrap(),
            user: UserId::random(&mut rand::rng()),
            user_name: user.into(),
            by: MembershipBy::Admin,
        };
        let memberships = [member("owner"), member("mate")];
        let callers = [
            ("owner", Role::User),
            ("root", Role::Admin),
            ("shared", Role::Viewer),
            ("mate", Role::Viewer),
            ("other", Role::User),
        ];
        let let_in = |access| {
            let connection = connection(access);
            callers.map(|(name, role)| admits(&connection, "owner", Caller { name, role }, &memberships))
        };
        assert_eq!(let_in(Access::Open), [true; 5]);
        assert_eq!(let_in(Access::Private), [true, true, true, false, false]);
        assert_eq!(let_in(Access::Group), [true, true, true, true, false]);
        assert_eq!(let_in(Access::Link), [true, true, true, false, false]);
    }
}
