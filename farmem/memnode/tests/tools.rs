//! Other people's clients: libnbd's tools, qemu's and fio's, over TCP and over a Unix socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Daemon, MIB, file_of, has, pattern, run};

/// A node with a TCP port, and its two URIs.
fn start() -> (Daemon, [String; 2]) {
    let node = Daemon::start(&["--size", "64mb", "--export", "named=8mb", "--nbd", "127.0.0.1:0"]);
    let uris = [format!("nbd://{}", node.tcp_address()), node.uri("")];
    (node, uris)
}

#[test]
fn nbdinfo_describes_and_lists_the_exports() {
    if !has("nbdinfo", "libnbd-bin") {
        return;
    }
    let (node, uris) = start();
    for uri in uris {
        let text = run("nbdinfo", &[&uri]);
        for words in ["newstyle-fixed", "export-size: 67108864", "can_trim: true", "can_multi_conn: true"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(text.contains("description: remora generation="), "{text}");
        assert!(run("nbdinfo", &["--list", &uri]).contains("export=\"named\""));
    }
    assert_eq!(run("nbdinfo", &["--size", &node.uri("named")]).trim(), (8 * MIB).to_string());
}

#[test]
fn nbdcopy_brings_a_file_there_and_back() {
    if !has("nbdcopy", "libnbd-bin") {
        return;
    }
    let (node, uris) = start();
    for (n, uri) in uris.iter().enumerate() {
        let bytes = pattern(64 << 20, n as u32);
        let from = file_of(node.dir.path(), "from", &bytes);
        let back = node.dir.path().join("back").display().to_string();
        run("nbdcopy", &["--flush", &from, uri]);
        run("nbdcopy", &["--connections=4", uri, &back]);
        assert!(std::fs::read(&back).unwrap() == bytes, "{uri}");
    }
}

#[test]
fn qemu_reads_writes_discards_and_zeroes() {
    if !has("qemu-io", "qemu-utils") {
        return;
    }
    let (node, uris) = start();
    for uri in uris {
        let steps = [
            "write -P 5 1M 3M",
            "read -P 5 1M 3M",
            "write -f -P 6 100 1000",
            "read -P 6 512 512",
            "discard 2M 1M",
            "write -z 3M 512k",
            "read -P 0 3M 512k",
            "read -P 5 3584k 512k",
            "flush",
        ];
        let args = steps.iter().flat_map(|step| ["-c", step]).collect::<Vec<_>>();
        let text = run("qemu-io", &[&["-f", "raw"], &args[..], &[&uri]].concat());
        assert!(!text.contains("failed") && !text.contains("rror"), "{text}");
    }
    let image = node.dir.path().join("image").display().to_string();
    let named = node.uri("named");
    run("qemu-io", &["-f", "raw", "-c", "write -P 9 0 8M", &named]);
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &named, &image]);
    assert!(std::fs::read(&image).unwrap() == vec![9; 8 << 20]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &image, &named]);
}

#[test]
fn fio_verifies_what_it_wrote() {
    if !has("fio", "fio") || !run("fio", &["--enghelp"]).lines().any(|engine| engine.trim() == "nbd") {
        eprintln!("SKIPPED: there is no fio with an nbd engine");
        return;
    }
    let (node, uris) = start();
    for uri in uris {
        let uri = format!("--uri={uri}");
        // fio leaves a file behind that says what to verify.
        let aux = format!("--aux-path={}", node.dir.path().display());
        let job =
            ["--name=job", "--ioengine=nbd", &uri, &aux, "--rw=randwrite", "--size=48m", "--iodepth=32"];
        let how = ["--bsrange=512-128k", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"];
        run("fio", &[&job[..], &how[..]].concat());
    }
}
