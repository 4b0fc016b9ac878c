//! One connection: its socket, and the task that waits for the socket.
//!
//! ```text
//!   readable ─► recv ─► engine.handle_input ─► flush ─► wait        (its own task)
//!   pages have landed ─► engine.poll_ready ─► flush                 (the driver; the task sleeps on)
//!   socket is full ─► Blocked ─► writable ─► flush ─► Free          (its own task)
//!   end of file ─► engine.handle_input_end ─► nothing is owed ─► close
//! ```
//!
//! Refuses to keep a buffer: input is read into one that all connections share, output leaves straight
//! from the engine's slices. So an idle connection costs a task and a registration, nothing more.

use crate::body::Body;
use crate::watch::Watched;
use engine::{ClientId, Engine, Now};
use rustix::io::{Errno, retry_on_intr, writev};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::Interest;

/// Slices offered to the socket at first: a short reply has one, a page's reply three.
const SLICES_FEW: usize = 4;
/// Slices offered if there are more than a few: 512 KiB of frames; the system takes 1024.
const SLICES_MAX: usize = 128;
/// A reply longer than this lets others go first after each such part. Units: bytes. 256 KiB are about
/// 50 us of copying.
const FLUSH_MAX: usize = 256 * 1024;

/// Whether a connection's socket takes output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Free,
    /// The socket is full; its task waits until it is writable.
    Blocked,
    /// It has had its share of this turn; its task is queued behind the others.
    Paused,
}

/// One connection.
pub struct Connection {
    /// The engine's name for it.
    pub id: ClientId,
    socket: Watched,
    task: OnceCell<Waker>,
    sending: Cell<Sending>,
    /// Input has arrived that the engine does not want yet.
    input_waits: Cell<bool>,
    /// The other end sends no more; what it is owed still leaves.
    input_ended: Cell<bool>,
    closed: Cell<bool>,
}

/// What became of some output.
enum Sent {
    /// Nothing can leave now.
    Nothing,
    Bytes(usize),
    /// The connection is lost.
    Gone,
}

/// What a turn at reading brought.
enum Received {
    /// Commands were run.
    Input,
    /// As `Input`, and there is more than one read could take.
    More,
    /// The other end sends no more.
    End,
    /// The connection is lost.
    Lost,
}

impl Connection {
    /// Takes charge of a socket that does not block.
    pub fn new(id: ClientId, socket: Watched) -> Connection {
        Connection {
            id,
            socket,
            task: OnceCell::new(),
            sending: Cell::new(Sending::Free),
            input_waits: Cell::new(false),
            input_ended: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    fn wake_task(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// Offers the socket what leaves next.
    // GET 8/8: the reply leaves, straight from the frames that hold the value.
    #[inline]
    fn send_next(&self, engine: &Engine) -> Sent {
        let mut slices: [&[u8]; SLICES_FEW] = [&[]; SLICES_FEW];
        match engine.output(self.id, &mut slices) {
            0 => Sent::Nothing,
            1 => self.offer(slices[0].len(), |socket| send(socket, slices[0], SendFlags::NOSIGNAL)),
            SLICES_FEW => self.send_many(engine),
            count => self.offer_slices(&slices[..count], &mut [IoSlice::new(&[]); SLICES_FEW]),
        }
    }

    #[inline(never)]
    fn send_many(&self, engine: &Engine) -> Sent {
        let mut slices: [&[u8]; SLICES_MAX] = [&[]; SLICES_MAX];
        let count = engine.output(self.id, &mut slices);
        self.offer_slices(&slices[..count], &mut [IoSlice::new(&[]); SLICES_MAX])
    }

    #[inline]
    fn offer_slices<'a>(&self, slices: &[&'a [u8]], vectors: &mut [IoSlice<'a>]) -> Sent {
        let mut len = 0;
        for (vector, slice) in vectors.iter_mut().zip(slices) {
            *vector = IoSlice::new(slice);
            len += slice.len();
        }
        self.offer(len, |socket| writev(socket, &vectors[..slices.len()]))
    }

    /// Writes `len` bytes, of which the socket may take less: then it is full, and asking it again would
    /// only tell so.
    #[inline]
    fn offer(&self, len: usize, write: impl Fn(&OwnedFd) -> rustix::io::Result<usize>) -> Sent {
        let mut sent = 0;
        let result = self.socket.try_io(Interest::WRITABLE, |socket| {
            sent = retry_on_intr(|| write(socket))?;
            if sent < len { Err(io::Error::from(ErrorKind::WouldBlock)) } else { Ok(()) }
        });
        match result {
            Ok(()) => Sent::Bytes(sent),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.sending.set(Sending::Blocked);
                if sent == 0 { Sent::Nothing } else { Sent::Bytes(sent) }
            }
            Err(_) => Sent::Gone,
        }
    }
}

impl Body {
    /// Sends what can leave to this client, and closes the connection if that was to be its end.
    pub fn flush(&self, connection: &Connection, now: Now) {
        let id = connection.id;
        let mut engine = self.engine.borrow_mut();
        let (mut total, mut asked) = (0, false);
        while connection.sending.get() == Sending::Free {
            match connection.send_next(&engine) {
                Sent::Nothing if asked => break,
                Sent::Nothing => engine.handle_writable(id, now),
                Sent::Bytes(sent) => {
                    engine.handle_written(id, sent, now);
                    total += sent;
                    if total >= FLUSH_MAX && connection.sending.get() == Sending::Free {
                        connection.sending.set(Sending::Paused);
                    }
                }
                Sent::Gone => {
                    drop(engine);
                    return self.close(connection);
                }
            }
            asked = true;
        }
        if engine.should_close(id) {
            drop(engine);
            self.close(connection);
        }
    }

    /// As [`Body::flush`], on behalf of the connection's task, which is woken only if it has to act.
    pub fn flush_from_driver(&self, connection: &Connection, now: Now) {
        self.flush(connection, now);
        let input_wanted =
            connection.input_waits.get() && self.engine.borrow_mut().wants_input(connection.id);
        if input_wanted || connection.sending.get() != Sending::Free || connection.closed.get() {
            connection.wake_task();
        }
    }

    /// Ends a connection. Its socket goes with its task.
    fn close(&self, connection: &Connection) {
        if !connection.closed.replace(true) {
            self.engine.borrow_mut().handle_disconnected(connection.id);
            self.connections.borrow_mut().remove(&connection.id);
            self.wake_driver();
        }
    }

    /// Reads once, if the socket has something and the engine wants it, and runs what was read.
    #[inline]
    fn poll_receive(&self, connection: &Connection, context: &mut Context<'_>) -> Poll<Received> {
        let id = connection.id;
        loop {
            let Poll::Ready(ready) = connection.socket.poll_read_ready(context) else { return Poll::Pending };
            let Ok(mut ready) = ready else { return Poll::Ready(Received::Lost) };
            if !self.engine.borrow_mut().wants_input(id) {
                connection.input_waits.set(true);
                return Poll::Pending;
            }
            let mut buffer = self.input.borrow_mut();
            // Bytes arrive in the buffer that all connections share.
            let len = match recv(&connection.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Poll::Ready(Received::End),
                Ok((len, _)) => len,
                Err(Errno::AGAIN | Errno::INTR) => {
                    ready.clear_ready();
                    continue;
                }
                Err(_) => return Poll::Ready(Received::Lost),
            };
            let more = len == buffer.len();
            if !more {
                // The socket is empty: to ask it again would only tell so.
                ready.clear_ready();
            }
            self.run(id, &buffer[..len]);
            return Poll::Ready(if more { Received::More } else { Received::Input });
        }
    }

    #[inline]
    fn run(&self, id: ClientId, bytes: &[u8]) {
        let mut engine = self.engine.borrow_mut();
        engine.handle_input(id, bytes, self.clock.now());
        if let Some(sleep_ns) = engine.poll_sleep_ns() {
            self.sleep(sleep_ns);
        }
    }
}

/// The task of a connection: waits for its socket, until it is closed.
pub struct Serve {
    body: Rc<Body>,
    connection: Rc<Connection>,
}

impl Serve {
    /// The task of `connection`.
    pub fn new(body: Rc<Body>, connection: Rc<Connection>) -> Serve {
        Serve { body, connection }
    }

    /// Sends more once the socket takes it. `Ready` if something was sent.
    fn poll_send(&self, context: &mut Context<'_>) -> Poll<()> {
        let (body, connection) = (&self.body, &self.connection);
        if connection.sending.get() == Sending::Blocked {
            match connection.socket.poll_write_ready(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => {
                    body.close(connection);
                    return Poll::Ready(());
                }
            }
        }
        connection.sending.set(Sending::Free);
        body.flush(connection, body.clock.now());
        body.wake_driver();
        Poll::Ready(())
    }
}

impl Future for Serve {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (body, connection) = (&self.body, &self.connection);
        connection.task.get_or_init(|| context.waker().clone());
        connection.input_waits.set(false);
        loop {
            if connection.closed.get() {
                return Poll::Ready(());
            }
            if connection.sending.get() != Sending::Free && self.poll_send(context).is_ready() {
                if connection.sending.get() == Sending::Paused {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            if connection.input_ended.get() {
                return Poll::Pending;
            }
            let received = std::task::ready!(body.poll_receive(connection, context));
            match received {
                Received::End => {
                    connection.input_ended.set(true);
                    body.engine.borrow_mut().handle_input_end(connection.id);
                }
                Received::Lost => {
                    body.close(connection);
                    continue;
                }
                Received::Input | Received::More => {}
            }
            body.flush(connection, body.clock.now());
            body.wake_driver();
            if matches!(received, Received::More) || connection.sending.get() == Sending::Paused {
                // The others have waited for this.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
