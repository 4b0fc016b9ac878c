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

/// Slices offered to a socket at first: a short reply has one, a page's reply three.
const SLICES_FEW: usize = 4;
/// Slices offered if there are more than a few: 256 KiB of frames.
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
    /// Output may have stayed behind: the socket was full, or it was the others' turn.
    blocked: bool,
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
                    self.list.push(Connection {
                        id,
                        socket: accepted.socket,
                        draining: None,
                        blocked: false,
                    });
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
        while let Some(connection) = self.list.get_mut(index) {
            let socket = connection.socket;
            if !network.is_alive(socket) {
                network.abort(socket, now.monotonic);
                self.forget(index, engine);
                any = true;
                continue;
            }
            let read = read(connection, engine, network, now);
            let may_send = read || connection.blocked && network.can_write(socket);
            if !may_send {
                index += 1;
                continue;
            }
            let (sent, stays) = self.flush(index, engine, network, now);
            any |= read || sent;
            index += usize::from(stays);
        }
        any
    }

    /// Sends what this client has got because pages landed.
    pub fn serve_one(&mut self, id: ClientId, engine: &mut Engine, network: &mut Network, now: Now) {
        if let Some(&index) = self.places.get(&id) {
            self.flush(index, engine, network, now);
        }
    }

    /// Sends what can leave, and closes the connection if that was to be its end. Whether anything was
    /// sent, and whether the connection is still there.
    fn flush(&mut self, index: usize, engine: &mut Engine, network: &mut Network, now: Now) -> (bool, bool) {
        let connection = &mut self.list[index];
        let (id, socket) = (connection.id, connection.socket);
        let (mut total, mut asked) = (0, false);
        connection.blocked = true;
        while total < FLUSH_MAX && network.can_write(socket) {
            let sent = send_next(engine, network, id, socket);
            if sent > 0 {
                engine.handle_written(id, sent, now);
                total += sent;
            } else if asked {
                connection.blocked = false;
                break;
            } else {
                engine.handle_writable(id, now);
            }
            asked = true;
        }
        if total > 0 && connection.draining.is_some() {
            connection.draining = Some(0);
        }
        let over = engine.should_close(id);
        if over {
            network.close(socket, now.monotonic);
            self.forget(index, engine);
        }
        (total > 0 || over, !over)
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

/// Runs what has arrived. The socket's buffer is a ring, so it may come in two pieces.
#[inline]
fn read(connection: &mut Connection, engine: &mut Engine, network: &mut Network, now: Now) -> bool {
    let (id, socket) = (connection.id, connection.socket);
    let mut any = false;
    while network.can_read(socket) && engine.wants_input(id) {
        any = true;
        network.read(socket, |bytes| engine.handle_input(id, bytes, now));
    }
    if connection.draining.is_none() && !network.may_read(socket) {
        connection.draining = Some(0);
    }
    any
}

/// Offers the socket what leaves next; answers how much it took.
#[inline]
fn send_next(engine: &Engine, network: &mut Network, id: ClientId, socket: Socket) -> usize {
    let mut slices: [&[u8]; SLICES_FEW] = [&[]; SLICES_FEW];
    match engine.output(id, &mut slices) {
        SLICES_FEW => send_many(engine, network, id, socket),
        count => write_all(network, socket, &slices[..count]),
    }
}

#[inline(never)]
fn send_many(engine: &Engine, network: &mut Network, id: ClientId, socket: Socket) -> usize {
    let mut slices: [&[u8]; SLICES_MAX] = [&[]; SLICES_MAX];
    let count = engine.output(id, &mut slices);
    write_all(network, socket, &slices[..count])
}

#[inline]
fn write_all(network: &mut Network, socket: Socket, slices: &[&[u8]]) -> usize {
    let mut written = 0;
    for slice in slices {
        let taken = network.write(socket, slice);
        written += taken;
        if taken < slice.len() {
            break;
        }
    }
    written
}
