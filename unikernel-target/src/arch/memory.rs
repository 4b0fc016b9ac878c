//! The machine's RAM: what QEMU's start info says, who gets it, and the identity map.
//!
//! ```text
//!   RAM ranges ─► take(frames) ─► take(far memory) ─► ... ─► the rest is the heap
//! ```
//!
//! Physical and virtual addresses of RAM and devices are the same below 512 GiB (PML4 slot 0); the other
//! slots are free for the far heap. Refuses to take anything back: what is taken stays with its owner.

use super::heap;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use core::fmt;
use farmem::Frame;
use x86_64::structures::paging::{PageTable, PageTableFlags, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

/// Source: Xen's `XEN_HVM_START_MAGIC_VALUE`.
const START_MAGIC: u32 = 0x336e_c578;
/// Type of a memory map entry that is RAM.
const TYPE_RAM: u32 = 1;
/// Ranges kept. QEMU's machines have three or four.
const RANGES_MAX: usize = 16;
/// Entries of a memory map that are looked at.
const MAP_ENTRIES_MAX: usize = 128;
/// Bytes of the command line: twice what Linux takes.
const COMMAND_LINE_MAX: usize = 4096;
/// Where RAM may lie: one PML4 slot.
const IDENTITY_END: u64 = 512 << 30;
/// What `boot` has mapped.
const BOOT_IDENTITY_END: u64 = 4 << 30;
/// Firmware, start info and option ROMs live below.
const LOW_END: u64 = 1 << 20;
const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

/// Source: Xen's `struct hvm_start_info`.
#[repr(C)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// Source: Xen's `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    start: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

/// The machine has too little memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLittle {
    /// What was to be taken.
    pub wanted_bytes: u64,
    /// The largest piece that is free.
    pub free_bytes: u64,
    /// All of the machine.
    pub total_bytes: u64,
}

impl fmt::Display for TooLittle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLittle { wanted_bytes, free_bytes, total_bytes } = *self;
        let [wanted, free, total] = [wanted_bytes, free_bytes, total_bytes].map(|bytes| bytes >> 20);
        write!(f, "{wanted} MiB wanted, {free} MiB free of the machine's {total} MiB")
    }
}

/// RAM that nobody has taken.
pub struct Ram {
    ranges: [Range; RANGES_MAX],
    count: usize,
    total_bytes: u64,
}

impl Ram {
    /// Reads the memory map and the command line, before anything is taken.
    ///
    /// # Safety
    /// `info` is what the loader has passed, and nothing has been written outside the image yet.
    /// # Panics
    /// If the loader did not speak PVH, or passed no memory map.
    pub unsafe fn from_loader(info: *const StartInfo) -> (Ram, Vec<u8>) {
        // SAFETY: the caller passes the loader's own pointer.
        let info = unsafe { &*info };
        assert_eq!(info.magic, START_MAGIC, "the loader speaks no PVH");
        assert!(info.memory_map != 0, "the loader passes no memory map");
        let mut ram = Ram { ranges: [Range { start: 0, end: 0 }; RANGES_MAX], count: 0, total_bytes: 0 };
        let entries = (info.memory_map_entries as usize).min(MAP_ENTRIES_MAX);
        for index in 0..entries {
            // SAFETY: the loader says that its map has so many entries.
            let entry = unsafe { (info.memory_map as *const MapEntry).add(index).read_unaligned() };
            if entry.kind == TYPE_RAM {
                ram.add(entry.start, entry.start.saturating_add(entry.size));
            }
        }
        // The start info is in low memory, which stays as it is; the heap may be used from here on.
        ram.give_to_heap(heap::EARLY_SIZE);
        // SAFETY: the loader's command line ends with a NUL or is null.
        let command_line = unsafe { text_at(info.command_line) };
        (ram, command_line)
    }

    /// Memory of the machine. Units: bytes.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Adds a range, less low memory and the image.
    fn add(&mut self, start: u64, end: u64) {
        self.total_bytes += end - start;
        let (image_from, image_to) = ((&raw const image_start) as u64, (&raw const image_end) as u64);
        let (start, end) = (start.max(LOW_END), end.min(IDENTITY_END));
        if start < image_to && image_from < end {
            self.push(start, image_from);
            self.push(image_to, end);
        } else {
            self.push(start, end);
        }
    }

    fn push(&mut self, start: u64, end: u64) {
        let (start, end) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
        if start < end && self.count < RANGES_MAX {
            self.ranges[self.count] = Range { start, end };
            self.count += 1;
        }
    }

    /// Takes whole pages, from the end of the first range that has room.
    ///
    /// # Errors
    /// If there is no piece of that size.
    pub fn take(&mut self, bytes: u64) -> Result<&'static mut [Frame], TooLittle> {
        let bytes = bytes.next_multiple_of(PAGE);
        let free_bytes =
            self.ranges[..self.count].iter().map(|range| range.end - range.start).max().unwrap_or(0);
        let range = self.ranges[..self.count].iter_mut().find(|range| range.end - range.start >= bytes);
        let Some(range) = range else {
            return Err(TooLittle { wanted_bytes: bytes, free_bytes, total_bytes: self.total_bytes });
        };
        range.end -= bytes;
        map_identity(range.end, range.end + bytes);
        // SAFETY: this RAM was in nobody's hands, is mapped, aligned, and any bytes are a `Frame`.
        Ok(unsafe { core::slice::from_raw_parts_mut(range.end as *mut Frame, (bytes / PAGE) as usize) })
    }

    /// Gives up to `bytes` to the heap, from the ranges in their order. How much it got.
    pub fn give_to_heap(&mut self, bytes: u64) -> u64 {
        let mut left = bytes;
        for range in &mut self.ranges[..self.count] {
            let given = left.min(range.end - range.start);
            if given > 0 {
                range.end -= given;
                map_identity(range.end, range.end + given);
                // SAFETY: this RAM was in nobody's hands and is mapped; it is the heap's from now on.
                unsafe { heap::claim(range.end as *mut u8, given as usize) };
                left -= given;
            }
        }
        bytes - left
    }
}

/// # Safety
/// A NUL ends the text, or `address` is null.
unsafe fn text_at(address: u64) -> Vec<u8> {
    let mut text = Vec::new();
    while address != 0 && text.len() < COMMAND_LINE_MAX {
        // SAFETY: no NUL has been seen so far, so the text goes on here.
        let byte = unsafe { *((address + text.len() as u64) as *const u8) };
        if byte == 0 {
            break;
        }
        text.push(byte);
    }
    text
}

/// Makes `start..end` accessible at its own address. What `boot` has mapped costs nothing.
///
/// # Panics
/// Beyond 512 GiB.
pub fn map_identity(start: u64, end: u64) {
    assert!(end <= IDENTITY_END, "{start:#x}..{end:#x} is beyond the identity map");
    for gib in start.max(BOOT_IDENTITY_END) / GIB..end.div_ceil(GIB) {
        map_gib(gib);
    }
}

/// Maps one GiB: as one page where the processor can, else by a directory of 2 MiB pages.
fn map_gib(gib: u64) {
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    // SAFETY: `boot` has made the table, nothing else refers to it, and there is one thread.
    let entry = unsafe { &mut boot_pdpt[gib as usize] };
    if !entry.is_unused() {
        return;
    }
    let has_gib_pages = __cpuid(0x8000_0001).edx & (1 << 26) != 0;
    if has_gib_pages {
        entry.set_addr(PhysAddr::new(gib * GIB), flags | PageTableFlags::HUGE_PAGE);
        return;
    }
    let directory = Box::leak(Box::new(PageTable::new()));
    for (entry, index) in directory.iter_mut().zip(0u64..) {
        entry.set_addr(PhysAddr::new(gib * GIB + index * (2 << 20)), flags | PageTableFlags::HUGE_PAGE);
    }
    let address = VirtAddr::from_ptr(directory).as_u64();
    entry.set_frame(PhysFrame::containing_address(PhysAddr::new(address)), flags);
}

unsafe extern "C" {
    static mut boot_pdpt: PageTable;
}
