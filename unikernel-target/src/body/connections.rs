//! Connections: bytes from their sockets into the engine, and the engine's replies into their sockets.
//!
//! ```text
//!   accepted ─► handle_connected ─► serving ──────────────────────► closed
//!                    └─ refused: told why, closed      │ end of input
//!                                                      └─► draining: until nothing is owed ─► closed
//! ```
//!
//! Refuses to keep a buffer: input goes straight from the socket's, output straight into it.

use crate::net::{Network, Socket};
use alloc::vec::Vec;
use engine::{ClientId, Engine, Now, Peer};
use hashbrown::HashMap;

/// Slices offered to a socket at a time: 256 KiB of frames.
const SLICES_MAX: usize = 64;
/// A reply longer than this lets others go first after each such part. Units: bytes.
const FLUSH_MAX: usize = 256 * 1024;
/// Ticks without output after which a connection whose other end sends no more is owed nothing.
const DRAIN_TICKS_MAX: u32 = 5;

struct Connection {
    id: ClientId,
    socket: Socket,
    /// The other end sends no more; what it is owed still leaves. Counts ticks without output.
    draining: Option<u32>,
}

/// All connections that the engine knows.
#[derive(Default)]
pub struct Connections {
    list: Vec<Connection>,
    places: HashMap<ClientId, usize>,
    next_descriptor: i32,
}

impl Connections {
    /// Welcomes those whose handshake is done, or tells them why not. Whether there was any.
    pub fn accept(&mut self, engine: &mut Engine, network: &mut Network, now: Now) -> bool {
        let mut any = false;
        while let Some(accepted) = network.poll_accepted() {
            any = true;
            self.next_descriptor = self.next_descriptor.wrapping_add(1) & i32::MAX;
            let peer = Peer {
                address: accepted.remote,
                local_address: accepted.local,
                descriptor: self.next_descriptor,
                loopback: false,
            };
            match engine.handle_connected(peer, now) {
                Ok(id) => {
                    self.places.insert(id, self.list.len());
                    self.list.push(Connection { id, socket: accepted.socket, draining: None });
                }
                Err(words) => {
                    network.write(accepted.socket, words.as_bytes());
                    network.close(accepted.socket, now.monotonic);
                }
            }
        }
        any
    }

    /// Moves bytes both ways, for everybody. Whether any moved.
    pub fn serve(&mut self, engine: &mut Engine, network: &mut Network, now: Now) -> bool {
        let mut any = false;
        let mut index = 0;
        while index < self.list.len() {
            let read = self.read(index, engine, network, now);
            any |= read;
            let (sent, alive) = self.flush(index, engine, network, now);
            any |= sent;
            if alive {
                index += 1;
            }
        }
        any
    }

    /// Sends what this client has got because pages landed.
    pub fn serve_one(&mut self, id: ClientId, engine: &mut Engine, network: &mut Network, now: Now) {
        if let Some(&index) = self.places.get(&id) {
            self.flush(index, engine, network, now);
        }
    }

    /// Runs what has arrived. The socket's buffer is a ring, so it may come in two pieces.
    #[inline]
    fn read(&mut self, index: usize, engine: &mut Engine, network: &mut Network, now: Now) -> bool {
        let connection = &mut self.list[index];
        let mut any = false;
        while network.can_read(connection.socket) && engine.wants_input(connection.id) {
            any = true;
            let id = connection.id;
            network.read(connection.socket, |bytes| {
                engine.handle_input(id, bytes, now);
                (bytes.len(), ())
            });
        }
        if connection.draining.is_none() && !network.may_read(connection.socket) {
            connection.draining = Some(0);
        }
        any
    }

    /// Sends what can leave, and closes the connection if that was to be its end. Whether anything was
    /// sent, and whether the connection is still there.
    fn flush(&mut self, index: usize, engine: &mut Engine, network: &mut Network, now: Now) -> (bool, bool) {
        let connection = &mut self.list[index];
        let (id, socket) = (connection.id, connection.socket);
        let (mut total, mut asked) = (0, false);
        while total < FLUSH_MAX && network.can_write(socket) {
            let sent = send_next(engine, network, id, socket);
            if sent > 0 {
                engine.handle_written(id, sent, now);
                total += sent;
            } else if asked {
                break;
            } else {
                engine.handle_writable(id, now);
            }
            asked = true;
        }
        if total > 0 && connection.draining.is_some() {
            connection.draining = Some(0);
        }
        if !network.is_alive(socket) {
            network.abort(socket, now.monotonic);
        } else if engine.should_close(id) {
            network.close(socket, now.monotonic);
        } else {
            return (total > 0, true);
        }
        self.forget(index, engine);
        (true, false)
    }

    /// Closes connections that drain and are owed nothing. That is sure when `all_is_quiet`: no command
    /// waits for a page then. While there is no such moment, it is taken for true after a while.
    pub fn close_drained(
        &mut self,
        engine: &mut Engine,
        network: &mut Network,
        now: Now,
        all_is_quiet: bool,
    ) {
        let mut index = 0;
        while let Some(connection) = self.list.get(index) {
            let socket = connection.socket;
            let over = connection.draining.is_some_and(|ticks| all_is_quiet || ticks >= DRAIN_TICKS_MAX);
            if over && network.can_write(socket) && !network.can_read(socket) {
                network.close(socket, now.monotonic);
                self.forget(index, engine);
            } else {
                index += 1;
            }
        }
    }

    /// One tick of those that drain.
    pub fn handle_tick(&mut self) {
        for connection in &mut self.list {
            connection.draining = connection.draining.map(|ticks| ticks + 1);
        }
    }

    /// The engine forgets the client; the last connection takes its place.
    fn forget(&mut self, index: usize, engine: &mut Engine) {
        let gone = self.list.swap_remove(index);
        self.places.remove(&gone.id);
        engine.handle_disconnected(gone.id);
        if let Some(moved) = self.list.get(index) {
            self.places.insert(moved.id, index);
        }
    }
}

/// Offers the socket what leaves next; answers how much it took.
#[inline]
fn send_next(engine: &Engine, network: &mut Network, id: ClientId, socket: Socket) -> usize {
    let mut slices: [&[u8]; SLICES_MAX] = [&[]; SLICES_MAX];
    let count = engine.output(id, &mut slices);
    let mut sent = 0;
    for slice in &slices[..count] {
        let taken = network.write(socket, slice);
        sent += taken;
        if taken < slice.len() {
            break;
        }
    }
    sent
}
