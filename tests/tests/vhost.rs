//! `remora-vhost` with an unmodified Linux guest: Debian's kernel swaps on it (`tests/guest/linux.sh`).
//!
//! Without QEMU, busybox, redis-server or apt this skips loudly, and fails where `CI` is set. Refuses to look at times.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::{Path, PathBuf};
use std::process::Command;
use tests::nodes::{Node, installed, program};

/// How long a guest may run: twenty times what it needs.
const GUEST_SECONDS_MAX: &str = "240";

#[test]
fn a_linux_guest_swaps_on_it_and_reads_back_what_it_had() {
    if ["qemu-system-x86_64", "busybox", "redis-server", "apt-get"]
        .iter()
        .any(|name| installed(name).is_none())
    {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (image, socket) = (dir.path().join("image"), dir.path().join("socket"));
    let made = Command::new(script()).arg("image").arg(&image).status().expect("a script can be run");
    assert!(made.success(), "there is no guest");
    let backend = Node::vhost("mem:128mb", &socket, &[]);
    let run = Command::new("timeout")
        .arg(GUEST_SECONDS_MAX)
        .arg(script())
        .env("IMAGE", &image)
        .env("FAR", format!("vhost:{}", socket.display()))
        .envs([("LOCAL", "8388608"), ("MEMORY", "256"), ("CHECK", "1"), ("PORT", "0")])
        .output()
        .expect("a script can be run");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{said}");
    assert!(said.contains("TRIED ALL") && !said.contains("FAIL"), "{said}");
    assert_eq!(said.matches("PASS: what was swapped comes back").count(), 2, "{said}");
    let pages_out = said.lines().find_map(|line| line.split_once(" pages out")?.0.trim().parse::<u32>().ok());
    assert!(pages_out.is_some_and(|pages| pages > 4000), "nothing was swapped: {said}");
    assert_eq!(backend.end(), Some(0));
    assert!(!socket.exists(), "the socket goes with it");
}

#[test]
fn what_it_cannot_do_is_one_line_and_exit_code_one() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let socket = dir.path().join("socket");
    let taken = dir.path().join("taken");
    let _backend = Node::vhost("mem:16mb", &taken, &[]);
    for (socket, far, wanted) in [
        (&socket, "nothing:1gb", "far memory 'nothing:1gb'"),
        (&socket, "nbd://127.0.0.1:1/", "far memory 'nbd://127.0.0.1:1/'"),
        (&taken, "mem:16mb", "taken: "),
    ] {
        let run = Command::new(program("farmem-vhost", "remora-vhost"))
            .arg("--socket")
            .arg(socket)
            .args(["--far-memory", far])
            .output()
            .expect("it can be started");
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted) && said.lines().count() == 1, "{said}");
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/linux.sh")
}
