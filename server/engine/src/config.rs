//! The directives: their names, values and limits, as in redis.conf.
//!
//! Refuses to read files and command lines: a body does, and hands each directive to [`Config::take`].

pub mod directive;
mod inert;
mod words;

use crate::glob;
use crate::number;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use farmem::Prefetch;

/// What Redis calls `maxmemory-policy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MaxmemoryPolicy {
    /// Writes are refused.
    #[default]
    NoEviction,
    /// Any key, the longest unused first.
    AllkeysLru,
    /// Any key, the least often used first.
    AllkeysLfu,
    /// Any key.
    AllkeysRandom,
    /// Keys with an expiry time, the longest unused first.
    VolatileLru,
    /// Keys with an expiry time, the least often used first.
    VolatileLfu,
    /// Keys with an expiry time.
    VolatileRandom,
    /// Keys with an expiry time, the soonest to expire first.
    VolatileTtl,
}

/// Names of the policies, as they are spelled.
const POLICIES: [(&str, MaxmemoryPolicy); 8] = [
    ("volatile-lru", MaxmemoryPolicy::VolatileLru),
    ("volatile-lfu", MaxmemoryPolicy::VolatileLfu),
    ("volatile-random", MaxmemoryPolicy::VolatileRandom),
    ("volatile-ttl", MaxmemoryPolicy::VolatileTtl),
    ("allkeys-lru", MaxmemoryPolicy::AllkeysLru),
    ("allkeys-lfu", MaxmemoryPolicy::AllkeysLfu),
    ("allkeys-random", MaxmemoryPolicy::AllkeysRandom),
    ("noeviction", MaxmemoryPolicy::NoEviction),
];

/// Names of the prefetch policies.
const PREFETCHES: [(&str, Prefetch); 4] = [
    ("ahead", Prefetch::Ahead),
    ("guided", Prefetch::Guided),
    ("sequential", Prefetch::Sequential),
    ("none", Prefetch::None),
];

/// What the store is told by its directives.
#[derive(Clone, Debug)]
pub struct Config {
    /// TCP port; 0 listens on none.
    pub port: u16,
    /// Addresses to listen on; one that begins with `-` may be missing.
    pub bind: Vec<String>,
    /// Path of a Unix socket to listen on; empty is none.
    pub unixsocket: String,
    /// Connections that may wait to be accepted.
    pub tcp_backlog: u32,
    /// Units: seconds; 0 is off.
    pub tcp_keepalive: u64,
    /// Units: seconds; 0 is off.
    pub timeout: u64,
    /// Connections at once.
    pub maxclients: usize,
    /// Without a password, only connections from this machine are welcome.
    pub protected_mode: bool,
    /// The default user's password; empty is none.
    pub requirepass: String,
    /// The cap of everything that is near. Units: bytes.
    pub local_memory: u64,
    /// URIs, one a far memory.
    pub far_memory: Vec<String>,
    /// On how many of them each page lies: 1 or 2.
    pub far_copies: usize,
    /// What is done on a miss.
    pub prefetch: Prefetch,
    /// Cap of the data set, near and far. Units: bytes; 0 is none.
    pub maxmemory: u64,
    /// What goes when `maxmemory` is reached.
    pub maxmemory_policy: MaxmemoryPolicy,
    /// Keys looked at for each that goes.
    pub maxmemory_samples: u64,
    /// How much harder the LFU counter grows as it grows.
    pub lfu_log_factor: u32,
    /// Units: minutes.
    pub lfu_decay_time: u32,
    /// Whether small strings are gathered on fewer pages as they are read. See `keyspace::gather`.
    pub activedefrag: bool,
    /// Longest string. Units: bytes.
    pub proto_max_bulk_len: u64,
    /// `debug`, `verbose`, `notice` or `warning`.
    pub loglevel: String,
    /// File to log to; empty is standard output.
    pub logfile: String,
    /// Ticks a second, as Redis names them; ticks here are always ten a second.
    pub hz: u64,
    /// The kind of pager.
    pub pager: String,
    /// Directives of Redis that are accepted and remembered, and have no effect here.
    pub inert: Vec<(&'static str, String)>,
}

/// A directive that cannot be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// There is no directive of this name.
    Unknown,
    /// The value will not do; the text says why.
    Bad(String),
    /// It can be set at the start only.
    StartOnly,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            port: 6379,
            bind: alloc::vec!["127.0.0.1".to_owned(), "-::1".to_owned()],
            unixsocket: String::new(),
            tcp_backlog: 511,
            tcp_keepalive: 300,
            timeout: 0,
            maxclients: 10_000,
            protected_mode: true,
            requirepass: String::new(),
            local_memory: 256 << 20,
            far_memory: Vec::new(),
            far_copies: 1,
            prefetch: Prefetch::Ahead,
            maxmemory: 0,
            maxmemory_policy: MaxmemoryPolicy::NoEviction,
            maxmemory_samples: 5,
            lfu_log_factor: 10,
            lfu_decay_time: 1,
            activedefrag: true,
            proto_max_bulk_len: 512 << 20,
            loglevel: "notice".to_owned(),
            logfile: String::new(),
            hz: 10,
            pager: "soft".to_owned(),
            inert: inert::defaults(),
        }
    }
}

/// Directives that cannot be changed while the server runs.
const START_ONLY: &[&str] = &[
    "port",
    "bind",
    "unixsocket",
    "tcp-backlog",
    "far-memory",
    "far-copies",
    "prefetch",
    "pager",
    "logfile",
];

/// Directives with two names: the other one, and the one that it is known by here.
const ALIASES: &[(&str, &str)] = &[("list-max-ziplist-size", "list-max-listpack-size")];

/// Kinds of pagers that a body may have.
const PAGERS: [(&str, ()); 2] = [("soft", ()), ("uffd", ())];

/// How talkative the log is.
const LEVELS: [(&str, ()); 4] = [("debug", ()), ("verbose", ()), ("notice", ()), ("warning", ())];

/// The least local memory: the least frames, and room for the index of a few thousand keys. Units: bytes.
pub const LOCAL_MEMORY_MIN: u64 = 1 << 20;

impl Config {
    /// Takes one directive as it stands in a file or on the command line.
    /// # Errors
    /// `Unknown` or `Bad`, in words for whoever typed it.
    pub fn set(&mut self, name: &str, words: &[&str]) -> Result<(), ConfigError> {
        let name = canonical(name);
        let value = words.join(" ");
        match name.as_str() {
            "port" => self.port = bounded(&value, 0, 65_535)? as u16,
            "bind" => self.bind = words.iter().map(|&word| word.to_owned()).collect(),
            "unixsocket" => self.unixsocket = value,
            "tcp-backlog" => self.tcp_backlog = bounded(&value, 0, i32::MAX as u64)? as u32,
            "tcp-keepalive" => self.tcp_keepalive = bounded(&value, 0, i32::MAX as u64)?,
            "timeout" => self.timeout = bounded(&value, 0, i32::MAX as u64)?,
            "maxclients" => self.maxclients = bounded(&value, 1, u64::from(u32::MAX))? as usize,
            "protected-mode" => self.protected_mode = yes_no(&value)?,
            "requirepass" => self.requirepass = value,
            "local-memory" => {
                let bytes = memory(&value)?;
                if bytes < LOCAL_MEMORY_MIN {
                    return Err(ConfigError::Bad("must be at least 1mb".to_owned()));
                }
                self.local_memory = bytes;
            }
            "far-memory" => self.far_memory.push(value),
            "far-copies" => self.far_copies = bounded(&value, 1, 2)? as usize,
            "prefetch" => self.prefetch = choice(&value, &PREFETCHES)?,
            "maxmemory" => self.maxmemory = memory(&value)?,
            "maxmemory-policy" => self.maxmemory_policy = choice(&value, &POLICIES)?,
            "maxmemory-samples" => self.maxmemory_samples = bounded(&value, 1, 64)?,
            "lfu-log-factor" => self.lfu_log_factor = bounded(&value, 0, i32::MAX as u64)? as u32,
            "lfu-decay-time" => self.lfu_decay_time = bounded(&value, 0, i32::MAX as u64)? as u32,
            "activedefrag" => self.activedefrag = yes_no(&value)?,
            "proto-max-bulk-len" => {
                let bytes = memory(&value)?;
                if !(1 << 20..=512 << 20).contains(&bytes) {
                    return Err(ConfigError::Bad(
                        "argument must be between 1048576 and 536870912 inclusive".to_owned(),
                    ));
                }
                self.proto_max_bulk_len = bytes;
            }
            "loglevel" => {
                choice(&value, &LEVELS)?;
                self.loglevel = value.to_ascii_lowercase();
            }
            "logfile" => self.logfile = value,
            // Source: Redis' `updateHZ`.
            "hz" => self.hz = bounded(&value, 0, i32::MAX as u64)?.clamp(1, 500),
            "pager" => {
                choice(&value, &PAGERS)?;
                self.pager = value.to_ascii_lowercase();
            }
            _ => {
                let kept =
                    self.inert.iter_mut().find(|(known, _)| *known == name).ok_or(ConfigError::Unknown)?;
                kept.1 = inert::check(kept.0, value)?;
            }
        }
        Ok(())
    }

    /// The name by which a directive is known here, if `CONFIG SET` may change it.
    /// # Errors
    /// `Unknown`, `StartOnly`, or `Bad` for one that no client may change.
    pub fn changeable(&self, name: &str) -> Result<String, ConfigError> {
        let name = canonical(name);
        if !self.all().iter().any(|(known, _)| *known == name) {
            return Err(ConfigError::Unknown);
        }
        if START_ONLY.contains(&name.as_str()) || inert::is_start_only(&name) {
            return Err(ConfigError::StartOnly);
        }
        if inert::is_protected(&name) {
            return Err(ConfigError::Bad("can't set protected config".to_owned()));
        }
        Ok(name)
    }

    /// The directives that a glob pattern, or a name alone, asks for, with their values as they would be
    /// typed. A name alone is answered as it was spelled. Source: Redis' `configGetCommand`.
    pub fn matching(&self, pattern: &str) -> Vec<(String, String)> {
        let mut all = self.all();
        if !pattern.contains(['*', '?', '[']) {
            let name = canonical(pattern);
            all.retain(|(known, _)| *known == name);
            all.iter_mut().for_each(|(known, _)| *known = pattern.to_owned());
            return all;
        }
        for &(alias, name) in ALIASES {
            let value = all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            all.extend(value.map(|value| (alias.to_owned(), value)));
        }
        all.retain(|(name, _)| glob::matches(pattern.as_bytes(), name.as_bytes(), glob::Case::Ignored));
        all
    }

    /// Every directive with its value.
    pub fn all(&self) -> Vec<(String, String)> {
        let own: [(&str, String); 24] = [
            ("port", self.port.to_string()),
            ("bind", self.bind.join(" ")),
            ("unixsocket", self.unixsocket.clone()),
            ("tcp-backlog", self.tcp_backlog.to_string()),
            ("tcp-keepalive", self.tcp_keepalive.to_string()),
            ("timeout", self.timeout.to_string()),
            ("maxclients", self.maxclients.to_string()),
            ("protected-mode", spell_yes_no(self.protected_mode)),
            ("requirepass", self.requirepass.clone()),
            ("local-memory", self.local_memory.to_string()),
            ("far-memory", self.far_memory.join(" ")),
            ("far-copies", self.far_copies.to_string()),
            ("prefetch", spell(self.prefetch, &PREFETCHES)),
            ("pager", self.pager.clone()),
            ("maxmemory", self.maxmemory.to_string()),
            ("maxmemory-policy", spell(self.maxmemory_policy, &POLICIES)),
            ("maxmemory-samples", self.maxmemory_samples.to_string()),
            ("lfu-log-factor", self.lfu_log_factor.to_string()),
            ("lfu-decay-time", self.lfu_decay_time.to_string()),
            ("activedefrag", spell_yes_no(self.activedefrag)),
            ("proto-max-bulk-len", self.proto_max_bulk_len.to_string()),
            ("loglevel", self.loglevel.clone()),
            ("logfile", self.logfile.clone()),
            ("hz", self.hz.to_string()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.inert.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))).collect()
    }

    /// The name of the prefetch policy.
    pub fn prefetch_name(&self) -> String {
        spell(self.prefetch, &PREFETCHES)
    }

    /// The name of the maxmemory policy.
    pub fn maxmemory_policy_name(&self) -> String {
        spell(self.maxmemory_policy, &POLICIES)
    }
}

/// A directive's name in lower case, and an alias replaced.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let known = ALIASES.iter().find(|(alias, _)| *alias == name);
    known.map_or(name, |&(_, known)| known.to_owned())
}

fn spell<T: PartialEq>(value: T, choices: &[(&str, T)]) -> String {
    choices
        .iter()
        .find(|(_, choice)| *choice == value)
        .map_or_else(String::new, |(name, _)| (*name).to_owned())
}

fn spell_yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
    let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.map(|&(_, choice)| choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        ConfigError::Bad(format!("argument(s) must be one of the following: {}", names.join(", ")))
    })
}

fn yes_no(value: &str) -> Result<bool, ConfigError> {
    match value {
        _ if value.eq_ignore_ascii_case("yes") => Ok(true),
        _ if value.eq_ignore_ascii_case("no") => Ok(false),
        _ => Err(ConfigError::Bad("argument must be 'yes' or 'no'".to_owned())),
    }
}

fn bounded(value: &str, min: u64, max: u64) -> Result<u64, ConfigError> {
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    // Not negative, because `min` is not.
    integer(value, bound(min), bound(max)).map(i64::cast_unsigned)
}

fn integer(value: &str, min: i64, max: i64) -> Result<i64, ConfigError> {
    let number = number::parse_i64(value.as_bytes())
        .ok_or_else(|| ConfigError::Bad("argument couldn't be parsed into an integer".to_owned()))?;
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(ConfigError::Bad(format!("argument must be between {min} and {max} inclusive")))
}

/// Redis' `memtoull`: 1k is 1000 bytes, 1kb is 1024.
fn memory(value: &str) -> Result<u64, ConfigError> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match value[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        "t" => 1_000_000_000_000,
        "tb" => 1u64 << 40,
        _ => 0,
    };
    let number: Option<u64> = value[..digits].parse().ok();
    number
        .filter(|_| unit > 0)
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| ConfigError::Bad("argument must be a memory value".to_owned()))
}

impl MaxmemoryPolicy {
    /// Whether keys are chosen by Redis' LFU counter.
    pub fn is_lfu(self) -> bool {
        matches!(self, MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu)
    }
}
