//! The pager's contract on the bare machine: the suite that every pager is held to, over real page tables and real page
//! faults, in QEMU.
//!
//! Needs qemu-system-x86_64; skips loudly without it, and fails where `CI` is set. Refuses to know a sentence by name.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod unikernel_image;

use std::process::{Command, Stdio};
use tests::SENTENCES;
use unikernel_image::{contract_image, qemu_is_there};

#[test]
fn the_contract_holds_over_real_page_tables() {
    if !qemu_is_there() {
        return;
    }
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(["-accel", "tcg", "-M", "microvm,acpi=off,rtc=on", "-cpu", "max", "-m", "256"]);
    machine.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    machine.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"]).arg(contract_image());
    let run = machine.stdin(Stdio::null()).output().expect("QEMU starts");
    let console = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{:?}: {console}", run.status);
    let held = console.lines().filter(|line| line.starts_with("contract ") && line.contains(" holds, "));
    assert_eq!(held.count(), SENTENCES.len(), "{console}");
    let faults = |line: &str| line.rsplit(" holds, ").next()?.split(' ').next()?.parse::<u64>().ok();
    let faults: u64 = console.lines().filter_map(faults).sum();
    assert!(faults > 500, "{faults} page faults: these were no real page tables: {console}");
}
