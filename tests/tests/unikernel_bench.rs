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
