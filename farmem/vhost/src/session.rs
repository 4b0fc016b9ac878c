//! One guest at the socket: what QEMU tells of its memory and its queue, and the requests in that queue.
//!
//! ```text
//!   SET_MEM_TABLE ─► drained ─► the guest's frames in the window
//!   SET_VRING_* ─► queue      kick ─► turn: requests ─► disk ─► done ─► used ring ─► call
//!   GET_VRING_BASE, end of the connection ─► drained ─► queue stands still
//! ```
//!
//! Refuses more than one queue, logging of dirty pages (so no migration), and to go on behind a frontend's back: whatever
//! takes memory or queue away waits for what is in flight. Source: QEMU, docs/interop/vhost-user.

use crate::disk::{Disk, Done};
use crate::request::{Request, SECTOR_BYTES};
use crate::waiter::{Token, Waiter};
use bitflags::bitflags;
use farmem::{Instant, PAGE_SIZE};
use std::fs::File;
use std::io::{self, Write};
use std::rc::Rc;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// Requests that the queue may hold: what QEMU offers is 128, what it allows 1024.
const QUEUE_SIZE_MAX: u16 = 1024;
/// Data segments of a request. Source: virtio 1.2, 5.2.4; two descriptors of a queue of 256 stay for header and status.
const SEGMENTS_MAX: u32 = 254;
/// Sectors that are given up at once: a gigabyte.
const GIVE_UP_SECTORS_MAX: u32 = 1 << 21;

bitflags! {
    /// Feature bits. Source: virtio 1.2, 5.2.3 and 6; vhost-user for bit 30.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const SEGMENTS_MAX = 1 << 2;
        const BLOCK_SIZE = 1 << 6;
        const FLUSH = 1 << 9;
        const DISCARD = 1 << 13;
        const WRITE_ZEROES = 1 << 14;
        const INDIRECT = 1 << 28;
        const EVENT_INDEX = 1 << 29;
        const PROTOCOL_FEATURES = 1 << 30;
        const VERSION_1 = 1 << 32;
    }
}

/// What a turn did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Something moved; there may be more.
    Moved,
    /// Nothing to do before then, or before something tells.
    Until(Option<Instant>),
}

/// The guest that is connected, if one is, and the disk that outlives it.
pub struct Session {
    disk: Disk,
    waiter: Rc<Waiter>,
    is_polling: bool,
    features: Features,
    regions: Vec<VhostUserMemoryRegion>,
    memory: GuestMemoryMmap,
    queue: Queue,
    is_enabled: bool,
    kick: Option<File>,
    call: Option<File>,
    done: Vec<Done>,
}

impl Session {
    /// A disk that nobody uses yet. With `is_polling` the guest need not tell of its requests.
    ///
    /// # Errors
    /// What epoll answers.
    pub fn new(disk: Disk, waiter: Rc<Waiter>, is_polling: bool) -> io::Result<Session> {
        for event in disk.event_fds() {
            waiter.add(event, Token::Link)?;
        }
        Ok(Session {
            disk,
            waiter,
            is_polling,
            features: Features::empty(),
            regions: Vec::new(),
            memory: GuestMemoryMmap::new(),
            queue: Queue::new(QUEUE_SIZE_MAX).expect("a power of two"),
            is_enabled: false,
            kick: None,
            call: None,
            done: Vec::new(),
        })
    }

    /// Whether requests are looked for.
    pub fn is_running(&self) -> bool {
        self.kick.is_some()
            && self.queue.ready()
            && (self.is_enabled || !self.features.contains(Features::PROTOCOL_FEATURES))
    }

    /// Whether it is to be looked at now and then although nothing is asked of it.
    pub fn is_restless(&self) -> bool {
        self.disk.is_restless()
    }

    /// Takes requests, moves pages, hands back what is done.
    ///
    /// # Errors
    /// If the queue is not what the protocol says: then this guest is given up.
    pub fn turn(&mut self, now: Instant) -> std::result::Result<Turn, virtio_queue::Error> {
        let mut moved = false;
        if self.is_running() {
            self.queue.disable_notification(&self.memory)?;
            moved = self.take_requests()?;
        }
        moved |= self.disk.poll(&self.memory, now, &mut self.done);
        self.give_back()?;
        let may_sleep = !moved && !self.is_polling && self.is_running();
        if may_sleep && self.queue.enable_notification(&self.memory)? {
            moved = true;
        }
        Ok(if moved { Turn::Moved } else { Turn::Until(self.disk.next_due()) })
    }

    fn take_requests(&mut self) -> std::result::Result<bool, virtio_queue::Error> {
        let mut requests = Vec::new();
        for chain in self.queue.iter(&self.memory)? {
            let head = chain.head_index();
            requests.push(Request::read(chain, &self.memory).map_err(|_| head));
        }
        let any = !requests.is_empty();
        for request in requests {
            match request {
                Ok(request) => self.disk.handle_request(request, &self.memory),
                Err(head) => {
                    log::warn!("a request without header or status, or with memory that is not there");
                    self.queue.add_used(&self.memory, head, 0)?;
                    self.tell()?;
                }
            }
        }
        Ok(any)
    }

    /// Returns what is done to the guest.
    fn give_back(&mut self) -> std::result::Result<(), virtio_queue::Error> {
        if self.done.is_empty() {
            return Ok(());
        }
        for done in std::mem::take(&mut self.done) {
            let status = self.memory.write_obj(done.status as u8, done.request.status);
            let written = done.written + u32::from(status.is_ok());
            self.queue.add_used(&self.memory, done.request.head, written)?;
        }
        self.tell()
    }

    fn tell(&mut self) -> std::result::Result<(), virtio_queue::Error> {
        if self.queue.needs_notification(&self.memory)?
            && let Some(call) = &mut self.call
            && let Err(error) = call.write_all(&1_u64.to_ne_bytes())
        {
            // The guest's own clock or its next request makes it look.
            log::warn!("cannot tell the guest: {error}");
        }
        Ok(())
    }

    /// Waits for what is in flight and returns it to the guest.
    fn settle(&mut self) -> Result<()> {
        let all = self.is_running();
        self.disk.drain(&self.memory, all, &mut self.done);
        if all {
            return self.give_back().map_err(failed);
        }
        self.done.clear();
        Ok(())
    }

    /// The guest is gone: nothing of its memory is kept.
    pub fn end(&mut self) {
        self.disk.drain(&self.memory, false, &mut self.done);
        self.done.clear();
        self.set_kick(None);
        if let Err(error) = self.disk.set_memory(&[]) {
            log::warn!("cannot let go of the guest's memory: {error}");
        }
        (self.memory, self.regions) = (GuestMemoryMmap::new(), Vec::new());
        (self.features, self.is_enabled, self.call) = (Features::empty(), false, None);
        self.queue.reset();
    }

    fn set_kick(&mut self, kick: Option<File>) {
        if let Some(old) = &self.kick {
            // QEMU has it too, so closing it here does not take it off the list.
            self.waiter.remove(old);
        }
        self.kick = kick;
    }

    /// The guest's address of what QEMU has at this address of its own.
    fn guest_address(&self, at: u64) -> Result<u64> {
        let within = |region: &&VhostUserMemoryRegion| {
            at.checked_sub(region.user_addr).is_some_and(|offset| offset < region.memory_size)
        };
        let region = self.regions.iter().find(within).ok_or(Error::InvalidParam)?;
        Ok(at - region.user_addr + region.guest_phys_addr)
    }

    /// The device's configuration. Source: virtio 1.2, 5.2.4.
    fn configuration(&self) -> [u8; 60] {
        let mut bytes = [0; 60];
        bytes[..8].copy_from_slice(&self.disk.sectors().to_le_bytes());
        let a_page = (PAGE_SIZE as u64 / SECTOR_BYTES) as u32;
        let words = [
            (12, SEGMENTS_MAX),
            (20, PAGE_SIZE as u32),
            (36, GIVE_UP_SECTORS_MAX),
            (40, 1),
            (44, a_page),
            (48, GIVE_UP_SECTORS_MAX),
            (52, 1),
        ];
        for (at, word) in words {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[34] = 1; // one queue
        bytes[56] = 1; // zeros take no room
        bytes
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::ReqHandlerError(io::Error::other(error.to_string()))
}

fn the_only(index: u32) -> Result<()> {
    if index == 0 { Ok(()) } else { Err(Error::InvalidParam) }
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.settle()?;
        self.is_enabled = false;
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.reset_owner()
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(Features::all().bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let features = Features::from_bits(features).ok_or(Error::InvalidParam)?;
        self.features = features;
        self.queue.set_event_idx(features.contains(Features::EVENT_INDEX));
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.settle()?;
        let pairs: Vec<_> = regions.iter().copied().zip(&files).collect();
        self.disk.set_memory(&pairs).map_err(Error::ReqHandlerError)?;
        let mut maps = Vec::with_capacity(regions.len());
        for (region, file) in pairs {
            let map = region.mmap_region(file.try_clone().map_err(Error::ReqHandlerError)?)?;
            let map = GuestRegionMmap::new(map, GuestAddress(region.guest_phys_addr));
            maps.push(map.ok_or(Error::InvalidParam)?);
        }
        self.memory = GuestMemoryMmap::from_regions(maps).map_err(failed)?;
        self.regions = regions.to_vec();
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        the_only(index)?;
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        self.queue.set_size(size);
        if self.queue.size() == size { Ok(()) } else { Err(Error::InvalidParam) }
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _: u64,
    ) -> Result<()> {
        the_only(index)?;
        let [descriptor, used, available] =
            [self.guest_address(descriptor)?, self.guest_address(used)?, self.guest_address(available)?];
        self.queue.try_set_desc_table_address(GuestAddress(descriptor)).map_err(failed)?;
        self.queue.try_set_avail_ring_address(GuestAddress(available)).map_err(failed)?;
        self.queue.try_set_used_ring_address(GuestAddress(used)).map_err(failed)?;
        // A queue that was used before goes on where it was.
        let used = self.queue.used_idx(&self.memory, std::sync::atomic::Ordering::Acquire).map_err(failed)?;
        self.queue.set_next_used(used.0);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        the_only(index)?;
        self.queue.set_next_avail(base as u16);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        the_only(index)?;
        self.settle()?;
        self.queue.set_ready(false);
        self.set_kick(None);
        let next = self.queue.next_avail();
        self.call = None;
        self.queue.reset();
        self.queue.set_event_idx(self.features.contains(Features::EVENT_INDEX));
        Ok(VhostUserVringState::new(index, u32::from(next)))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        the_only(u32::from(index))?;
        self.set_kick(None);
        if let Some(kick) = &kick {
            self.waiter.add(kick, Token::Kick).map_err(Error::ReqHandlerError)?;
        }
        self.kick = kick;
        self.queue.set_ready(true);
        if !self.queue.is_valid(&self.memory) {
            self.queue.set_ready(false);
            return Err(Error::InvalidParam);
        }
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        the_only(u32::from(index))?;
        self.call = call;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _: Option<File>) -> Result<()> {
        the_only(u32::from(index))
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        the_only(index)?;
        if !enable {
            self.settle()?;
        }
        self.is_enabled = enable;
        Ok(())
    }

    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let configuration = self.configuration();
        let (start, size) = (offset as usize, size as usize);
        // What is beyond the end reads as zeros: a frontend may know more fields than we have.
        let known = configuration.iter().copied().chain(std::iter::repeat(0));
        Ok(known.skip(start).take(size).collect())
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InvalidOperation("nothing can be configured"))
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(Error::InvalidOperation("a disk shows no picture"))
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InvalidOperation("nothing is shared"))
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(Error::InvalidOperation("requests are not kept for another backend"))
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(Error::InvalidOperation("requests are not kept for another backend"))
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(Error::InvalidOperation("memory comes as a whole"))
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(Error::InvalidOperation("memory comes as a whole"))
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(Error::InvalidOperation("memory comes as a whole"))
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(Error::InvalidOperation("there is no migration"))
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(Error::InvalidOperation("there is no migration"))
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InvalidOperation("nothing is shared"))
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(Error::InvalidOperation("there is no migration"))
    }
}
