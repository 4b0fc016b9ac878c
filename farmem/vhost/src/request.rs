//! One request of the guest's driver, as its descriptors say it.
//!
//! ```text
//!   readable: type u32 │ reserved u32 │ sector u64 │ data to write ...
//!   writable: ... data that is read │ status u8
//! ```
//!
//! Where a descriptor ends means nothing: header, data and status are found by their bytes. Source: virtio 1.2, 5.2.6.
//! Refuses what names memory that the guest has not.

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Bytes of type, reserved word and sector.
const HEADER_BYTES: usize = 16;
/// Units of every address on the disk. Units: bytes.
pub const SECTOR_BYTES: u64 = 512;
/// Bytes of the disk's name. Source: virtio 1.2, 5.2.6 (`VIRTIO_BLK_T_GET_ID`).
pub const ID_BYTES: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Disk to memory.
    Read,
    /// Memory to disk.
    Write,
    /// What was written is to stay written.
    Flush,
    /// What is there is dead.
    Discard,
    /// It is to read as zeros.
    WriteZeroes,
    /// The disk's name.
    Id,
    /// Something else.
    Unknown(u32),
}

/// How a request ends. Source: virtio 1.2, 5.2.6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Not done.
    Failed = 1,
    /// Never done here.
    Unsupported = 2,
}

/// A run of bytes of the guest's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its first byte.
    pub at: GuestAddress,
    /// How many there are.
    pub len: usize,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The descriptor that it is returned by.
    pub head: u16,
    /// What is asked for.
    pub kind: Kind,
    /// Where on the disk.
    pub sector: u64,
    /// Where in memory; header and status apart.
    pub data: Vec<Segment>,
    /// Where the status is to be written.
    pub status: GuestAddress,
}

/// The driver is wrong: this is no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Request {
    /// Reads a request from its descriptors.
    ///
    /// # Errors
    /// [`Malformed`] without a header, without room for the status, or with memory that is not there.
    pub fn read(
        chain: DescriptorChain<&GuestMemoryMmap>,
        memory: &GuestMemoryMmap,
    ) -> Result<Request, Malformed> {
        let head = chain.head_index();
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        for descriptor in chain {
            let segment = Segment { at: descriptor.addr(), len: descriptor.len() as usize };
            if segment.len == 0 {
                continue;
            }
            if !memory.check_range(segment.at, segment.len) {
                return Err(Malformed);
            }
            if descriptor.is_write_only() { &mut writable } else { &mut readable }.push(segment);
        }
        let mut header = [0; HEADER_BYTES];
        take_front(&mut readable, &mut header, memory)?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let sector = u64::from(word(12)) << 32 | u64::from(word(8));
        let status = take_last(&mut writable)?;
        let kind = match word(0) {
            0 => Kind::Read,
            1 => Kind::Write,
            4 => Kind::Flush,
            8 => Kind::Id,
            11 => Kind::Discard,
            13 => Kind::WriteZeroes,
            other => Kind::Unknown(other),
        };
        let data = if matches!(kind, Kind::Read | Kind::Id) { writable } else { readable };
        Ok(Request { head, kind, sector, data, status })
    }

    /// Bytes of data.
    pub fn len(&self) -> usize {
        self.data.iter().map(|segment| segment.len).sum()
    }

    /// Copies bytes of the data out, from its `skip`th on. Whether there were as many.
    pub fn copy_out(&self, memory: &GuestMemoryMmap, skip: usize, into: &mut [u8]) -> bool {
        self.each_piece(skip, into.len(), |at, done, len| {
            memory.read_slice(&mut into[done..done + len], at).is_ok()
        })
    }

    /// Copies bytes into the data, from its `skip`th on. Whether there was room.
    pub fn copy_in(&self, memory: &GuestMemoryMmap, skip: usize, from: &[u8]) -> bool {
        self.each_piece(skip, from.len(), |at, done, len| {
            memory.write_slice(&from[done..done + len], at).is_ok()
        })
    }

    fn each_piece(
        &self,
        mut skip: usize,
        len: usize,
        mut each: impl FnMut(GuestAddress, usize, usize) -> bool,
    ) -> bool {
        let mut done = 0;
        for segment in &self.data {
            if skip >= segment.len {
                skip -= segment.len;
                continue;
            }
            let piece = (segment.len - skip).min(len - done);
            // The sum cannot overflow: the segment was found to lie in memory.
            if piece > 0 && !each(GuestAddress(segment.at.0 + skip as u64), done, piece) {
                return false;
            }
            (skip, done) = (0, done + piece);
        }
        done == len
    }
}

/// Takes the first bytes off a list of segments.
fn take_front(from: &mut Vec<Segment>, into: &mut [u8], memory: &GuestMemoryMmap) -> Result<(), Malformed> {
    let mut done = 0;
    while done < into.len() {
        let first = from.first_mut().ok_or(Malformed)?;
        let piece = first.len.min(into.len() - done);
        memory.read_slice(&mut into[done..done + piece], first.at).map_err(|_| Malformed)?;
        (first.at, first.len) = (GuestAddress(first.at.0 + piece as u64), first.len - piece);
        if first.len == 0 {
            from.remove(0);
        }
        done += piece;
    }
    Ok(())
}

/// Takes the last byte off a list of segments; where it is.
fn take_last(from: &mut Vec<Segment>) -> Result<GuestAddress, Malformed> {
    let last = from.last_mut().ok_or(Malformed)?;
    last.len -= 1;
    let at = GuestAddress(last.at.0 + last.len as u64);
    if last.len == 0 {
        from.pop();
    }
    Ok(at)
}
