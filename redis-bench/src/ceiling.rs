//! A server that answers every command with the same bytes: the ceiling of client and loopback.
//!
//! No store on this machine can be faster under the same client, and its CPU a request is the floor.
//! Refuses to know Redis: it only finds where a command ends.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::workload::ReplyShape;

/// Bytes of the read buffer, and of what is answered in one go.
const BUFFER_BYTES: usize = 256 << 10;
/// How soon a stop is seen.
const STOP_SEEN_WITHIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The listener's number among the events.
const LISTENER: u64 = u64::MAX;

/// The reply to every command.
pub fn fixed_reply(shape: ReplyShape) -> Vec<u8> {
    let bulk = |bytes: usize| [format!("${bytes}\r\n").as_bytes(), &vec![b'x'; bytes], b"\r\n"].concat();
    match shape {
        ReplyShape::Ok => b"+OK\r\n".to_vec(),
        ReplyShape::Bulk(bytes) => bulk(bytes),
        ReplyShape::Bulks(count, bytes) => {
            [format!("*{count}\r\n").into_bytes(), bulk(bytes).repeat(count)].concat()
        }
    }
}

/// Where in a stream of commands a connection is: lines still to come in this command, bytes to skip.
#[derive(Debug, Default)]
struct Commands {
    arguments: u64,
    skip: u64,
    number: u64,
}

impl Commands {
    /// How many commands end in `input`.
    fn count(&mut self, mut input: &[u8]) -> usize {
        let mut ended = 0;
        while let [byte, rest @ ..] = input {
            if self.skip > 0 {
                let taken = self.skip.min(input.len() as u64);
                self.skip -= taken;
                input = &input[taken as usize..];
                if self.skip == 0 {
                    self.arguments = self.arguments.saturating_sub(1);
                    ended += usize::from(self.arguments == 0);
                }
                continue;
            }
            match byte {
                b'0'..=b'9' => {
                    self.number = self.number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'))
                }
                b'\n' if self.arguments == 0 => self.arguments = std::mem::take(&mut self.number),
                b'\n' => self.skip = std::mem::take(&mut self.number) + 2,
                _ => {}
            }
            input = rest;
        }
        ended
    }
}

struct Peer {
    stream: TcpStream,
    commands: Commands,
    owed: Vec<u8>,
    paid: usize,
}

impl Peer {
    /// Reads, answers; false if the peer is gone.
    fn serve(&mut self, buffer: &mut [u8], reply: &[u8]) -> io::Result<bool> {
        let mut drained = false;
        loop {
            while self.paid < self.owed.len() {
                match self.stream.write(&self.owed[self.paid..]) {
                    Ok(written) => self.paid += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
            self.owed.clear();
            self.paid = 0;
            if drained {
                return Ok(true);
            }
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    drained = read < buffer.len();
                    for _ in 0..self.commands.count(&buffer[..read]) {
                        self.owed.extend_from_slice(reply);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Serves until `stop` is set.
///
/// # Errors
/// If the port is taken.
pub fn serve(listener: &TcpListener, reply: &[u8], stop: &AtomicBool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = Vec::with_capacity(256);
    while !stop.load(Ordering::Relaxed) {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), Some(&STOP_SEEN_WITHIN)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let id = event.data.u64();
            if id == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                    epoll::add(&poll, &stream, epoll::EventData::new_u64(peers.len() as u64), interest)?;
                    peers.push(Some(Peer {
                        stream,
                        commands: Commands::default(),
                        owed: Vec::new(),
                        paid: 0,
                    }));
                }
            } else if let Some(slot) = peers.get_mut(id as usize) {
                let alive = slot.as_mut().is_some_and(|peer| peer.serve(&mut buffer, reply).unwrap_or(false));
                if !alive {
                    *slot = None;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_however_they_are_cut() {
        let wire = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n*1\r\n\r\n*1\r\n$4\r\nPING\r\n";
        for size in 1..wire.len() {
            let mut commands = Commands::default();
            let count: usize = wire.chunks(size).map(|piece| commands.count(piece)).sum();
            assert_eq!(count, 3, "in pieces of {size}");
        }
    }
}
