//! What a command sees while it is planned and while it is executed.

use super::walk::Walk;
use crate::args::Args;
use crate::client::{Client, Clients};
use crate::engine::Now;
use crate::error::{CommandError, Outcome};
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::{Found, KeySpace};
use crate::number;
use crate::reply::Reply;
use crate::server::Server;
use crate::stream::{FarSlice, Stream};
use crate::value::string::StringRef;
use farmem::{FarAddr, PAGE_SIZE, PageRange, PageSet};

/// Values up to this size are copied into the reply; larger ones leave from their frames. Measured: a copy
/// of one page costs less than a slice of its own in `writev`. Units: bytes.
pub const COPY_MAX: usize = PAGE_SIZE;

/// The plan of one command in the making.
pub struct Plan<'a> {
    pub keys: &'a mut KeySpace,
    pub db: usize,
    pub now: Now,
    /// The pages that execution will touch.
    pub pages: &'a mut PageSet,
    /// Frames that execution will take for pages that are new.
    pub fresh: u32,
    /// What the command has done so far, if it goes in steps.
    pub walk: Option<&'a Walk>,
}

impl Plan<'_> {
    /// Plans to look up a key. Answers its entry if it (almost surely) exists and is of one fingerprint.
    #[inline]
    pub fn key(&mut self, key: &[u8]) -> Option<Entry> {
        self.keys.plan_key(self.db, key, self.pages)
    }

    /// Plans to look up a key and to read its value, if that is a string short enough to be held.
    pub fn key_and_value(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.key(key)?;
        if entry.kind() == Kind::LargeString {
            let pages = self.keys.far.pages_of(entry.addr());
            if pages.count <= self.hold_pages_max() {
                self.pages.push(pages);
            } else {
                self.pages.push(PageRange { first: pages.first, count: 1 });
            }
        }
        Some(entry)
    }

    /// The largest reply that is held rather than streamed. Units: pages.
    pub fn hold_pages_max(&self) -> u32 {
        self.keys.far.hold_pages_max()
    }

    /// Plans frames for `bytes` of new values.
    #[inline]
    pub fn fresh_bytes(&mut self, bytes: usize) {
        self.fresh += (bytes / PAGE_SIZE) as u32 + 2;
    }
}

/// A command in execution.
pub struct Context<'a> {
    pub keys: &'a mut KeySpace,
    pub client: &'a mut Client,
    /// All other clients.
    pub clients: &'a mut Clients,
    pub server: &'a mut Server,
    pub reply: Reply<'a>,
    pub now: Now,
}

impl Context<'_> {
    /// Finds a key to read it; counts the hit or miss.
    #[inline]
    pub fn find_read(&mut self, key: &[u8]) -> Outcome<Option<Found>> {
        self.keys.find_read(self.client.db, key, self.now.unix_ms)
    }

    /// Finds a key to change it.
    #[inline]
    pub fn find(&mut self, key: &[u8]) -> Outcome<Option<Found>> {
        self.keys.find(self.client.db, key, self.now.unix_ms)
    }

    /// Finds a key to replace it, whatever it holds: if its name is on a page that is lost, it is deleted.
    #[inline]
    pub fn find_to_replace(&mut self, key: &[u8]) -> Outcome<Option<Found>> {
        self.keys.drop_lost(self.client.db, key);
        self.find(key)
    }

    /// Finds a string to read it.
    /// # Errors
    /// `WRONGTYPE` if the key holds something else.
    #[inline]
    pub fn find_string(&mut self, key: &[u8]) -> Outcome<Option<(Found, StringRef)>> {
        let Some(found) = self.find_read(key)? else { return Ok(None) };
        if !found.entry.kind().is_string() {
            return Err(CommandError::WRONG_TYPE.into());
        }
        Ok(Some((found, self.keys.string_ref(found)?)))
    }

    /// Argument `index` as an integer.
    /// # Errors
    /// Redis' `value is not an integer or out of range`.
    pub fn integer(&self, args: &Args, index: usize) -> Outcome<i64> {
        number::parse_i64(args.get(index)).ok_or(CommandError::NOT_AN_INTEGER.into())
    }

    /// Counts a change to the data set.
    #[inline]
    pub fn changed(&mut self, times: u64) {
        self.keys.stats.changes += times;
    }

    /// Answers `len` bytes of far memory as one bulk string: copied if short, from their frames if they are
    /// here, else streamed.
    pub fn reply_far_bulk(&mut self, addr: FarAddr, len: usize, object: FarAddr) -> Outcome {
        self.server.stats.bytes_wanted += len as u64;
        crate::resp::encode::bulk_header(self.reply.output.near(), len);
        self.reply_far(addr, len, object)?;
        self.reply.output.near().extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Appends `len` bytes of far memory as they are. See [`Context::reply_far_bulk`].
    pub fn reply_far(&mut self, addr: FarAddr, len: usize, object: FarAddr) -> Outcome {
        let pages = PageRange::covering(addr, len);
        let far = &mut self.keys.far;
        // What no plan had room for, as of an MGET of many values, is streamed however short it is.
        if len <= COPY_MAX && (!far.heap.is_extent(object.page()) || far.all_here(pages)) {
            return Ok(far.copy_out(addr, len, self.reply.output.near())?);
        }
        if pages.count <= far.hold_pages_max() && far.hold_allowed(pages.count) && far.all_here(pages) {
            let mut left = len;
            let mut at = addr;
            while left > 0 {
                let here = left.min(PAGE_SIZE - at.offset());
                let frame = far.pager.hold(at.page()).expect("all_here was asked above");
                self.reply.output.push_frame(frame, at.offset(), here);
                at = at.plus(here);
                left -= here;
            }
            return Ok(());
        }
        far.borrow_object(object);
        let mut stream = Stream::default();
        stream.push(FarSlice { addr, len, object });
        self.reply.output.push_stream(stream);
        Ok(())
    }
}
