//! A client's connection: a socket, or TLS over one.
//!
//! Over a plain socket the kernel copies between it and the memory. TLS needs buffers between them. Refuses to know what
//! the bytes mean.

use crate::memory::{Memory, Slice, send_all};
use crate::outgoing::Outgoing;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between the memory and TLS: two records, which hold at most 16 KiB each.
const TLS_CHUNK_BYTES: usize = 32 << 10;

/// A peer that is silently gone is noticed after a minute and three questions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// A stream socket, whose calls wait until its deadline, if it has one.
pub struct Socket {
    fd: Arc<OwnedFd>,
    deadline: Option<Instant>,
}

impl Socket {
    /// A connected socket, waiting until `deadline` at most.
    pub fn new(fd: Arc<OwnedFd>, deadline: Option<Instant>) -> Socket {
        Socket { fd, deadline }
    }

    /// Sets what a TCP connection of many small messages needs; a Unix socket has none of it.
    pub fn tune(&self) {
        let tuned = sockopt::set_tcp_nodelay(&*self.fd, true)
            .and_then(|()| sockopt::set_socket_keepalive(&*self.fd, true))
            .and_then(|()| sockopt::set_tcp_keepidle(&*self.fd, KEEPALIVE_IDLE))
            .and_then(|()| sockopt::set_tcp_keepintvl(&*self.fd, KEEPALIVE_INTERVAL))
            .and_then(|()| sockopt::set_tcp_keepcnt(&*self.fd, KEEPALIVE_PROBES));
        if let Err(error) = tuned {
            log::debug!("the socket keeps its defaults: {error}");
        }
    }

    /// From now on calls wait as long as it takes.
    pub fn lift_deadline(&mut self) {
        self.deadline = None;
    }

    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.poll(events, left)? {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")),
        }
    }

    fn poll(&self, events: PollFlags, at_most: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
        Ok(poll(&mut [PollFd::new(&*self.fd, events)], Some(&timeout))? > 0)
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        Ok(recv(&*self.fd, into, RecvFlags::empty())?.0)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        // Without a deadline the call waits; with one it must not, however much is to be sent.
        let how = if self.deadline.is_some() { SendFlags::DONTWAIT } else { SendFlags::empty() };
        Ok(send(&*self.fd, bytes, how | SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A client's connection.
pub enum Wire {
    /// Bytes as they are.
    Plain(Socket),
    /// Bytes in TLS records.
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

impl Wire {
    /// Goes on in TLS; the client begins.
    ///
    /// # Errors
    /// Of the TLS handshake, among them a client certificate that is missing or wrong.
    pub fn start_tls(self, config: Arc<ServerConfig>) -> io::Result<Wire> {
        let Wire::Plain(mut socket) = self else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS within TLS"));
        };
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(&mut socket) {
                // What the client should know about it is still to be sent.
                let _ = tls.write_tls(&mut socket);
                return Err(error);
            }
        }
        Ok(Wire::Tls(Box::new(StreamOwned::new(tls, socket))))
    }

    /// Takes the deadline away: from here on a client may be silent as long as it likes.
    pub fn lift_deadline(&mut self) {
        match self {
            Wire::Plain(socket) => socket.deadline = None,
            Wire::Tls(tls) => tls.sock.deadline = None,
        }
    }

    /// Says goodbye where the protocol has a word for it.
    pub fn close(&mut self) {
        if let Wire::Tls(tls) = self {
            tls.conn.send_close_notify();
            // The client may be gone already.
            let _ = tls.flush();
        }
    }

    /// Whether reading would not wait.
    ///
    /// # Errors
    /// Of the socket.
    pub(crate) fn is_readable(&mut self) -> io::Result<bool> {
        if let Wire::Tls(tls) = self {
            match tls.conn.reader().fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Ok(true),
            }
        }
        let socket = match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => &tls.sock,
        };
        socket.poll(PollFlags::IN, Duration::ZERO)
    }

    /// Receives up to `len` bytes into the memory; tells how many were taken from the connection, and whether
    /// the memory could keep them.
    ///
    /// # Errors
    /// Of the connection; `UnexpectedEof` if the client is gone.
    pub(crate) fn receive(
        &mut self,
        memory: &Memory,
        offset: u64,
        len: usize,
    ) -> io::Result<(usize, io::Result<()>)> {
        let (taken, kept) = match self {
            Wire::Plain(socket) => match memory.receive(socket.as_fd(), offset, len) {
                Ok(taken) => (taken, Ok(())),
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => (0, Err(error)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok((0, Ok(()))),
                Err(error) => return Err(error),
            },
            Wire::Tls(tls) => {
                let mut chunk = [0; TLS_CHUNK_BYTES];
                let taken = tls.read(&mut chunk[..len.min(TLS_CHUNK_BYTES)])?;
                (taken, memory.write(offset, &chunk[..taken]))
            }
        };
        if taken == 0 && kept.is_ok() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it went in the middle of a WRITE"));
        }
        Ok((taken, kept))
    }

    /// Sends all replies, and forgets them.
    ///
    /// # Errors
    /// Of the connection; or of the memory, whose bytes cannot be taken back once their reply has begun.
    pub(crate) fn send(&mut self, memory: &Memory, replies: &mut Outgoing) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => {
                let mut slices = Vec::with_capacity(2 * replies.len());
                for (header, payload) in replies.iter() {
                    slices.push(Slice::of(header));
                    memory.slices(payload, &mut slices);
                }
                send_all(socket.as_fd(), &mut slices)?;
            }
            Wire::Tls(tls) => {
                let mut chunk = [0; TLS_CHUNK_BYTES];
                for (header, payload) in replies.iter() {
                    tls.write_all(header)?;
                    let mut at = payload.start;
                    while at < payload.end {
                        let piece = &mut chunk[..(payload.end - at).min(TLS_CHUNK_BYTES as u64) as usize];
                        memory.read(at, piece)?;
                        tls.write_all(piece)?;
                        at += piece.len() as u64;
                    }
                }
                tls.flush()?;
            }
        }
        replies.clear();
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(into),
            Wire::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(bytes),
            Wire::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Tls(tls) => tls.flush(),
        }
    }
}
