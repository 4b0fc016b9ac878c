//! RDMA for real: libibverbs and the kernel's software device, in a QEMU guest (`tests/rdma/run.sh`).
//!
//! Without QEMU, busybox, `rdma`, strace or apt this skips loudly, and fails where `CI` is set. Refuses to look at times.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;
use std::process::Command;
use tests::nodes::{installed, program};

#[test]
fn pages_move_over_real_verbs_and_trouble_is_told_in_plain_words() {
    if ["qemu-system-x86_64", "busybox", "rdma", "strace", "apt-get"]
        .iter()
        .any(|name| installed(name).is_none())
    {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("rdma/run.sh");
    let memnode = program("memnode", "remora-memnode");
    let server = program("server", "remora-server");
    let vhost = program("farmem-vhost", "remora-vhost");
    let guest = env!("CARGO_BIN_EXE_rdma_guest");
    let run = Command::new(script)
        .args([memnode.as_str(), &server, &vhost, guest])
        .output()
        .expect("a script can be run");
    let said = String::from_utf8_lossy(&run.stdout);
    let trouble = String::from_utf8_lossy(&run.stderr);
    println!("{said}");
    assert!(run.status.success(), "{said}\n{trouble}");
    let wanted = [
        "the check passes",
        "a batch is one doorbell",
        "while pages are in flight",
        "a disk's pages go straight",
        "two copies: kill -9",
        "one copy: a node",
    ];
    for wanted in wanted {
        assert!(said.contains(&format!("PASS: {wanted}")), "{wanted}:\n{said}\n{trouble}");
    }
}
