//! The NBD protocol as it lies on the wire: constants and headers, shared by the link and the memory node.
//!
//! ```text
//!   server                                  client
//!   Greeting                          ───►
//!                                     ◄───  client flags (4 bytes)
//!                                     ◄───  OptionHeader + data         } until GO, EXPORT_NAME
//!   OptionReply + data  (ACK is last) ───►                              } or ABORT
//!                                     ◄───  Request [+ data of a WRITE] } in any number,
//!   SimpleReply [+ data of a READ]    ───►                              } answered in any order
//!   or, if negotiated: ChunkHeader + data, the last one flagged DONE
//! ```
//!
//! Every header is a struct of big-endian fields without padding: write it with
//! [`IntoBytes::as_bytes`](zerocopy::IntoBytes::as_bytes), read it with
//! [`FromBytes::read_from_prefix`](zerocopy::FromBytes::read_from_prefix), then check its magic. Refuses to know sockets,
//! states and memory. Source: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>

use bitflags::bitflags;
use std::fmt;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// "NBDMAGIC", the first eight bytes of a server.
pub const NBD_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// "IHAVEOPT": opens the newstyle greeting's second half, and every option.
pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// Opens every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Opens every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Opens a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Opens a chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// The port that IANA has given to NBD.
pub const DEFAULT_PORT: u16 = 10809;
/// Longest name of an export and longest description. Units: bytes.
pub const STRING_BYTES_MAX: usize = 4096;
/// Longest READ or WRITE that a portable client asks for, and that `remora-memnode` serves: 32 MiB.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;
/// Data of an option that is no lie: NBD_OPT_GO's two lengths, a name, and every information asked for.
pub const OPTION_BYTES_MAX: u32 = 4 + STRING_BYTES_MAX as u32 + 2 + 2 * 64;
/// Zeros that close the answer to EXPORT_NAME unless [`HandshakeFlags::NO_ZEROES`] was agreed on.
pub const EXPORT_NAME_ZEROES: usize = 124;

bitflags! {
    /// What server and client say of themselves before the first option. The client's are 32 bits on the wire.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct HandshakeFlags: u16 {
        /// The fixed newstyle negotiation; without it only EXPORT_NAME may be sent.
        const FIXED_NEWSTYLE = 1;
        /// The answer to EXPORT_NAME has no [`EXPORT_NAME_ZEROES`].
        const NO_ZEROES = 1 << 1;
    }
}

bitflags! {
    /// What an export can do (the protocol's transmission flags).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ExportFlags: u16 {
        /// Always set.
        const HAS_FLAGS = 1;
        /// Nothing can be written.
        const READ_ONLY = 1 << 1;
        /// FLUSH is understood.
        const SEND_FLUSH = 1 << 2;
        /// [`CommandFlags::FUA`] is understood.
        const SEND_FUA = 1 << 3;
        /// The export is a spinning disk.
        const ROTATIONAL = 1 << 4;
        /// TRIM is understood.
        const SEND_TRIM = 1 << 5;
        /// WRITE_ZEROES is understood.
        const SEND_WRITE_ZEROES = 1 << 6;
        /// [`CommandFlags::DF`] is understood; only after structured replies were agreed on.
        const SEND_DF = 1 << 7;
        /// A FLUSH on one connection covers what was answered on all others.
        const CAN_MULTI_CONN = 1 << 8;
        /// The server may be told to resize; obsolete.
        const SEND_RESIZE = 1 << 9;
        /// CACHE is understood.
        const SEND_CACHE = 1 << 10;
        /// [`CommandFlags::FAST_ZERO`] is understood.
        const SEND_FAST_ZERO = 1 << 11;
        /// Bits that this version does not know may be set, and are kept.
        const _ = !0;
    }
}

bitflags! {
    /// How a request is to be done.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CommandFlags: u16 {
        /// The answer means that the bytes are on stable storage.
        const FUA = 1;
        /// WRITE_ZEROES may not give the space back.
        const NO_HOLE = 1 << 1;
        /// A READ is answered in one chunk.
        const DF = 1 << 2;
        /// BLOCK_STATUS answers one extent.
        const REQ_ONE = 1 << 3;
        /// WRITE_ZEROES fails with [`Errno::ENOTSUP`] unless it is fast.
        const FAST_ZERO = 1 << 4;
        /// Bits that this version does not know may be set, and are kept.
        const _ = !0;
    }
}

/// A number of the protocol with names for the values that are known; others are kept as they came.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident: $int:ty, $wire:ty { $($(#[$what:meta])* $value:ident = $number:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(transparent)]
        pub struct $name(pub $wire);

        impl $name {
            $($(#[$what])* pub const $value: $name = $name(<$wire>::new($number));)*
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $($name::$value => f.write_str(stringify!($value)),)*
                    $name(other) => write!(f, concat!(stringify!($name), "({})"), other.get()),
                }
            }
        }
    };
}

numbers! {
    /// What a client asks for during the negotiation.
    Opt: u32, U32 {
        /// Start with this export, without a way to say no.
        EXPORT_NAME = 1,
        /// End the session.
        ABORT = 2,
        /// Name all exports.
        LIST = 3,
        /// Speak TLS from here on.
        STARTTLS = 5,
        /// Describe an export.
        INFO = 6,
        /// Describe an export and start with it.
        GO = 7,
        /// Agree on structured replies.
        STRUCTURED_REPLY = 8,
        /// Name the metadata contexts.
        LIST_META_CONTEXT = 9,
        /// Select metadata contexts.
        SET_META_CONTEXT = 10,
        /// Agree on extended headers.
        EXTENDED_HEADERS = 11,
    }
}

numbers! {
    /// What a server answers to an option; errors have the top bit set.
    OptReply: u32, U32 {
        /// Done.
        ACK = 1,
        /// One export's name; see [`OptionReply`].
        SERVER = 2,
        /// One piece of information; see [`InfoKind`].
        INFO = 3,
        /// The option is not known.
        ERR_UNSUP = 1 << 31 | 1,
        /// The server's policy says no.
        ERR_POLICY = 1 << 31 | 2,
        /// The option's data make no sense.
        ERR_INVALID = 1 << 31 | 3,
        /// Not on this platform.
        ERR_PLATFORM = 1 << 31 | 4,
        /// Only after STARTTLS.
        ERR_TLS_REQD = 1 << 31 | 5,
        /// No such export.
        ERR_UNKNOWN = 1 << 31 | 6,
        /// The server is going away.
        ERR_SHUTDOWN = 1 << 31 | 7,
        /// The client must ask for the block sizes first.
        ERR_BLOCK_SIZE_REQD = 1 << 31 | 8,
        /// The option's data are too long.
        ERR_TOO_BIG = 1 << 31 | 9,
        /// Only after extended headers.
        ERR_EXT_HEADER_REQD = 1 << 31 | 10,
    }
}

impl OptReply {
    /// Whether the answer is an error (which is also the last reply to its option).
    pub fn is_error(self) -> bool {
        self.0.get() >> 31 == 1
    }
}

numbers! {
    /// What an information (the data of [`OptReply::INFO`]) is about: its first two bytes.
    InfoKind: u16, U16 {
        /// [`ExportInfo`]; always sent.
        EXPORT = 0,
        /// The export's name in UTF-8.
        NAME = 1,
        /// Words about the export in UTF-8; see [`Generation`].
        DESCRIPTION = 2,
        /// [`BlockSizeInfo`].
        BLOCK_SIZE = 3,
    }
}

numbers! {
    /// What a request asks for.
    Command: u16, U16 {
        /// Bytes, please.
        READ = 0,
        /// Bytes follow.
        WRITE = 1,
        /// The client goes; no answer.
        DISC = 2,
        /// What was answered shall be on stable storage.
        FLUSH = 3,
        /// The bytes are not wanted any more.
        TRIM = 4,
        /// The bytes will be read soon.
        CACHE = 5,
        /// The bytes shall be zero.
        WRITE_ZEROES = 6,
        /// Which bytes are where.
        BLOCK_STATUS = 7,
        /// Obsolete.
        RESIZE = 8,
    }
}

numbers! {
    /// What a chunk of a structured reply carries; errors have the top bit set.
    ChunkKind: u16, U16 {
        /// Nothing.
        NONE = 0,
        /// An offset (8 bytes) and the bytes there.
        OFFSET_DATA = 1,
        /// [`HoleChunk`]: zeros.
        OFFSET_HOLE = 2,
        /// Extents of a metadata context.
        BLOCK_STATUS = 5,
        /// [`ErrorChunk`] and its message: the request failed.
        ERROR = 1 << 15 | 1,
        /// [`ErrorChunk`], its message and an offset (8 bytes).
        ERROR_OFFSET = 1 << 15 | 2,
    }
}

impl ChunkKind {
    /// Whether the chunk says that its request failed.
    pub fn is_error(self) -> bool {
        self.0.get() >> 15 == 1
    }
}

numbers! {
    /// Why a request failed; zero means that it did not.
    Errno: u32, U32 {
        /// No error.
        NONE = 0,
        /// Not allowed (a write to a read-only export).
        EPERM = 1,
        /// The device failed.
        EIO = 5,
        /// No memory.
        ENOMEM = 12,
        /// The request makes no sense.
        EINVAL = 22,
        /// The end of the device, or of its space.
        ENOSPC = 28,
        /// Too long for one chunk.
        EOVERFLOW = 75,
        /// Not supported.
        ENOTSUP = 95,
        /// The server is going away.
        ESHUTDOWN = 108,
    }
}

/// On a chunk: no other chunk follows for its cookie.
pub const CHUNK_DONE: u16 = 1;

/// The header of one wire struct: declares it with big-endian fields, and makes it from native values.
macro_rules! headers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $field:ident: $wire:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$what])* pub $field: $wire,)* }

        impl $name {
            /// Bytes on the wire.
            pub const LEN: usize = size_of::<$name>();
        }
    )*};
}

headers! {
    /// The first bytes of a server.
    Greeting {
        /// [`NBD_MAGIC`].
        magic: U64,
        /// [`OPTION_MAGIC`].
        newstyle: U64,
        /// [`HandshakeFlags`].
        flags: U16,
    }

    /// Precedes the data of an option.
    OptionHeader {
        /// [`OPTION_MAGIC`].
        magic: U64,
        /// Which option.
        option: Opt,
        /// Bytes of data that follow. Bounds: [`OPTION_BYTES_MAX`].
        len: U32,
    }

    /// Precedes the data of a reply to an option. The data of [`OptReply::SERVER`] are the name's length (4
    /// bytes), the name, and words about it; those of an error are words for a human.
    OptionReply {
        /// [`OPTION_REPLY_MAGIC`].
        magic: U64,
        /// The option that is answered.
        option: Opt,
        /// The answer.
        reply: OptReply,
        /// Bytes of data that follow.
        len: U32,
    }

    /// Data of [`InfoKind::EXPORT`], behind the kind; and (without the kind) the answer to EXPORT_NAME.
    ExportInfo {
        /// Units: bytes.
        size: U64,
        /// [`ExportFlags`].
        flags: U16,
    }

    /// Data of [`InfoKind::BLOCK_SIZE`], behind the kind. Units: bytes; the first two are powers of two.
    BlockSizeInfo {
        /// What offsets and lengths are multiples of.
        minimum: U32,
        /// What is fast.
        preferred: U32,
        /// The longest READ or WRITE.
        maximum: U32,
    }

    /// A request; the data of a WRITE follow it.
    Request {
        /// [`REQUEST_MAGIC`].
        magic: U32,
        /// [`CommandFlags`].
        flags: U16,
        /// What to do.
        command: Command,
        /// Comes back with the answer; the client's to choose.
        cookie: U64,
        /// The first byte.
        offset: U64,
        /// How many bytes.
        len: U32,
    }

    /// A simple reply; the data of a READ that did not fail follow it.
    SimpleReply {
        /// [`SIMPLE_REPLY_MAGIC`].
        magic: U32,
        /// [`Errno::NONE`] unless the request failed.
        error: Errno,
        /// The request's.
        cookie: U64,
    }

    /// One chunk of a structured reply.
    ChunkHeader {
        /// [`CHUNK_MAGIC`].
        magic: U32,
        /// [`CHUNK_DONE`] on the last chunk for this cookie.
        flags: U16,
        /// What the data are.
        kind: ChunkKind,
        /// The request's.
        cookie: U64,
        /// Bytes of data that follow.
        len: U32,
    }

    /// Data of [`ChunkKind::OFFSET_HOLE`].
    HoleChunk {
        /// The first byte of zeros, counted from the start of the export.
        offset: U64,
        /// How many zeros.
        len: U32,
    }

    /// The first data of [`ChunkKind::ERROR`] and [`ChunkKind::ERROR_OFFSET`].
    ErrorChunk {
        /// Why.
        error: Errno,
        /// Bytes of message that follow.
        message_len: U16,
    }
}

impl Greeting {
    /// A newstyle server's.
    pub fn new(flags: HandshakeFlags) -> Greeting {
        Greeting { magic: NBD_MAGIC.into(), newstyle: OPTION_MAGIC.into(), flags: flags.bits().into() }
    }
}

impl OptionHeader {
    /// An option with `len` bytes of data.
    pub fn new(option: Opt, len: u32) -> OptionHeader {
        OptionHeader { magic: OPTION_MAGIC.into(), option, len: len.into() }
    }
}

impl OptionReply {
    /// An answer to `option` with `len` bytes of data.
    pub fn new(option: Opt, reply: OptReply, len: u32) -> OptionReply {
        OptionReply { magic: OPTION_REPLY_MAGIC.into(), option, reply, len: len.into() }
    }
}

impl Request {
    /// A request that is not flagged.
    #[inline]
    pub fn new(command: Command, cookie: u64, offset: u64, len: u32) -> Request {
        Request {
            magic: REQUEST_MAGIC.into(),
            flags: U16::ZERO,
            command,
            cookie: cookie.into(),
            offset: offset.into(),
            len: len.into(),
        }
    }
}

impl SimpleReply {
    /// The answer to the request with this cookie.
    #[inline]
    pub fn new(error: Errno, cookie: U64) -> SimpleReply {
        SimpleReply { magic: SIMPLE_REPLY_MAGIC.into(), error, cookie }
    }
}

impl ChunkHeader {
    /// The only chunk of an answer, with `len` bytes of data.
    #[inline]
    pub fn last(kind: ChunkKind, cookie: U64, len: u32) -> ChunkHeader {
        ChunkHeader { magic: CHUNK_MAGIC.into(), flags: CHUNK_DONE.into(), kind, cookie, len: len.into() }
    }
}

/// The data of INFO and GO: an export and what to tell about it.
///
/// Shape: name length (4 bytes), name, count (2 bytes), that many [`InfoKind`]s. The server tells about
/// [`InfoKind::EXPORT`] in any case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportRequest<'a> {
    /// Which export; empty means the default one.
    pub name: &'a str,
    /// What else the client would like to know.
    pub wanted: &'a [InfoKind],
}

impl<'a> ExportRequest<'a> {
    /// Appends the option's data to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
        to.extend_from_slice(self.name.as_bytes());
        to.extend_from_slice(&(self.wanted.len() as u16).to_be_bytes());
        to.extend_from_slice(self.wanted.as_bytes());
    }

    /// Reads the option's data; `None` if they make no sense.
    pub fn decode(data: &'a [u8]) -> Option<ExportRequest<'a>> {
        let (name, rest) = decode_string(data)?;
        let (count, rest) = U16::read_from_prefix(rest).ok()?;
        let wanted = <[InfoKind]>::ref_from_bytes(rest).ok()?;
        (wanted.len() == usize::from(count.get())).then_some(ExportRequest { name, wanted })
    }
}

/// Reads a string behind its 4-byte length, as in [`ExportRequest`] and [`OptReply::SERVER`]; also gives what
/// follows it. `None` if it is cut short, too long or not UTF-8.
pub fn decode_string(data: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = U32::read_from_prefix(data).ok()?;
    let len = usize::try_from(len.get()).ok().filter(|&len| len <= STRING_BYTES_MAX)?;
    let (text, rest) = rest.split_at_checked(len)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Names the content of a memory node's export: drawn at random whenever the memory starts out empty.
///
/// A client that comes back and reads another generation than before knows that its pages are gone. It travels
/// in the export's description ([`InfoKind::DESCRIPTION`], also in LIST): `remora generation=` and 32 hex digits, then
/// perhaps more words after a space. An export without it (nbdkit's, qemu-nbd's) says nothing about its content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Generation(pub u128);

impl Generation {
    const PREFIX: &'static str = "remora generation=";

    /// Finds the generation in an export's description.
    pub fn of_description(description: &str) -> Option<Generation> {
        let hex = description.strip_prefix(Generation::PREFIX)?.split(' ').next()?;
        let plain = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(hex, 16).ok().filter(|_| plain).map(Generation)
    }

    /// The description that carries this generation.
    pub fn description(self) -> String {
        format!("{}{self}", Generation::PREFIX)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_long_as_the_protocol_says() {
        let lengths = [
            Greeting::LEN,
            OptionHeader::LEN,
            OptionReply::LEN,
            ExportInfo::LEN,
            BlockSizeInfo::LEN,
            Request::LEN,
            SimpleReply::LEN,
            ChunkHeader::LEN,
            HoleChunk::LEN,
            ErrorChunk::LEN,
        ];
        assert_eq!(lengths, [18, 16, 20, 10, 12, 28, 16, 20, 12, 6]);
    }

    #[test]
    fn a_request_is_big_endian_and_comes_back() {
        let request = Request::new(Command::TRIM, 0x0102, 4096, 8192);
        let wire = request.as_bytes();
        assert_eq!(wire[..8], [0x25, 0x60, 0x95, 0x13, 0, 0, 0, 4]);
        assert_eq!(wire[8..16], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(Request::read_from_bytes(wire), Ok(request));
        assert_eq!(format!("{:?} {:?}", Command::TRIM, Command(77.into())), "TRIM Command(77)");
    }

    #[test]
    fn an_export_request_comes_back_and_a_cut_one_does_not() {
        let wanted = [InfoKind::DESCRIPTION, InfoKind::BLOCK_SIZE];
        let request = ExportRequest { name: "far", wanted: &wanted };
        let mut wire = Vec::new();
        request.encode(&mut wire);
        assert_eq!(ExportRequest::decode(&wire), Some(request));
        for len in 0..wire.len() {
            assert_eq!(ExportRequest::decode(&wire[..len]), None);
        }
        wire.push(0);
        assert_eq!(ExportRequest::decode(&wire), None);
        assert_eq!(ExportRequest::decode(&[0xff; 64]), None);
    }

    #[test]
    fn a_generation_is_found_in_its_description_and_nowhere_else() {
        let generation = Generation(0x1234_5678_9abc);
        let description = generation.description();
        assert_eq!(description, "remora generation=00000000000000000000123456789abc");
        assert_eq!(Generation::of_description(&description), Some(generation));
        assert_eq!(Generation::of_description(&format!("{description} and words")), Some(generation));
        for other in ["", "a disk", "remora generation=", "remora generation=12", &description[..40]] {
            assert_eq!(Generation::of_description(other), None);
        }
    }
}
