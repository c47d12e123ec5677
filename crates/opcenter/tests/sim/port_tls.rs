//! TLS on gateway ports: what a gateway is told, the authority's certificate for it, and those of
//! users.

use std::time::Duration;

use mooring_api::ErrorCode::{InvalidArgument, NotFound, PermissionDenied, WrongStatus};
use mooring_api::Submission;
use mooring_api::view::{
    AuditQuery, ConnectRequest, GatewayCertificateRequest, GatewayCreateRequest, GatewayModifyRequest,
};
use mooring_tls::{PortCertificate, PortRequest};
use mooring_types::gateway::Tls;
use mooring_types::{Clock, SystemClock};
use rcgen::{CertificateParams, KeyPair};

use crate::lab::{Lab, refused};

/// A user's certificate for some names; its life ends after some days, which may be over.
fn made(names: &[&str], days: i64) -> GatewayCertificateRequest {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let now = std::time::SystemTime::from(SystemClock.now());
    let day = Duration::from_secs(24 * 3600);
    params.not_before = (now - 30 * day).into();
    let end = if days < 0 { now - day * days.unsigned_abs() as u32 } else { now + day * days as u32 };
    params.not_after = end.into();
    let certificate = params.self_signed(&key).unwrap();
    GatewayCertificateRequest { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn tls(tls: Tls) -> GatewayModifyRequest {
    GatewayModifyRequest { tls: Some(tls), ..GatewayModifyRequest::default() }
}

#[tokio::test]
async fn gateway_gets_the_authority_s_certificate_for_its_own_names() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let publish = vec!["8888".parse().unwrap()];
    let job = lab.job_on("host-1", Submission { publish, ..Submission::default() }).await;
    lab.admin.gateway_connect(&id.clone().into(), &ConnectRequest::new(job.clone())).await.unwrap();
    lab.settle().await;
    let request = PortRequest::generate().unwrap();
    let asked = request.pem().unwrap();
    assert!(lab.gateway(&id).slice().unwrap().tls.is_none());
    refused(lab.gateway(&id).ask_for_port_certificate(&asked).await, WrongStatus, "plain");
    assert!(lab.view(&job).await.access_urls[0].starts_with("http://"));

    let view = lab.admin.gateway_modify(&id.clone().into(), &tls(Tls::On)).await.unwrap();
    assert_eq!((view.tls, view.certificates.len()), (Tls::On, 0));
    lab.settle().await;
    let names = lab.gateway(&id).slice().unwrap().tls.clone().unwrap().names;
    let host = view.host_name.clone();
    assert_eq!(names, [view.address.clone(), host]);
    let url = lab.view(&job).await.access_urls[0].clone();
    assert!(url.starts_with(&format!("https://{}:", view.address)), "{url}");
    assert_eq!(lab.admin.gateway_get(&id.clone().into()).await.unwrap().connections[0].access_url, url);

    let text = request.with_certificate(&lab.gateway(&id).ask_for_port_certificate(&asked).await.unwrap());
    let certificate = PortCertificate::read(&text, &text).unwrap();
    assert_eq!(certificate.names(), names);
    assert!(certificate.check(SystemClock.now()).is_ok() && !certificate.is_due(&names, SystemClock.now()));
    refused(lab.gateway(&id).ask_for_port_certificate("no request").await, InvalidArgument, "request");

    lab.admin.gateway_modify(&id.clone().into(), &tls(Tls::Off)).await.unwrap();
    lab.settle().await;
    assert!(lab.gateway(&id).slice().unwrap().tls.is_none());
}

#[tokio::test]
async fn certificate_of_a_user_is_told_to_its_gateway_alone() {
    let mut lab = Lab::start().await;
    let mut ids = Vec::new();
    for (name, port_range) in [("one", "10000:10010"), ("two", "11000:11010")] {
        let request = GatewayCreateRequest {
            name: name.into(),
            port_range: port_range.into(),
            tls: Tls::On,
            ..GatewayCreateRequest::default()
        };
        ids.push(lab.admin.gateway_create(&request).await.unwrap().id);
    }
    let [one, two] = <[_; 2]>::try_from(ids).unwrap();
    let (first, second) = (made(&["lab.example.org", "192.0.2.1"], 30), made(&["*.example.org"], 30));
    for request in [&first, &second] {
        lab.admin.gateway_certificate_set(&one.clone().into(), request).await.unwrap();
    }
    lab.settle().await;
    let told = |lab: &mut Lab, id| lab.gateway(id).slice().unwrap().tls.clone().unwrap().certificates;
    let keys = |lab: &mut Lab, id| told(lab, id).into_iter().map(|one| one.key).collect::<Vec<_>>();
    assert_eq!(keys(&mut lab, &one), [second.key.clone(), first.key.clone()]);
    assert!(told(&mut lab, &two).is_empty());
    // Its host is told nothing of it, and no view has the key.
    let slice = format!("{:?}", lab.gateway(&one).slice());
    let view = lab.admin.gateway_get(&one.clone().into()).await.unwrap();
    for text in [slice, format!("{view:?}"), format!("{first:?}")] {
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
    assert_eq!(view.certificates[1].names, ["lab.example.org", "192.0.2.1"]);
    // Nor has the database.
    let database = std::fs::read(lab.state_dir().join("opcenter.db")).unwrap();
    let line = first.key.lines().nth(1).unwrap().as_bytes();
    assert!(!database.windows(line.len()).any(|part| part == line));

    // One with the same first name replaces it.
    let renewed = made(&["lab.example.org"], 60);
    lab.admin.gateway_certificate_set(&one.clone().into(), &renewed).await.unwrap();
    lab.restart_opcenter().await;
    lab.settle().await;
    assert_eq!(keys(&mut lab, &one), [second.key.clone(), renewed.key]);
    lab.admin.gateway_certificate_remove(&one.clone().into(), "LAB.example.org").await.unwrap();
    lab.settle().await;
    assert_eq!(keys(&mut lab, &one), [second.key]);
    refused(
        lab.admin.gateway_certificate_remove(&one.clone().into(), "lab.example.org").await,
        NotFound,
        "no certificate whose first name",
    );
    let query = AuditQuery { action: Some("gateway".into()), ..AuditQuery::default() };
    let audit = format!("{:?}", lab.admin.audit_list(&query).await.unwrap());
    assert!(audit.contains("gateway.setCertificate") && audit.contains("gateway.removeCertificate"), "{audit}");
    assert!(!audit.contains("PRIVATE KEY"), "{audit}");
}

#[tokio::test]
async fn unusable_certificates_are_refused_in_words() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let good = made(&["lab.example.org"], 30);
    let with =
        |certificate: &str, key: &str| GatewayCertificateRequest { certificate: certificate.into(), key: key.into() };
    for (request, expected) in [
        (with(&good.certificate, &made(&["lab.example.org"], 30).key), "does not fit"),
        (made(&["lab.example.org"], -1), "has expired"),
        (with("words", &good.key), "not PEM"),
        (with(&good.certificate, "words"), "the key is not PEM"),
        (with(&good.certificate, &"x".repeat(70_000)), "at most"),
        (made(&[], 30), "has no names"),
    ] {
        refused(lab.admin.gateway_certificate_set(&id.clone().into(), &request).await, InvalidArgument, expected);
    }
    let alice = lab.user("alice").await;
    refused(alice.gateway_certificate_set(&id.clone().into(), &good).await, PermissionDenied, "belongs to");
    assert!(lab.admin.gateway_get(&id.into()).await.unwrap().certificates.is_empty());
}
