//! `--bench WORKLOAD`: the prefetch policies compared inside the machine, with no noise at all.
//!
//! ```text
//!   workload ─► RESP ─► engine ─► MmuPager ─► modelled far memory        no network, no device, no timer
//!                                    └── a clock that leaps over waits (clock)
//! ```
//!
//! Each policy gets a store of its own: filled, warmed up, measured. Page counts depend on nothing but the workload
//! when the work of a request is given in nanoseconds (`--bench-request-ns`); otherwise it is its instructions, which
//! `-icount shift=0` counts to the digit. Refuses to print what it could not count.

mod clock;
pub mod faults;
mod store;
mod workload;

use crate::arch::memory::Ram;
use crate::body::options::Bench;
use crate::far::{SharedLink, mem, mem_uri};
use crate::mm;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use clock::{INSTRUCTIONS_A_NS, LeapClock, Reading, Work};
use engine::{Config, Engine};
use farmem::{PAGE_SIZE, Prefetch, Wire};
use store::Store;
use workload::{Random, Workload};

/// Beside frames, the store may use so much near memory: more than any workload here takes. Units: bytes.
const NEAR_BYTES: u64 = 64 << 20;
/// Of the measured requests, so many are made before, so that what is resident is what is asked for.
const WARM_UP_SHARE: u64 = 2;
/// Of every draw: the same requests for every policy.
const SEED: u64 = 0x5eed;

/// As they are typed.
const POLICIES: [(&str, Prefetch); 4] = [
    ("none", Prefetch::None),
    ("sequential", Prefetch::Sequential),
    ("guided", Prefetch::Guided),
    ("ahead", Prefetch::Ahead),
];

/// What a policy has done.
struct Row {
    name: &'static str,
    requests: u64,
    faults: u64,
    unplanned: u64,
    fetched: u64,
    written_back: u64,
    clock: Reading,
}

/// Runs the workload with everything local, then with each policy, and prints the table.
///
/// # Errors
/// What keeps it from running, in one line.
pub fn run(bench: &Bench, config: &Config, ram: &mut Ram) -> Result<(), String> {
    let Some(workload) = Workload::new(&bench.workload, bench.data_bytes) else {
        return Err(format!(
            "bad directive 'bench {}': {} over at least one value",
            bench.workload,
            workload::NAMES
        ));
    };
    let uri = config.far_memory.first().map_or("mem:1gb", String::as_str);
    let rest = uri.strip_prefix("mem:").ok_or("--bench needs --far-memory mem:SIZE: it leaps over waits")?;
    let (_, wire) = mem_uri(rest).map_err(|why| format!("bad directive 'far-memory {uri}': {why}"))?;
    let is_asked = |name: &str| bench.policy.is_empty() || bench.policy == name;
    if !POLICIES.iter().any(|(name, _)| is_asked(name)) {
        return Err(format!("bad directive 'bench-policy {}': there is no such policy", bench.policy));
    }
    let counts = clock::counts_instructions();
    if !counts && bench.request_ns.is_none() {
        return Err(
            "instructions are not counted: boot with -icount shift=0, or give --bench-request-ns".into()
        );
    }
    println!(
        "bench {}: {} MiB of values, {} % local, {} clients, {uri}, a request's work is {}",
        workload.name,
        bench.data_bytes >> 20,
        bench.local_percent,
        bench.clients,
        match bench.request_ns {
            Some(ns) => format!("{ns} ns"),
            None if bench.network == 0 => format!("its instructions, {INSTRUCTIONS_A_NS} a ns"),
            None => format!("its instructions and {} of a network, {INSTRUCTIONS_A_NS} a ns", bench.network),
        }
    );
    let all_pages = bench.data_bytes / PAGE_SIZE as u64 * 2 + 1024;
    let (all, data_pages) = measure(bench, &workload, "all local", Prefetch::Ahead, all_pages, wire, ram)?;
    let frames = ((data_pages as f64 * bench.local_percent / 100.0) as u64).max(64);
    println!("bench {}: {data_pages} pages of data, {frames} frames", workload.name);
    println!(
        "| policy | requests | faults | unplanned | waits | pages fetched | written back | instructions a request | work us | waited us | us a request | kept |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    print_row(&all, &all, counts);
    for (name, policy) in POLICIES.into_iter().filter(|(name, _)| is_asked(name)) {
        let (row, _) = measure(bench, &workload, name, policy, frames, wire, ram)?;
        print_row(&row, &all, counts);
    }
    Ok(())
}

/// One policy over so many frames; and how many frames the data takes.
fn measure(
    bench: &Bench,
    workload: &Workload,
    name: &'static str,
    policy: Prefetch,
    frames: u64,
    wire: Wire,
    ram: &mut Ram,
) -> Result<(Row, u64), String> {
    let too_little = |error: crate::arch::memory::TooLittle| format!("too little RAM for --bench: {error}");
    let far_pages = bench.data_bytes / PAGE_SIZE as u64 * 2 + 4096;
    let far = ram.take(far_pages * PAGE_SIZE as u64).map_err(too_little)?;
    let arena = ram.take(frames * PAGE_SIZE as u64).map_err(too_little)?;
    let clock = LeapClock::new(bench.request_ns.map_or(Work::Counted(bench.network), Work::Given));
    let link = SharedLink::new(Box::new(mem::MemLink::new(far, wire, clock.clone())));
    let pager = mm::pager(arena, frames as u32, far_pages as u32, policy, Some(Box::new(link.clone())));
    let config = Config {
        local_memory: frames * PAGE_SIZE as u64 + NEAR_BYTES,
        prefetch: policy,
        ..Config::default()
    };
    let engine = Engine::new(config, Box::new(pager), far_pages as u32, SEED, clock.engine_now());
    let mut store = Store::new(engine, link, clock.clone(), bench.clients);
    store.run(workload.fill_len(), |index| workload.fill(index));
    let data_pages = store.stat("frames_total") - store.stat("frames_free");
    let mut random = Random(SEED);
    store.run(bench.requests / WARM_UP_SHARE, |_| workload.ask(&mut random));
    let mut counters =
        || ["unplanned_faults", "pages_fetched", "pages_written_back"].map(|counter| store.stat(counter));
    let before = counters();
    let (faults, from) = (mm::faults(), clock.read());
    store.run(bench.requests, |_| workload.ask(&mut random));
    let (to, faults) = (clock.read(), mm::faults() - faults);
    let mut counters =
        || ["unplanned_faults", "pages_fetched", "pages_written_back"].map(|counter| store.stat(counter));
    let after = counters();
    let row = Row {
        name,
        requests: bench.requests,
        faults,
        unplanned: after[0] - before[0],
        fetched: after[1] - before[1],
        written_back: after[2] - before[2],
        clock: Reading {
            now_ns: to.now_ns - from.now_ns,
            waited_ns: to.waited_ns - from.waited_ns,
            waits: to.waits - from.waits,
            instructions: to.instructions - from.instructions,
        },
    };
    Ok((row, data_pages))
}

fn print_row(row: &Row, all_local: &Row, counts: bool) {
    let Row { name, requests, faults, unplanned, fetched, written_back, clock } = row;
    let us = |ns: u64| ns as f64 / 1e3 / *requests as f64;
    let instructions =
        if counts { (clock.instructions / requests).to_string() } else { "not counted".to_string() };
    println!(
        "| {name} | {requests} | {faults} | {unplanned} | {} | {fetched} | {written_back} | {instructions} | {:.3} | {:.3} | {:.3} | {:.3} |",
        clock.waits,
        us(clock.now_ns - clock.waited_ns),
        us(clock.waited_ns),
        us(clock.now_ns),
        all_local.clock.now_ns as f64 / clock.now_ns as f64,
    );
}
