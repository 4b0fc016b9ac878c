//! What one seed stands for: how many clients of which habits, how little memory, which nemesis.

use super::rng::Rng;
use farmem::Prefetch;

/// The four policies; the seed's remainder chooses, so that all come equally often.
const POLICIES: [Prefetch; 4] = [Prefetch::Ahead, Prefetch::Guided, Prefetch::Sequential, Prefetch::None];

/// Names of maxmemory policies by which keys may go.
const EVICTING: [&str; 8] = [
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "noeviction",
];

/// Input that the engine keeps for a client that has to wait. Units: bytes.
const INPUT_MAX: u64 = 64 << 10;
/// Larger arguments go to far pages as they come. Units: bytes.
const SPOOL_MIN: usize = 256 << 10;

/// One simulation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// Clients at a time.
    pub clients: usize,
    /// Commands in all, before everything comes to rest.
    pub commands: u64,
    /// What is done on a miss.
    pub policy: Prefetch,
    /// The cap at the start, and the highest that CONFIG SET may choose. Units: bytes.
    pub local_memory: u64,
    /// Units: pages.
    pub far_pages: u32,
    /// Units: nanoseconds.
    pub latency_ns_max: u64,
    /// Units: out of a thousand fetches.
    pub fetch_fails: u32,
    /// Units: out of a thousand write backs.
    pub write_back_fails: u32,
    /// Units: out of a thousand write backs.
    pub corrupts: u32,
    /// Whether the link stands still now and then.
    pub stalls: bool,
    /// Whether far memory takes no page for some seconds now and then.
    pub fills: bool,
    /// Whether CONFIG SET changes the cap now and then.
    pub resizes: bool,
    /// Whether FARMEM EVICT is used now and then.
    pub evicts: bool,
    /// Whether everything is cold before every command, and no command may touch what it had not planned.
    pub is_cold: bool,
    /// Whether clients stop reading now and then.
    pub slow_readers: bool,
    /// Whether clients go without a word.
    pub vanishing: bool,
    /// Longest value. Units: bytes.
    pub value_max: usize,
    /// Most commands that a client sends ahead.
    pub pipeline_max: usize,
    /// `maxmemory` (0 is none) and its policy.
    pub maxmemory: (u64, &'static str),
}

impl Scenario {
    /// The scenario of a seed.
    pub fn new(seed: u64) -> Scenario {
        let mut rng = Rng::new(seed);
        let policy = POLICIES[(seed % 4) as usize];
        let mut maybe = |yes: u32, no: u32, count| if rng.one_in(count) { yes } else { no };
        let (fetch_fails, write_back_fails, corrupts) = (maybe(40, 0, 4), maybe(200, 0, 4), maybe(15, 0, 6));
        let far_pages = maybe(1024, 16 << 10, 5);
        let is_capped = maybe(1, 0, 6) == 1;
        let has_large = maybe(1, 0, 3) == 1;
        let clients = rng.one_of(&[1, 2, 3, 5, 8, 13, 20, 50]);
        let value_max = match has_large {
            true if clients <= 3 => 3 << 20,
            true => 400_000,
            false => 20_000,
        };
        let maxmemory = match is_capped {
            true => (rng.between(2 << 20, 6 << 20), rng.one_of(&EVICTING)),
            false => (0, "noeviction"),
        };
        Scenario {
            seed,
            clients,
            commands: 2000,
            policy,
            local_memory: rng.one_of(&[1 << 19, 1 << 20, 3 << 19, 2 << 20, 4 << 20]),
            far_pages,
            latency_ns_max: rng.one_of(&[0, 10_000, 1_000_000, 20_000_000]),
            fetch_fails,
            write_back_fails,
            corrupts,
            stalls: rng.one_in(4),
            resizes: rng.one_in(3),
            evicts: rng.one_in(2),
            is_cold: false,
            slow_readers: rng.one_in(2),
            vanishing: rng.one_in(2),
            value_max,
            pipeline_max: rng.one_of(&[1, 4, 30]),
            maxmemory,
            fills: rng.one_in(5),
        }
    }

    /// One client that asks for one thing after the other, with everything cold each time: for counting.
    pub fn alone(seed: u64) -> Scenario {
        let calm = Scenario::new(seed).calm();
        Scenario {
            clients: 1,
            commands: 400,
            pipeline_max: 1,
            policy: Prefetch::Ahead,
            value_max: 60_000,
            is_cold: true,
            vanishing: false,
            ..calm
        }
    }

    /// The same without a nemesis, and with memory that suffices.
    pub fn calm(self) -> Scenario {
        Scenario {
            local_memory: 4 << 20,
            far_pages: 16 << 10,
            fetch_fails: 0,
            write_back_fails: 0,
            corrupts: 0,
            stalls: false,
            fills: false,
            resizes: false,
            maxmemory: (0, "noeviction"),
            ..self
        }
    }

    /// Whether keys may go by themselves.
    pub fn keys_vanish(&self) -> bool {
        self.maxmemory.0 > 0 && self.maxmemory.1 != "noeviction"
    }

    /// Whether the engine may answer this error here.
    pub fn allows(&self, error: &[u8]) -> bool {
        let starts = |text: &str| error.starts_with(text.as_bytes());
        let is_tight = self.is_tight();
        (starts("-OOM command") && (self.far_pages < 16 << 10 || self.maxmemory.0 > 0 || is_tight))
            || (starts("-OOM local memory") && is_tight)
            || (starts("-FARMEMORYFULL") && (self.write_back_fails > 0 || self.fills))
            || (starts("-FARMEMORYLOST") && self.fetch_fails > 0)
            || (starts("-FARMEMORYCORRUPT") && self.corrupts > 0)
    }

    /// Whether the engine may close a connection here: a stream that cannot go on.
    pub fn allows_closing(&self) -> bool {
        self.fetch_fails + self.corrupts > 0 || self.is_tight()
    }

    /// Whether so little may be left for frames that writes are refused: what clients have sent and are owed
    /// is near memory too.
    fn is_tight(&self) -> bool {
        let buffers = self.clients as u64 * (INPUT_MAX + self.value_max.min(SPOOL_MIN) as u64);
        self.write_back_fails > 0 || self.fills || self.resizes || self.local_memory < buffers + (2 << 20)
    }
}
