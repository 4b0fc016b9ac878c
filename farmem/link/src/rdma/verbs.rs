//! RDMA verbs, over libibverbs: with `library`, which finds it, all unsafe code of this folder.
//!
//! ```text
//!   Library ─► Device ─► Domain ─┬─► Region         registered memory, with its keys
//!      (dlopen)    └─► Completions ─┴─► QueuePair   READ and WRITE, in chains
//! ```
//!
//! Everything keeps what it was made from alive, so nothing is destroyed under another. Refuses to know
//! pages, peers and deadlines. A machine without library or device gets one line that says so. The tests run
//! all of it over a library that is none, under Miri too (`make miri`).

mod library;
#[cfg(test)]
mod tests;

use super::answer::{done, made, missing};
use super::raw::{self, Address, PairAttributes, Piece, SendRequest, WorkCompletion};
use crate::arena::{self, Arena};
use farmem::Frame;
use library::{Functions, library};
use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

/// Completions that are taken from the library at a time.
const TAKEN_TOGETHER_MAX: usize = 16;
/// READs at once on a pair: what NICs have at most, more or less.
const READS_MAX: u8 = 16;
/// 4.096 us x 2^14 = 67 ms until a packet is sent again, and the same again 7 times: a peer is given up after 0.5 s.
const TIMEOUT: u8 = 14;
const RETRIES_MAX: u8 = 7;
/// A peer that has no receive posted is asked again after 0.64 ms. One-sided operations need none.
const RNR_TIMER: u8 = 12;

/// The names of the devices of this machine.
///
/// # Errors
/// One line, if there is no library or no device.
pub fn device_names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    with_devices(library()?, |library, device| {
        names.push(name_of(library, device));
        None::<()>
    })?;
    if names.is_empty() { Err(missing("this machine has no RDMA device")) } else { Ok(names) }
}

fn name_of(library: &Functions, device: *mut raw::Device) -> String {
    // SAFETY: the device is of a list that has not been freed; its name is a C string that lives as long.
    let name = unsafe { CStr::from_ptr((library.get_device_name)(device)) };
    name.to_string_lossy().into_owned()
}

/// Shows every device to `look`, until it answers something.
fn with_devices<T>(
    library: &'static Functions,
    mut look: impl FnMut(&'static Functions, *mut raw::Device) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut count = 0;
    // SAFETY: the library writes the count of the list that it gives.
    let list = unsafe { (library.get_device_list)(&mut count) };
    let list = NonNull::new(list).ok_or_else(|| match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOSYS) => {
            missing("the kernel module ib_uverbs is not loaded")
        }
        error => missing(&error.to_string()),
    })?;
    // SAFETY: the list has `count` devices and is not freed before the end of this function.
    let devices = unsafe { std::slice::from_raw_parts(list.as_ptr(), count.max(0) as usize) };
    let found = devices.iter().find_map(|&device| look(library, device));
    // SAFETY: it is the list from above, freed once; whoever has opened a device keeps that.
    unsafe { (library.free_device_list)(list.as_ptr()) };
    Ok(found)
}

/// An open device.
pub struct Device {
    library: &'static Functions,
    context: NonNull<raw::Context>,
    name: String,
}

// SAFETY: libibverbs may be called from any thread, and locks what it shares.
unsafe impl Send for Device {}
// SAFETY: as for `Send`.
unsafe impl Sync for Device {}

/// How a port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortState {
    /// Whether it can be used.
    pub is_active: bool,
    /// The largest packet, as InfiniBand numbers it: 1 is 256 bytes, 5 is 4096.
    pub mtu: u8,
    /// The address in an InfiniBand subnet.
    pub lid: u16,
    /// Whether it is RoCE, not InfiniBand.
    pub is_ethernet: bool,
}

/// What a device can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Work requests of a queue.
    pub requests: u32,
    /// Entries of a completion queue.
    pub completions: u32,
    /// READs that a pair serves, and asks for, at once.
    pub reads: u8,
    /// Ports, numbered from 1 on.
    pub ports: u8,
}

impl Device {
    /// Opens the device of this name.
    ///
    /// # Errors
    /// One line, if there is none or it cannot be opened.
    pub fn open(name: &str) -> io::Result<Arc<Device>> {
        Device::open_of(library()?, name)
    }

    fn open_of(library: &'static Functions, name: &str) -> io::Result<Arc<Device>> {
        let opened = with_devices(library, |library, device| {
            // SAFETY: the device is of a list that has not been freed.
            (name_of(library, device) == name).then(|| (library, unsafe { (library.open_device)(device) }))
        })?;
        let (library, context) = opened.ok_or_else(|| missing(&format!("there is no device '{name}'")))?;
        let context = made(context, &format!("open RDMA device '{name}'"))?;
        Ok(Arc::new(Device { library, context, name: name.to_owned() }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How a port of it is.
    ///
    /// # Errors
    /// What the library answers.
    pub fn port(&self, port: u8) -> io::Result<PortState> {
        // SAFETY: all zeros is a valid value of this struct of numbers.
        let mut state: raw::PortAttributes = unsafe { std::mem::zeroed() };
        // SAFETY: the context is open; the library writes no more than this struct has.
        let code = unsafe { (self.library.query_port)(self.context.as_ptr(), port, &mut state) };
        done(code, &format!("query port {port} of '{}'", self.name))?;
        Ok(PortState {
            is_active: state.state == raw::PORT_ACTIVE,
            mtu: state.active_mtu as u8,
            lid: state.lid,
            is_ethernet: state.link_layer == raw::LINK_LAYER_ETHERNET,
        })
    }

    /// What it can do.
    ///
    /// # Errors
    /// What the library answers.
    pub fn limits(&self) -> io::Result<Limits> {
        // SAFETY: all zeros is a valid value of this struct of numbers.
        let mut has: raw::DeviceAttributes = unsafe { std::mem::zeroed() };
        // SAFETY: the context is open; the library writes no more than this struct has.
        let code = unsafe { (self.library.query_device)(self.context.as_ptr(), &mut has) };
        done(code, &format!("query '{}'", self.name))?;
        let reads = has.max_qp_rd_atom.min(has.max_qp_init_rd_atom).clamp(1, c_int::from(READS_MAX));
        Ok(Limits {
            requests: has.max_qp_wr.max(0) as u32,
            completions: has.max_cqe.max(0) as u32,
            reads: reads as u8,
            ports: has.phys_port_cnt,
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: it was opened once, and everything made from it holds a reference to this value.
        unsafe { (self.library.close_device)(self.context.as_ptr()) };
    }
}

/// What regions and queue pairs belong to together.
pub struct Domain {
    domain: NonNull<raw::Domain>,
    device: Arc<Device>,
}

// SAFETY: libibverbs may be called from any thread, and locks what it shares.
unsafe impl Send for Domain {}
// SAFETY: as for `Send`.
unsafe impl Sync for Domain {}

impl Domain {
    /// A domain of its own.
    ///
    /// # Errors
    /// What the library answers.
    pub fn new(device: &Arc<Device>) -> io::Result<Arc<Domain>> {
        // SAFETY: the context is open.
        let domain = unsafe { (device.library.alloc_pd)(device.context.as_ptr()) };
        Ok(Arc::new(Domain { domain: made(domain, "make a protection domain")?, device: Arc::clone(device) }))
    }

    /// Registers frames, so that their pages may be read and written by the device: they become resident, and stay so.
    ///
    /// # Errors
    /// What the library answers, e.g. that no more memory may be locked.
    /// # Panics
    /// If the frames lie in no [`Arena`](crate::Arena).
    pub fn register_frames(self: &Arc<Domain>, frames: &[Frame]) -> io::Result<Region> {
        assert!(arena::is_in_arena(frames), "frames for RDMA lie in an arena");
        let (start, len) = (NonNull::from(frames).cast(), size_of_val(frames));
        arena::note_registered(frames);
        // SAFETY: an arena is mapped for ever, and from now on no frame of these is given back to the system;
        // where a window's frames come to be other memory the device keeps the old pages, which nobody sees
        // any more, and is told to forget them. It writes to a frame only while a transfer is in flight, when
        // nobody else looks at it.
        unsafe { self.register(start, len, false) }
    }

    /// Registers a whole arena for peers, who read and write it whenever they like; so nobody else ever looks at it.
    ///
    /// # Errors
    /// What the library answers, e.g. that no more memory may be locked.
    pub fn lend(self: &Arc<Domain>, arena: Arena) -> io::Result<Region> {
        let frames: *mut [Frame] = arena.frames();
        let start = NonNull::new(frames.cast()).expect("no frame is at address zero");
        // SAFETY: an arena is mapped for ever, and this was the only way to it.
        unsafe { self.register(start, frames.len() * size_of::<Frame>(), true) }
    }

    /// Registers memory; `for_peers` says whether peers who know the key may read and write it.
    ///
    /// # Errors
    /// What the library answers, e.g. that no more memory may be locked.
    /// # Safety
    /// The memory stays mapped, and backed by the same pages, for as long as the region lives; and nobody minds that the
    /// device changes it at any time: no reference into it exists while a peer or a transfer may write.
    pub unsafe fn register(
        self: &Arc<Domain>,
        start: NonNull<u8>,
        len: usize,
        for_peers: bool,
    ) -> io::Result<Region> {
        let remote = if for_peers { raw::ACCESS_REMOTE_READ | raw::ACCESS_REMOTE_WRITE } else { 0 };
        let access = raw::ACCESS_LOCAL_WRITE | remote;
        // SAFETY: the domain is alive, and the caller answers for the memory.
        let region =
            unsafe { (self.device.library.reg_mr)(self.domain.as_ptr(), start.as_ptr().cast(), len, access) };
        let region = made(region, &format!("register {len} bytes"))?;
        Ok(Region { region, start: start.as_ptr().addr() as u64, len: len as u64, domain: Arc::clone(self) })
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: it was made once, and everything made from it holds a reference to this value.
        unsafe { (self.device.library.dealloc_pd)(self.domain.as_ptr()) };
    }
}

/// Registered memory.
pub struct Region {
    region: NonNull<raw::Region>,
    start: u64,
    len: u64,
    domain: Arc<Domain>,
}

// SAFETY: libibverbs may be called from any thread; the region is only ever read.
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

/// Bytes of a region, as a work request names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Local {
    address: u64,
    len: u32,
    key: u32,
}

impl Region {
    /// `len` bytes from `offset` on.
    ///
    /// # Panics
    /// If they are not all inside.
    pub fn local(&self, offset: usize, len: u32) -> Local {
        let inside = (offset as u64).checked_add(u64::from(len)).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {offset} are not inside a region of {}", self.len);
        // SAFETY: the region is registered, and so its description is there.
        let key = unsafe { self.region.as_ref() }.lkey;
        Local { address: self.start + offset as u64, len, key }
    }

    /// Where a peer finds it: the address of its first byte, its length, and the key.
    pub fn remote(&self) -> (u64, u64, u32) {
        // SAFETY: as in `local`.
        (self.start, self.len, unsafe { self.region.as_ref() }.rkey)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was registered once. A work request that still names it fails.
        unsafe { (self.domain.device.library.dereg_mr)(self.region.as_ptr()) };
    }
}

/// A completion queue and the channel that announces it.
pub struct Completions {
    queue: NonNull<raw::CompletionQueue>,
    channel: NonNull<raw::Channel>,
    device: Arc<Device>,
}

// SAFETY: libibverbs may be called from any thread, and locks what it shares.
unsafe impl Send for Completions {}
// SAFETY: as for `Send`.
unsafe impl Sync for Completions {}

/// A work request that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// What it was posted as.
    pub id: u64,
    /// Zero, or what went wrong: see [`status_name`].
    pub status: u32,
}

/// What a status says, in the library's words.
pub fn status_name(status: u32) -> String {
    let Ok(library) = library() else { return status.to_string() };
    // SAFETY: the library answers a constant C string, whatever the status.
    unsafe { CStr::from_ptr((library.wc_status_str)(status)) }.to_string_lossy().into_owned()
}

impl Completions {
    /// A queue for so many completions.
    ///
    /// # Errors
    /// What the library answers.
    pub fn new(device: &Arc<Device>, entries: u32) -> io::Result<Arc<Completions>> {
        let (library, context) = (device.library, device.context.as_ptr());
        // SAFETY: the context is open.
        let channel = made(unsafe { (library.create_comp_channel)(context) }, "make a completion channel")?;
        // SAFETY: context and channel are alive, and the queue is destroyed before both.
        let queue =
            unsafe { (library.create_cq)(context, entries as c_int, null_mut(), channel.as_ptr(), 0) };
        let queue = made(queue, "make a completion queue").inspect_err(|_| {
            // SAFETY: nothing was made that uses the channel.
            unsafe { (library.destroy_comp_channel)(channel.as_ptr()) };
        })?;
        let completions = Arc::new(Completions { queue, channel, device: Arc::clone(device) });
        // Miri has no such call, and the library that is none no such descriptor.
        if !cfg!(miri) {
            rustix::io::ioctl_fionbio(completions.event_fd(), true)?;
        }
        Ok(completions)
    }

    /// Becomes readable when something completes after [`Completions::arm`].
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel owns its descriptor and lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.channel.as_ref().fd) }
    }

    /// Asks to be told of the next completion. What completes before this returns may stay unannounced.
    ///
    /// # Errors
    /// What the library answers.
    pub fn arm(&self) -> io::Result<()> {
        // SAFETY: the queue is alive, and the context's functions are set as long as it is open.
        let code = unsafe { (self.device.context.as_ref().req_notify_cq)(self.queue.as_ptr(), 0) };
        done(code, "arm a completion queue")
    }

    /// Takes the announcements that have come.
    pub fn clear_events(&self) {
        let (mut queue, mut context): (_, *mut c_void) = (null_mut(), null_mut());
        let library = self.device.library;
        // SAFETY: the channel is alive and does not block; every event taken is acknowledged, as its queue demands.
        unsafe {
            while (library.get_cq_event)(self.channel.as_ptr(), &mut queue, &mut context) == 0 {
                (library.ack_cq_events)(queue, 1);
            }
        }
    }

    /// Appends what has completed.
    ///
    /// # Errors
    /// What the library answers.
    pub fn poll(&self, to: &mut Vec<Completion>) -> io::Result<()> {
        let mut taken = [WorkCompletion { id: 0, status: 0, unused: [0; 9] }; TAKEN_TOGETHER_MAX];
        loop {
            // SAFETY: the queue is alive, and there is room for so many completions.
            let count = unsafe {
                let context = self.device.context.as_ref();
                (context.poll_cq)(self.queue.as_ptr(), TAKEN_TOGETHER_MAX as c_int, taken.as_mut_ptr())
            };
            let count =
                usize::try_from(count).map_err(|_| io::Error::other("a completion queue is broken"))?;
            to.extend(taken[..count].iter().map(|end| Completion { id: end.id, status: end.status }));
            if count < TAKEN_TOGETHER_MAX {
                return Ok(());
            }
        }
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        let library = self.device.library;
        // SAFETY: both were made once; no queue pair is left, since each holds a reference to this value, and every event
        // that was taken is acknowledged.
        unsafe {
            (library.destroy_cq)(self.queue.as_ptr());
            (library.destroy_comp_channel)(self.channel.as_ptr());
        }
    }
}

/// Where a peer is, and how to talk to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Our port.
    pub port: u8,
    /// Our GID's place in the port's table.
    pub gid_index: u8,
    /// The peer's GID.
    pub gid: [u8; 16],
    /// The peer's address in an InfiniBand subnet.
    pub lid: u16,
    /// Whether the way needs GIDs: always over Ethernet.
    pub is_global: bool,
    /// The largest packet that both can take.
    pub mtu: u8,
    /// READs at once that both can take.
    pub reads: u8,
}

/// A reliable connection's end: its queues.
pub struct QueuePair {
    pair: NonNull<raw::QueuePair>,
    /// Kept alive: the pair completes to them.
    _completions: Arc<Completions>,
    domain: Arc<Domain>,
    /// Work requests and their pieces, as they are posted. Bounds: what the queue takes.
    requests: Vec<SendRequest>,
    pieces: Vec<Piece>,
}

// SAFETY: libibverbs may be called from any thread; the scratch points to nothing between two calls.
unsafe impl Send for QueuePair {}

/// One page to move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Where from or to, here.
    pub local: Local,
    /// From or to there.
    pub remote_address: u64,
    /// The key of the peer's region.
    pub remote_key: u32,
    /// From there to here, or the other way.
    pub is_read: bool,
    /// What the completion will say.
    pub id: u64,
    /// Whether a success makes a completion.
    pub is_signalled: bool,
}

impl QueuePair {
    /// A pair that is not connected, for so many work requests at a time.
    ///
    /// # Errors
    /// What the library answers.
    pub fn new(
        domain: &Arc<Domain>,
        completions: &Arc<Completions>,
        requests_max: u32,
    ) -> io::Result<QueuePair> {
        let queue = completions.queue.as_ptr();
        let mut wanted = raw::InitAttributes {
            qp_context: null_mut(),
            send_cq: queue,
            recv_cq: queue,
            srq: null_mut(),
            capacities: raw::Capacities {
                max_send_wr: requests_max,
                max_recv_wr: 1,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: 0,
            },
            kind: raw::QPT_RC,
            sq_sig_all: 0,
        };
        // SAFETY: domain and completion queue are alive, and outlive the pair, which holds references to both.
        let pair = unsafe { (domain.device.library.create_qp)(domain.domain.as_ptr(), &mut wanted) };
        Ok(QueuePair {
            pair: made(pair, "make a queue pair")?,
            _completions: Arc::clone(completions),
            domain: Arc::clone(domain),
            requests: Vec::with_capacity(requests_max as usize),
            pieces: Vec::with_capacity(requests_max as usize),
        })
    }

    /// Its number, by which the peer finds it.
    pub fn number(&self) -> u32 {
        // SAFETY: the pair is alive, and so its description is there.
        unsafe { self.pair.as_ref() }.number
    }

    /// Connects it to a peer's pair, so that it serves the peer, and may be posted to.
    ///
    /// # Errors
    /// What the library answers.
    pub fn connect(&self, way: &Way, peer_number: u32, peer_psn: u32, psn: u32) -> io::Result<()> {
        // SAFETY: all zeros is a valid value of this struct of numbers.
        let zeroed: PairAttributes = unsafe { std::mem::zeroed() };
        let init = PairAttributes {
            state: raw::STATE_INIT,
            port_num: way.port,
            access_flags: (raw::ACCESS_REMOTE_READ | raw::ACCESS_REMOTE_WRITE) as u32,
            ..zeroed
        };
        self.modify(init, raw::MASK_INIT, "set up a queue pair")?;
        let address = Address {
            dgid: raw::RawGid(way.gid),
            sgid_index: way.gid_index,
            hop_limit: 64,
            dlid: way.lid,
            is_global: way.is_global.into(),
            port_num: way.port,
            ..zeroed.address
        };
        let ready_to_receive = PairAttributes {
            state: raw::STATE_READY_TO_RECEIVE,
            path_mtu: way.mtu.into(),
            dest_qp_num: peer_number,
            rq_psn: peer_psn,
            max_dest_rd_atomic: way.reads,
            min_rnr_timer: RNR_TIMER,
            address,
            ..zeroed
        };
        self.modify(
            ready_to_receive,
            raw::MASK_READY_TO_RECEIVE,
            "reach the peer (is the GID the right one?)",
        )?;
        let ready_to_send = PairAttributes {
            state: raw::STATE_READY_TO_SEND,
            timeout: TIMEOUT,
            retry_cnt: RETRIES_MAX,
            rnr_retry: RETRIES_MAX,
            sq_psn: psn,
            max_rd_atomic: way.reads,
            ..zeroed
        };
        self.modify(ready_to_send, raw::MASK_READY_TO_SEND, "start a queue pair")
    }

    fn modify(&self, mut to: PairAttributes, mask: c_int, what: &str) -> io::Result<()> {
        // SAFETY: the pair is alive, and the struct has every field that the mask names.
        done(unsafe { (self.domain.device.library.modify_qp)(self.pair.as_ptr(), &mut to, mask) }, what)
    }

    /// Posts a chain with one ring of the doorbell; each step ends in its turn.
    ///
    /// # Errors
    /// What the library answers, e.g. that the queue is full; then part of the chain may be under way, so the pair is
    /// of no use any more.
    /// # Panics
    /// If the chain is longer than the queue.
    pub fn post(&mut self, steps: &[Step]) -> io::Result<()> {
        assert!(
            steps.len() <= self.requests.capacity(),
            "a chain of {} is longer than the queue",
            steps.len()
        );
        if steps.is_empty() {
            return Ok(());
        }
        self.pieces.clear();
        self.pieces.extend(steps.iter().map(|step| Piece {
            address: step.local.address,
            length: step.local.len,
            lkey: step.local.key,
        }));
        self.requests.clear();
        let (pieces, requests) = (self.pieces.as_mut_ptr(), self.requests.as_mut_ptr());
        self.requests.extend(steps.iter().enumerate().map(|(index, step)| SendRequest {
            id: step.id,
            next: if index + 1 < steps.len() { requests.wrapping_add(index + 1) } else { null_mut() },
            pieces: pieces.wrapping_add(index),
            piece_count: 1,
            opcode: if step.is_read { raw::WR_READ } else { raw::WR_WRITE },
            flags: if step.is_signalled { raw::SEND_SIGNALED } else { 0 },
            immediate: 0,
            remote_address: step.remote_address,
            rkey: step.remote_key,
            unused: [0; 9],
        }));
        let mut failed = null_mut();
        // SAFETY: pair and context are alive. Neither vector was moved since its addresses were taken, because both had
        // the room, so every link of the chain leads to an initialised request; the library copies what it keeps. A
        // `Local` lies in registered memory, for which whoever registered it has answered.
        let code = unsafe {
            let post_send = self.domain.device.context.as_ref().post_send;
            post_send(self.pair.as_ptr(), self.requests.as_mut_ptr(), &mut failed)
        };
        done(code, "post work requests")
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: it was made once. When this returns the device touches no memory for it any more.
        unsafe { (self.domain.device.library.destroy_qp)(self.pair.as_ptr()) };
    }
}
