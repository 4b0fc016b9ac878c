//! Directives of Redis that mean nothing here: checked as Redis checks them, remembered, and of no effect.
//!
//! So a redis.conf can mostly stay as it is, and so can clients and tools that set them. Refuses those whose
//! absence would be missed: data that should be on disk, followed masters, users, modules, TLS.

use super::{ConfigError, choice, integer, memory, yes_no};
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a value must look like.
#[derive(Clone, Copy)]
enum Shape {
    /// `yes` or `no`.
    YesNo,
    /// Only `no`: `yes` would promise what is not done.
    No,
    /// Bounds: from, to.
    Number(i64, i64),
    /// A number with a unit. Units: bytes.
    Memory,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Anything.
    Text,
}

use Shape::{Memory, No, Number, OneOf, Text, YesNo};

/// Whole numbers from zero on, as a C `int`.
const COUNT: Shape = Number(0, i32::MAX as i64);
/// Whole numbers from zero on.
const LONG: Shape = Number(0, i64::MAX);

/// Name, what Redis has by default, and what a value must look like.
const DIRECTIVES: &[(&str, &str, Shape)] = &[
    ("save", "", Text),
    ("appendonly", "no", No),
    ("appendfsync", "everysec", OneOf(&["everysec", "always", "no"])),
    ("appendfilename", "appendonly.aof", Text),
    ("appenddirname", "appendonlydir", Text),
    ("no-appendfsync-on-rewrite", "no", YesNo),
    ("auto-aof-rewrite-percentage", "100", COUNT),
    ("auto-aof-rewrite-min-size", "67108864", Memory),
    ("aof-load-truncated", "yes", YesNo),
    ("aof-use-rdb-preamble", "yes", YesNo),
    ("aof-timestamp-enabled", "no", YesNo),
    ("aof-rewrite-incremental-fsync", "yes", YesNo),
    ("rdb-save-incremental-fsync", "yes", YesNo),
    ("rdbcompression", "yes", YesNo),
    ("rdbchecksum", "yes", YesNo),
    ("rdb-del-sync-files", "no", YesNo),
    ("stop-writes-on-bgsave-error", "yes", YesNo),
    ("dir", ".", Text),
    ("dbfilename", "dump.rdb", Text),
    ("daemonize", "no", No),
    ("supervised", "no", OneOf(&["upstart", "systemd", "auto", "no"])),
    ("pidfile", "", Text),
    ("databases", "16", Number(16, 16)),
    ("replica-serve-stale-data", "yes", YesNo),
    ("replica-read-only", "yes", YesNo),
    ("replica-priority", "100", COUNT),
    ("replica-lazy-flush", "no", YesNo),
    ("repl-diskless-sync", "yes", YesNo),
    ("repl-diskless-sync-delay", "5", COUNT),
    ("repl-diskless-sync-max-replicas", "0", COUNT),
    ("repl-diskless-load", "disabled", OneOf(&["disabled", "on-empty-db", "swapdb"])),
    ("repl-disable-tcp-nodelay", "no", YesNo),
    ("acllog-max-len", "128", LONG),
    ("lazyfree-lazy-expire", "no", YesNo),
    ("lazyfree-lazy-eviction", "no", YesNo),
    ("lazyfree-lazy-server-del", "no", YesNo),
    ("lazyfree-lazy-user-del", "no", YesNo),
    ("lazyfree-lazy-user-flush", "no", YesNo),
    ("oom-score-adj", "no", OneOf(&["no", "yes", "relative", "absolute"])),
    ("oom-score-adj-values", "0 200 800", Text),
    ("disable-thp", "yes", YesNo),
    ("slowlog-log-slower-than", "10000", Number(-1, i64::MAX)),
    ("slowlog-max-len", "128", LONG),
    ("latency-monitor-threshold", "0", LONG),
    ("latency-tracking", "yes", YesNo),
    ("notify-keyspace-events", "", Text),
    ("hash-max-listpack-entries", "512", LONG),
    ("hash-max-listpack-value", "64", Memory),
    ("list-max-listpack-size", "-2", Number(i32::MIN as i64, i32::MAX as i64)),
    ("list-compress-depth", "0", COUNT),
    ("set-max-intset-entries", "512", LONG),
    ("zset-max-listpack-entries", "128", LONG),
    ("zset-max-listpack-value", "64", Memory),
    ("hll-sparse-max-bytes", "3000", Memory),
    ("stream-node-max-bytes", "4096", Memory),
    ("stream-node-max-entries", "100", LONG),
    ("activerehashing", "yes", YesNo),
    ("active-expire-effort", "1", Number(1, 10)),
    (
        "client-output-buffer-limit",
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        Text,
    ),
    ("client-query-buffer-limit", "1073741824", Memory),
    ("dynamic-hz", "yes", YesNo),
    ("jemalloc-bg-thread", "yes", YesNo),
    ("enable-debug-command", "local", OneOf(&["no", "yes", "local"])),
    ("tracking-table-max-keys", "1000000", LONG),
    ("maxmemory-clients", "0", Text),
    ("maxmemory-eviction-tenacity", "10", Number(0, 100)),
    ("proc-title-template", "{title} {listen-addr} {server-mode}", Text),
    ("set-proc-title", "yes", YesNo),
    ("always-show-logo", "no", YesNo),
    ("io-threads", "1", Number(1, 128)),
    ("crash-log-enabled", "yes", YesNo),
    ("ignore-warnings", "", Text),
];

/// Those that Redis lets be set at the start only.
const START_ONLY: &[&str] = &[
    "appendfilename",
    "appenddirname",
    "rdbchecksum",
    "daemonize",
    "supervised",
    "pidfile",
    "databases",
    "disable-thp",
    "enable-debug-command",
    "set-proc-title",
    "always-show-logo",
    "io-threads",
];

/// Every one with its default.
pub fn defaults() -> Vec<(&'static str, String)> {
    DIRECTIVES.iter().map(|&(name, value, _)| (name, value.to_owned())).collect()
}

/// Whether it can be set at the start only.
pub fn is_start_only(name: &str) -> bool {
    START_ONLY.contains(&name)
}

/// Whether `CONFIG SET` may not touch it, because a client could make the server write where it likes.
pub fn is_protected(name: &str) -> bool {
    matches!(name, "dir" | "dbfilename")
}

/// A value as it is remembered.
/// # Errors
/// `Unknown`, or Redis' text for a value of this shape that will not do.
pub fn check(name: &str, value: String) -> Result<String, ConfigError> {
    let found = DIRECTIVES.iter().find(|(known, ..)| *known == name);
    match found.ok_or(ConfigError::Unknown)?.2 {
        Text => return Ok(value),
        YesNo => {
            yes_no(&value)?;
        }
        No if yes_no(&value)? => return Err(ConfigError::Bad("only 'no' is supported here".to_owned())),
        No => {}
        Number(min, max) => return integer(&value, min, max).map(|number| number.to_string()),
        Memory => return memory(&value).map(|bytes| bytes.to_string()),
        OneOf(words) => {
            let choices: Vec<(&str, ())> = words.iter().map(|&word| (word, ())).collect();
            choice(&value, &choices)?;
        }
    }
    Ok(value.to_ascii_lowercase())
}
