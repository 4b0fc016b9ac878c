//! A large argument on its way into far pages, as it arrives; and replies that do not move, put there too.
//!
//! ```text
//! *3 $3 SET $1 k $536870912 │ bytes ...                     near: only what one read brings
//!                             └──► extent: page, page, ...  dirty pages are written back behind it
//!                             └──► no room: the bytes are read and forgotten, and the command answers why
//! ```
//!
//! Refuses to know what the argument is for: `Args::spooled` hands it to the command.

use crate::args::Spooled;
use crate::client::{Client, ClientId};
use crate::engine::{Engine, Now};
use crate::error::Outcome;
use crate::far::Far;
use crate::stream::FarSlice;
use farmem::{Acquired, FarAddr, PAGE_SIZE, PageSet, Ticket};

/// A bulk argument of at least this many bytes goes to far pages as it arrives. Below it, one more copy
/// through the client's input is cheaper than the bookkeeping. Units: bytes.
pub const SPOOL_MIN: usize = 256 * 1024;

/// Replies below this are not worth a page of far memory. Units: bytes.
const SPILL_MIN: usize = PAGE_SIZE;

/// An argument that is arriving.
pub struct Spool {
    argument: Spooled,
    received: usize,
    /// Where in the client's input its bytes belong: what stands before is the command so far.
    pub data_start: usize,
}

/// What became of bytes offered to a spool.
pub enum Fed {
    /// So many were taken.
    Taken(usize),
    /// Frames are short: go on when the ticket is over.
    Waiting(Ticket),
}

impl Spool {
    /// Allocates the extent for an argument of `len` bytes.
    pub fn begin(far: &mut Far, index: usize, len: usize, data_start: usize) -> Outcome<Spool> {
        let addr = far.allocate_extent(len, FarAddr::NULL)?.first.addr();
        // Borrowed, so that a FLUSHALL meanwhile leaves it alone.
        far.borrow_object(addr);
        Ok(Spool { argument: Spooled { index, addr, len }, received: 0, data_start })
    }

    /// An argument that has no place: its bytes are counted, so that the next command is found behind them.
    pub fn without_place(index: usize, len: usize, data_start: usize) -> Spool {
        Spool { argument: Spooled { index, addr: FarAddr::NULL, len }, received: 0, data_start }
    }

    /// Gives the extent back; `received` bytes have arrived by now, wherever the writing of them ended.
    pub fn lose_place(&mut self, far: &mut Far, received: usize) {
        drop_spooled(far, self.argument);
        self.argument.addr = FarAddr::NULL;
        self.received = received;
    }

    /// Bytes that have arrived.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Bytes still to come.
    pub fn missing(&self) -> usize {
        self.argument.len - self.received
    }

    /// Takes what belongs to the argument from the front of `bytes`.
    /// # Errors
    /// When there is no room for it: then it loses its place.
    pub fn feed(&mut self, far: &mut Far, bytes: &[u8], now: Now) -> Outcome<Fed> {
        let bytes = &bytes[..bytes.len().min(self.missing())];
        if self.argument.addr == FarAddr::NULL {
            self.received += bytes.len();
            return Ok(Fed::Taken(bytes.len()));
        }
        let fresh = bytes.len().div_ceil(PAGE_SIZE) as u32 + 1;
        // The page that the last bytes have filled in part may have been evicted meanwhile.
        let mut begun = PageSet::new();
        let at = self.argument.addr.plus(self.received);
        if at.offset() != 0 {
            begun.push_page(at.page());
        }
        if let Acquired::Waiting(ticket) = far.pager.acquire(&begun, fresh, false, now.monotonic)? {
            return Ok(Fed::Waiting(ticket));
        }
        let written = self.write(far, bytes);
        far.pager.release(&begun);
        written.map(|()| Fed::Taken(bytes.len()))
    }

    fn write(&mut self, far: &mut Far, bytes: &[u8]) -> Outcome<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = self.argument.addr.plus(self.received);
            let here = rest.len().min(PAGE_SIZE - at.offset());
            let (head, tail) = rest.split_at(here);
            if at.offset() == 0 {
                let frame = far.pager.page_overwrite(at.page())?;
                frame[..here].copy_from_slice(head);
                frame[here..].fill(0);
            } else {
                far.pager.bytes_mut(at, here)?.copy_from_slice(head);
            }
            self.received += here;
            rest = tail;
        }
        Ok(())
    }

    /// The argument, once nothing is missing.
    pub fn finish(self) -> Spooled {
        assert_eq!(self.missing(), 0, "a spool is finished when all of it has arrived");
        self.argument
    }

    /// Gives the extent back: its command will not come.
    pub fn abandon(self, far: &mut Far) {
        drop_spooled(far, self.argument);
    }
}

/// Frees a spooled argument, unless its command has adopted it: then it is not borrowed any more.
pub fn drop_spooled(far: &mut Far, spooled: Spooled) {
    if far.is_borrowed(spooled.addr) {
        far.free(spooled.addr);
        far.return_object(spooled.addr);
    }
}

/// Makes a spooled argument a value: the extent belongs to the caller now.
pub fn adopt_spooled(far: &mut Far, spooled: Spooled) {
    far.return_object(spooled.addr);
}

impl Engine {
    /// Frees whatever large arguments this client has sent.
    pub(crate) fn drop_spools(&mut self, client: &mut Client) {
        if let Some(spool) = client.spool.take() {
            spool.abandon(&mut self.keys.far);
        }
        for spooled in client.spooled.drain(..) {
            drop_spooled(&mut self.keys.far, spooled);
        }
    }

    /// Moves a reply that its client does not read into far memory, so that it holds no frame and no near
    /// buffer; it leaves as a stream from there. Leaves it where it is if there is no room.
    pub(crate) fn spill_output(&mut self, id: ClientId, now: Now) {
        let Some(mut client) = self.clients.take(id) else { return };
        if let Some(output) = client.output.as_mut()
            && output.ready_bytes() >= SPILL_MIN
            // What stands behind a stream is not ready before that has left.
            && output.stream_in_front().is_none()
        {
            let far = &mut self.keys.far;
            let fresh = (output.ready_bytes() / PAGE_SIZE) as u32 + 2;
            let room = far.pager.acquire(&PageSet::new(), fresh, false, now.monotonic);
            match room {
                Ok(Acquired::Ready) => {
                    let ready = output.take_ready(&mut *far.pager);
                    if let Ok(slice) = spill(far, &ready) {
                        output.push_front_stream(slice);
                    } else {
                        client.killed = true;
                    }
                }
                Ok(Acquired::Waiting(ticket)) => far.pager.cancel(ticket),
                Err(_) => {}
            }
        }
        self.clients.put(client);
    }
}

/// Writes `bytes` to an extent that is freed when the slice has been read.
pub fn spill(far: &mut Far, bytes: &[u8]) -> Outcome<FarSlice> {
    let object = far.allocate_extent(bytes.len(), FarAddr::NULL)?.first.addr();
    if let Err(error) = far.write_pages(object.page(), bytes) {
        far.free(object);
        return Err(error.into());
    }
    far.borrow_object(object);
    far.free(object);
    Ok(FarSlice { addr: object, len: bytes.len(), object })
}
