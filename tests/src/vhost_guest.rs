//! A guest of `remora-vhost` that is no machine: memory in a file, a queue in that memory, and pages that the
//! disk moves straight into and out of it.
//!
//! ```text
//!   0: descriptors, rings, header, status │ (a hole) │ DATA: pages        one request at a time, of whole pages
//! ```
//!
//! Refuses to be a driver: no interrupts, no parts of pages, no request beside another.

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Pages of data that the guest has.
pub const DATA_PAGES: u32 = 1024;
/// Pages of one request, and the descriptors of the queue.
pub const REQUEST_PAGES_MAX: usize = 60;
const QUEUE_SIZE: u16 = 64;
/// Where things lie in the guest's memory.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADER: u64 = 0x3000;
const STATUS: u64 = 0x3800;
const QUEUE_BYTES: usize = 0x4000;
const DATA: u64 = 16 << 20;
/// Of a descriptor: another one follows; the device writes it.
const NEXT: u16 = 1;
const WRITABLE: u16 = 2;
/// Source: virtio 1.2, 5.2.6 and 6; vhost-user for bit 30.
const READ: u32 = 0;
const WRITE: u32 = 1;
const FEATURES: u64 = 1 << 32 | 1 << 30;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest that is connected.
pub struct VhostGuest {
    frontend: Frontend,
    memory: GuestMemoryMmap,
    kick: EventFd,
    /// Requests made since the queue was started.
    made: u16,
}

fn memory() -> GuestMemoryMmap {
    let data_bytes = DATA_PAGES as usize * PAGE;
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).expect("memory is there");
    ftruncate(&file, (QUEUE_BYTES + data_bytes) as u64).expect("it may grow");
    let file = File::from(file);
    let part = |offset| Some(FileOffset::new(file.try_clone().expect("a file can be cloned"), offset));
    let ranges =
        [(GuestAddress(0), QUEUE_BYTES, part(0)), (GuestAddress(DATA), data_bytes, part(QUEUE_BYTES as u64))];
    GuestMemoryMmap::from_ranges_with_files(ranges).expect("it can be mapped")
}

impl VhostGuest {
    /// A guest with memory of its own, at the backend's socket.
    pub fn connect(socket: &Path) -> VhostGuest {
        let mut frontend = Frontend::connect(socket, 1).expect("the backend listens");
        frontend.set_owner().expect("the backend answers");
        let has = frontend.get_features().expect("the backend answers");
        assert_eq!(has & FEATURES, FEATURES, "the backend can do too little");
        frontend.set_features(FEATURES).expect("the backend answers");
        frontend.get_protocol_features().expect("the backend answers");
        frontend.set_protocol_features(VhostUserProtocolFeatures::REPLY_ACK).expect("the backend answers");
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let kick = EventFd::new(0).expect("there is a descriptor");
        let mut guest = VhostGuest { frontend, memory: memory(), kick, made: 0 };
        guest.start();
        guest
    }

    /// Gives the backend memory and queue.
    fn start(&mut self) {
        let regions: Vec<_> = self
            .memory
            .iter()
            .map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).expect("it is a file's"))
            .collect();
        self.frontend.set_mem_table(&regions).expect("the backend takes the memory");
        self.frontend.set_vring_num(0, QUEUE_SIZE).expect("the backend takes the queue");
        let host = |at| self.memory.get_host_address(GuestAddress(at)).expect("it is mapped").addr() as u64;
        let config = VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: host(DESCRIPTORS),
            used_ring_addr: host(USED),
            avail_ring_addr: host(AVAILABLE),
            log_addr: None,
        };
        self.frontend.set_vring_addr(0, &config).expect("the backend takes the queue");
        self.frontend.set_vring_base(0, 0).expect("the backend takes the queue");
        self.frontend.set_vring_kick(0, &self.kick).expect("the backend takes the queue");
        self.frontend.set_vring_enable(0, true).expect("the backend takes the queue");
        self.made = 0;
    }

    /// Other memory at the same addresses, empty, as after a reset or when some is plugged in.
    pub fn change_memory(&mut self) {
        self.frontend.get_vring_base(0).expect("the queue can be stopped");
        self.memory = memory();
        self.start();
    }

    /// A page of the guest's data.
    pub fn page(&self, number: u32) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        self.memory.read_slice(&mut bytes, place(number)).expect("it is mapped");
        bytes
    }

    /// Fills a page of the guest's data.
    pub fn fill(&mut self, number: u32, bytes: &[u8]) {
        assert_eq!(bytes.len(), PAGE);
        self.memory.write_slice(bytes, place(number)).expect("it is mapped");
    }

    /// Writes data pages to the disk, from its page `first` on. Returns the status.
    pub fn write(&mut self, first: u32, pages: &[u32]) -> u8 {
        self.request(WRITE, first, pages)
    }

    /// Reads the disk from its page `first` on into data pages. Returns the status.
    pub fn read(&mut self, first: u32, pages: &[u32]) -> u8 {
        self.request(READ, first, pages)
    }

    fn request(&mut self, kind: u32, first: u32, pages: &[u32]) -> u8 {
        assert!(pages.len() <= REQUEST_PAGES_MAX, "the queue is too short");
        let sector = u64::from(first) * (PAGE as u64 / 512);
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.memory.write_slice(&header, GuestAddress(HEADER)).expect("it is mapped");
        self.memory.write_obj(0xFF_u8, GuestAddress(STATUS)).expect("it is mapped");
        let way = if kind == READ { WRITABLE } else { 0 };
        self.describe(0, HEADER, 16, NEXT);
        for (index, &page) in (1..).zip(pages) {
            self.describe(index, place(page).0, PAGE as u32, NEXT | way);
        }
        self.describe(pages.len() as u16 + 1, STATUS, 1, WRITABLE);
        let slot = u64::from(self.made % QUEUE_SIZE);
        self.memory.write_obj(0_u16, GuestAddress(AVAILABLE + 4 + 2 * slot)).expect("it is mapped");
        self.made = self.made.wrapping_add(1);
        self.memory.store(self.made, GuestAddress(AVAILABLE + 2), Ordering::Release).expect("it is mapped");
        self.kick.write(1).expect("the backend can be told");
        let since = Instant::now();
        let used =
            || self.memory.load::<u16>(GuestAddress(USED + 2), Ordering::Acquire).expect("it is mapped");
        while used() != self.made {
            assert!(since.elapsed() < PATIENCE, "a request is not answered");
            std::thread::sleep(Duration::from_micros(200));
        }
        self.memory.read_obj(GuestAddress(STATUS)).expect("it is mapped")
    }

    /// Writes a descriptor. Source: virtio 1.2, 2.7.5.
    fn describe(&self, index: u16, at: u64, len: u32, flags: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&(index + 1).to_le_bytes());
        let place = GuestAddress(DESCRIPTORS + 16 * u64::from(index));
        self.memory.write_slice(&bytes, place).expect("it is mapped");
    }
}

fn place(page: u32) -> GuestAddress {
    assert!(page < DATA_PAGES);
    GuestAddress(DATA + u64::from(page) * PAGE as u64)
}
