//! The arguments of one command, as they lie in the client's input.

use crate::resp::decode::Span;
use farmem::FarAddr;

/// An argument too large for near memory, kept in far pages as it arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spooled {
    /// Which argument it is; 0 is the command's name.
    pub index: usize,
    /// The first page of the extent that holds it.
    pub addr: FarAddr,
    /// Units: bytes.
    pub len: usize,
}

/// The arguments of one command. Index 0 is the command's name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    spans: &'a [Span],
    spooled: &'a [Spooled],
}

impl<'a> Args<'a> {
    pub fn new(buffer: &'a [u8], spans: &'a [Span], spooled: &'a [Spooled]) -> Args<'a> {
        Args { buffer, spans, spooled }
    }

    /// How many there are, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Argument `index`. A spooled argument has no near bytes and reads as empty: commands that can take
    /// one ask [`Args::spooled`] first.
    /// # Panics
    /// If there is no such argument: arity was checked before.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.buffer[span.start as usize..span.start as usize + span.len as usize]
    }

    /// Argument `index` as it was spooled to far memory, if it was.
    #[inline]
    pub fn spooled(&self, index: usize) -> Option<Spooled> {
        if self.spooled.is_empty() {
            return None;
        }
        self.spooled.iter().copied().find(|spooled| spooled.index == index)
    }

    /// Length of argument `index` in bytes, wherever it lies.
    #[inline]
    pub fn len_of(&self, index: usize) -> usize {
        self.spooled(index).map_or_else(|| self.get(index).len(), |spooled| spooled.len)
    }

    /// Arguments from `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = &'a [u8]> + '_ {
        (from..self.len()).map(|index| self.get(index))
    }

    /// Whether argument `index` is `word`, in any case.
    #[inline]
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(word.as_bytes())
    }
}
