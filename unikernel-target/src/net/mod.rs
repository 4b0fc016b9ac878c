//! TCP over the network card: an address, one port, and as many connections as there may be.
//!
//! ```text
//!                  SYN                    handshake done            close          gone
//!   one listener ───────► half-open ──────────────────────► open ─────────► closing ───► removed
//!        ▲    a new listener at once, while there are fewer than SOCKETS_MAX
//! ```
//!
//! smoltcp has no backlog: a listening socket becomes the connection. So each SYN that takes the listener
//! is followed by a new one, before the next packet is looked at; at the limit there is none, and smoltcp
//! refuses with RST. Half-open and closing connections are given up after a while.
//! Refuses to know what is said over a connection.

mod address;

pub use address::Address;

use crate::virtio::net::Card;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;
use farmem::Instant;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::{Duration, Instant as StackInstant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

/// Sockets at once, of all kinds: 256 clients, and some that are half-open, closing, or told that there are
/// too many.
pub const SOCKETS_MAX: usize = CLIENTS_MAX + 32;
/// Connections that may be served at once. 256 of them hold 48 MiB of buffers at most.
pub const CLIENTS_MAX: usize = 256;
/// What arrives before the store wants it.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// What has been sent and not been acknowledged: the largest reply of the usual workloads.
const SEND_BUFFER: usize = 128 * 1024;
/// Packets taken in one turn: the queue of the card.
const PACKETS_MAX: usize = 256;
/// Rounds of sending in one turn; each sends one packet a connection.
const ROUNDS_MAX: usize = 256;
/// After this a handshake or a goodbye is given up.
const PATIENCE_NS: u64 = 5_000_000_000;
/// A peer that acknowledges nothing for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One connection, until [`Network::close`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Socket(SocketHandle);

/// A connection that has just been made.
pub struct Accepted {
    /// Its name.
    pub socket: Socket,
    /// `address:port` of the other end.
    pub remote: String,
    /// `address:port` of ours.
    pub local: String,
}

/// A socket that is nobody's: before it is open, or after it was closed.
struct Lingering {
    socket: SocketHandle,
    since: Instant,
}

/// The network.
pub struct Network {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    listener: Option<SocketHandle>,
    half_open: Vec<Lingering>,
    closing: Vec<Lingering>,
    port: u16,
    keep_alive: Option<Duration>,
}

fn stack_time(now: Instant) -> StackInstant {
    StackInstant::from_micros((now.0 / 1000) as i64)
}

impl Network {
    /// A network that listens at `port`, with an address of its own or one from DHCP.
    pub fn new(
        mut card: Card,
        address: Address,
        port: u16,
        keep_alive_s: u64,
        seed: u64,
        now: Instant,
    ) -> Network {
        let mut config = Config::new(EthernetAddress(card.mac()).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, stack_time(now));
        let mut sockets = SocketSet::new(Vec::new());
        let mut dhcp = None;
        match address {
            Address::Dhcp => dhcp = Some(sockets.add(dhcpv4::Socket::new())),
            Address::Static { own, gateway } => set_address(&mut interface, own, gateway),
        }
        let keep_alive = (keep_alive_s > 0).then(|| Duration::from_secs(keep_alive_s));
        let (half_open, closing) = (Vec::new(), Vec::new());
        let mut network =
            Network { card, interface, sockets, dhcp, listener: None, half_open, closing, port, keep_alive };
        network.listen();
        network
    }

    /// The address that others reach this machine at, once there is one.
    pub fn address(&self) -> Option<impl Display + use<>> {
        self.interface.ipv4_addr()
    }

    fn count(&self) -> usize {
        self.sockets.iter().count()
    }

    /// Sees to it that there is a listener, if there may be one.
    fn listen(&mut self) {
        if self.listener.is_some() || self.count() >= SOCKETS_MAX {
            return;
        }
        let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_keep_alive(self.keep_alive);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.listen(self.port).expect("the socket is new and the port is not zero");
        self.listener = Some(self.sockets.add(socket));
    }

    /// Takes what has arrived. Whether anything did.
    pub fn receive(&mut self, now: Instant) -> bool {
        let at = stack_time(now);
        let mut any = false;
        for _ in 0..PACKETS_MAX {
            match self.interface.poll_ingress_single(at, &mut self.card, &mut self.sockets) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed => any = true,
                PollIngressSingleResult::SocketStateChanged => {
                    any = true;
                    self.follow_listener(now);
                }
            }
        }
        if any {
            self.card.notify();
            if self.interface.ipv4_addr().is_none() {
                self.follow_dhcp();
            }
        }
        any
    }

    /// Replaces the listener if a SYN has taken it.
    #[inline]
    fn follow_listener(&mut self, now: Instant) {
        let Some(listener) = self.listener else { return };
        if self.sockets.get::<tcp::Socket>(listener).is_listening() {
            return;
        }
        self.half_open.push(Lingering { socket: listener, since: now });
        self.listener = None;
        self.listen();
    }

    /// The next connection whose handshake is done.
    pub fn poll_accepted(&mut self) -> Option<Accepted> {
        let sockets = &self.sockets;
        let is_open = |waiting: &Lingering| sockets.get::<tcp::Socket>(waiting.socket).may_send();
        let index = self.half_open.iter().position(is_open)?;
        let handle = self.half_open.remove(index).socket;
        let socket = self.sockets.get::<tcp::Socket>(handle);
        let (remote, local) = (socket.remote_endpoint()?.to_string(), socket.local_endpoint()?.to_string());
        Some(Accepted { socket: Socket(handle), remote, local })
    }

    /// Sends what is to be sent. Whether anything was.
    pub fn send(&mut self, now: Instant) -> bool {
        let at = stack_time(now);
        let mut any = false;
        for _ in 0..ROUNDS_MAX {
            match self.interface.poll_egress(at, &mut self.card, &mut self.sockets) {
                PollResult::None => break,
                PollResult::SocketStateChanged => any = true,
            }
        }
        self.card.notify();
        any
    }

    /// Work by the clock: DHCP, and what has lingered for too long.
    pub fn handle_tick(&mut self, now: Instant) {
        self.follow_dhcp();
        let sockets = &mut self.sockets;
        let over = |waiting: &Lingering| now.0 > waiting.since.0 + PATIENCE_NS;
        self.half_open.retain(|waiting| {
            let socket = sockets.get_mut::<tcp::Socket>(waiting.socket);
            // A reset of a half-open connection makes a listener of it again: one too many.
            let keep = !matches!(socket.state(), tcp::State::Closed | tcp::State::Listen) && !over(waiting);
            if !keep {
                sockets.remove(waiting.socket);
            }
            keep
        });
        self.closing.retain_mut(|waiting| {
            let socket = sockets.get_mut::<tcp::Socket>(waiting.socket);
            let gone = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait);
            // A connection that was aborted owes its peer one packet, which leaves with the next `send`.
            let keep = !gone && !over(waiting);
            if !keep {
                sockets.remove(waiting.socket);
            }
            keep
        });
        self.listen();
    }

    fn follow_dhcp(&mut self) {
        let Some(dhcp) = self.dhcp else { return };
        match self.sockets.get_mut::<dhcpv4::Socket>(dhcp).poll() {
            Some(dhcpv4::Event::Configured(given)) => {
                set_address(&mut self.interface, given.address, given.router)
            }
            // The lease goes on being asked for; connections over the old address are reset.
            Some(dhcpv4::Event::Deconfigured) => {
                self.interface.update_ip_addrs(|addresses| addresses.clear())
            }
            None => {}
        }
    }

    /// Takes the bytes that have arrived and lie together.
    #[inline]
    pub fn read(&mut self, socket: Socket, take: impl FnOnce(&[u8])) {
        let socket = self.sockets.get_mut::<tcp::Socket>(socket.0);
        // An error is the end of what arrives, which `may_read` tells.
        let _ = socket.recv(|bytes| {
            take(bytes);
            (bytes.len(), ())
        });
    }

    /// Whether bytes have arrived.
    #[inline]
    pub fn can_read(&self, socket: Socket) -> bool {
        self.sockets.get::<tcp::Socket>(socket.0).can_recv()
    }

    /// Whether the other end may still send, and what it has sent has not all been taken.
    #[inline]
    pub fn may_read(&self, socket: Socket) -> bool {
        self.sockets.get::<tcp::Socket>(socket.0).may_recv()
    }

    /// Whether the connection is still there to send on.
    #[inline]
    pub fn is_alive(&self, socket: Socket) -> bool {
        self.sockets.get::<tcp::Socket>(socket.0).may_send()
    }

    /// Takes bytes to be sent; answers how many there was room for.
    #[inline]
    pub fn write(&mut self, socket: Socket, bytes: &[u8]) -> usize {
        self.sockets.get_mut::<tcp::Socket>(socket.0).send_slice(bytes).unwrap_or(0)
    }

    /// Whether there is room for bytes to be sent.
    #[inline]
    pub fn can_write(&self, socket: Socket) -> bool {
        self.sockets.get::<tcp::Socket>(socket.0).can_send()
    }

    /// Says goodbye, behind what is still to be sent.
    pub fn close(&mut self, socket: Socket, now: Instant) {
        self.sockets.get_mut::<tcp::Socket>(socket.0).close();
        self.closing.push(Lingering { socket: socket.0, since: now });
    }

    /// Ends the connection at once; what was to be sent is lost.
    pub fn abort(&mut self, socket: Socket, now: Instant) {
        self.sockets.get_mut::<tcp::Socket>(socket.0).abort();
        self.closing.push(Lingering { socket: socket.0, since: now });
    }

    /// When to look again although nothing has arrived.
    pub fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.interface.poll_at(stack_time(now), &self.sockets)?;
        Some(Instant(due.total_micros().max(0) as u64 * 1000))
    }

    /// The card, for whoever halts.
    pub fn card(&mut self) -> &mut Card {
        &mut self.card
    }
}

/// Gives the interface its address, and the way out if there is one.
fn set_address(interface: &mut Interface, own: Ipv4Cidr, gateway: Option<smoltcp::wire::Ipv4Address>) {
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        // The list was emptied just now and has room for two.
        let _ = addresses.push(IpCidr::Ipv4(own));
    });
    let routes = interface.routes_mut();
    routes.remove_default_ipv4_route();
    if let Some(gateway) = gateway {
        // As above: there is no other route.
        let _ = routes.add_default_ipv4_route(gateway);
    }
}
