//! Virtio devices: finding them on the PCI bus (q35, pc) or on the command line (microvm), and their memory.
//!
//! ```text
//!   q35, pc:  configuration ports 0xcf8, 0xcfc ─► bus 0 ─┐
//!   microvm:  virtio_mmio.device=512@0xfeb02e00:12 ──────┴─► Transport, by kind of device
//! ```
//!
//! Refuses legacy devices: drivers here speak virtio 1.

pub mod blk;
pub mod net;

use crate::arch::memory::map_identity;
use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{SomeTransport, Transport as _};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use x86_64::instructions::port::Port;

pub use virtio_drivers::transport::DeviceType;

/// How a driver reaches its device.
pub type Transport = SomeTransport<'static>;

/// What QEMU puts on microvm's command line for each device slot.
const MMIO_WORD: &str = "virtio_mmio.device=";

/// Whether a word of the command line is the machine's, not the user's.
pub fn is_machine_word(word: &str) -> bool {
    word.starts_with(MMIO_WORD)
}

/// Every virtio device, in the order of their slots.
pub fn find_all<'a>(words: impl Iterator<Item = &'a str>) -> Vec<Transport> {
    let mut found = find_pci();
    found.extend(words.filter_map(|word| at_mmio(word.strip_prefix(MMIO_WORD)?)));
    found
}

/// Takes the first device of a kind out of the list.
pub fn take(devices: &mut Vec<Transport>, kind: DeviceType) -> Option<Transport> {
    let index = devices.iter().position(|device| device.device_type() == kind)?;
    Some(devices.remove(index))
}

/// `SIZE@ADDRESS:IRQ`; a slot without a device answers none.
fn at_mmio(slot: &str) -> Option<Transport> {
    let (size, place) = slot.split_once('@')?;
    let address = place.split(':').next()?.strip_prefix("0x")?;
    let address = usize::from_str_radix(address, 16).ok()?;
    let size = size.parse().ok()?;
    let header = NonNull::new(address as *mut VirtIOHeader)?;
    map_identity(address as u64, (address + size) as u64);
    // SAFETY: QEMU says that such a slot is there, it is mapped, and nobody else uses it.
    unsafe { MmioTransport::new(header, size) }.ok().map(SomeTransport::from)
}

fn find_pci() -> Vec<Transport> {
    let mut root = PciRoot::new(Ports);
    let functions: Vec<DeviceFunction> = root
        .enumerate_bus(0)
        .filter(|(_, info)| virtio_device_type(info).is_some())
        .map(|(function, _)| function)
        .collect();
    let open = |function| {
        let (_, command) = root.get_status_command(function);
        root.set_command(function, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
        PciTransport::new::<Memory, _>(&mut root, function).ok().map(SomeTransport::from)
    };
    functions.into_iter().filter_map(open).collect()
}

/// PCI configuration space by ports. Where there is no PCI every read is all ones.
struct Ports;

impl Ports {
    fn select(function: DeviceFunction, offset: u8) {
        let DeviceFunction { bus, device, function } = function;
        let address = 1 << 31
            | u32::from(bus) << 16
            | u32::from(device) << 11
            | u32::from(function) << 8
            | u32::from(offset & 0xfc);
        // SAFETY: the port selects a register for the next access of the data port.
        unsafe { Port::<u32>::new(0xcf8).write(address) }
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        Ports::select(function, offset);
        // SAFETY: the register was selected just now, by the only thread.
        unsafe { Port::<u32>::new(0xcfc).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        Ports::select(function, offset);
        // SAFETY: as above; what is written is the driver's business.
        unsafe { Port::<u32>::new(0xcfc).write(data) }
    }

    unsafe fn unsafe_clone(&self) -> Ports {
        Ports
    }
}

/// Memory that devices reach: near memory, at its own address.
pub struct Memory;

/// The layout of `pages` whole pages.
fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("a few pages are no more than isize::MAX")
}

// SAFETY: blocks of the heap are aligned, zeroed, in nobody else's hands, and lie where devices see them.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty: drivers ask for one page or more.
        let block = unsafe { alloc_zeroed(layout(pages)) };
        let block = NonNull::new(block).expect("the heap has room for the queues of a few devices");
        (block.as_ptr() as PhysAddr, block)
    }

    unsafe fn dma_dealloc(_: PhysAddr, block: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: the caller passes what `dma_alloc` has answered.
        unsafe { dealloc(block.as_ptr(), layout(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, size: usize) -> NonNull<u8> {
        map_identity(address, address + size as u64);
        NonNull::new(address as *mut u8).expect("no device lies at address zero")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
