//! The five header classes, told apart by the low three bits of the flags byte.

/// How wide the length fields of a header are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// `sdshdr5`: the length lies in the flags byte itself; no spare capacity.
    Five = 0,
    /// `sdshdr8`.
    Eight = 1,
    /// `sdshdr16`.
    Sixteen = 2,
    /// `sdshdr32`.
    ThirtyTwo = 3,
    /// `sdshdr64`.
    SixtyFour = 4,
}

impl Class {
    /// The bits of the flags byte that hold the class.
    pub(crate) const MASK: u8 = 0b111;
    /// How far the flags byte of [`Class::Five`] shifts its length.
    pub(crate) const SHIFT: u32 = 3;

    /// The smallest class that can hold a string of `len` bytes.
    #[inline]
    #[must_use]
    pub const fn for_len(len: usize) -> Self {
        match len {
            0..=0x1f => Self::Five,
            0x20..=0xff => Self::Eight,
            0x100..=0xffff => Self::Sixteen,
            0x1_0000..=0xffff_ffff => Self::ThirtyTwo,
            _ => Self::SixtyFour,
        }
    }

    /// The class that the flags byte names, if it names one.
    #[inline]
    #[must_use]
    pub const fn of_flags(flags: u8) -> Option<Self> {
        match flags & Self::MASK {
            0 => Some(Self::Five),
            1 => Some(Self::Eight),
            2 => Some(Self::Sixteen),
            3 => Some(Self::ThirtyTwo),
            4 => Some(Self::SixtyFour),
            _ => None,
        }
    }

    /// The bytes of the header, flags included: where the data begins, from the front of the string.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Five => 1,
            Self::Eight => 3,
            Self::Sixteen => 5,
            Self::ThirtyTwo => 9,
            Self::SixtyFour => 17,
        }
    }

    /// The longest string of this class.
    #[inline]
    #[must_use]
    pub const fn len_max(self) -> usize {
        match self {
            Self::Five => 0x1f,
            Self::Eight => 0xff,
            Self::Sixteen => 0xffff,
            Self::ThirtyTwo => 0xffff_ffff,
            Self::SixtyFour => usize::MAX,
        }
    }
}
