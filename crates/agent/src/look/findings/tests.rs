//! Each row of the table with what it says.

use mooring_linux::process_tree::{Descriptor, ProcessTree, Queue, State, Thread};
use proptest::prelude::*;

use super::*;

const JOB: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn process(own_pid: i32, name: &str) -> Process {
    Process {
        pid: 1000 + own_pid,
        own_pid,
        parent: 1001,
        name: name.into(),
        state: State::Running,
        tracer: None,
        users: [0; 3],
        groups: [0; 3],
        namespaces: JOB,
        threads: Vec::new(),
        descriptors: Vec::new(),
    }
}

fn with(own_pid: i32, name: &str, kinds: &[DescriptorKind]) -> Process {
    let descriptors = kinds
        .iter()
        .zip(3..)
        .map(|(kind, number)| Descriptor { number, target: Vec::new(), kind: kind.clone() })
        .collect();
    Process { descriptors, ..process(own_pid, name) }
}

fn socket(protocol: &str) -> DescriptorKind {
    DescriptorKind::Socket { protocol: protocol.into() }
}

fn object(name: &str) -> DescriptorKind {
    DescriptorKind::Object { name: name.into() }
}

fn seen(processes: &[Process]) -> Seen {
    let shell = process(1, "sh");
    let processes = std::iter::once(&shell).chain(processes).map(|process| (process.pid, process.clone()));
    Seen {
        first: 1001,
        tree: ProcessTree { processes: processes.collect(), queues: Vec::new() },
        outsiders: BTreeMap::from([(77, b"gdb".to_vec())]),
        users: BTreeMap::from([(33, "www-data".to_owned())]),
        host: "host-1".into(),
        has_sys_resource: false,
    }
}

#[test]
fn each_kind_is_told() {
    use FindingKind::*;
    let traced = |tracer| Process { tracer: Some(tracer), ..process(12, "python3") };
    let thread = Thread { state: State::TracingStop, tracer: Some(1011), namespaces: JOB };
    let in_namespaces = |namespaces| Process { namespaces, ..process(14, "python3") };
    let of = |users, groups| Process { users, groups, ..process(31, "sleep") };
    let epoll = DescriptorKind::Epoll { lost_targets: vec![7] };
    let inherited = Process { parent: 1003, ..with(4, "python3", std::slice::from_ref(&epoll)) };
    let cases: Vec<(Vec<Process>, FindingKind, &str)> = vec![
        (vec![traced(1011), process(11, "strace")], Traced, "process 12 (python3) is traced by strace (11): detach it"),
        (
            vec![Process { threads: vec![thread], ..process(12, "java") }, process(11, "gdb")],
            Traced,
            "process 12 (java) is traced by gdb (11): detach it",
        ),
        (
            vec![traced(77)],
            Traced,
            "process 12 (python3) is traced by gdb from outside the job (process 77 of its host): detach it",
        ),
        (
            vec![in_namespaces([9, 2, 3, 4, 5, 6, 7, 8])],
            Namespace,
            "process 14 (python3) has a user namespace of its own: end it, then migrate",
        ),
        (
            vec![
                in_namespaces([9, 9, 9, 4, 5, 6, 7, 8]),
                Process { own_pid: 15, pid: 1015, ..in_namespaces([9, 9, 9, 4, 5, 6, 7, 8]) },
            ],
            Namespace,
            "process 14 (python3) has user, network and mount namespaces of its own: end it, then migrate (1 more \
             process is like it)",
        ),
        (
            vec![with(8, "tcpdump", &[DescriptorKind::PacketSocket { interface: Some("eth0".into()) }])],
            PacketSocket,
            "process 8 (tcpdump) reads raw packets on eth0: end it",
        ),
        (
            vec![with(5, "python3", &[DescriptorKind::Queue { name: b"q".to_vec() }])],
            OpenQueue,
            "process 5 (python3) has the message queue /q open: end it, or close the queue",
        ),
        (
            vec![with(7, "web", &[socket("TCPv6"), socket("MPTCP")])],
            Protocol,
            "process 7 (web) has a socket of MPTCP: let it use TCP (programs in Go: with `GODEBUG=multipathtcp=0`)",
        ),
        (
            vec![with(7, "web", &[socket("SCTP")])],
            Protocol,
            "process 7 (web) has a socket of the protocol SCTP, which can't be moved: end it, or close the socket",
        ),
        (
            vec![with(9, "perf", &[object("perf_event")])],
            Object,
            "process 9 (perf) has an object of the kernel open that can't be moved (perf_event): end it",
        ),
        (
            vec![with(9, "watcher", &[object("fanotify")])],
            Object,
            "process 9 (watcher) has an object of the kernel open that can't be moved (fanotify): end it",
        ),
        (
            vec![with(9, "openvpn", &[DescriptorKind::Device { path: TUN.to_vec() }])],
            Device,
            "process 9 (openvpn) has a tun device open: end it",
        ),
        (
            vec![with(9, "sshfs", &[DescriptorKind::Device { path: b"/dev/fuse".to_vec() }])],
            Device,
            "process 9 (sshfs) has the device /dev/fuse open: end it, or close the device",
        ),
        (
            vec![of([33; 3], [33; 3])],
            OtherUser,
            "process 31 (sleep) runs as www-data, and the agent of host-1 lacks CAP_SYS_RESOURCE: give it that, or \
             use another host",
        ),
        (
            vec![of([0, 1001, 0], [0; 3])],
            OtherUser,
            "process 31 (sleep) runs as user 1001, and the agent of host-1 lacks CAP_SYS_RESOURCE: give it that, or \
             use another host",
        ),
        (
            vec![of([0; 3], [0, 5, 0])],
            OtherUser,
            "process 31 (sleep) runs in group 5, and the agent of host-1 lacks CAP_SYS_RESOURCE: give it that, or \
             use another host",
        ),
        (
            vec![with(3, "python3", &[epoll]), inherited],
            ClosedTarget,
            "process 3 (python3) watches a connection or file that it has closed (number 7): end it, or the process \
             that still has that open",
        ),
        (
            vec![with(6, "db", &[DescriptorKind::Deleted { bytes: 5_000_000 }, DescriptorKind::Deleted { bytes: 1 }])],
            DeletedFile,
            "process 6 (db) has 2 deleted files of 5 MB open: what is in it moves with the job",
        ),
    ];
    for (processes, kind, text) in cases {
        let found: Vec<(FindingKind, String)> =
            of_all(&seen(&processes)).into_iter().map(|finding| (finding.kind, finding.text)).collect();
        assert_eq!(found, [(kind, text.to_owned())]);
    }
}

/// As [`of`], with a check of what every finding has.
fn of_all(seen: &Seen) -> Vec<Finding> {
    let findings = of(seen);
    for finding in &findings {
        assert!(!finding.text.contains('\n') && !finding.text.to_lowercase().contains("criu"), "{finding:?}");
        assert_eq!(finding.pid.is_some(), finding.text.starts_with("process "), "{finding:?}");
    }
    findings
}

#[test]
fn queues_without_a_process_are_told_once() {
    let queue = |name: &[u8], bytes| Queue { name: name.to_vec(), bytes, messages: bytes.min(1), ..Queue::default() };
    let mut seen = seen(&[with(5, "x", &[DescriptorKind::Queue { name: b"open".to_vec() }])]);
    seen.tree.queues = vec![queue(b"open", 3), queue(b"idle", 0), queue(b"full\n", 9)];
    let texts: Vec<(FindingKind, Effect, String)> =
        of_all(&seen).into_iter().map(|finding| (finding.kind, finding.effect, finding.text)).collect();
    assert_eq!(texts[0].0, FindingKind::OpenQueue);
    let full = "the job has a message queue /full?, in which messages of 9 bytes wait: read them, or remove it from \
                /dev/mqueue";
    assert_eq!(texts[1..], [(FindingKind::Queue, Effect::Waits, full.to_owned())]);
}

#[test]
fn what_holds_is_no_finding() {
    let plain: Vec<DescriptorKind> = PROTOCOLS
        .into_iter()
        .chain(["NETLINK"])
        .map(socket)
        .chain(OBJECTS.map(object))
        .chain([DescriptorKind::Other, DescriptorKind::Epoll { lost_targets: Vec::new() }])
        .collect();
    let zombie = Process { state: State::Zombie, users: [5; 3], namespaces: [0; 8], ..process(9, "gone") };
    // Its tracer ended while the look was taken, and its namespaces could not be read.
    let vanishing = Process { tracer: Some(4242), namespaces: [0; 8], ..process(10, "going") };
    assert_eq!(of_all(&seen(&[with(2, "web", &plain), zombie, vanishing])), []);
    let others = [Process { users: [33; 3], ..process(2, "nginx") }];
    assert_eq!(of_all(&Seen { has_sys_resource: true, ..seen(&others) }), []);
    assert_eq!(of_all(&Seen::default()), []);
}

proptest! {
    #[test]
    fn any_name_is_told_on_one_line(name in prop::collection::vec(any::<u8>(), 0..16), queue in prop::collection::vec(any::<u8>(), 0..255)) {
        let kinds = [DescriptorKind::Queue { name: queue }, DescriptorKind::Device { path: name.clone() }];
        let hostile = Process { name, tracer: Some(1001), ..with(2, "", &kinds) };
        for finding in of_all(&seen(&[hostile])) {
            prop_assert!(!finding.text.chars().any(char::is_control));
            prop_assert!(finding.text.len() < 1000);
        }
    }
}
