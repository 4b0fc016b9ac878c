//! The prefetch policies compared inside the unikernel: page counts to the digit, and what page faults cost.
//!
//! With `--bench-request-ns` nothing that is counted depends on the compiler or on the machine, so the counts are
//! golden: a change of these numbers is a change of behaviour. Needs qemu-system-x86_64; skips loudly without it,
//! and fails where `CI` is set. Refuses to look at a clock.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod unikernel_image;

use std::process::{Command, Stdio};
use unikernel_image::{image, qemu_is_there, root};

/// What the machine prints, if there is a QEMU.
fn printed(settings: &[(&str, &str)], directives: &[&str]) -> Option<String> {
    if !qemu_is_there() {
        return None;
    }
    let run = Command::new(root().join("unikernel-target/bench.sh"))
        .args(directives)
        .envs(settings.iter().copied())
        .env("IMAGE", image())
        .stdin(Stdio::null())
        .output()
        .expect("the script is executable");
    let console = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{console}{}", String::from_utf8_lossy(&run.stderr));
    Some(console)
}

/// Columns of a table's row: those that count and depend on no instruction.
fn counts(console: &str, policy: &str) -> Vec<u64> {
    let row = console.lines().find(|line| line.starts_with(&format!("| {policy} |")));
    let row = row.unwrap_or_else(|| panic!("no row of {policy}: {console}"));
    row.split('|').map(str::trim).skip(2).take(6).map(|count| count.parse().expect("a count")).collect()
}

/// 8 MiB of values, an eighth local, on a wire of latency alone: pages that are asked for together land together.
const SMALL: [(&str, &str); 5] = [
    ("DATA", "8mb"),
    ("SHARE", "12.5"),
    ("REQUESTS", "400"),
    ("CLIENTS", "8"),
    ("FAR", "mem:1gb?latency=2.6us"),
];

/// Requests, faults, unplanned faults, waits, pages fetched, pages written back.
fn policies_are(workload: &str, golden: &[(&str, [u64; 6])]) {
    let settings: Vec<_> = SMALL.into_iter().chain([("WORKLOADS", workload)]).collect();
    let Some(console) = printed(&settings, &["--bench-request-ns", "2000"]) else { return };
    for (policy, wanted) in golden {
        assert_eq!(counts(&console, policy), wanted, "{workload}, {policy}: {console}");
    }
}

#[test]
fn a_get_of_16_pages_waits_once_guided_once_a_page_without_and_never_faults_ahead() {
    policies_are(
        "get_64k",
        &[
            ("all local", [400, 0, 0, 0, 0, 0]),
            ("none", [400, 5592, 0, 5592, 5592, 0]),
            ("sequential", [400, 705, 0, 705, 5615, 0]),
            ("guided", [400, 352, 0, 352, 5592, 0]),
            ("ahead", [400, 0, 0, 2, 5516, 0]),
        ],
    );
}

#[test]
fn an_lrange_waits_once_guided_once_a_page_without_and_never_faults_ahead() {
    policies_are(
        "lrange_100",
        &[
            ("all local", [400, 0, 0, 0, 0, 0]),
            ("none", [400, 8944, 0, 8944, 8944, 0]),
            ("sequential", [400, 2304, 0, 2304, 15_986, 0]),
            ("guided", [400, 347, 0, 347, 8849, 0]),
            ("ahead", [400, 0, 0, 4, 8541, 0]),
        ],
    );
}

#[test]
fn the_same_run_counts_the_same_instructions_to_the_digit() {
    let settings =
        [("DATA", "2mb"), ("REQUESTS", "100"), ("CLIENTS", "4"), ("SHARE", "25"), ("WORKLOADS", "get_4k")];
    let Some(first) = printed(&settings, &[]) else { return };
    assert_eq!(Some(first), printed(&settings, &[]));
}

/// Bounds are what was measured and a tenth: a compiler may differ a little, a change of the path does not hide.
#[test]
fn page_faults_cost_no_more_instructions_than_they_did() {
    let Some(console) = printed(&[], &["--measure-faults", "yes"]) else { return };
    let bounds = [
        ("read-untouched", 150),
        ("guide-up-call", 50),
        ("first-write", 265),
        ("first-write-under-pressure", 295),
        ("first-write-no-reserve", 1390),
        ("fetch-of-1", 2150),
        ("fetch-of-4-guided", 6290),
    ];
    for (kind, bound) in bounds {
        let line = console.lines().find_map(|line| line.strip_prefix(&format!("fault {kind} ")));
        let cost: u64 = line.and_then(|cost| cost.trim().parse().ok()).expect("every kind is printed");
        assert!(cost <= bound, "{kind}: {cost} instructions, bound {bound}: {console}");
    }
}
