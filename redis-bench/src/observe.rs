//! The server seen from outside: its INFO, its process in /proc, its machine's swap counters.
//!
//! Two observations and the requests between them give CPU a request and pages a request. What a server
//! or a machine does not tell is absent, never zero.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::resp;
use crate::target::{Target, ask};

/// The kernel's clock ticks a second in /proc/PID/stat. Source: proc(5); 100 on every Linux of today.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of a page, near or far.
pub const PAGE_BYTES: u64 = 4096;

/// Counters of `INFO farmem` whose growth is reported.
const COUNTERS: [&str; 14] = [
    "pages_fetched",
    "pages_written_back",
    "pages_evicted",
    "pages_dropped",
    "bytes_wanted",
    "command_hits",
    "command_misses",
    "unplanned_faults",
    "parks_total",
    "fetch_rounds",
    "checksum_failures",
    "keyspace_hits",
    "keyspace_misses",
    "total_commands_processed",
];

/// CPU time of a process since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Cpu {
    pub user_s: f64,
    pub system_s: f64,
}

impl Cpu {
    /// User and system together.
    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

/// What is known of a server at one moment.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Fields of INFO, all sections.
    pub info: BTreeMap<String, String>,
    cpu: Option<Cpu>,
    major_faults: Option<u64>,
    swap_pages: Option<(u64, u64)>,
    /// Resident bytes of its process.
    pub resident_bytes: Option<u64>,
    /// Its bytes in swap.
    pub swapped_bytes: Option<u64>,
}

/// What happened between two observations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// CPU time of the server's process.
    pub cpu: Option<Cpu>,
    /// Growth of the counters of INFO that the server has.
    pub counters: BTreeMap<String, u64>,
    /// Pages the machine swapped in.
    pub swap_in_pages: Option<u64>,
    /// Pages the machine swapped out.
    pub swap_out_pages: Option<u64>,
    /// Major faults of the server's process.
    pub major_faults: Option<u64>,
    /// Resident bytes at the end.
    pub resident_bytes: Option<u64>,
    /// Bytes in swap at the end.
    pub swapped_bytes: Option<u64>,
}

impl Change {
    /// Pages that came from far memory or from swap; None if neither is in play.
    pub fn pages_in(&self) -> Option<u64> {
        self.counters.get("pages_fetched").copied().or(self.swap_in_pages)
    }

    /// Pages that went to far memory or to swap.
    pub fn pages_out(&self) -> Option<u64> {
        self.counters.get("pages_written_back").copied().or(self.swap_out_pages)
    }
}

/// Looks at the server behind `target`; `pid` if it is known, else INFO is asked for it.
///
/// # Errors
/// If the server cannot be reached. A server that does not know INFO is not an error.
pub fn observe(target: &Target, pid: Option<u32>) -> io::Result<Observation> {
    let mut stream = target.connect()?;
    let info = match ask(&mut stream, &["INFO", "everything"]) {
        Ok(raw) => parse_info(&raw),
        Err(error) if error.kind() == io::ErrorKind::Other => BTreeMap::new(),
        Err(error) => return Err(error),
    };
    let local = target.socket_address()?.ip().is_loopback();
    let pid = pid.or_else(|| info.get("process_id")?.parse().ok().filter(|_| local));
    let stat = pid.and_then(process_stat);
    let status =
        pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
    let cpu = stat.map(|(cpu, _)| cpu).or_else(|| {
        let field = |name: &str| info.get(name)?.parse().ok();
        Some(Cpu { user_s: field("used_cpu_user")?, system_s: field("used_cpu_sys")? })
    });
    // The process of a virtual machine tells nothing of a server within it; the machine itself may.
    let told = target.vmstat()?;
    let vmstat = told.clone().or_else(|| fs::read_to_string("/proc/vmstat").ok().filter(|_| local));
    let held = |field: &str, name: &str| match &told {
        Some(told) => named_number(told, field),
        None => status_bytes(&status, name),
    };
    Ok(Observation {
        cpu,
        major_faults: stat.map(|(_, faults)| faults),
        swap_pages: vmstat.as_deref().and_then(swap_pages),
        resident_bytes: held("memory_current", "VmRSS:"),
        swapped_bytes: held("memory_swap_current", "VmSwap:"),
        info,
    })
}

/// What happened between `before` and `after`.
pub fn change(before: &Observation, after: &Observation) -> Change {
    let counter = |name: &str| {
        let field = |o: &Observation| o.info.get(name)?.parse::<u64>().ok();
        Some((name.to_owned(), field(after)?.saturating_sub(field(before)?)))
    };
    let swap =
        |pick: fn((u64, u64)) -> u64| Some(pick(after.swap_pages?).saturating_sub(pick(before.swap_pages?)));
    Change {
        cpu: before.cpu.zip(after.cpu).map(|(before, after)| Cpu {
            user_s: (after.user_s - before.user_s).max(0.0),
            system_s: (after.system_s - before.system_s).max(0.0),
        }),
        counters: COUNTERS.iter().filter_map(|name| counter(name)).collect(),
        swap_in_pages: swap(|pages| pages.0),
        swap_out_pages: swap(|pages| pages.1),
        major_faults: after.major_faults.zip(before.major_faults).map(|(after, before)| after - before),
        resident_bytes: after.resident_bytes,
        swapped_bytes: after.swapped_bytes,
    }
}

/// CPU time that this process has used, all threads.
pub fn own_cpu() -> Option<Cpu> {
    process_stat(std::process::id()).map(|(cpu, _)| cpu)
}

/// The `name:value` lines of an INFO reply.
fn parse_info(raw: &[u8]) -> BTreeMap<String, String> {
    let Some(Ok(body)) = resp::bulks(raw).next() else { return BTreeMap::new() };
    String::from_utf8_lossy(body)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim_end().to_owned()))
        .collect()
}

/// CPU time and major faults. Source: proc(5), fields 12, 14 and 15 of stat.
fn process_stat(pid: u32) -> Option<(Cpu, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let cpu = Cpu { user_s: field(14)? as f64 / TICKS_PER_S, system_s: field(15)? as f64 / TICKS_PER_S };
    Some((cpu, field(12)?))
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb << 10)
}

/// The number behind a name in the lines of /proc/vmstat.
fn named_number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Pages swapped in and out since boot, by the whole machine.
fn swap_pages(vmstat: &str) -> Option<(u64, u64)> {
    Some((named_number(vmstat, "pswpin")?, named_number(vmstat, "pswpout")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_line_by_line() {
        let text = "# Server\r\nredis_version:7.0.15\r\n\r\n# Farmem\r\nlink0:uri=mem:1gb,state=up\r\n";
        let info = parse_info(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
        assert_eq!(info.get("redis_version").map(String::as_str), Some("7.0.15"));
        assert_eq!(info.get("link0").map(String::as_str), Some("uri=mem:1gb,state=up"));
        assert!(parse_info(b"+OK\r\n").is_empty());
    }

    #[test]
    fn swap_is_read_from_the_lines_of_vmstat() {
        let vmstat = "pswpin_more 1\npswpin 12\npswpout 34\nmemory_current 4096\n";
        assert_eq!(swap_pages(vmstat), Some((12, 34)));
        assert_eq!(named_number(vmstat, "memory_current"), Some(4096));
        assert_eq!(swap_pages("pswpin 12\n"), None);
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
        while std::time::Instant::now() < until {
            std::hint::black_box(0);
        }
        assert!(own_cpu().is_some_and(|cpu| cpu.total_s() > 0.0));
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        assert!(status_bytes(&status, "VmRSS:").is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_counter_that_a_server_lacks_is_absent_not_zero() {
        let with = |pairs: &[(&str, &str)]| Observation {
            info: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Observation::default()
        };
        let change = change(
            &with(&[("pages_fetched", "10")]),
            &with(&[("pages_fetched", "25"), ("parks_total", "1")]),
        );
        assert_eq!(change.pages_in(), Some(15));
        assert_eq!(change.pages_out(), None);
        assert!(!change.counters.contains_key("parks_total"));
    }
}
