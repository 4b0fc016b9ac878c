//! A unikernel that runs in QEMU, for tests that boot one: its port, its console, its exit code.
//!
//! ```text
//!   Machine::start ─► client ... ─► ended: exit code and console
//! ```
//!
//! Refuses to outlive its test.

use crate::redis::Redis;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A machine that has not answered by then is not coming: a hundred times what booting takes.
const BOOT_MAX: Duration = Duration::from_secs(60);
/// How long one attempt to reach it takes.
const ATTEMPT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(20);

/// A running machine.
pub struct Machine {
    qemu: Child,
    /// Where it is reached, on the loopback.
    pub port: u16,
}

impl Machine {
    /// Starts QEMU with `unikernel-target/run.sh`: its settings, and directives of the store.
    ///
    /// # Panics
    /// If the script cannot be run.
    pub fn start(image: &Path, settings: &[(&str, &str)], directives: &[&str]) -> Machine {
        // Whoever takes the port between this and QEMU makes the test fail, not lie.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port is free")
            .port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../unikernel-target/run.sh");
        let qemu = Command::new(script)
            .args(directives)
            .envs(settings.iter().copied())
            .env("IMAGE", image)
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the script is executable");
        Machine { qemu, port }
    }

    /// A client whose PING was answered.
    ///
    /// # Panics
    /// If the machine ends instead, or never answers; with what was on its console.
    pub fn client(&mut self) -> Redis {
        let start = Instant::now();
        while start.elapsed() < BOOT_MAX {
            if let Some(status) = self.qemu.try_wait().expect("it is our child") {
                panic!("the machine ended with {status}: {}", self.console());
            }
            if let Ok(client) = Redis::connect_within(self.port, ATTEMPT) {
                return client;
            }
            std::thread::sleep(PAUSE);
        }
        panic!("no PONG: {}", self.end())
    }

    /// Waits for the end; the exit code and what was on the console.
    ///
    /// # Panics
    /// If it does not end.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        while start.elapsed() < BOOT_MAX {
            if let Some(status) = self.qemu.try_wait().expect("it is our child") {
                return (status.code(), self.console());
            }
            std::thread::sleep(PAUSE);
        }
        panic!("it does not end: {}", self.end())
    }

    /// Ends a machine that does not end by itself.
    fn end(&mut self) -> String {
        // It may have ended by now.
        let _ = self.qemu.kill();
        self.console()
    }

    fn console(&mut self) -> String {
        let mut text = String::new();
        if let Some(console) = self.qemu.stdout.as_mut() {
            // What cannot be read cannot be shown.
            let _ = console.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
