//! What belongs to no key and to no client: configuration, counters, the fetch latencies.
//!
//! Refuses to print itself: `commands::info` does.

use crate::client::{ClientId, Peer};
use crate::command::CommandId;
use crate::config::Config;
use crate::engine::{Engine, FRAMES_MIN, LinkReport, Now};
use crate::far::Far;
use crate::keyspace::{KeySpace, KeyStats};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use farmem::PAGE_SIZE;

/// Counters for INFO; `CONFIG RESETSTAT` sets them to zero.
#[derive(Clone, Default, Debug)]
pub struct Stats {
    pub commands_processed: u64,
    pub connections_received: u64,
    pub connections_rejected: u64,
    /// Clients closed because all of them together had sent too much ahead.
    pub evicted_clients: u64,
    pub net_input_bytes: u64,
    pub net_output_bytes: u64,
    /// Commands that found all their pages here.
    pub command_hits: u64,
    /// Commands that had to wait for a page.
    pub command_misses: u64,
    /// Waits; a command may wait more than once.
    pub parks_total: u64,
    /// Batches of fetches that a command asked for.
    pub fetch_rounds: u64,
    /// Bytes of values that commands asked for.
    pub bytes_wanted: u64,
    pub error_replies: u64,
    /// Highest use of memory seen at a tick. Units: bytes.
    pub memory_peak: u64,
}

/// What the body measures of its process.
#[derive(Clone, Copy, Default, Debug)]
pub struct ProcessUsage {
    pub resident_bytes: u64,
    pub system_cpu_us: u64,
    pub user_cpu_us: u64,
}

/// What the body knows of its process once and for all, for INFO.
#[derive(Clone, Default, Debug)]
pub struct ProcessFacts {
    /// The process' number.
    pub process_id: u32,
    /// Name, release and machine of the operating system.
    pub os: String,
    /// Path of the program.
    pub executable: String,
    /// Path of the configuration file, if there is one.
    pub config_file: String,
    /// Memory of this machine.
    pub machine_memory_bytes: u64,
}

/// What became of the calls of one command.
#[derive(Clone, Copy, Default, Debug)]
pub struct Calls {
    /// It ran.
    pub calls: u64,
    /// It was not let run: arity, authentication, memory.
    pub rejected: u64,
    /// It ran and answered an error.
    pub failed: u64,
}

impl Calls {
    /// Whether there were any.
    pub fn any(&self) -> bool {
        self.calls + self.rejected + self.failed > 0
    }
}

/// The calls of each command.
pub struct CallTable(Box<[Calls; COMMANDS_MAX]>);

/// A [`CommandId`] is a byte, so none lies beyond. 256 of 24 bytes are 6 KiB.
const COMMANDS_MAX: usize = 1 << u8::BITS;

impl Default for CallTable {
    fn default() -> CallTable {
        CallTable(Box::new([Calls::default(); COMMANDS_MAX]))
    }
}

impl CallTable {
    /// The calls of one command.
    #[inline]
    pub fn of(&self, id: CommandId) -> Calls {
        self.0[id as u8 as usize]
    }

    /// The calls of one command, to be counted.
    #[inline]
    pub fn of_mut(&mut self, id: CommandId) -> &mut Calls {
        &mut self.0[id as u8 as usize]
    }
}

/// How often each error code was answered, in the order of the codes.
#[derive(Clone, Default, Debug)]
pub struct ErrorCounts(Vec<(String, u64)>);

/// Codes that are counted by themselves: twice as many as Redis has. More are not counted.
const ERROR_CODES_MAX: usize = 64;

impl ErrorCounts {
    /// Each code with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(code, count)| (code.as_str(), *count))
    }

    fn count(&mut self, code: &str) {
        match self.0.binary_search_by(|(known, _)| known.as_str().cmp(code)) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) if self.0.len() < ERROR_CODES_MAX => self.0.insert(at, (code.to_owned(), 1)),
            Err(_) => {}
        }
    }
}

/// The store's own state.
pub struct Server {
    pub config: Config,
    pub stats: Stats,
    pub calls: CallTable,
    pub errors: ErrorCounts,
    pub started: Now,
    pub links: Vec<LinkReport>,
    pub facts: ProcessFacts,
    pub process: ProcessUsage,
    /// Near memory but for frames, as of the last tick. Units: bytes.
    pub near_bytes: u64,
    /// Of that, buffers of clients. Units: bytes.
    pub client_buffer_bytes: u64,
    pub shutdown: bool,
    /// Clients that a command has killed.
    pub killed: Vec<ClientId>,
    pub sleep_ns: Option<u64>,
    /// 40 hexadecimal digits that name this run.
    pub run_id: String,
    /// Commands processed and network bytes at the ticks of the last second and a half.
    pub rate: Rate,
    pub latencies: FetchLatencies,
    pub random: u64,
}

/// Ticks over which rates are taken: Redis' `STATS_METRIC_SAMPLES`.
const RATE_TICKS: usize = 16;

/// Counters as of past ticks, for rates.
#[derive(Default)]
pub struct Rate {
    samples: [(u64, u64, u64, u64); RATE_TICKS],
    next: usize,
}

impl Rate {
    fn sample(&mut self, now: Now, stats: &Stats) {
        let sample = (now.unix_ms, stats.commands_processed, stats.net_input_bytes, stats.net_output_bytes);
        self.samples[self.next] = sample;
        self.next = (self.next + 1) % RATE_TICKS;
    }

    /// Commands, input bytes and output bytes a second.
    pub fn per_second(&self) -> (u64, u64, u64) {
        let newest = self.samples[(self.next + RATE_TICKS - 1) % RATE_TICKS];
        let oldest = self.samples[self.next];
        let ms = newest.0.saturating_sub(oldest.0);
        if oldest.0 == 0 || ms == 0 {
            return (0, 0, 0);
        }
        let rate = |new: u64, old: u64| new.saturating_sub(old) * 1000 / ms;
        (rate(newest.1, oldest.1), rate(newest.2, oldest.2), rate(newest.3, oldest.3))
    }
}

/// Latencies of needed fetches, in buckets of 1/8 of a power of two: at most 12.5 % off.
pub struct FetchLatencies {
    buckets: [u64; BUCKETS],
    drained: Vec<u64>,
}

/// Eight buckets for each of 40 powers of two: up to 2^40 ns, 18 minutes.
const BUCKETS: usize = 40 * 8;

impl Default for FetchLatencies {
    fn default() -> FetchLatencies {
        FetchLatencies { buckets: [0; BUCKETS], drained: Vec::new() }
    }
}

impl FetchLatencies {
    fn bucket_of(latency_ns: u64) -> usize {
        let latency_ns = latency_ns.max(8);
        let power = latency_ns.ilog2() as usize;
        let eighth = (latency_ns >> (power - 3)) as usize & 7;
        ((power - 3) * 8 + eighth).min(BUCKETS - 1)
    }

    fn record(&mut self, latency_ns: u64) {
        self.buckets[Self::bucket_of(latency_ns)] += 1;
    }

    /// The latency that a share of the fetches did not exceed. Units: `share` in 0..=1, nanoseconds.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let total: u64 = self.buckets.iter().sum();
        let rank = (total as f64 * share) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen > rank.min(total.saturating_sub(1)) {
                let (power, eighth) = (index / 8 + 3, index as u64 % 8);
                return (8 + eighth + 1) << (power - 3);
            }
        }
        0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets = [0; BUCKETS];
    }
}

impl Server {
    pub fn new(config: Config, seed: u64, now: Now) -> Server {
        let mut server = Server {
            config,
            stats: Stats::default(),
            calls: CallTable::default(),
            errors: ErrorCounts::default(),
            started: now,
            links: Vec::new(),
            facts: ProcessFacts::default(),
            process: ProcessUsage::default(),
            near_bytes: 0,
            client_buffer_bytes: 0,
            shutdown: false,
            killed: Vec::new(),
            sleep_ns: None,
            run_id: String::new(),
            rate: Rate::default(),
            latencies: FetchLatencies::default(),
            random: seed | 1,
        };
        for _ in 0..40 {
            let digit = server.draw() % 16;
            server.run_id.push(char::from_digit(digit as u32, 16).expect("below 16"));
        }
        server
    }

    /// The next number of a xorshift generator: for sampling keys, not for secrets.
    pub fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 1
    }

    /// Counts an error reply; its code is the first word. Source: Redis' `afterErrorReply`.
    #[cold]
    pub fn count_error(&mut self, text: &[u8]) {
        self.stats.error_replies += 1;
        let code = text.split(|&byte| byte == b' ').next().unwrap_or(text);
        self.errors.count(core::str::from_utf8(code).unwrap_or("ERR"));
    }

    /// Near and far memory of the data set and of what goes with it: Redis' `used_memory`, which
    /// `maxmemory` caps. Units: bytes.
    pub fn used_memory(&self, keys: &KeySpace) -> u64 {
        keys.used_bytes(self.client_buffer_bytes)
    }

    /// Gives the pager what near memory leaves of the cap, as it was at the last tick.
    pub fn share_out(&self, far: &mut Far) {
        let frames = (self.config.local_memory.saturating_sub(self.near_bytes) / PAGE_SIZE as u64) as u32;
        let frames = frames.max(FRAMES_MIN);
        if frames != far.budget_frames() {
            far.set_budget(frames);
        }
    }

    /// Whether a client that has not said who it is may do as it likes.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.config.requirepass.is_empty()
    }

    /// Sets to zero what `CONFIG RESETSTAT` sets to zero. The peak of memory stays, as in Redis.
    pub fn reset_stats(&mut self, keys: &mut KeySpace) {
        self.stats = Stats { memory_peak: self.stats.memory_peak, ..Stats::default() };
        self.calls = CallTable::default();
        self.errors = ErrorCounts::default();
        self.rate = Rate::default();
        keys.stats = KeyStats { changes: keys.stats.changes, ..KeyStats::default() };
        keys.far.pager.drain_fetch_latencies(&mut self.latencies.drained);
        self.latencies.clear();
        keys.far.pager.reset_stats();
    }

    /// Whether to refuse a connection, and with which words. Source: Redis' `acceptCommonHandler`.
    pub fn refuse(&mut self, peer: &Peer, clients: usize) -> Result<(), String> {
        let words = if clients >= self.config.maxclients {
            "-ERR max number of clients reached\r\n"
        } else if self.config.protected_mode && self.config.requirepass.is_empty() && !peer.loopback {
            PROTECTED
        } else {
            return Ok(());
        };
        self.stats.connections_rejected += 1;
        Err(words.to_owned())
    }

    /// Work by the clock: rates, peaks, latencies.
    pub fn handle_tick(&mut self, now: Now, keys: &mut KeySpace) {
        self.rate.sample(now, &self.stats);
        let mut drained = core::mem::take(&mut self.latencies.drained);
        drained.clear();
        keys.far.pager.drain_fetch_latencies(&mut drained);
        for &latency_ns in &drained {
            self.latencies.record(latency_ns);
        }
        self.latencies.drained = drained;
        let used = self.used_memory(keys);
        self.stats.memory_peak = self.stats.memory_peak.max(used);
        keys.clock.lfu = self.config.maxmemory_policy.is_lfu();
        keys.gathers = self.config.activedefrag;
        keys.clock.lfu_log_factor = self.config.lfu_log_factor;
        keys.clock.lfu_decay_minutes = self.config.lfu_decay_time;
    }
}

impl Engine {
    /// What the body knows of its process, for INFO; to be said once.
    pub fn set_process_facts(&mut self, facts: ProcessFacts) {
        self.server.facts = facts;
    }
}

/// Source: Redis' protected mode, in words that fit this store.
const PROTECTED: &str = "-DENIED Remora is running in protected mode because protected mode is enabled and no \
password is set for the default user. In this mode connections are only accepted from the loopback interface. \
Set a password with 'CONFIG SET requirepass', or turn protected mode off with 'CONFIG SET protected-mode no' from \
a client on this machine, or restart with '--protected-mode no'.\r\n";
