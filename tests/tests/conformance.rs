//! Our server against the packaged redis-server: the same commands, and every reply compared byte for byte.
//!
//! The work is done by `tests/conformance/run.py`. Needs python3 and redis-server, and redis-py for one part
//! (`make setup`); without them these tests skip loudly, and fail where `CI` is set. The server under test is
//! `REMORA_SERVER`, or else built in the profile of these tests. Refuses to look at a reply itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Random commands: seconds in all, shared by the four prefetch modes.
const RANDOM_SECONDS: &str = "24";

#[test]
fn every_reply_is_that_of_redis() {
    run(&["--binary", &server()]);
}

#[test]
fn random_commands_of_several_clients_get_the_replies_of_redis_in_every_prefetch_mode() {
    run(&["--binary", &server(), "--random", RANDOM_SECONDS, "--seed", "1"]);
}

#[test]
fn two_servers_that_are_the_same_do_not_differ() {
    let Some(redis) = on_path("redis-server") else { return skip("no redis-server") };
    run(&["--binary", &redis.to_string_lossy(), "--ways", "plain,piped"]);
}

fn run(arguments: &[&str]) {
    if on_path("redis-server").is_none() {
        return skip("no redis-server");
    }
    let python = root().join("target/venv/bin/python3");
    let python = if python.exists() { python } else { PathBuf::from("python3") };
    let script = root().join("tests/conformance/run.py");
    match Command::new(python).arg(script).args(arguments).current_dir(root()).status() {
        Ok(status) => assert!(status.success(), "the replies differ: see above"),
        Err(error) => skip(&format!("python3: {error}")),
    }
}

/// The server under test, built once.
fn server() -> String {
    static SERVER: OnceLock<String> = OnceLock::new();
    let found = SERVER.get_or_init(|| {
        if let Ok(given) = std::env::var("REMORA_SERVER") {
            return given;
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-q", "-p", "server"]).current_dir(root());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo has built this test").success(), "the server does not build");
        let test = std::env::current_exe().expect("a running test has a path");
        let folder = test.ancestors().nth(2).expect("a test lies in <target>/<profile>/deps");
        folder.join("remora-server").to_string_lossy().into_owned()
    });
    found.clone()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists())
}

/// Says what is missing; a failure in CI.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "skipped: {why} (`make setup` installs it)");
    eprintln!("SKIPPED: {why} (`make setup` installs it)");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository")
}
