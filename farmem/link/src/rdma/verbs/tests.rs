//! The wrapper over a library that is none, which looks at everything that it is given and really moves the bytes.
//!
//! ```text
//!   wrapper ─► Functions of this file ─► objects, each made and destroyed once, parents after children
//!                                        a chain is walked link by link, as a device would
//! ```
//!
//! All of it runs under Miri: `make miri`. Refuses to know what a real device is like: `tests/rdma` tries one.

use super::*;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_char;
use std::ptr::addr_of_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The functions, as they would be found in the library.
static FAKE: Functions = Functions {
    get_device_list,
    free_device_list,
    get_device_name,
    open_device,
    close_device,
    query_device,
    query_port,
    alloc_pd,
    dealloc_pd,
    reg_mr,
    dereg_mr,
    create_comp_channel,
    destroy_comp_channel,
    create_cq,
    destroy_cq,
    get_cq_event,
    ack_cq_events,
    create_qp,
    modify_qp,
    destroy_qp,
    wc_status_str,
};

/// What is alive, and by which address.
static ALIVE: Mutex<Vec<(&'static str, usize)>> = Mutex::new(Vec::new());
/// One test at a time: what is alive is counted.
static ONE: Mutex<()> = Mutex::new(());

fn alive() -> MutexGuard<'static, Vec<(&'static str, usize)>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an object of zeros.
fn born<T>(kind: &'static str) -> *mut T {
    // SAFETY: no object here is empty.
    let object = unsafe { alloc_zeroed(Layout::new::<T>()) }.cast::<T>();
    assert!(!object.is_null());
    alive().push((kind, object.addr()));
    object
}

/// Ends an object, which must be alive, while none of `children` is.
///
/// # Safety
/// It was made by `born::<T>`, and nobody uses it afterwards.
unsafe fn died<T>(kind: &'static str, object: *mut T, children: &[&str]) {
    let mut all = alive();
    let place = all.iter().position(|&known| known == (kind, object.addr()));
    all.swap_remove(place.unwrap_or_else(|| panic!("a {kind} is destroyed that is not alive")));
    let orphan = all.iter().find(|(other, _)| children.contains(other));
    assert!(orphan.is_none(), "a {kind} is destroyed before its {orphan:?}");
    drop(all);
    // SAFETY: the caller answers for it.
    unsafe { dealloc(object.cast(), Layout::new::<T>()) };
}

/// A completion queue behind the opaque one.
struct Queue {
    ends: Vec<WorkCompletion>,
    is_armed: bool,
}

#[repr(C)]
struct Pair {
    pair: raw::QueuePair,
    queue: *mut Queue,
    requests_max: u32,
    state: u32,
}

#[repr(C)]
struct Memory {
    region: raw::Region,
    start: *mut u8,
    len: usize,
}

/// Registered memory by its key.
struct Known(*mut u8, usize);
// SAFETY: whoever registered the memory answers for who touches it when.
unsafe impl Send for Known {}
static MEMORY: Mutex<Vec<(u32, Known)>> = Mutex::new(Vec::new());

/// Registered bytes by key and address, as a device finds them; none where they are not all inside.
fn find(key: u32, address: u64, len: u32) -> Option<*mut u8> {
    let memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, Known(start, room)) = memory.iter().find(|(known, _)| *known == key)?;
    let offset = (address as usize).checked_sub(start.addr())?;
    (offset + len as usize <= *room).then(|| start.wrapping_byte_add(offset))
}

unsafe extern "C" fn get_device_list(count: *mut c_int) -> *mut *mut raw::Device {
    let list = born::<[*mut raw::Device; 2]>("list").cast::<*mut raw::Device>();
    // SAFETY: there is room for two, and the caller has given a place for the count.
    unsafe {
        list.write(NonNull::<raw::Device>::dangling().as_ptr());
        count.write(1);
    }
    list
}

unsafe extern "C" fn free_device_list(list: *mut *mut raw::Device) {
    // SAFETY: it was made above.
    unsafe { died("list", list.cast::<[*mut raw::Device; 2]>(), &[]) };
}

unsafe extern "C" fn get_device_name(_: *mut raw::Device) -> *const c_char {
    c"fake0".as_ptr()
}

unsafe extern "C" fn open_device(_: *mut raw::Device) -> *mut raw::Context {
    let context = born::<raw::Context>("context");
    // SAFETY: there is room for one; with these three no field is of an invalid value.
    unsafe {
        addr_of_mut!((*context).poll_cq).write(poll_cq);
        addr_of_mut!((*context).req_notify_cq).write(req_notify_cq);
        addr_of_mut!((*context).post_send).write(post_send);
    }
    context
}

unsafe extern "C" fn close_device(context: *mut raw::Context) -> c_int {
    // SAFETY: it was made above.
    unsafe { died("context", context, &["domain", "region", "channel", "queue", "pair"]) };
    0
}

unsafe extern "C" fn query_device(_: *mut raw::Context, has: *mut raw::DeviceAttributes) -> c_int {
    // SAFETY: the caller has given a place.
    unsafe { ((*has).max_qp_wr, (*has).max_cqe, (*has).phys_port_cnt) = (1000, 2000, 1) };
    0
}

unsafe extern "C" fn query_port(_: *mut raw::Context, port: u8, is: *mut raw::PortAttributes) -> c_int {
    if port != 1 {
        return libc::EINVAL;
    }
    // SAFETY: the caller has given a place.
    unsafe { ((*is).state, (*is).active_mtu, (*is).lid) = (raw::PORT_ACTIVE, 5, 7) };
    0
}

unsafe extern "C" fn alloc_pd(_: *mut raw::Context) -> *mut raw::Domain {
    born::<u64>("domain").cast()
}

unsafe extern "C" fn dealloc_pd(domain: *mut raw::Domain) -> c_int {
    // SAFETY: it was made above.
    unsafe { died("domain", domain.cast::<u64>(), &["region", "pair"]) };
    0
}

unsafe extern "C" fn reg_mr(
    _: *mut raw::Domain,
    start: *mut c_void,
    len: usize,
    _: c_int,
) -> *mut raw::Region {
    if len == 0 {
        // SAFETY: the place of this thread's error.
        unsafe { *libc::__errno_location() = libc::ENOMEM };
        return null_mut();
    }
    let region = born::<Memory>("region");
    let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let key = 1 + memory.iter().map(|(key, _)| *key).max().unwrap_or(0);
    memory.push((key, Known(start.cast(), len)));
    // SAFETY: there is room for one.
    unsafe {
        ((*region).region.lkey, (*region).region.rkey) = (key, key);
        ((*region).start, (*region).len) = (start.cast(), len);
    }
    region.cast()
}

unsafe extern "C" fn dereg_mr(region: *mut raw::Region) -> c_int {
    // SAFETY: it was made above.
    unsafe {
        let key = (*region).lkey;
        MEMORY.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != key);
        died("region", region.cast::<Memory>(), &[]);
    }
    0
}

unsafe extern "C" fn create_comp_channel(_: *mut raw::Context) -> *mut raw::Channel {
    let channel = born::<raw::Channel>("channel");
    // SAFETY: there is room for one. Standard input is a descriptor that is there.
    unsafe { (*channel).fd = 0 };
    channel
}

unsafe extern "C" fn destroy_comp_channel(channel: *mut raw::Channel) -> c_int {
    // SAFETY: it was made above.
    unsafe { died("channel", channel, &["queue"]) };
    0
}

unsafe extern "C" fn create_cq(
    _: *mut raw::Context,
    entries: c_int,
    _: *mut c_void,
    channel: *mut raw::Channel,
    _: c_int,
) -> *mut raw::CompletionQueue {
    assert!(!channel.is_null());
    if entries < 1 {
        return null_mut();
    }
    let queue = born::<Queue>("queue");
    // SAFETY: there is room for one.
    unsafe { queue.write(Queue { ends: Vec::new(), is_armed: false }) };
    queue.cast()
}

unsafe extern "C" fn destroy_cq(queue: *mut raw::CompletionQueue) -> c_int {
    let queue = queue.cast::<Queue>();
    // SAFETY: it was made above.
    unsafe {
        queue.drop_in_place();
        died("queue", queue, &["pair"]);
    }
    0
}

unsafe extern "C" fn get_cq_event(
    _: *mut raw::Channel,
    _: *mut *mut raw::CompletionQueue,
    _: *mut *mut c_void,
) -> c_int {
    -1
}

unsafe extern "C" fn ack_cq_events(_: *mut raw::CompletionQueue, _: u32) {
    unreachable!("there was no event");
}

unsafe extern "C" fn create_qp(_: *mut raw::Domain, wanted: *mut raw::InitAttributes) -> *mut raw::QueuePair {
    let pair = born::<Pair>("pair");
    // SAFETY: the caller says what it wants, and there is room for a pair.
    unsafe {
        assert!((*wanted).send_cq == (*wanted).recv_cq && (*wanted).kind == raw::QPT_RC);
        (*pair).pair.number = 77;
        ((*pair).queue, (*pair).requests_max) = ((*wanted).send_cq.cast(), (*wanted).capacities.max_send_wr);
    }
    pair.cast()
}

unsafe extern "C" fn modify_qp(pair: *mut raw::QueuePair, to: *mut PairAttributes, mask: c_int) -> c_int {
    let masks = [0, raw::MASK_INIT, raw::MASK_READY_TO_RECEIVE, raw::MASK_READY_TO_SEND];
    let pair = pair.cast::<Pair>();
    // SAFETY: it was made above, and the caller says what it wants.
    unsafe {
        let state = (*to).state;
        assert_eq!((state, mask), ((*pair).state + 1, masks[state as usize]), "one step after the other");
        (*pair).state = state;
    }
    0
}

unsafe extern "C" fn destroy_qp(pair: *mut raw::QueuePair) -> c_int {
    // SAFETY: it was made above.
    unsafe { died("pair", pair.cast::<Pair>(), &[]) };
    0
}

unsafe extern "C" fn wc_status_str(_: u32) -> *const c_char {
    c"a status".as_ptr()
}

/// Walks a chain, moves its bytes, and queues a completion for what is signalled or goes wrong.
unsafe extern "C" fn post_send(
    pair: *mut raw::QueuePair,
    mut request: *mut SendRequest,
    _: *mut *mut SendRequest,
) -> c_int {
    let pair = pair.cast::<Pair>();
    let mut posted = 0;
    while !request.is_null() {
        posted += 1;
        // SAFETY: the caller says that every link of the chain is a request with so many pieces, and that its memory is
        // registered and nobody else looks at it.
        unsafe {
            assert!((*pair).state == raw::STATE_READY_TO_SEND, "it is not connected");
            assert!(posted <= (*pair).requests_max, "the queue overruns");
            let SendRequest { id, pieces, piece_count, opcode, flags, remote_address, rkey, .. } = *request;
            assert_eq!(piece_count, 1);
            let Piece { address, length, lkey } = *pieces;
            let near = find(lkey, address, length).expect("local memory is registered");
            let status = match find(rkey, remote_address, length) {
                Some(far) if opcode == raw::WR_READ => {
                    near.copy_from(far, length as usize);
                    0
                }
                Some(far) => {
                    far.copy_from(near, length as usize);
                    0
                }
                None => 10,
            };
            if status != 0 || flags & raw::SEND_SIGNALED != 0 {
                (*(*pair).queue).ends.push(WorkCompletion { id, status, unused: [0; 9] });
            }
            request = (*request).next;
        }
    }
    0
}

unsafe extern "C" fn poll_cq(
    queue: *mut raw::CompletionQueue,
    room: c_int,
    to: *mut WorkCompletion,
) -> c_int {
    // SAFETY: it was made above, and the caller has room for so many.
    unsafe {
        let ends = &mut (*queue.cast::<Queue>()).ends;
        let count = ends.len().min(room as usize);
        for (index, end) in ends.drain(..count).enumerate() {
            to.add(index).write(end);
        }
        count as c_int
    }
}

unsafe extern "C" fn req_notify_cq(queue: *mut raw::CompletionQueue, _: c_int) -> c_int {
    // SAFETY: it was made above.
    unsafe { (*queue.cast::<Queue>()).is_armed = true };
    0
}

const PAGE: usize = 64;
const PAGES: usize = 40;

/// Memory that is registered in the tests, and freed after its regions.
struct Bytes(NonNull<[u8]>);

impl Bytes {
    fn new(count: usize, byte: u8) -> Bytes {
        Bytes(NonNull::from(Box::leak(vec![byte; count].into_boxed_slice())))
    }

    fn at(&self, index: usize) -> u8 {
        assert!(index < self.0.len());
        // SAFETY: it lies within, and the device that is none moves bytes only while it is called.
        unsafe { self.0.as_ptr().cast::<u8>().add(index).read() }
    }

    fn set(&self, index: usize, byte: u8) {
        assert!(index < self.0.len());
        // SAFETY: as in `at`.
        unsafe { self.0.as_ptr().cast::<u8>().add(index).write(byte) };
    }

    fn register(&self, domain: &Arc<Domain>, for_peers: bool) -> Region {
        // SAFETY: it is freed after its regions, and only looked at by `at` and `set`.
        unsafe { domain.register(self.0.cast(), self.0.len(), for_peers) }.expect("it can be registered")
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: it was leaked from a box, once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

const WAY: Way = Way { port: 1, gid_index: 0, gid: [0; 16], lid: 7, is_global: false, mtu: 5, reads: 1 };

fn steps(near: &Region, far: &Region, is_read: bool, is_signalled: impl Fn(usize) -> bool) -> Vec<Step> {
    let (address, _, key) = far.remote();
    let step = |n: usize| Step {
        local: near.local(n * PAGE, PAGE as u32),
        remote_address: address + ((PAGES - 1 - n) * PAGE) as u64,
        remote_key: key,
        is_read,
        id: n as u64,
        is_signalled: is_signalled(n),
    };
    (0..PAGES).map(step).collect()
}

#[test]
fn pages_move_in_chains_and_everything_is_destroyed_once_and_in_order() {
    let _alone = alone();
    let (near, far) = (Bytes::new(PAGES * PAGE, 0), Bytes::new(PAGES * PAGE, 0));
    {
        let device = Device::open_of(&FAKE, "fake0").expect("it is there");
        assert_eq!((device.name(), device.limits().expect("it answers").requests), ("fake0", 1000));
        assert!(device.port(1).expect("it answers").is_active && device.port(2).is_err());
        let domain = Domain::new(&device).expect("it answers");
        let completions = Completions::new(&device, 64).expect("it answers");
        let (own, lent) = (near.register(&domain, false), far.register(&domain, true));
        let mut pair = QueuePair::new(&domain, &completions, PAGES as u32).expect("it answers");
        // What everything else was made from stays alive for it.
        drop(device);
        drop(domain);
        assert_eq!(pair.number(), 77);
        pair.connect(&WAY, 77, 1, 2).expect("it answers");
        (0..PAGES * PAGE).for_each(|n| near.set(n, (n % 251) as u8));
        let mut ends = Vec::new();
        pair.post(&[]).expect("nothing is easy");
        pair.post(&steps(&own, &lent, false, |n| n + 1 == PAGES)).expect("there is room");
        completions.poll(&mut ends).expect("it answers");
        assert_eq!(ends, [Completion { id: PAGES as u64 - 1, status: 0 }]);
        for n in 0..PAGES * PAGE {
            let (page, at) = (PAGES - 1 - n / PAGE, n % PAGE);
            assert_eq!(far.at(page * PAGE + at), (n % 251) as u8);
        }
        (0..PAGES * PAGE).for_each(|n| near.set(n, 0));
        completions.arm().expect("it answers");
        completions.clear_events();
        // More completions than are taken at a time.
        pair.post(&steps(&own, &lent, true, |_| true)).expect("there is room");
        ends.clear();
        completions.poll(&mut ends).expect("it answers");
        assert_eq!(ends.iter().map(|end| end.id).collect::<Vec<_>>(), (0..PAGES as u64).collect::<Vec<_>>());
        assert!((0..PAGES * PAGE).all(|n| near.at(n) == (n % 251) as u8));
        // Beyond what is lent.
        let (address, len, key) = lent.remote();
        let outside = Step { remote_address: address + len - 1, ..steps(&own, &lent, true, |_| false)[0] };
        assert_eq!(outside.remote_key, key);
        pair.post(&[outside]).expect("there is room");
        ends.clear();
        completions.poll(&mut ends).expect("it answers");
        assert_eq!(ends, [Completion { id: 0, status: 10 }]);
        // Regions go before the pair, completions by name before both.
        drop(completions);
        drop(own);
        drop(lent);
    }
    assert_eq!(*alive(), []);
}

#[test]
fn what_cannot_be_had_is_an_error_and_nothing_is_left_of_it() {
    let _alone = alone();
    {
        assert!(Device::open_of(&FAKE, "fake1").is_err());
        let device = Device::open_of(&FAKE, "fake0").expect("it is there");
        assert!(Completions::new(&device, 0).is_err());
        let domain = Domain::new(&device).expect("it answers");
        // SAFETY: no byte is registered.
        let none = unsafe { domain.register(NonNull::dangling(), 0, false) };
        let why = none.err().expect("no byte is nothing to register").to_string();
        assert!(why.starts_with("cannot register 0 bytes: ") && why.contains("ulimit -l unlimited"), "{why}");
    }
    assert_eq!(*alive(), []);
}

#[test]
#[should_panic(expected = "are not inside a region")]
fn bytes_outside_a_region_cannot_be_named() {
    let _alone = alone();
    let bytes = Bytes::new(PAGE, 0);
    let device = Device::open_of(&FAKE, "fake0").expect("it is there");
    let domain = Domain::new(&device).expect("it answers");
    let region = bytes.register(&domain, false);
    region.local(1, PAGE as u32);
}

/// Needs the real library, or its absence.
#[cfg(not(miri))]
#[test]
fn a_machine_without_a_device_is_told_so_in_one_line() {
    // On a machine that has one this says nothing.
    if let Err(error) = device_names() {
        let line = error.to_string();
        assert!(line.starts_with("rdma:// needs libibverbs and an RDMA device: "), "{line}");
        assert!(!line.contains('\n'));
    }
    let none = Device::open("no such device").err().expect("nobody calls a device so");
    assert!(none.to_string().starts_with("rdma:// needs libibverbs and an RDMA device: "));
}
