//! A job's address on one host, reached from another one, held and released.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use mooring_linux::job_net::{JobNet, sysctl};
use mooring_linux::nft::Interfaces;
use mooring_linux::{ip, netns, nft};

const JOB: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);

/// Runs an asynchronous part of the test inside a namespace.
fn inside<T: Send>(namespace: &Path, work: impl AsyncFnOnce() -> T + Send) -> T {
    let run =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work());
    netns::run_in(namespace, run).expect("the namespace can be entered")
}

#[test]
fn a_job_is_reached_over_its_route_and_not_while_held() {
    let world = tempfile::tempdir().unwrap();
    let [host, job] = ["host", "job"].map(|name| world.path().join(name));
    netns::create(&host).unwrap();
    assert!(netns::exists(&host));
    let net = JobNet { namespace: job.clone(), host_interface: "mrjob0".into(), address: JOB, mtu: 1450 };
    inside(&host, async || {
        sysctl("net/ipv4/ip_forward", "1").unwrap();
        let jobs = Interfaces { prefix: "mrj".into(), present: vec![("mrjob0".into(), JOB)] };
        nft::install("mooring", "100.64.0.0/10", &jobs).await.unwrap();
        nft::install("mooring", "100.64.0.0/10", &jobs).await.unwrap();
        ip::batch(None, &["address add 198.18.0.1/24 dev lo".into()]).await.unwrap();
        net.setup().await.unwrap();
        net.setup().await.unwrap();
        net.route_here().await.unwrap();
    });
    let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
    let settings = || ["tcp_max_tw_buckets", "tcp_max_syn_backlog"].map(setting);
    assert_eq!(netns::run_in(&job, settings).unwrap(), netns::run_in(&host, settings).unwrap());
    let entries = netns::run_in(&job, || setting("tcp_ehash_entries")).unwrap();
    assert_eq!(entries.trim(), "16384", "the job has its own table");
    assert_eq!(netns::run_in(&host, || setting("tcp_child_ehash_entries")).unwrap().trim(), "0");

    let listener = netns::run_in(&job, || TcpListener::bind((JOB, 7)).unwrap()).unwrap();
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((JOB, 7)), Duration::from_millis(300));
    let mut client = netns::run_in(&host, connect).unwrap().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    let mut buffer = [0; 4];
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ping");

    inside(&host, async || nft::hold("mooring", JOB).unwrap());
    assert!(netns::run_in(&host, connect).unwrap().is_err());
    client.write_all(b"held").unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(server.read_exact(&mut buffer).is_err());

    inside(&host, async || {
        nft::release("mooring", JOB).unwrap();
        nft::release("mooring", JOB).unwrap();
    });
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"held");

    inside(&host, async || net.teardown().await.unwrap());
    assert!(!netns::exists(&job));
    netns::delete(&host).unwrap();
    netns::delete(&host).unwrap();
}
