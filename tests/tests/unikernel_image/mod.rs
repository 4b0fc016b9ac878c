//! The unikernel's images for the tests that boot them, and whether there is a QEMU to boot it in.
//!
//! The store's is `REMORA_UNIKERNEL`, or else built here. Refuses to boot any.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The image under test, built once.
#[allow(dead_code, reason = "not every test boots the store")]
pub fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        if let Some(given) = std::env::var_os("REMORA_UNIKERNEL") {
            return given.into();
        }
        build(&["--release"]).join("release/remora-unikernel")
    })
}

/// The image that is the pager's contract, with its assertions on.
#[allow(dead_code, reason = "one test boots it")]
pub fn contract_image() -> PathBuf {
    build(&["--features", "contract", "--bin", "remora-contract"]).join("debug/remora-contract")
}

/// Builds what the arguments say; answers where it is put.
fn build(arguments: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unikernel");
    let built = Command::new(env!("CARGO"))
        .args(["build", "-q"])
        .args(arguments)
        .arg("--manifest-path")
        .arg(root().join("unikernel-target/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo has built this test");
    assert!(built.success(), "the unikernel does not build");
    target
}

/// Whether QEMU is installed; says so if not, and fails in CI.
pub fn qemu_is_there() -> bool {
    let there = Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        assert!(
            std::env::var_os("CI").is_none(),
            "skipped: no qemu-system-x86_64 (`make setup` installs it)"
        );
        eprintln!("SKIPPED: no qemu-system-x86_64 (`make setup` installs it)");
    }
    there
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository")
}
