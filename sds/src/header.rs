//! One header: class, length and capacity, to bytes and back.

use crate::Class;

/// The longest header: that of [`Class::SixtyFour`], 8 + 8 + 1 bytes.
pub const HEADER_LEN_MAX: usize = Class::SixtyFour.header_len();

/// What the header of a string says.
///
/// Invariant: `len <= capacity <= class.len_max()`, and `Class::Five` has no capacity beyond its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    class: Class,
    len: usize,
    capacity: usize,
}

impl Header {
    /// The header of a string of `len` bytes that has no spare capacity.
    #[inline]
    #[must_use]
    pub const fn for_len(len: usize) -> Self {
        Self { class: Class::for_len(len), len, capacity: len }
    }

    /// The header of a string of `len` bytes in an allocation that holds up to `capacity`.
    ///
    /// Spare capacity needs a class that can record it: never [`Class::Five`].
    /// # Panics
    /// If `len > capacity`.
    #[inline]
    #[must_use]
    pub const fn with_capacity(len: usize, capacity: usize) -> Self {
        assert!(len <= capacity, "a string is never longer than its capacity");
        let class = match Class::for_len(capacity) {
            Class::Five if len < capacity => Class::Eight,
            class => class,
        };
        Self { class, len, capacity }
    }

    /// The class, hence the width of the fields.
    #[inline]
    #[must_use]
    pub const fn class(self) -> Class {
        self.class
    }

    /// The bytes of data.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether the string has no bytes.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The bytes of data that fit without a new allocation (`alloc` in Redis), the NUL not counted.
    #[inline]
    #[must_use]
    pub const fn capacity(self) -> usize {
        self.capacity
    }

    /// The bytes of header, capacity and NUL together.
    #[inline]
    #[must_use]
    pub const fn total_len(self) -> usize {
        self.class.header_len() + self.capacity + 1
    }

    /// The same string with `len` bytes of data; `None` if its class or capacity cannot hold that.
    #[inline]
    #[must_use]
    pub fn resized(self, len: usize) -> Option<Self> {
        match self.class {
            Class::Five => (len <= Class::Five.len_max()).then(|| Self::for_len(len)),
            _ => (len <= self.capacity).then_some(Self { len, ..self }),
        }
    }

    /// Writes the header at the front of `out` and returns its length, which is where the data begins.
    ///
    /// # Panics
    /// If `out` is shorter than the header.
    #[inline]
    pub fn encode(self, out: &mut [u8]) -> usize {
        let flags = self.class as u8;
        match self.class {
            Class::Five => out[0] = (self.len as u8) << Class::SHIFT | flags,
            Class::Eight => out[..3].copy_from_slice(&[self.len as u8, self.capacity as u8, flags]),
            Class::Sixteen => {
                out[..2].copy_from_slice(&(self.len as u16).to_le_bytes());
                out[2..4].copy_from_slice(&(self.capacity as u16).to_le_bytes());
                out[4] = flags;
            }
            Class::ThirtyTwo => {
                out[..4].copy_from_slice(&(self.len as u32).to_le_bytes());
                out[4..8].copy_from_slice(&(self.capacity as u32).to_le_bytes());
                out[8] = flags;
            }
            Class::SixtyFour => {
                out[..8].copy_from_slice(&(self.len as u64).to_le_bytes());
                out[8..16].copy_from_slice(&(self.capacity as u64).to_le_bytes());
                out[16] = flags;
            }
        }
        self.class.header_len()
    }

    /// The header of the string whose data begins at `data_offset` of `bytes`.
    ///
    /// `None` if the flags byte names no class, the header would begin before `bytes`, or its length
    /// exceeds its capacity. The data itself need not be within `bytes`.
    #[inline]
    #[must_use]
    pub fn decode_at(bytes: &[u8], data_offset: usize) -> Option<Self> {
        let head = bytes.get(..data_offset)?;
        let (&flags, fields) = head.split_last()?;
        let (class, len, capacity) = match Class::of_flags(flags)? {
            Class::Five => {
                let len = (flags >> Class::SHIFT) as usize;
                return Some(Self { class: Class::Five, len, capacity: len });
            }
            Class::Eight => {
                let &[len, capacity] = fields.last_chunk()?;
                (Class::Eight, len as usize, capacity as usize)
            }
            class => decode_wide(class, fields)?,
        };
        (len <= capacity).then_some(Self { class, len, capacity })
    }

    /// The header at the very front of `bytes`, of a string whose class is known from elsewhere.
    #[inline]
    #[must_use]
    pub fn decode_leading(bytes: &[u8], class: Class) -> Option<Self> {
        Self::decode_at(bytes, class.header_len()).filter(|header| header.class == class)
    }
}

/// The fields of the classes that only strings of 256 bytes and more have: kept out of the short path.
fn decode_wide(class: Class, fields: &[u8]) -> Option<(Class, usize, usize)> {
    let (len, capacity) = match class {
        Class::Sixteen => {
            let &[l0, l1, c0, c1] = fields.last_chunk()?;
            (u16::from_le_bytes([l0, l1]) as u64, u16::from_le_bytes([c0, c1]) as u64)
        }
        Class::ThirtyTwo => {
            let both = u64::from_le_bytes(*fields.last_chunk()?);
            (both & 0xffff_ffff, both >> 32)
        }
        _ => {
            let both = u128::from_le_bytes(*fields.last_chunk()?);
            (both as u64, (both >> 64) as u64)
        }
    };
    Some((class, usize::try_from(len).ok()?, usize::try_from(capacity).ok()?))
}
