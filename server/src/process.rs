//! The process as the system sees it: limits, memory, CPU time, ticks, the log.
//!
//! Refuses to fail for what is only measured: what cannot be read counts as zero.

use crate::watch::{Watched, watch};
use engine::ProcessFacts;
use env_logger::{Builder, Target, TimestampPrecision, WriteStyle};
use log::LevelFilter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::fs::OpenOptions;
use std::io;
use tokio::io::Interest;

/// Descriptors that are no client's: listeners, links, timers, the log. Source: Redis' `CONFIG_MIN_RESERVED_FDS`.
const DESCRIPTORS_RESERVED: u64 = 32;

/// What the system says of this process.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    /// Resident memory but for shared memory, which is where `mem:` keeps far pages.
    pub resident_bytes: u64,
    /// CPU time in the kernel.
    pub system_cpu_us: u64,
    /// CPU time outside it.
    pub user_cpu_us: u64,
}

/// Allows as many descriptors as `clients` need, or as many as can be had. Returns how many clients fit.
///
/// Source: Redis' `adjustOpenFilesLimit`.
pub fn raise_descriptor_limit(clients: usize) -> usize {
    let wanted = clients as u64 + DESCRIPTORS_RESERVED;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return clients;
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let attempts = [(wanted, hard.max(wanted)), (wanted.min(hard), hard)];
    for (soft, hard) in attempts {
        if setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: Some(hard) }).is_ok() {
            return soft.saturating_sub(DESCRIPTORS_RESERVED).max(1) as usize;
        }
    }
    current.saturating_sub(DESCRIPTORS_RESERVED).max(1) as usize
}

/// Memory of this machine. Units: bytes.
pub fn machine_memory_bytes() -> u64 {
    let machine = rustix::system::sysinfo();
    machine.totalram as u64 * u64::from(machine.mem_unit)
}

/// A number that nobody can guess.
///
/// # Errors
/// What getrandom answers.
pub fn random_seed() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What does not change while the process runs.
pub fn facts() -> ProcessFacts {
    let system = rustix::system::uname();
    let words = [system.sysname(), system.release(), system.machine()].map(|word| word.to_string_lossy());
    let absolute =
        |path: &str| std::fs::canonicalize(path).ok().map(|path| path.to_string_lossy().into_owned());
    let config_file = std::env::args().nth(1).filter(|word| !word.starts_with('-'));
    ProcessFacts {
        process_id: std::process::id(),
        os: words.join(" "),
        executable: absolute("/proc/self/exe").unwrap_or_default(),
        config_file: config_file.and_then(|path| absolute(&path)).unwrap_or_default(),
        machine_memory_bytes: machine_memory_bytes(),
    }
}

/// Measures the process.
pub fn usage() -> Usage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (user_cpu_us, system_cpu_us) = cpu_us(&stat);
    let resident_kb = status_kb(&status, "VmRSS:").saturating_sub(status_kb(&status, "RssShmem:"));
    Usage { resident_bytes: resident_kb * 1024, system_cpu_us, user_cpu_us }
}

fn status_kb(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// User and system time from `/proc/self/stat`, whose second field may hold spaces and brackets.
fn cpu_us(stat: &str) -> (u64, u64) {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace().skip(11).map(|field| field.parse().unwrap_or(0));
    let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let mut next = || fields.next().unwrap_or(0) * tick_us;
    (next(), next())
}

/// Something that becomes readable every `interval_ms`.
///
/// # Errors
/// What timerfd_create and epoll_ctl answer.
pub fn ticker(interval_ms: u64) -> io::Result<Watched> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let interval =
        Timespec { tv_sec: (interval_ms / 1000) as i64, tv_nsec: (interval_ms % 1000 * 1_000_000) as i64 };
    let spec = Itimerspec { it_interval: interval, it_value: interval };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    watch(timer, Interest::READABLE)
}

/// Waits for the next tick of a [`ticker`]; ticks that were missed are one.
///
/// # Errors
/// None that a timer has; the runtime's, when it ends.
pub async fn ticked(ticker: &Watched) -> io::Result<()> {
    loop {
        let mut ready = ticker.readable().await?;
        let mut expirations = [0u8; 8];
        // A periodic timer goes on only when it is read.
        if let Ok(read) = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?)) {
            return read.map(|_| ());
        }
    }
}

/// Starts the log: to `file`, or to standard output if that is empty.
///
/// # Errors
/// If the file cannot be opened.
pub fn start_log(level: &str, file: &str) -> io::Result<()> {
    let target = if file.is_empty() {
        Target::Stdout
    } else {
        Target::Pipe(Box::new(OpenOptions::new().create(true).append(true).open(file)?))
    };
    Builder::new()
        .filter_level(LevelFilter::Trace)
        .format_timestamp(Some(TimestampPrecision::Millis))
        .format_target(false)
        .write_style(WriteStyle::Never)
        .target(target)
        .init();
    follow_log_level(level);
    Ok(())
}

/// Makes the log as talkative as `loglevel` says.
pub fn follow_log_level(loglevel: &str) {
    log::set_max_level(match loglevel {
        "debug" => LevelFilter::Trace,
        "verbose" => LevelFilter::Debug,
        "warning" => LevelFilter::Warn,
        _ => LevelFilter::Info,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_and_cpu_time() {
        let usage = usage();
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
        assert!(machine_memory_bytes() > usage.resident_bytes);
    }

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0";
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!(cpu_us(stat), (250 * tick_us, 50 * tick_us));
        assert_eq!(cpu_us(""), (0, 0));
    }

    #[test]
    fn shared_memory_is_told_from_resident_memory() {
        let status = "Name:\tx\nVmRSS:\t    5000 kB\nRssShmem:\t    4000 kB\n";
        assert_eq!((status_kb(status, "VmRSS:"), status_kb(status, "RssShmem:")), (5000, 4000));
    }

    #[test]
    fn seeds_differ() {
        let draw = || random_seed().expect("the system has random numbers");
        assert_ne!(draw(), draw());
    }
}
