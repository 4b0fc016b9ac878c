//! The unikernel against the packaged redis-server: the same commands, and every reply compared byte for byte.
//!
//! The work is done by `tests/conformance/run.py`, as for the Linux body, and it holds `unplanned_faults` to
//! zero. Needs QEMU, python3 and redis-server, and redis-py for one part (`make setup`); without them this
//! skips loudly, and fails where `CI` is set. Refuses to look at a reply itself.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod unikernel_image;

use std::path::PathBuf;
use std::process::Command;
use tests::nodes::installed;
use unikernel_image::{image, qemu_is_there, root};

#[test]
fn every_reply_of_the_unikernel_is_that_of_redis() {
    run(&[]);
}

fn run(arguments: &[&str]) {
    if !qemu_is_there() || installed("redis-server").is_none() || installed("python3").is_none() {
        return;
    }
    let python = root().join("target/venv/bin/python3");
    let python = if python.exists() { python } else { PathBuf::from("python3") };
    let status = Command::new(python)
        .arg(root().join("tests/conformance/run.py"))
        .args(["--binary", "unikernel-target/run.sh", "--far-memory", "mem:256mb"])
        .args(arguments)
        .env("IMAGE", image())
        .current_dir(root())
        .status()
        .expect("python3 is installed");
    assert!(status.success(), "the replies differ: see above");
}
