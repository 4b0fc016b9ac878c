//! INFO: what the server says about itself, section by section.
//!
//! ```text
//! # Server          a line that begins a section, then
//! redis_mode:...    a field a line, then an empty line before the next section
//! ```
//!
//! Every field of Redis that a client or a tool reads is here if it means something here, or if zero is
//! the truth about it. Refuses to make up the others.

use super::Context;
use crate::args::Args;
use crate::command::{CommandSpec, table};
use crate::engine::LinkReport;
use crate::error::Outcome;
use crate::resp::encode;
use alloc::string::String;
use core::fmt::{Display, Write};
use farmem::PAGE_SIZE;

/// The version of Redis that this store speaks as.
pub const REDIS_VERSION: &str = "7.0.15";

/// Writes the fields of one section.
type Section = fn(&mut Info, &Context);

/// All sections in the order in which they are printed: the word that asks for one, whether it belongs to
/// the default ones, its title, and what writes it. Source: `genRedisInfoString` of Redis 7.0.
const SECTIONS: [(&str, bool, &str, Section); 14] = [
    ("server", true, "Server", server),
    ("clients", true, "Clients", clients),
    ("memory", true, "Memory", memory),
    ("farmem", true, "Farmem", far_memory),
    ("persistence", true, "Persistence", persistence),
    ("stats", true, "Stats", stats),
    ("replication", true, "Replication", replication),
    ("cpu", true, "CPU", cpu),
    ("modules", true, "Modules", |_, _| ()),
    ("commandstats", false, "Commandstats", command_stats),
    ("errorstats", true, "Errorstats", error_stats),
    ("latencystats", false, "Latencystats", |_, _| ()),
    ("cluster", true, "Cluster", |info, _| info.field("cluster_enabled", 0)),
    ("keyspace", true, "Keyspace", keyspace),
];

/// The text in the making.
struct Info {
    text: String,
}

impl Info {
    fn section(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push_str("\r\n");
        }
        write!(self.text, "# {title}\r\n").expect("a String takes what is written");
    }

    fn field(&mut self, name: &str, value: impl Display) {
        write!(self.text, "{name}:{value}\r\n").expect("a String takes what is written");
    }

    /// A size, and beside it the same for people.
    fn size(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(&(String::from(name) + "_human"), human(bytes));
    }

    /// Fields of features that this store has not: zero is the truth about them.
    fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.field(name, 0));
    }
}

/// A size for people. Source: `bytesToHuman` of Redis.
fn human(bytes: u64) -> String {
    let mut text = String::new();
    let (unit, letter) = match bytes {
        0..1_024 => (1, 'B'),
        1_024..1_048_576 => (1 << 10, 'K'),
        1_048_576..1_073_741_824 => (1 << 20, 'M'),
        1_073_741_824..1_099_511_627_776 => (1 << 30, 'G'),
        _ => (1u64 << 40, 'T'),
    };
    let written = match letter {
        'B' => write!(text, "{bytes}B"),
        _ => write!(text, "{:.2}{letter}", bytes as f64 / unit as f64),
    };
    written.expect("a String takes what is written");
    text
}

/// `part` of `whole`, or 0 of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `INFO [section [section ...]]`: the default sections if none is named; `all` and `everything` are all.
pub fn info(context: &mut Context, args: &Args) -> Outcome {
    let named = |word: &str| (1..args.len()).any(|index| args.is(index, word));
    let all = named("all") || named("everything");
    let defaults = args.len() == 1 || named("default");
    let mut info = Info { text: String::with_capacity(4096) };
    for (word, is_default, title, fields) in SECTIONS {
        if all || (defaults && is_default) || named(word) {
            info.section(title);
            fields(&mut info, context);
        }
    }
    encode::verbatim(context.reply.output.near(), "txt", info.text.as_bytes(), context.reply.resp3);
    Ok(())
}

fn server(info: &mut Info, context: &Context) {
    let server = &*context.server;
    let uptime_s = context.now.unix_ms.saturating_sub(server.started.unix_ms) / 1000;
    info.field("redis_version", REDIS_VERSION);
    info.field("remora_version", env!("CARGO_PKG_VERSION"));
    info.field("redis_git_sha1", "00000000");
    info.field("redis_git_dirty", 0);
    info.field("redis_build_id", 0);
    info.field("redis_mode", "standalone");
    info.field("os", &server.facts.os);
    info.field("arch_bits", usize::BITS);
    info.field("process_id", server.facts.process_id);
    info.field("process_supervised", "no");
    info.field("run_id", &server.run_id);
    info.field("tcp_port", server.config.port);
    let us = context.now.unix_ms * 1000 + u64::from(context.now.unix_us_rest);
    info.field("server_time_usec", us);
    info.field("uptime_in_seconds", uptime_s);
    info.field("uptime_in_days", uptime_s / 86_400);
    info.field("hz", 1000 / crate::engine::TICK_MS);
    info.field("configured_hz", server.config.hz);
    info.field("lru_clock", context.keys.clock.seconds);
    info.field("executable", &server.facts.executable);
    info.field("config_file", &server.facts.config_file);
    info.zeros(&["io_threads_active"]);
}

fn clients(info: &mut Info, context: &Context) {
    let others = || context.clients.iter();
    let input = others().map(|client| client.input.capacity()).max();
    let output = others().filter_map(|client| client.output.as_ref()).map(|output| output.near_bytes()).max();
    info.field("connected_clients", context.clients.len());
    info.zeros(&["cluster_connections"]);
    info.field("maxclients", context.server.config.maxclients);
    info.field("client_recent_max_input_buffer", input.unwrap_or(0));
    info.field("client_recent_max_output_buffer", output.unwrap_or(0));
    info.zeros(&["blocked_clients", "tracking_clients", "clients_in_timeout_table"]);
}

fn memory(info: &mut Info, context: &Context) {
    let server = &*context.server;
    let heap = context.keys.far.heap.stats();
    let used = server.used_memory(context.keys);
    let peak = server.stats.memory_peak.max(used);
    let overhead = used.saturating_sub(heap.used_bytes);
    let resident = server.process.resident_bytes;
    info.size("used_memory", used);
    info.size("used_memory_rss", resident);
    info.size("used_memory_peak", peak);
    info.field("used_memory_peak_perc", format_args!("{:.2}%", ratio(used, peak) * 100.0));
    info.field("used_memory_overhead", overhead);
    info.zeros(&["used_memory_startup"]);
    info.field("used_memory_dataset", heap.used_bytes);
    info.field("used_memory_dataset_perc", format_args!("{:.2}%", ratio(heap.used_bytes, used) * 100.0));
    info.size("total_system_memory", server.facts.machine_memory_bytes);
    info.zeros(&[
        "used_memory_lua",
        "used_memory_vm_eval",
        "used_memory_scripts_eval",
        "number_of_cached_scripts",
    ]);
    info.zeros(&[
        "number_of_functions",
        "number_of_libraries",
        "used_memory_vm_functions",
        "used_memory_vm_total",
    ]);
    info.zeros(&["used_memory_functions", "used_memory_scripts"]);
    info.size("maxmemory", server.config.maxmemory);
    info.field("maxmemory_policy", server.config.maxmemory_policy_name());
    // As Redis has it: what is resident over what is used. Below 1 where most of the data is far.
    info.field("mem_fragmentation_ratio", format_args!("{:.2}", ratio(resident, used)));
    info.field("mem_fragmentation_bytes", resident as i64 - used as i64);
    info.zeros(&["mem_not_counted_for_evict", "mem_replication_backlog", "mem_total_replication_buffers"]);
    info.zeros(&["mem_clients_slaves"]);
    info.field("mem_clients_normal", client_buffer_bytes(context));
    info.zeros(&["mem_cluster_links", "mem_aof_buffer"]);
    info.field("mem_allocator", "system");
    info.zeros(&["active_defrag_running", "lazyfree_pending_objects", "lazyfreed_objects"]);
}

/// Near memory of all connections. Units: bytes.
fn client_buffer_bytes(context: &Context) -> u64 {
    let others = context.clients.iter().map(|client| client.near_bytes() as u64);
    others.sum::<u64>() + context.client.near_bytes() as u64
}

fn far_memory(info: &mut Info, context: &Context) {
    let (server, far) = (&*context.server, &context.keys.far);
    let (pager, heap, stats) = (far.pager.stats(), far.heap.stats(), &server.stats);
    let index_bytes = context.keys.near_bytes() as u64;
    let client_buffer_bytes = client_buffer_bytes(context);
    let frames_used_bytes = (pager.frames_total - pager.frames_free) * PAGE_SIZE as u64;
    info.field("pager", &server.config.pager);
    info.field("prefetch", server.config.prefetch_name());
    info.field("local_budget_bytes", server.config.local_memory);
    info.field("local_used_bytes", index_bytes + far.near_bytes() + client_buffer_bytes + frames_used_bytes);
    info.field("index_bytes", index_bytes);
    info.field("client_buffer_bytes", client_buffer_bytes);
    info.field("frames_total", pager.frames_total);
    info.field("frames_free", pager.frames_free);
    info.field("frames_dirty", pager.frames_dirty);
    info.field("frames_pinned", pager.frames_pinned);
    info.field("far_capacity_bytes", u64::from(heap.capacity_pages) * PAGE_SIZE as u64);
    info.field("far_used_bytes", heap.used_bytes);
    info.field("far_fragmentation_ratio", format_args!("{:.2}", heap.fragmentation_ratio()));
    info.field("pages_fetched", pager.pages_fetched);
    info.field("pages_written_back", pager.pages_written_back);
    info.field("pages_evicted", pager.pages_evicted);
    info.field("pages_dropped", pager.pages_dropped);
    info.field("bytes_wanted", stats.bytes_wanted);
    info.field("command_hits", stats.command_hits);
    info.field("command_misses", stats.command_misses);
    info.field("unplanned_faults", pager.unplanned_faults);
    info.field("parked_clients", context.clients.iter().filter(|client| client.parked.is_some()).count());
    info.field("parks_total", stats.parks_total);
    info.field("fetch_rounds", stats.fetch_rounds);
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        let latency_us = server.latencies.quantile_ns(share) as f64 / 1000.0;
        write!(info.text, "fetch_latency_us_{name}:{latency_us:.2}\r\n")
            .expect("a String takes what is written");
    }
    info.field("checksum_failures", pager.checksum_failures);
    info.field("pages_repaired", pager.pages_repaired);
    for (index, link) in server.links.iter().enumerate() {
        let LinkReport { uri, state, in_flight, errors, stale_pages, lost_pages, more } = link;
        write!(
            info.text,
            "link{index}:uri={uri},state={state},in_flight={in_flight},errors={errors},\
             stale_pages={stale_pages},lost_pages={lost_pages}{more}\r\n"
        )
        .expect("a String takes what is written");
    }
}

/// There is none: the data is as lasting as far memory is.
fn persistence(info: &mut Info, context: &Context) {
    info.zeros(&["loading", "async_loading", "current_cow_peak", "current_cow_size", "current_cow_size_age"]);
    info.field("current_fork_perc", "0.00");
    info.zeros(&["current_save_keys_processed", "current_save_keys_total"]);
    info.field("rdb_changes_since_last_save", context.keys.stats.changes);
    info.zeros(&["rdb_bgsave_in_progress"]);
    info.field("rdb_last_save_time", context.server.started.unix_ms / 1000);
    info.field("rdb_last_bgsave_status", "ok");
    info.field("rdb_last_bgsave_time_sec", -1);
    info.field("rdb_current_bgsave_time_sec", -1);
    info.zeros(&[
        "rdb_saves",
        "rdb_last_cow_size",
        "rdb_last_load_keys_expired",
        "rdb_last_load_keys_loaded",
    ]);
    info.zeros(&["aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]);
    info.field("aof_last_rewrite_time_sec", -1);
    info.field("aof_current_rewrite_time_sec", -1);
    info.field("aof_last_bgrewrite_status", "ok");
    info.zeros(&["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    info.field("aof_last_write_status", "ok");
    info.zeros(&["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"]);
}

fn stats(info: &mut Info, context: &Context) {
    let (stats, keys) = (&context.server.stats, &context.keys.stats);
    let (commands, input, output) = context.server.rate.per_second();
    info.field("total_connections_received", stats.connections_received);
    info.field("total_commands_processed", stats.commands_processed);
    info.field("instantaneous_ops_per_sec", commands);
    info.field("total_net_input_bytes", stats.net_input_bytes);
    info.field("total_net_output_bytes", stats.net_output_bytes);
    info.zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"]);
    info.field("instantaneous_input_kbps", format_args!("{:.2}", input as f64 / 1024.0));
    info.field("instantaneous_output_kbps", format_args!("{:.2}", output as f64 / 1024.0));
    info.field("instantaneous_input_repl_kbps", "0.00");
    info.field("instantaneous_output_repl_kbps", "0.00");
    info.field("rejected_connections", stats.connections_rejected);
    info.zeros(&["sync_full", "sync_partial_ok", "sync_partial_err"]);
    info.field("expired_keys", keys.expired);
    info.field("evicted_keys", keys.evicted);
    info.field("evicted_clients", stats.evicted_clients);
    info.field("keyspace_hits", keys.hits);
    info.field("keyspace_misses", keys.misses);
    info.zeros(&[
        "pubsub_channels",
        "pubsub_patterns",
        "pubsubshard_channels",
        "latest_fork_usec",
        "total_forks",
    ]);
    info.zeros(&["migrate_cached_sockets", "slave_expires_tracked_keys"]);
    info.field("active_defrag_hits", context.keys.stats.gathered);
    info.zeros(&["active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]);
    info.zeros(&["total_active_defrag_time", "current_active_defrag_time", "tracking_total_keys"]);
    info.zeros(&["tracking_total_items", "tracking_total_prefixes", "unexpected_error_replies"]);
    info.field("total_error_replies", stats.error_replies);
    info.zeros(&[
        "dump_payload_sanitizations",
        "io_threaded_reads_processed",
        "io_threaded_writes_processed",
    ]);
}

fn replication(info: &mut Info, context: &Context) {
    info.field("role", "master");
    info.zeros(&["connected_slaves"]);
    info.field("master_failover_state", "no-failover");
    info.field("master_replid", &context.server.run_id);
    info.field("master_replid2", "0000000000000000000000000000000000000000");
    info.zeros(&["master_repl_offset"]);
    info.field("second_repl_offset", -1);
    info.zeros(&["repl_backlog_active", "repl_backlog_size", "repl_backlog_first_byte_offset"]);
    info.zeros(&["repl_backlog_histlen"]);
}

fn cpu(info: &mut Info, context: &Context) {
    let process = context.server.process;
    let seconds = |us: u64| alloc::format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    info.field("used_cpu_sys", seconds(process.system_cpu_us));
    info.field("used_cpu_user", seconds(process.user_cpu_us));
    info.field("used_cpu_sys_children", seconds(0));
    info.field("used_cpu_user_children", seconds(0));
}

/// How often each command ran. How long it took is not measured: a clock read a command would cost more
/// than many of them.
fn command_stats(info: &mut Info, context: &Context) {
    let mut line = |spec: &CommandSpec| {
        let calls = context.server.calls.of(spec.id);
        if calls.any() {
            let name = spec.full_name;
            let (ran, rejected, failed) = (calls.calls, calls.rejected, calls.failed);
            write!(
                info.text,
                "cmdstat_{name}:calls={ran},rejected_calls={rejected},failed_calls={failed}\r\n"
            )
            .expect("a String takes what is written");
        }
    };
    for spec in table::COMMANDS {
        line(spec);
        spec.subcommands.iter().for_each(&mut line);
    }
}

fn error_stats(info: &mut Info, context: &Context) {
    for (code, count) in context.server.errors.iter() {
        write!(info.text, "errorstat_{code}:count={count}\r\n").expect("a String takes what is written");
    }
}

fn keyspace(info: &mut Info, context: &Context) {
    for (number, db) in context.keys.dbs.iter().enumerate() {
        let (keys, expires) = (db.index.len(), db.expires.len());
        if keys > 0 || expires > 0 {
            let ttl_ms = db.expires.average_ttl_ms(context.now.unix_ms);
            write!(info.text, "db{number}:keys={keys},expires={expires},avg_ttl={ttl_ms}\r\n")
                .expect("a String takes what is written");
        }
    }
}
