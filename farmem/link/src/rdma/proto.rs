//! What lies on the control connection between a link and a memory node, before anything moves over RDMA.
//!
//! ```text
//!   node ─► Greeting   magic, version, a nonce
//!   link ─► Hello      its nonce, the export's name, its two queue pairs, MAC over both nonces and this
//!   node ─► Answer     refusal or: its two queue pairs, where the memory is and its key, generation, MAC likewise
//!
//!   then nothing more: whoever closes it ends the queue pairs of the other
//! ```
//!
//! A remote key opens the memory, so both sides prove that they know the secret; the nonces make every proof good for one
//! connection. Refuses to hide anything: who can read the network can read pages and keys. All numbers are big-endian.

use super::port::Gid;
use crate::nbd::proto::Generation;
use ring::hmac;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The port that is meant when none is named.
pub const DEFAULT_PORT: u16 = 10810;
/// What the first bytes must be.
pub const MAGIC: u64 = u64::from_be_bytes(*b"REMORDMA");
/// Both sides must speak the same.
pub const VERSION: u32 = 1;
/// Longest name of an export. Units: bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// A secret is at least so long: 16 random bytes in hex have 32.
pub const SECRET_BYTES_MIN: usize = 16;
/// Longest secret. Units: bytes.
pub const SECRET_BYTES_MAX: usize = 4096;

/// Queue pairs of a link: one for what is needed, one for the rest.
pub const LANES: usize = 2;

/// Random bytes that never come twice.
pub type Nonce = [u8; 32];
type Mac = [u8; 32];

/// One queue pair of a side.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Lane {
    /// The pair's number.
    pub number: U32,
    /// The number of its first packet: 24 bits.
    pub psn: U32,
}

/// How to reach a side.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Side {
    /// Its GID.
    pub gid: Gid,
    /// Its address in an InfiniBand subnet.
    pub lid: U16,
    /// The largest packet that its port takes: 1 to 5 stand for 256 to 4096 bytes.
    pub mtu: u8,
    /// READs at once that it serves and asks for.
    pub reads: u8,
    /// Its queue pairs.
    pub lanes: [Lane; LANES],
}

/// The node's first words.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Greeting {
    /// [`MAGIC`].
    pub magic: U64,
    /// [`VERSION`].
    pub version: U32,
    /// The node's.
    pub nonce: Nonce,
}

/// What a link asks for.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Hello {
    magic: U64,
    version: U32,
    /// The link's.
    pub nonce: Nonce,
    /// How to reach the link.
    pub side: Side,
    name_len: u8,
    name: [u8; NAME_BYTES_MAX],
    mac: Mac,
}

/// What a node answers.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Answer {
    magic: U64,
    version: U32,
    refusal: U32,
    /// How to reach the node.
    pub side: Side,
    /// The address of the memory's first byte.
    pub address: U64,
    /// Units: bytes.
    pub len: U64,
    /// What opens it.
    pub key: U32,
    generation: [u8; 16],
    mac: Mac,
}

/// Why a side does not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The first bytes are another protocol's.
    Protocol,
    /// The other side speaks another version.
    Version(u32),
    /// The other side does not know the secret.
    Secret,
    /// The node has no such export.
    Export,
    /// The node has too many clients, or its device no more queue pairs.
    Room,
    /// What the other side says makes no sense.
    Nonsense,
}

impl Refusal {
    fn code(self) -> u32 {
        match self {
            Refusal::Protocol => 1,
            Refusal::Version(_) => 2,
            Refusal::Secret => 3,
            Refusal::Export => 4,
            Refusal::Room => 5,
            Refusal::Nonsense => 6,
        }
    }

    fn of_code(code: u32) -> Refusal {
        match code {
            1 => Refusal::Protocol,
            2 => Refusal::Version(0),
            3 => Refusal::Secret,
            4 => Refusal::Export,
            5 => Refusal::Room,
            _ => Refusal::Nonsense,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Protocol => f.write_str("no Remora memory node speaks there"),
            Refusal::Version(0) => write!(f, "the other side speaks another version than {VERSION}"),
            Refusal::Version(theirs) => {
                write!(f, "the other side speaks version {theirs}, this one {VERSION}")
            }
            Refusal::Secret => f.write_str("the secrets are not the same"),
            Refusal::Export => f.write_str("the node has no such export"),
            Refusal::Room => f.write_str("the node has no room for another client"),
            Refusal::Nonsense => f.write_str("what it says makes no sense"),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, refusal.to_string())
    }
}

/// What both sides know and nobody else.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// The content of a file, without the white space around it.
    ///
    /// # Errors
    /// What the system answers; `InvalidInput` if it is too short or too long.
    pub fn load(path: &Path) -> io::Result<Secret> {
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("secret file {}: {error}", path.display()))
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(explain)?;
        file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(explain)?;
        Secret::of(&bytes).map_err(explain)
    }

    /// A secret of these bytes, without the white space around them.
    ///
    /// # Errors
    /// `InvalidInput` if they are too few or too many.
    pub fn of(bytes: &[u8]) -> io::Result<Secret> {
        let trimmed = bytes.trim_ascii();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&trimmed.len()) {
            let why = format!("a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Secret(hmac::Key::new(hmac::HMAC_SHA256, trimmed)))
    }

    fn mac(&self, parts: &[&[u8]]) -> Mac {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        let mut mac = [0; 32];
        mac.copy_from_slice(context.sign().as_ref());
        mac
    }

    /// Whether the MAC is that of the parts; takes as long whatever is wrong.
    fn proves(&self, parts: &[&[u8]], mac: &Mac) -> bool {
        hmac::verify(&self.0, &parts.concat(), mac).is_ok()
    }
}

/// What the MACs are over, so that none can stand for the other.
const HELLO_LABEL: &[u8] = b"remora rdma hello";
const ANSWER_LABEL: &[u8] = b"remora rdma answer";

impl Greeting {
    /// With a nonce of the node.
    pub fn new(nonce: Nonce) -> Greeting {
        Greeting { magic: MAGIC.into(), version: VERSION.into(), nonce }
    }

    /// # Errors
    /// If it is no greeting, or another version's.
    pub fn check(&self) -> Result<(), Refusal> {
        check_head(self.magic, self.version)
    }
}

fn check_head(magic: U64, version: U32) -> Result<(), Refusal> {
    match (magic.get(), version.get()) {
        (MAGIC, VERSION) => Ok(()),
        (MAGIC, theirs) => Err(Refusal::Version(theirs)),
        _ => Err(Refusal::Protocol),
    }
}

impl Side {
    /// Whether a queue pair could be connected to it.
    fn makes_sense(&self) -> bool {
        (1..=5).contains(&self.mtu)
            && self.reads > 0
            && self.lanes.iter().all(|lane| lane.psn.get() < 1 << 24 && lane.number.get() < 1 << 24)
    }
}

impl Hello {
    /// Asks for an export.
    ///
    /// # Errors
    /// `Export` if the name is too long for any.
    pub fn new(
        secret: &Secret,
        greeting: &Greeting,
        nonce: Nonce,
        side: Side,
        export: &str,
    ) -> Result<Hello, Refusal> {
        let name_len = u8::try_from(export.len()).map_err(|_| Refusal::Export)?;
        let mut name = [0; NAME_BYTES_MAX];
        name[..export.len()].copy_from_slice(export.as_bytes());
        let (magic, version) = (MAGIC.into(), VERSION.into());
        let mut hello = Hello { magic, version, nonce, side, name_len, name, mac: [0; 32] };
        hello.mac = secret.mac(&hello.proof(&greeting.nonce));
        Ok(hello)
    }

    fn proof<'p>(&'p self, node_nonce: &'p Nonce) -> [&'p [u8]; 3] {
        let all = self.as_bytes();
        [HELLO_LABEL, node_nonce, &all[..all.len() - size_of::<Mac>()]]
    }

    /// # Errors
    /// Why the node does not go on: the secret is looked at before anything else that it says.
    pub fn check(&self, secret: &Secret, greeting: &Greeting) -> Result<&str, Refusal> {
        check_head(self.magic, self.version)?;
        if !secret.proves(&self.proof(&greeting.nonce), &self.mac) {
            return Err(Refusal::Secret);
        }
        let name = self.name.get(..usize::from(self.name_len)).ok_or(Refusal::Nonsense)?;
        let name = std::str::from_utf8(name).map_err(|_| Refusal::Nonsense)?;
        if self.side.makes_sense() { Ok(name) } else { Err(Refusal::Nonsense) }
    }
}

impl Answer {
    /// Lends a memory.
    pub fn accept(side: Side, (address, len, key): (u64, u64, u32), generation: Generation) -> Answer {
        Answer {
            magic: MAGIC.into(),
            version: VERSION.into(),
            side,
            address: address.into(),
            len: len.into(),
            key: key.into(),
            generation: generation.0.to_be_bytes(),
            ..Answer::new_zeroed()
        }
    }

    /// Lends nothing.
    pub fn refuse(why: Refusal) -> Answer {
        Answer {
            magic: MAGIC.into(),
            version: VERSION.into(),
            refusal: why.code().into(),
            ..Answer::new_zeroed()
        }
    }

    /// Proves that the node knows the secret, to this link.
    #[must_use]
    pub fn sealed(mut self, secret: &Secret, greeting: &Greeting, link_nonce: &Nonce) -> Answer {
        self.mac = secret.mac(&self.proof(&greeting.nonce, link_nonce));
        self
    }

    fn proof<'p>(&'p self, node_nonce: &'p Nonce, link_nonce: &'p Nonce) -> [&'p [u8]; 4] {
        let all = self.as_bytes();
        [ANSWER_LABEL, node_nonce, link_nonce, &all[..all.len() - size_of::<Mac>()]]
    }

    /// # Errors
    /// Why the link does not go on.
    pub fn check(&self, secret: &Secret, greeting: &Greeting, link_nonce: &Nonce) -> Result<(), Refusal> {
        check_head(self.magic, self.version)?;
        match self.refusal.get() {
            0 => {}
            code => return Err(Refusal::of_code(code)),
        }
        if !secret.proves(&self.proof(&greeting.nonce, link_nonce), &self.mac) {
            return Err(Refusal::Secret);
        }
        let fits = self.address.get().checked_add(self.len.get()).is_some();
        if fits && self.side.makes_sense() { Ok(()) } else { Err(Refusal::Nonsense) }
    }

    /// What is in the memory.
    pub fn generation(&self) -> Generation {
        Generation(u128::from_be_bytes(self.generation))
    }
}

/// Reads one of the above.
///
/// # Errors
/// What the system answers; `UnexpectedEof` if the other side hangs up.
pub fn receive<T: FromBytes + IntoBytes + FromZeros + Immutable>(mut from: impl Read) -> io::Result<T> {
    let mut value = T::new_zeroed();
    from.read_exact(value.as_mut_bytes())?;
    Ok(value)
}

/// Writes one of the above.
///
/// # Errors
/// What the system answers.
pub fn send<T: IntoBytes + Immutable>(mut to: impl Write, value: &T) -> io::Result<()> {
    to.write_all(value.as_bytes())
}

/// Random bytes for a nonce.
///
/// # Errors
/// If the kernel has none.
pub fn draw_nonce() -> io::Result<Nonce> {
    let mut nonce = [0; 32];
    rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())?;
    Ok(nonce)
}

/// Where the packets of two pairs start: anywhere, so that none of an earlier connection fits by accident.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn draw_psns() -> io::Result<[u32; LANES]> {
    let nonce = draw_nonce()?;
    Ok([0, 3].map(|at| u32::from_be_bytes([0, nonce[at], nonce[at + 1], nonce[at + 2]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::of(text.as_bytes()).expect("it is long enough")
    }

    fn side() -> Side {
        let lane = |n: u32| Lane { number: n.into(), psn: (n * 7).into() };
        Side { gid: [9; 16], lid: 3.into(), mtu: 3, reads: 16, lanes: [lane(17), lane(18)] }
    }

    #[test]
    fn two_that_know_the_secret_understand_each_other() {
        let ours = secret("0123456789abcdef\n");
        let greeting = Greeting::new([1; 32]);
        assert_eq!(greeting.check(), Ok(()));
        let hello = Hello::new(&ours, &greeting, [2; 32], side(), "far").expect("the name is short");
        assert_eq!(hello.check(&ours, &greeting), Ok("far"));
        let answer = Answer::accept(side(), (4096, 1 << 20, 77), Generation(5));
        let answer = answer.sealed(&ours, &greeting, &hello.nonce);
        assert_eq!(answer.check(&ours, &greeting, &hello.nonce), Ok(()));
        assert_eq!((answer.generation(), answer.key.get()), (Generation(5), 77));
    }

    #[test]
    fn a_proof_is_good_for_one_connection_one_direction_and_one_secret() {
        let ours = secret("0123456789abcdef");
        let (greeting, later) = (Greeting::new([1; 32]), Greeting::new([3; 32]));
        let hello = Hello::new(&ours, &greeting, [2; 32], side(), "").expect("the name is short");
        assert_eq!(hello.check(&ours, &later), Err(Refusal::Secret));
        assert_eq!(hello.check(&secret("fedcba9876543210"), &greeting), Err(Refusal::Secret));
        let answer = Answer::accept(side(), (0, 4096, 1), Generation(1)).sealed(&ours, &greeting, &[2; 32]);
        assert_eq!(answer.check(&ours, &greeting, &[4; 32]), Err(Refusal::Secret));
        assert_eq!(answer.check(&ours, &later, &[2; 32]), Err(Refusal::Secret));
    }

    #[test]
    fn every_flipped_bit_of_a_hello_and_of_an_answer_is_noticed() {
        let ours = secret("0123456789abcdef");
        let greeting = Greeting::new([1; 32]);
        let hello = Hello::new(&ours, &greeting, [2; 32], side(), "far").expect("the name is short");
        for bit in 0..8 * size_of::<Hello>() {
            let mut bytes = hello.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let bent = Hello::read_from_bytes(&bytes).expect("the length is right");
            assert!(bent.check(&ours, &greeting).is_err(), "bit {bit}");
        }
        let answer = Answer::accept(side(), (0, 4096, 1), Generation(1)).sealed(&ours, &greeting, &[2; 32]);
        for bit in 0..8 * size_of::<Answer>() {
            let mut bytes = answer.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let bent = Answer::read_from_bytes(&bytes).expect("the length is right");
            assert!(bent.check(&ours, &greeting, &[2; 32]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_even_with_the_secret() {
        let ours = secret("0123456789abcdef");
        let greeting = Greeting::new([1; 32]);
        let lane = |number: u32, psn: u32| Lane { number: number.into(), psn: psn.into() };
        for bad in [
            Side { mtu: 0, ..side() },
            Side { mtu: 6, ..side() },
            Side { reads: 0, ..side() },
            Side { lanes: [lane(1, 1 << 24), lane(1, 1)], ..side() },
            Side { lanes: [lane(1, 1), lane(1 << 24, 1)], ..side() },
        ] {
            let hello = Hello::new(&ours, &greeting, [2; 32], bad, "").expect("the name is short");
            assert_eq!(hello.check(&ours, &greeting), Err(Refusal::Nonsense));
        }
        let answer = Answer::accept(side(), (u64::MAX, 4096, 1), Generation(1));
        let answer = answer.sealed(&ours, &greeting, &[2; 32]);
        assert_eq!(answer.check(&ours, &greeting, &[2; 32]), Err(Refusal::Nonsense));
        assert!(matches!(
            Hello::new(&ours, &greeting, [2; 32], side(), &"x".repeat(256)),
            Err(Refusal::Export)
        ));
    }

    #[test]
    fn a_refusal_needs_no_secret_and_says_why() {
        let greeting = Greeting { version: 9.into(), ..Greeting::new([1; 32]) };
        assert_eq!(greeting.check(), Err(Refusal::Version(9)));
        for why in [Refusal::Secret, Refusal::Export, Refusal::Room, Refusal::Nonsense, Refusal::Protocol] {
            let answer = Answer::refuse(why);
            assert_eq!(answer.check(&secret("0123456789abcdef"), &greeting, &[2; 32]), Err(why));
        }
        assert!(Secret::of(b"short").is_err());
    }
}
