//! One connection as the engine knows it: what it has sent, what it is owed, what it waits for.

use crate::args::Spooled;
use crate::commands::walk::Walk;
use crate::crowd::Counted;
use crate::error::Failure;
use crate::reply::Output;
use crate::resp::decode::{Decoder, Span};
use crate::spool::Spool;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use farmem::Ticket;

/// Names a connection between body and engine. Never reused: the generation tells a slot's users apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Who connects, as the body sees it.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// `address:port` of the other end.
    pub address: String,
    /// `address:port` of our end.
    pub local_address: String,
    /// The descriptor's number, for `CLIENT LIST`.
    pub descriptor: i32,
    /// Whether the other end is this machine, for protected mode.
    pub loopback: bool,
}

/// `CLIENT REPLY`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next command is not answered.
    SkipNext,
    /// This command is not answered.
    Skip,
}

impl ReplyMode {
    /// The mode once a command is done.
    pub fn after_command(self) -> ReplyMode {
        match self {
            ReplyMode::SkipNext => ReplyMode::Skip,
            ReplyMode::Skip => ReplyMode::On,
            mode => mode,
        }
    }
}

/// A parked command with spooled arguments, which cannot be parsed again.
pub struct HeldCommand {
    /// Its arguments, in the bytes at the front of the client's input.
    pub spans: Vec<Span>,
    /// How many of those bytes are its.
    pub len: usize,
}

/// What a body keeps for a connection: its task, its registration with the system, its places in tables.
/// Measured on Linux with 10,000 of them. Units: bytes.
const BODY_BYTES: usize = 768;

/// One connection.
pub struct Client {
    pub id: ClientId,
    /// The number that `CLIENT ID` shows.
    pub number: u64,
    pub peer: Peer,
    pub name: Vec<u8>,
    pub db: usize,
    pub resp3: bool,
    pub authenticated: bool,
    pub reply_mode: ReplyMode,
    pub no_evict: bool,
    pub created_ms: u64,
    pub last_used_ms: u64,
    pub last_command: &'static str,
    /// Bytes that have arrived and are not consumed.
    pub input: Vec<u8>,
    pub decoder: Decoder,
    /// What of the input is counted with everybody's.
    pub counted: Counted,
    /// The large argument that is arriving, and those of this command that have arrived.
    pub spool: Option<Box<Spool>>,
    pub spooled: Vec<Spooled>,
    /// Why one of those has no place: what its command answers once it is whole.
    pub spool_failure: Option<Box<Failure>>,
    pub held_command: Option<Box<HeldCommand>>,
    /// What the command at the front of `input` has done so far, if it goes in steps.
    pub walk: Option<Box<Walk>>,
    /// `None` when nothing is owed.
    pub output: Option<Box<Output>>,
    /// The wait of the command at the front of `input`.
    pub parked: Option<Ticket>,
    /// How often that command has been planned and found pages missing.
    pub plan_rounds: u32,
    /// The other end sends no more.
    pub input_ended: bool,
    /// Close the connection once what is owed has left.
    pub closing: bool,
    /// Close it at once.
    pub killed: bool,
    /// Ticks at which the output had not moved since the tick before.
    pub stalled_ticks: u32,
}

impl Client {
    /// Near memory that this connection takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        let output = self.output.as_ref().map_or(0, |output| size_of::<Output>() + output.near_bytes());
        let walk = self.walk.as_ref().map_or(0, |walk| size_of::<Walk>() + walk.near_bytes());
        let spool = if self.spool.is_some() { size_of::<Spool>() } else { 0 };
        let held = self.held_command.as_ref().map_or(0, |held| held.spans.capacity() * size_of::<Span>());
        let words = self.peer.address.capacity() + self.peer.local_address.capacity() + self.name.capacity();
        size_of::<Client>()
            + BODY_BYTES
            + self.input.capacity()
            + self.decoder.near_bytes()
            + self.spooled.capacity() * size_of::<Spooled>()
            + output
            + walk
            + spool
            + held
            + words
    }
}

/// All connections, found by slot.
#[derive(Default)]
pub struct Clients {
    slots: Vec<(u32, Option<Box<Client>>)>,
    free: Vec<u32>,
    len: usize,
    next_number: u64,
}

impl Clients {
    /// Adds a connection and gives it its id and number.
    pub fn insert(&mut self, peer: Peer, now_ms: u64, authenticated: bool) -> ClientId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (generation, place) = &mut self.slots[slot as usize];
        let id = ClientId { slot, generation: *generation };
        self.next_number += 1;
        self.len += 1;
        *place = Some(Box::new(Client {
            id,
            number: self.next_number,
            peer,
            name: Vec::new(),
            db: 0,
            resp3: false,
            authenticated,
            reply_mode: ReplyMode::On,
            no_evict: false,
            created_ms: now_ms,
            last_used_ms: now_ms,
            last_command: "NULL",
            input: Vec::new(),
            decoder: Decoder::default(),
            counted: Counted::default(),
            spool: None,
            spooled: Vec::new(),
            spool_failure: None,
            held_command: None,
            walk: None,
            output: None,
            parked: None,
            plan_rounds: 0,
            input_ended: false,
            closing: false,
            killed: false,
            stalled_ticks: 0,
        }));
        id
    }

    /// Takes a connection out while its commands run; [`Clients::put`] puts it back.
    #[inline]
    pub fn take(&mut self, id: ClientId) -> Option<Box<Client>> {
        let (generation, place) = self.slots.get_mut(id.slot as usize)?;
        if *generation != id.generation {
            return None;
        }
        place.take()
    }

    /// Puts back what [`Clients::take`] took.
    #[inline]
    pub fn put(&mut self, client: Box<Client>) {
        let slot = client.id.slot as usize;
        self.slots[slot].1 = Some(client);
    }

    /// Ends a connection that is taken out.
    pub fn remove(&mut self, client: Box<Client>) {
        let slot = client.id.slot;
        self.slots[slot as usize].0 += 1;
        self.free.push(slot);
        self.len -= 1;
    }

    #[inline]
    pub fn get(&self, id: ClientId) -> Option<&Client> {
        let (generation, place) = self.slots.get(id.slot as usize)?;
        if *generation == id.generation { place.as_deref() } else { None }
    }

    /// All connections but the one that is taken out, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().filter_map(|(_, place)| place.as_deref())
    }

    /// As [`Clients::iter`], to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slots.iter_mut().filter_map(|(_, place)| place.as_deref_mut())
    }

    /// Connections, the one that is taken out included.
    pub fn len(&self) -> usize {
        self.len
    }
}
