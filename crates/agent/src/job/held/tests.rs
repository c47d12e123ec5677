//! A state is on disk before it is entered, and a record that can't be written changes nothing.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mooring_capsule::{CapsuleKey, CapsuleStore, Location};
use mooring_ops::Lifecycle;
use mooring_tls::{Fingerprint, Trust};
use mooring_types::HostId;
use mooring_types::host::HostRole;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::super::policy::tests::directive;
use super::*;
use crate::capsules::Capsules;
use crate::config::Config;
use crate::lease::Lease;
use crate::migrate::criu::hooks::Hooks;
use crate::migrate::stream::frame::Hello;
use crate::migrate::stream::listener::MigrationListener;
use crate::migrate::stream::tls::{Identity, PeerHost};
use crate::network::filter::PacketFilter;
use crate::network::{HostNetwork, NetworkConfig};
use crate::runtime::container::Runtime;
use crate::runtime::image::{Bounds, Images, Limits};
use crate::tools::Tools;

const PROCESS: ProcessId = ProcessId { pid: 1, started: 1 };

fn config(state_dir: &Path) -> Config {
    Config {
        opcenter: String::new(),
        trust: Trust::System,
        join_token: String::new(),
        name: "host".parse().unwrap(),
        role: HostRole::Both,
        underlay: Ipv4Addr::LOCALHOST,
        public_address: Ipv4Addr::LOCALHOST.into(),
        migration_port: 0,
        state_dir: state_dir.to_owned(),
        device_prefix: "mt".into(),
        cgroup_parent: "mooring-test".into(),
        cores: None,
        mem_gb: None,
        float: "/bin/false".into(),
        tools: None,
        clock_offset_seconds: 0,
        park: false,
        insecure_registries: Vec::new(),
        image_limits: Limits { age: Duration::MAX, high: 100, low: 100 },
        image_bounds: Bounds { bytes: u64::MAX, files: u64::MAX, reserve: 0 },
        hidden: Vec::new(),
        job_ranges: Vec::new(),
        metrics_interval: Duration::from_secs(60),
        metadata: None,
        purchase: None,
    }
}

/// A host that has touched nothing of this machine but its state directory.
async fn host(state_dir: &Path) -> Arc<Host> {
    let (lifecycle, config) = (Lifecycle::new(), config(state_dir));
    let network = NetworkConfig {
        device_prefix: config.device_prefix.clone(),
        underlay: config.underlay,
        state_dir: state_dir.to_owned(),
    };
    let network = HostNetwork::open(network, lifecycle.tasks().clone(), lifecycle.hard().clone()).await.unwrap();
    let filter = PacketFilter::new(network.nft_table());
    Arc::new(Host {
        runtime: Runtime::new(Tools::find(None), "/bin/false".into(), state_dir.join("runc")),
        images: Images::new(state_dir.join("images"), &[], config.image_bounds, &[]),
        identity: Identity::open(state_dir).unwrap(),
        lease: Lease::open(state_dir),
        hooks: Hooks::new(filter.clone(), config.name.as_str()),
        filter,
        network: AsyncMutex::new(network),
        migrations: MigrationListener::default(),
        capsules: Capsules::default(),
        membership: watch::channel(None).0,
        tasks: lifecycle.tasks().clone(),
        stop: lifecycle.soft().clone(),
        observed: Arc::default(),
        disk_is_short: watch::Sender::new(false),
        config,
    })
}

async fn absent(state_dir: &Path) -> HeldJob {
    let order = mooring_api::watch::JobOrder::Run { begun: false };
    HeldJob::absent(host(state_dir).await, &directive(1, order))
}

/// A job whose files are sent, over a connection that is a capsule here.
async fn pre_copied(state_dir: &Path, migration: &MigrationId) -> HeldJob {
    let store = CapsuleStore::open(&Location::Dir(state_dir.join("capsules")), CapsuleKey::random()).unwrap();
    let sender = CapsuleSender::create_capsule(&store, &"capsule".parse().unwrap()).await.unwrap();
    let mut job = absent(state_dir).await;
    job.enter(LocalState::Running(Running::new(PROCESS, None))).unwrap();
    job.set_outbound(Outbound::PreCopied { migration: migration.clone(), sender: Box::new(sender) }).unwrap();
    job
}

fn on_disk(job: &HeldJob) -> RecordedState {
    Record::load(&job.journal.directory()).unwrap().unwrap().state
}

#[tokio::test]
async fn freeze_takes_the_connection_once_it_is_on_record() {
    let world = tempfile::tempdir().unwrap();
    let migration = MigrationId::random(&mut rand::rng());
    let mut job = pre_copied(world.path(), &migration).await;
    let before = job.state.recorded();

    let other = MigrationId::random(&mut rand::rng());
    assert!(matches!(job.begin_freeze(&other), Err(Error::WrongState { .. })));
    assert_eq!(job.state.recorded(), before);

    // A file in the place of the job's directory: no record can be written.
    let directory = job.journal.directory();
    fs::rename(&directory, directory.with_extension("aside")).unwrap();
    fs::write(&directory, "").unwrap();
    assert!(matches!(job.begin_freeze(&migration), Err(Error::System { .. })));
    assert_eq!(job.state.recorded(), before, "the connection is still the state's");

    fs::remove_file(&directory).unwrap();
    let (process, _sender) = job.begin_freeze(&migration).unwrap();
    let frozen = RecordedState::Freezing { process: PROCESS, migration: migration.clone() };
    assert_eq!((process, job.state.recorded(), on_disk(&job)), (PROCESS, frozen.clone(), frozen));
    assert!(matches!(job.begin_freeze(&migration), Err(Error::WrongState { .. })));
}

#[tokio::test]
async fn failed_record_leaves_the_state() {
    let world = tempfile::tempdir().unwrap();
    let mut job = absent(world.path()).await;
    job.enter(LocalState::Starting).unwrap();
    let directory = job.journal.directory();
    fs::rename(&directory, directory.with_extension("aside")).unwrap();
    fs::write(&directory, "").unwrap();
    assert!(job.enter(LocalState::Exited { code: 0 }).is_err());
    assert!(job.set_outbound(Outbound::None).is_err());
    assert_eq!(job.state.recorded(), RecordedState::Starting);
    let observed = job.observation().lock().clone().unwrap();
    assert_eq!(observed.state, JobState::Starting, "what is not on record is not reported");
}

#[tokio::test]
async fn quiet_state_is_recorded_and_not_reported() {
    let world = tempfile::tempdir().unwrap();
    let mut job = absent(world.path()).await;
    let migration = MigrationId::random(&mut rand::rng());
    job.enter_quietly(LocalState::Receiving { migration: migration.clone(), inbound: Inbound::Preparing }).unwrap();
    assert_eq!(on_disk(&job), RecordedState::Receiving { migration: migration.clone() });
    assert!(job.observation().lock().is_none());
    job.report_progress("1 of 2 layers".into());
    assert_eq!(job.observation().lock().clone().unwrap().state, JobState::Starting);
    job.publish();
    assert_eq!(job.observation().lock().clone().unwrap().state, JobState::Prepared { migration });
}

#[tokio::test]
async fn directive_is_adopted_until_the_job_is_made() {
    let world = tempfile::tempdir().unwrap();
    let mut job = absent(world.path()).await;
    let newer = directive(2, mooring_api::watch::JobOrder::Run { begun: false });
    job.adopt(&newer).unwrap();
    assert_eq!(job.journal.generation, newer.generation);
    job.enter(LocalState::Starting).unwrap();
    job.adopt(&directive(3, mooring_api::watch::JobOrder::Stop)).unwrap();
    assert_eq!(job.journal.generation, newer.generation, "a started job keeps its generation");
}

#[tokio::test]
async fn closed_handles_are_gone_from_the_state() {
    let world = tempfile::tempdir().unwrap();
    let migration = MigrationId::random(&mut rand::rng());
    let mut job = pre_copied(world.path(), &migration).await;
    job.close_handles();
    assert!(matches!(&job.state, LocalState::Running(Running { outbound: Outbound::None, .. })));

    let hello = Hello { migration: migration.clone(), job: job.id().clone(), token: String::new() };
    let stranger = PeerHost { host: HostId::random(&mut rand::rng()), key: Fingerprint::of(b"") };
    let expected = job.host().migrations.expect(hello, stranger);
    job.enter(LocalState::Receiving { migration, inbound: Inbound::Expected(expected) }).unwrap();
    job.close_handles();
    assert!(matches!(&job.state, LocalState::Receiving { inbound: Inbound::Preparing, .. }));
}
