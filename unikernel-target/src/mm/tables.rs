//! The page tables of the far range: where each far page is, in eight bytes that the processor reads too.
//!
//! ```text
//!   PML4 slots 1.. ─► PDPTs ─► directories (one array: entry = page / 512) ─► leaves, on demand
//!
//!   63 NX   51        42             12 11        6   5  4..3  2..1   0
//!   ├──┼────┼─────────┼──────────────┼──┼─────┼───┼───┼─────┼──────┼───┤
//!   │1 │    │ physical address       │        │ D │ A │     │ W    │ 1 │  resident: frame
//!   │0 │    │ checksum     (30 bits) │                    │ 01   │ 0 │  remote
//!   │0 │    │ frame number (30 bits) │                    │ 10   │ 0 │  fetching
//!   │0 │    │ 0                                           │ 00   │ 0 │  untouched
//! ```
//!
//! A far address is its own offset in the range, so finding an entry takes one look at a directory. Leaves
//! exist only while one of their pages is touched. Decides nothing; see [`farmem::Residency`].

use super::checksum::Way;
use super::stale::Stale;
use super::touch;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use farmem::{
    Checksum, Entry, FarAddr, Frame, FrameNo, Mapping, PAGE_SIZE, PageNo, PageRange, PagerError, Residency,
    Used,
};
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

/// Entries of a table of any level.
const ENTRIES: usize = 512;
/// Where the far range begins: RAM and devices have PML4 slot 0.
const FIRST_SLOT: usize = 1;
const SLOT_BYTES: u64 = 512 << 30;
/// First address of the far range.
const FAR_BASE: u64 = FIRST_SLOT as u64 * SLOT_BYTES;
/// Leaves kept ready: a trap takes at most one, and its touch sees to the next.
const SPARE_LEAVES: usize = 4;

const TABLE: u64 = Flags::PRESENT.bits() | Flags::WRITABLE.bits();
const PRESENT: u64 = Flags::PRESENT.bits();
const RESIDENT: u64 = Flags::PRESENT.bits() | Flags::WRITABLE.bits() | Flags::NO_EXECUTE.bits();
const ACCESSED: u64 = Flags::ACCESSED.bits();
const DIRTY: u64 = Flags::DIRTY.bits();
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const KIND: u64 = 0b110;
const REMOTE: u64 = 0b010;
const FETCHING: u64 = 0b100;
const VALUE_SHIFT: u32 = 12;

/// A table of any level. The processor writes to it too.
#[repr(C, align(4096))]
struct Table([AtomicU64; ENTRIES]);

impl Table {
    fn empty() -> Table {
        Table([const { AtomicU64::new(0) }; ENTRIES])
    }

    fn address(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }
}

unsafe extern "C" {
    /// The machine's PML4; slots from `FIRST_SLOT` on are ours.
    static boot_pml4: Table;
}

/// Where the page begins.
#[inline]
pub fn virtual_address(page: PageNo) -> VirtAddr {
    VirtAddr::new_truncate(FAR_BASE + page.addr().0)
}

/// The byte's place in the far range.
#[inline]
pub fn pointer(addr: FarAddr) -> *mut u8 {
    (FAR_BASE + addr.0) as *mut u8
}

/// The page under a place in the far range.
#[inline]
pub fn page_of(place: *const u8) -> PageNo {
    FarAddr(place as u64 - FAR_BASE).page()
}

/// The tables of one far range.
pub struct FarTables {
    /// Translations to be forgotten and leaves to be replenished before the next touch.
    has_chores: bool,
    far_pages: u32,
    checksums: Way,
    /// Physical, and identical, address of frame 0.
    frames_at: u64,
    /// One entry for 512 pages.
    directories: Box<[Table]>,
    _pdpts: Box<[Table]>,
    slots: usize,
    /// Entries of each leaf that are not untouched.
    touched: Vec<u16>,
    leaves_in_use: usize,
    spare: Vec<Box<Table>>,
    stale: Stale,
    /// What became of the last touch that failed.
    pub(super) outcome: Result<(), PagerError>,
}

fn tables(count: usize) -> Box<[Table]> {
    (0..count).map(|_| Table::empty()).collect()
}

/// Enters the tables into the entries of `upper`, one after the other.
fn link<'t>(upper: impl Iterator<Item = &'t AtomicU64>, lower: &[Table]) {
    upper.zip(lower).for_each(|(entry, table)| entry.store(table.address() | TABLE, Relaxed));
}

impl FarTables {
    /// Maps nothing yet. Bounds: 16 TiB, which are 32 of the PML4's slots.
    ///
    /// # Panics
    /// If another far range is in use.
    pub fn new(frames: &[Frame], far_pages: u32) -> FarTables {
        let leaves = (far_pages as usize).div_ceil(ENTRIES);
        let directories = tables(leaves.div_ceil(ENTRIES));
        let pdpts = tables(directories.len().div_ceil(ENTRIES));
        link(pdpts.iter().flat_map(|table| &table.0), &directories);
        let slots = FarTables::slots(pdpts.len());
        assert!(slots.iter().all(|slot| slot.load(Relaxed) == 0), "there is one far range");
        link(slots.iter(), &pdpts);
        FarTables {
            has_chores: true,
            far_pages,
            checksums: Way::of_this_processor(),
            frames_at: frames.as_ptr() as u64,
            directories,
            slots: pdpts.len(),
            _pdpts: pdpts,
            touched: vec![0; leaves],
            leaves_in_use: 0,
            spare: Vec::with_capacity(2 * SPARE_LEAVES),
            stale: Stale::NONE,
            outcome: Ok(()),
        }
    }

    fn slots(count: usize) -> &'static [AtomicU64] {
        // SAFETY: `boot` has made this table; entries are atomic, and the identity map's slot is not among these.
        unsafe { &boot_pml4.0[FIRST_SLOT..FIRST_SLOT + count] }
    }

    /// Bounds: not beyond the removal of the leaf.
    #[inline]
    fn leaf(&self, index: usize) -> Option<&'static Table> {
        let entry = self.directories[index / ENTRIES].0[index % ENTRIES].load(Relaxed);
        if entry & PRESENT == 0 {
            return None;
        }
        // SAFETY: only `set` fills directories, with leaves that live until it takes them out again.
        Some(unsafe { &*((entry & ADDRESS) as *const Table) })
    }

    #[inline]
    fn entry(&self, page: PageNo) -> Option<&AtomicU64> {
        let index = page.0 as usize;
        Some(&self.leaf(index / ENTRIES)?.0[index % ENTRIES])
    }

    #[inline]
    fn decode(&self, raw: u64) -> Entry {
        if raw & PRESENT != 0 {
            return Entry::Resident(FrameNo((((raw & ADDRESS) - self.frames_at) / PAGE_SIZE as u64) as u32));
        }
        let value = (raw >> VALUE_SHIFT) as u32;
        match raw & KIND {
            REMOTE => Entry::Remote(Checksum::from_bits(value)),
            FETCHING => Entry::Fetching(FrameNo(value)),
            _ => Entry::Untouched,
        }
    }

    #[inline]
    fn encode(&self, entry: Entry) -> u64 {
        match entry {
            Entry::Untouched => 0,
            Entry::Remote(checksum) => u64::from(checksum.bits()) << VALUE_SHIFT | REMOTE,
            Entry::Fetching(frame) => u64::from(frame.0) << VALUE_SHIFT | FETCHING,
            Entry::Resident(frame) => (self.frames_at + u64::from(frame.0) * PAGE_SIZE as u64) | RESIDENT,
        }
    }

    /// Sees to it that the next touch finds what is, and that its trap finds a leaf.
    #[inline]
    pub(super) fn do_chores(&mut self) {
        if self.has_chores {
            self.settle();
            self.prepare();
        }
    }

    /// As [`FarTables::do_chores`], from a trap: allocates nothing.
    pub(super) fn settle(&mut self) {
        self.stale.flush();
    }

    fn directory_entry(&self, leaf: usize) -> &AtomicU64 {
        &self.directories[leaf / ENTRIES].0[leaf % ENTRIES]
    }

    #[cold]
    fn add_leaf(&mut self, leaf: usize) -> &'static Table {
        let table = self.spare.pop().unwrap_or_else(|| Box::new(Table::empty()));
        let address = Box::into_raw(table) as u64;
        self.directory_entry(leaf).store(address | TABLE, Relaxed);
        self.leaves_in_use += 1;
        self.has_chores = true;
        // SAFETY: as in `leaf`; the caller is done with it before it takes the leaf out.
        unsafe { &*(address as *const Table) }
    }

    /// Takes out a leaf whose entries are all untouched.
    #[cold]
    fn remove_leaf(&mut self, leaf: usize) {
        let entry = self.directory_entry(leaf).swap(0, Relaxed);
        // SAFETY: `add_leaf` has put a box there, and the directory no longer has it.
        let table = unsafe { Box::from_raw((entry & ADDRESS) as *mut Table) };
        self.leaves_in_use -= 1;
        // The processor may remember the directory's entry: before the next touch it forgets everything.
        self.stale.push_all();
        self.spare.push(table);
    }
}

impl Mapping for FarTables {
    const IS_MMU: bool = true;

    #[inline]
    fn get(&self, page: PageNo) -> Entry {
        self.entry(page).map_or(Entry::Untouched, |entry| self.decode(entry.load(Relaxed)))
    }

    // Whoever calls it knows which kind of entry it is: half of this is gone then.
    #[inline(always)]
    fn set(&mut self, page: PageNo, entry: Entry) {
        let (leaf, index) = (page.0 as usize / ENTRIES, page.0 as usize % ENTRIES);
        let new = self.encode(entry);
        let table = match self.leaf(leaf) {
            Some(table) => table,
            None if new == 0 => return,
            None => self.add_leaf(leaf),
        };
        // One processor: it sets no bit between these two.
        let old = table.0[index].load(Relaxed);
        table.0[index].store(new, Relaxed);
        if old & PRESENT != 0 {
            self.stale.push(page);
            self.has_chores = true;
        }
        if (old == 0) != (new == 0) {
            let touched = &mut self.touched[leaf];
            *touched = if new == 0 { *touched - 1 } else { *touched + 1 };
            if *touched == 0 {
                self.remove_leaf(leaf);
                self.has_chores = true;
            }
        }
    }

    #[inline]
    fn settle_untouched(&mut self, page: PageNo, frame: FrameNo) -> bool {
        let (leaf, index) = (page.0 as usize / ENTRIES, page.0 as usize % ENTRIES);
        let Some(table) = self.leaf(leaf) else { return false };
        if table.0[index].load(Relaxed) != 0 {
            return false;
        }
        table.0[index].store(self.encode(Entry::Resident(frame)), Relaxed);
        self.touched[leaf] += 1;
        true
    }

    fn first_touched(&self, range: PageRange) -> Option<PageNo> {
        let end = (range.first.0 as usize + range.count as usize).min(self.far_pages as usize);
        let mut index = range.first.0 as usize;
        while index < end {
            match self.leaf(index / ENTRIES) {
                Some(leaf) if leaf.0[index % ENTRIES].load(Relaxed) != 0 => {
                    return Some(PageNo(index as u32));
                }
                Some(_) => index += 1,
                None => index = (index / ENTRIES + 1) * ENTRIES,
            }
        }
        None
    }

    fn far_pages(&self) -> u32 {
        self.far_pages
    }

    #[inline]
    fn checksum(&self, frame: &Frame) -> Checksum {
        self.checksums.of(frame)
    }

    fn near_bytes(&self) -> usize {
        let tables = self.leaves_in_use + self.spare.len() + self.directories.len() + self.slots;
        tables * size_of::<Table>() + self.touched.len() * size_of::<u16>()
    }

    #[inline]
    fn take_used(&mut self, page: PageNo) -> Used {
        let Some(entry) = self.entry(page) else { return Used::default() };
        let raw = entry.load(Relaxed);
        if raw & (ACCESSED | DIRTY) == 0 {
            return Used::default();
        }
        entry.store(raw & !(ACCESSED | DIRTY), Relaxed);
        Used { accessed: raw & ACCESSED != 0, written: raw & DIRTY != 0 }
    }

    #[inline]
    fn take_resident(&mut self, page: PageNo) -> Option<(FrameNo, Used)> {
        let entry = self.entry(page)?;
        let raw = entry.load(Relaxed);
        let Entry::Resident(frame) = self.decode(raw) else { return None };
        if raw & (ACCESSED | DIRTY) == 0 {
            return Some((frame, Used::default()));
        }
        entry.store(raw & !(ACCESSED | DIRTY), Relaxed);
        Some((frame, Used { accessed: raw & ACCESSED != 0, written: raw & DIRTY != 0 }))
    }

    #[inline]
    fn is_written(&self, page: PageNo) -> bool {
        self.entry(page).is_some_and(|entry| entry.load(Relaxed) & DIRTY != 0)
    }

    fn watch_writes(&mut self, page: PageNo) {
        self.take_used(page);
        self.stale.push(page);
        self.has_chores = true;
    }

    fn prepare(&mut self) {
        if self.spare.len() > SPARE_LEAVES {
            self.stale.flush();
            self.spare.truncate(SPARE_LEAVES);
        }
        while self.spare.len() < SPARE_LEAVES {
            self.spare.push(Box::new(Table::empty()));
        }
        // What is stale is still to be forgotten if this was not called by `do_chores`.
        self.has_chores = !self.stale.is_none();
    }

    #[inline]
    fn read(pager: &mut Residency<FarTables>, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
        touch::read(pager, addr, len)
    }

    #[inline]
    fn write(pager: &mut Residency<FarTables>, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError> {
        touch::write(pager, addr, len)
    }

    fn bring(pager: &mut Residency<FarTables>, page: PageNo) -> Result<(), PagerError> {
        touch::read(pager, page.addr(), 1).map(|_| ())
    }
}

impl Drop for FarTables {
    fn drop(&mut self) {
        for leaf in 0..self.touched.len() {
            if self.leaf(leaf).is_some() {
                self.remove_leaf(leaf);
            }
        }
        FarTables::slots(self.slots).iter().for_each(|slot| slot.store(0, Relaxed));
        self.stale.push_all();
        self.stale.flush();
    }
}
