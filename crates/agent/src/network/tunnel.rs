//! WireGuard inside this process, for machines whose kernel has none: boringtun between a TUN
//! device and one UDP socket.
//!
//! ```text
//! TUN --read--> whose address is it? --encapsulate--> UDP      outgoing
//! TUN <--write-- is it the peer's?  <--decapsulate--  UDP      incoming
//!                     every 250 ms: handshakes, keep-alives    timers
//! ```
//!
//! Three tasks share the list of peers. An address belongs to one peer, like WireGuard's allowed
//! addresses: packets to the address are encrypted for that peer, and accepted from that peer only.
//! The list is replaced as a whole; a peer that stays keeps its session. A peer's endpoint follows
//! its authenticated packets, so that a host behind NAT is reached.
//!
//! The handshake with a new peer starts at once: after a restart both ends have a session within a
//! round trip.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use mooring_linux::tun::Tun;
use mooring_ops::Tasks;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::NetworkError;

/// The interval of the sessions' timers.
const TIMER_INTERVAL: Duration = Duration::from_millis(250);
/// The interval of keep-alives through NAT, as WireGuard's documentation recommends.
const KEEPALIVE_SECONDS: u16 = 25;
/// The rate of handshakes from which senders have to prove their address.
const HANDSHAKES_PER_SECOND: u64 = 100;
/// The largest IP packet plus WireGuard's overhead.
const PACKET_BUFFER_BYTES: usize = 65535 + 64;

/// A peer as the network's table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerLine {
    pub(super) key: [u8; 32],
    pub(super) endpoint: SocketAddr,
    /// The addresses that are reached through the peer.
    pub(super) addresses: Vec<Ipv4Addr>,
}

/// The running tunnel. Its tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Tunnel {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Option<()>>>,
}

struct Shared {
    secret: StaticSecret,
    public: PublicKey,
    /// Asks senders for a proof of their address when there are too many handshakes.
    limiter: RateLimiter,
    /// Given to sessions, so that they never answer on their own: an answer means an authentic
    /// packet.
    unlimited: Arc<RateLimiter>,
    socket: UdpSocket,
    device: Tun,
    book: RwLock<Arc<Book>>,
}

/// All peers, indexed for look-ups.
#[derive(Default)]
struct Book {
    by_key: BTreeMap<[u8; 32], Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
    by_address: HashMap<Ipv4Addr, Arc<Peer>>,
    next_index: u32,
}

struct Peer {
    /// The 24-bit index of the peer's sessions in packets.
    index: u32,
    tunnel: Mutex<Tunn>,
    endpoint: Mutex<Endpoint>,
}

#[derive(Clone, Copy)]
struct Endpoint {
    /// The endpoint in the last table.
    given: SocketAddr,
    /// The source of the last authentic packet, or the endpoint of a later table.
    now: SocketAddr,
}

impl Tunnel {
    /// Opens the TUN device and starts the tasks.
    pub(super) fn open(
        device: &str,
        listen: SocketAddr,
        secret: StaticSecret,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) -> Result<Self, NetworkError> {
        let device = Tun::attach(device).map_err(NetworkError::linux("open the WireGuard device"))?;
        let socket = std::net::UdpSocket::bind(listen)
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .and_then(UdpSocket::from_std)
            .map_err(NetworkError::tunnel("listen for WireGuard"))?;
        let public = PublicKey::from(&secret);
        let limiter = RateLimiter::new(&public, HANDSHAKES_PER_SECOND);
        let unlimited = Arc::new(RateLimiter::new(&public, u64::MAX));
        let shared = Arc::new(Shared { secret, public, limiter, unlimited, socket, device, book: RwLock::default() });
        let stop = stop.child_token();
        let tasks = vec![
            tasks.spawn("wireguard-outgoing", until(stop.clone(), outgoing(shared.clone()))),
            tasks.spawn("wireguard-incoming", until(stop.clone(), incoming(shared.clone()))),
            tasks.spawn("wireguard-timers", until(stop.clone(), timers(shared.clone()))),
        ];
        Ok(Self { shared, stop, tasks })
    }

    /// Returns whether the tasks still run: they end when the device is removed.
    pub(super) fn works(&self) -> bool {
        !self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Replaces the list of peers and starts handshakes with new ones.
    pub(super) async fn set_peers(&self, lines: &[PeerLine]) {
        let (book, new) = self.shared.book().with(lines, &self.shared);
        *self.shared.book.write() = Arc::new(book);
        let mut buffer = vec![0; PACKET_BUFFER_BYTES];
        for peer in new {
            let greeting = match locked(&peer.tunnel).format_handshake_initiation(&mut buffer, false) {
                TunnResult::WriteToNetwork(packet) => packet,
                _ => continue,
            };
            self.shared.send(greeting, peer.endpoint()).await;
        }
    }

    /// Ends the tasks; the device stays.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            // The owner of the tasks has reported a panic.
            let _ = task.await;
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn book(&self) -> Arc<Book> {
        self.book.read().clone()
    }

    async fn send(&self, packet: &[u8], to: SocketAddr) {
        // A packet may be lost, as on any network; its sender repeats it.
        if let Err(error) = self.socket.send_to(packet, to).await {
            tracing::debug!(%to, %error, "a WireGuard packet could not be sent");
        }
    }

    /// Finds the peer of a packet; `Err` has the answer to send, if any.
    fn sender<'b>(
        &self,
        book: &Book,
        from: IpAddr,
        datagram: &[u8],
        buffer: &'b mut [u8],
    ) -> Result<Arc<Peer>, Option<&'b [u8]>> {
        let packet = match self.limiter.verify_packet(Some(from), datagram, buffer) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => return Err(Some(cookie)),
            Err(_) => return Err(None),
        };
        let known = match &packet {
            Packet::HandshakeInit(init) => parse_handshake_anon(&self.secret, &self.public, init)
                .ok()
                .and_then(|handshake| book.by_key.get(&handshake.peer_static_public)),
            Packet::HandshakeResponse(response) => book.by_index.get(&(response.receiver_idx >> 8)),
            Packet::PacketCookieReply(reply) => book.by_index.get(&(reply.receiver_idx >> 8)),
            Packet::PacketData(data) => book.by_index.get(&(data.receiver_idx >> 8)),
        };
        known.cloned().ok_or(None)
    }

    /// Processes one datagram, and answers it where the protocol requires that.
    async fn take(&self, datagram: &[u8], from: SocketAddr, buffer: &mut [u8]) {
        let book = self.book();
        let peer = match self.sender(&book, from.ip(), datagram, buffer) {
            Ok(peer) => peer,
            Err(Some(cookie)) => return self.send(cookie, from).await,
            Err(None) => return,
        };
        let mut datagram = datagram;
        loop {
            // The guard is dropped before the next await.
            let result = locked(&peer.tunnel).decapsulate(Some(from.ip()), datagram, buffer);
            match result {
                TunnResult::WriteToNetwork(answer) => {
                    peer.seen_at(from);
                    self.send(answer, from).await;
                    // More may have to be sent, such as packets that waited for the session.
                    datagram = &[];
                }
                TunnResult::WriteToTunnelV4(packet, source) => {
                    peer.seen_at(from);
                    if book.by_address.get(&source).is_some_and(|owner| Arc::ptr_eq(owner, &peer)) {
                        self.deliver(packet);
                    }
                    return;
                }
                TunnResult::Done if !datagram.is_empty() => return peer.seen_at(from),
                // The overlay has no IPv6.
                TunnResult::Done | TunnResult::WriteToTunnelV6(..) | TunnResult::Err(_) => return,
            }
        }
    }

    fn deliver(&self, packet: &[u8]) {
        // The kernel accepts a packet at once, or its queue is full and the packet is lost.
        if let Err(error) = self.device.write(packet) {
            tracing::debug!(%error, "a packet from WireGuard could not be delivered");
        }
    }
}

impl Book {
    /// Returns the list of these peers, and those that are new in it.
    fn with(&self, lines: &[PeerLine], shared: &Shared) -> (Self, Vec<Arc<Peer>>) {
        let mut book = Self { next_index: self.next_index, ..Self::default() };
        let mut new = Vec::new();
        for line in lines {
            let peer = self.by_key.get(&line.key).cloned().unwrap_or_else(|| {
                let peer = Arc::new(Peer::new(book.next_index, line, shared));
                book.next_index = (book.next_index + 1) & 0x00ff_ffff;
                new.push(peer.clone());
                peer
            });
            peer.given(line.endpoint);
            book.by_index.insert(peer.index, peer.clone());
            book.by_address.extend(line.addresses.iter().map(|address| (*address, peer.clone())));
            book.by_key.insert(line.key, peer);
        }
        (book, new)
    }
}

impl Peer {
    fn new(index: u32, line: &PeerLine, shared: &Shared) -> Self {
        let (secret, limiter) = (shared.secret.clone(), Some(shared.unlimited.clone()));
        let tunnel = Tunn::new(secret, PublicKey::from(line.key), None, Some(KEEPALIVE_SECONDS), index, limiter);
        let endpoint = Endpoint { given: line.endpoint, now: line.endpoint };
        Self { index, tunnel: Mutex::new(tunnel), endpoint: Mutex::new(endpoint) }
    }

    fn endpoint(&self) -> SocketAddr {
        locked(&self.endpoint).now
    }

    fn given(&self, endpoint: SocketAddr) {
        let mut known = locked(&self.endpoint);
        if known.given != endpoint {
            *known = Endpoint { given: endpoint, now: endpoint };
        }
    }

    fn seen_at(&self, from: SocketAddr) {
        locked(&self.endpoint).now = from;
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        // The task has logged the reason; `works` tells the owner.
        () = work => {}
    }
}

async fn outgoing(shared: Arc<Shared>) {
    let (mut packet, mut buffer) = (vec![0; PACKET_BUFFER_BYTES], vec![0; PACKET_BUFFER_BYTES]);
    loop {
        let length = match shared.device.read(&mut packet).await {
            Ok(length) => length,
            Err(error) => return tracing::warn!(%error, "the WireGuard device failed"),
        };
        let packet = packet.get(..length).unwrap_or_default();
        let Some(IpAddr::V4(to)) = Tunn::dst_address(packet) else { continue };
        let Some(peer) = shared.book().by_address.get(&to).cloned() else { continue };
        let result = locked(&peer.tunnel).encapsulate(packet, &mut buffer);
        if let TunnResult::WriteToNetwork(datagram) = result {
            shared.send(datagram, peer.endpoint()).await;
        }
    }
}

async fn incoming(shared: Arc<Shared>) {
    let (mut datagram, mut buffer) = (vec![0; PACKET_BUFFER_BYTES], vec![0; PACKET_BUFFER_BYTES]);
    loop {
        match shared.socket.recv_from(&mut datagram).await {
            Ok((length, from)) => shared.take(datagram.get(..length).unwrap_or_default(), from, &mut buffer).await,
            Err(error) => return tracing::warn!(%error, "the WireGuard socket failed"),
        }
    }
}

async fn timers(shared: Arc<Shared>) {
    let mut buffer = vec![0; PACKET_BUFFER_BYTES];
    let mut ticks = tokio::time::interval(TIMER_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.limiter.reset_count();
        for peer in shared.book().by_key.values() {
            let due = locked(&peer.tunnel).update_timers(&mut buffer);
            let due = match due {
                // The peer did not answer for 90 s. The handshake is repeated, since the peer may
                // not be able to reach this host.
                TunnResult::Err(WireGuardError::ConnectionExpired) => {
                    locked(&peer.tunnel).format_handshake_initiation(&mut buffer, true)
                }
                other => other,
            };
            if let TunnResult::WriteToNetwork(datagram) = due {
                shared.send(datagram, peer.endpoint()).await;
            }
        }
    }
}

/// No code that holds one of these locks can panic half-way through a change that matters.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("peers", &self.book().by_key.len()).finish_non_exhaustive()
    }
}
