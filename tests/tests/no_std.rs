//! Builds and runs `tests/no_std`: the brain linked without std, without a C library and without an OS.
//!
//! Refuses to skip where it can run at all: x86_64 Linux with a C compiler as the linker.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;
use std::process::Command;

#[test]
fn the_brain_serves_a_client_in_a_process_without_std_or_libc() {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_std");
    let built = Command::new(env!("CARGO"))
        .args(["build", "-q", "--manifest-path"])
        .arg(root.join("tests/no_std/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo has built this test");
    assert!(built.success(), "something below engine, farmem or sds needs std");
    let run = Command::new(target.join("debug/no-std-proof")).status().expect("it was built just now");
    assert_eq!(run.code(), Some(0), "which reply was wrong (101: a panic)");
}
