//! A network between a server and its node that can be trusted to fail: it cuts connections, or swallows what they carry.
//!
//! ```text
//!   server ─► Proxy ─► node      cut: both ends of each connection are closed
//!                                stall: what arrives is swallowed, and nobody is told, until `heal`
//! ```
//!
//! Connections from before a `stall` swallow for ever. Refuses to understand what it carries.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A port of the loopback in front of another one. Its threads end with the connections that they carry.
pub struct Proxy {
    port: u16,
    road: Arc<Road>,
}

#[derive(Default)]
struct Road {
    /// Odd while everything is swallowed.
    epoch: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Carries what comes to a new port to this one.
    ///
    /// # Panics
    /// If the loopback has no port left.
    pub fn before(node: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let road = Arc::new(Road::default());
        let carried = Arc::clone(&road);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // A node that is gone: the other side is hung up on, as it would be by the node's machine.
                let Ok(far) = TcpStream::connect(("127.0.0.1", node)) else { continue };
                carried.carry(near, far);
            }
        });
        Proxy { port, road }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection; new ones are carried.
    pub fn cut(&self) {
        self.road.epoch.fetch_add(2, Ordering::SeqCst);
        for stream in self.road.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have been closed by an end.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Swallows from now on what arrives on any connection, old or new.
    pub fn stall(&self) {
        self.road.epoch.fetch_or(1, Ordering::SeqCst);
    }

    /// Carries new connections again.
    pub fn heal(&self) {
        self.road.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

impl Road {
    fn carry(self: &Arc<Road>, near: TcpStream, far: TcpStream) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        for stream in [&near, &far] {
            stream.set_nodelay(true).expect("it is a TCP socket");
        }
        let twin = |stream: &TcpStream| stream.try_clone().expect("there are descriptors left");
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).extend([twin(&near), twin(&far)]);
        for (from, to) in [(twin(&near), twin(&far)), (far, near)] {
            let road = Arc::clone(self);
            std::thread::spawn(move || road.pump(from, to, epoch));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, epoch: u64) {
        let mut buffer = [0; 64 << 10];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let carries = epoch & 1 == 0 && self.epoch.load(Ordering::SeqCst) == epoch;
            if carries && to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        if self.epoch.load(Ordering::SeqCst) == epoch {
            // The end of one side is the end of both.
            let _ = to.shutdown(Shutdown::Both);
        }
    }
}
