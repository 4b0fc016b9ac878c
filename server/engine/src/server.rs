//! What belongs to no key and to no client: configuration, counters, the fetch latencies.
//!
//! Refuses to print itself: `commands::info` does.

use crate::client::{ClientId, Peer};
use crate::config::Config;
use crate::engine::{LinkReport, Now};
use crate::keyspace::KeySpace;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// Counters for INFO; `CONFIG RESETSTAT` sets them to zero.
#[derive(Clone, Default, Debug)]
pub struct Stats {
    pub commands_processed: u64,
    pub connections_received: u64,
    pub connections_rejected: u64,
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

/// The store's own state.
pub struct Server {
    pub config: Config,
    pub stats: Stats,
    pub started: Now,
    pub links: Vec<LinkReport>,
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
            started: now,
            links: Vec::new(),
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
        let used = keys.far.heap.stats().used_bytes + self.near_bytes;
        self.stats.memory_peak = self.stats.memory_peak.max(used);
        keys.clock.lfu = self.config.maxmemory_policy.is_lfu();
        keys.clock.lfu_log_factor = self.config.lfu_log_factor;
        keys.clock.lfu_decay_minutes = self.config.lfu_decay_time;
    }
}

/// Source: Redis' protected mode, in words that fit this store.
const PROTECTED: &str = "-DENIED Remora is running in protected mode because protected mode is enabled and no \
password is set for the default user. In this mode connections are only accepted from the loopback interface. \
Set a password with 'CONFIG SET requirepass', or turn protected mode off with 'CONFIG SET protected-mode no' from \
a client on this machine, or restart with '--protected-mode no'.\r\n";
