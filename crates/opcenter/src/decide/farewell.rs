//! Farewells: what a gateway port says after its job has ended, and for how long.

use std::time::Duration;

use mooring_api::watch::FarewellDirective;
use mooring_store::{FarewellRow, GatewayRow};
use mooring_types::Timestamp;

/// The duration of a farewell: enough for people who left a page open. A new connection may take
/// the port at any time.
const FAREWELL_DURATION: Duration = Duration::from_secs(600);

/// Returns whether a farewell has lasted long enough.
pub(crate) fn is_said(row: &FarewellRow, now: Timestamp) -> bool {
    // A clock that was set back counts as no time.
    Duration::try_from(now.duration_since(row.end_time)).is_ok_and(|since| since >= FAREWELL_DURATION)
}

/// Returns the farewells of a gateway. A port outside its range may belong to another gateway now.
pub(crate) fn of_gateway(all: &[FarewellRow], gateway: &GatewayRow) -> Vec<FarewellDirective> {
    let is_own = |row: &&FarewellRow| row.gateway == gateway.id && gateway.spec.port_range.contains(row.gateway_port);
    all.iter().filter(is_own).map(directive).collect()
}

fn directive(row: &FarewellRow) -> FarewellDirective {
    FarewellDirective {
        connection: row.connection.clone(),
        job: row.job.clone(),
        job_name: row.job_name.clone(),
        job_status: row.job_status,
        status_reason: row.status_reason.clone(),
        exit_code: row.exit_code,
        end_time: row.end_time,
        gateway_port: row.gateway_port,
        protocol: row.protocol,
        widget: row.widget,
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::gateway::{Exposure, GatewaySpec, Protocol, Tls, Widget};
    use mooring_types::host::Resources;
    use mooring_types::job::JobStatus;
    use mooring_types::{ConnectionId, GatewayId, HostId, JobId, Port};

    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn row(gateway: &GatewayId, port: u16) -> FarewellRow {
        FarewellRow {
            connection: ConnectionId::random(&mut rand::rng()),
            gateway: gateway.clone(),
            gateway_port: Port::new(port).unwrap(),
            protocol: Protocol::Auto,
            widget: Widget::Shown,
            job: JobId::random(&mut rand::rng()),
            job_name: "lab".parse().unwrap(),
            job_status: JobStatus::FailToComplete,
            status_reason: "it ended with exit code 3".into(),
            exit_code: Some(3),
            end_time: at("12:00:00"),
        }
    }

    #[test]
    fn farewell_lasts_ten_minutes() {
        let row = row(&GatewayId::random(&mut rand::rng()), 10000);
        for (now, farewells) in [("12:00:00", false), ("12:09:59", false), ("12:10:00", true), ("11:00:00", false)] {
            assert_eq!(is_said(&row, at(now)), farewells, "{now}");
        }
    }

    #[test]
    fn farewells_stay_within_the_port_range() {
        let gateway = GatewayRow {
            id: GatewayId::random(&mut rand::rng()),
            spec: GatewaySpec {
                name: "lab".parse().unwrap(),
                resources: Resources { cpu: 1, mem_gb: 1.0 },
                port_range: "10000:10004".parse().unwrap(),
                exposure: Exposure::Public,
                tls: Tls::default(),
                trusted_proxies: Vec::new(),
                external_url: None,
                security_groups: Vec::new(),
            },
            host: HostId::random(&mut rand::rng()),
            public_key: None,
            create_time: at("00:00:00"),
            restart: 0,
            user_name: "admin".into(),
        };
        let other = GatewayId::random(&mut rand::rng());
        let all = [row(&gateway.id, 10004), row(&gateway.id, 10005), row(&other, 10003)];
        let farewells = of_gateway(&all, &gateway);
        assert_eq!(farewells.iter().map(|farewells| farewells.gateway_port.get()).collect::<Vec<_>>(), [10004]);
        assert_eq!(
            (farewells[0].exit_code, farewells[0].status_reason.as_str()),
            (Some(3), "it ended with exit code 3")
        );
    }
}
