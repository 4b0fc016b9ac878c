//! The program as a user runs it, against the packaged redis-server and against ours.
//!
//! Needs `redis-server` on the path. What a machine lacks (root, zram) is skipped with a line that begins
//! with `SKIPPED`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

const WORKLOADS: [&str; 11] = [
    "get_4k",
    "get_64k",
    "get_mixed",
    "lrange_100",
    "lrange_all",
    "lrange_mid",
    "sg",
    "zipf_small",
    "push_pop",
    "redis_default_get",
    "redis_default_set",
];

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remora-bench")).args(arguments).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A server that does not outlive its test.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

impl Server {
    fn start(program: &Path, arguments: &[&str]) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string()]).args(arguments).current_dir(dir.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
        let server = Server { child, port, _dir: dir };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "{} does not listen", program.display());
            sleep(Duration::from_millis(20));
        }
        server
    }

    fn redis() -> Server {
        Server::start(Path::new("redis-server"), &["--save", "", "--appendonly", "no"])
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut reply = [0; 256];
        let read = stream.read(&mut reply).expect("it answers");
        String::from_utf8_lossy(&reply[..read]).into_owned()
    }

    /// Loads and runs; the run's exit is the result.
    fn load_and_run(&self, workload: &str, more: &[&str]) -> Output {
        let url = format!("redis://127.0.0.1:{}", self.port);
        let same = ["--url", &url, "--workload", workload, "--data", "2mb"];
        let loaded = bench(&[&["load"], &same[..]].concat());
        assert!(loaded.status.success(), "{}", text(&loaded));
        bench(
            &[
                &["run"],
                &same[..],
                &["--clients", "8", "--duration", "300ms", "--warmup", "0s", "--verify", "1"],
                more,
            ]
            .concat(),
        )
    }
}

/// Runs every workload on fresh data and holds every byte of every reply against it.
fn every_workload_is_right_on(server: &Server) {
    let dir = tempfile::tempdir().expect("a directory");
    for (at, workload) in WORKLOADS.iter().enumerate() {
        let json = dir.path().join("run.json").to_string_lossy().into_owned();
        let pipeline = if at % 2 == 0 { "1" } else { "16" };
        let run = server.load_and_run(workload, &["--json", &json, "--pipeline", pipeline]);
        assert!(run.status.success(), "{workload}: {}", text(&run));
        let m: Value = serde_json::from_str(&fs::read_to_string(&json).expect("written")).expect("JSON");
        let number = |name: &str| m[name].as_u64().unwrap_or_else(|| panic!("{workload}: no {name}"));
        assert!(number("requests") > 0, "{workload}");
        assert_eq!((number("wrong"), number("errors")), (0, 0), "{workload}: {m}");
        assert_eq!(number("verified") > 0, *workload != "redis_default_set", "{workload}");
        assert!(m["server"]["cpu"]["user_s"].is_f64(), "{workload}: its CPU is known");
        server.ask("FLUSHALL\r\n");
    }
}

#[test]
fn every_workload_is_right_on_redis() {
    every_workload_is_right_on(&Server::redis());
}

/// `REMORA_SERVER`, or else our server built in the profile of these tests: it lies beside the program.
fn our_server() -> PathBuf {
    if let Some(given) = std::env::var_os("REMORA_SERVER") {
        return given.into();
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-q", "-p", "server"]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo has built this test").success(), "our server does not build");
    Path::new(env!("CARGO_BIN_EXE_remora-bench")).with_file_name("remora-server")
}

#[test]
fn every_workload_is_right_on_ours_with_little_local_memory() {
    let ours = our_server();
    every_workload_is_right_on(&Server::start(
        &ours,
        &["--local-memory", "8mb", "--far-memory", "mem:256mb"],
    ));
}

#[test]
fn a_value_that_is_not_what_was_loaded_is_exit_1() {
    let server = Server::redis();
    let run = server.load_and_run("get:64", &[]);
    assert!(run.status.success(), "{}", text(&run));
    // As long as the right value, so that only its bytes can give it away.
    server.ask(&format!("SET key:000000000001 {}\r\n", "x".repeat(64)));
    let url = format!("redis://127.0.0.1:{}", server.port);
    // The data set of 128 bytes is the first two keys of the larger one.
    let run = bench(&[
        "run",
        "--url",
        &url,
        "--workload",
        "get:64",
        "--data",
        "128",
        "--duration",
        "200ms",
        "--verify",
        "1",
    ]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run));
    assert!(text(&run).contains("WRONG") && text(&run).contains("key:000000000001"), "{}", text(&run));
}

#[test]
fn an_empty_server_is_wrong_not_fast() {
    let server = Server::redis();
    let url = format!("redis://127.0.0.1:{}", server.port);
    let run = bench(&[
        "run",
        "--url",
        &url,
        "--workload",
        "get_4k",
        "--data",
        "1mb",
        "--duration",
        "200ms",
        "--warmup",
        "0s",
    ]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run));
}

#[test]
fn an_open_loop_offers_what_it_was_told_to() {
    let server = Server::redis();
    let dir = tempfile::tempdir().expect("a directory");
    let json = dir.path().join("run.json").to_string_lossy().into_owned();
    let run = server.load_and_run("get:64", &["--rate", "10000", "--json", &json]);
    assert!(run.status.success(), "{}", text(&run));
    let m: Value = serde_json::from_str(&fs::read_to_string(&json).expect("written")).expect("JSON");
    let due = m["requests"].as_f64().expect("a number") + m["unanswered"].as_f64().expect("a number");
    // 3000 expected in 300 ms; a Poisson count's 6 sigma is 330.
    assert!((due - 3000.0).abs() < 330.0, "{due}");
}

#[test]
fn a_sweep_that_is_wrong_says_where_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wrong.toml");
    fs::write(&file, "title = \"t\"\ndata = \"a lot\"\n").expect("written");
    let sweep = bench(&["sweep", &file.to_string_lossy()]);
    let said = String::from_utf8_lossy(&sweep.stderr);
    assert_eq!((sweep.status.code(), said.trim().lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("wrong.toml") && said.contains("line 2") && said.contains("a lot"), "{said}");
}

fn sweep_of(systems: &str, duration: &str) -> String {
    format!(
        "title = \"t\"\ndata = \"2mb\"\nclients = 4\nduration = \"{duration}\"\nwarmup = \"0s\"\nrepetitions = 1\nfractions = [1.0]\nverify = 1.0\n\
         [[workload]]\nname = \"get_4k\"\n{systems}"
    )
}

const REDIS: &str = r#"
[[system]]
name = "redis"
command = ["redis-server", "--port", "{port}", "--save", "", "--dir", "{dir}"]
cap = "none"
fractions = [1.0]
"#;

fn journal(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("points.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a record a line")).collect()
}

#[test]
fn a_server_that_dies_fails_its_point_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, out) = (dir.path().join("s.toml"), dir.path().join("out"));
    let dying = r#"
[[system]]
name = "dying"
command = ["sh", "-c", "(sleep 1.5; kill -9 $$) & exec redis-server --port $0 --save ''", "{port}"]
cap = "none"
fractions = [1.0]
[[system]]
name = "never"
command = ["sh", "-c", "echo no such thing; exit 3", "{port}"]
cap = "none"
fractions = [1.0]
"#;
    fs::write(&file, sweep_of(&format!("{dying}{REDIS}"), "3s")).expect("written");
    let arguments = ["sweep", &file.to_string_lossy(), "--dir", &out.to_string_lossy()];
    let sweep = bench(&arguments);
    assert_eq!(sweep.status.code(), Some(1), "{}", text(&sweep));
    let points: Vec<Value> = journal(&out).into_iter().filter(|r| r["record"] == "point").collect();
    let failed = |at: usize| points[at]["failed"].as_str().unwrap_or_default().to_owned();
    assert_eq!(points.len(), 3, "{points:?}");
    assert!(failed(0).contains("ended"), "{}", failed(0));
    assert!(failed(1).contains("no such thing"), "{}", failed(1));
    assert!(
        points[2]["failed"].is_null() && points[2]["measured"]["requests"].as_u64() > Some(0),
        "{}",
        points[2]
    );
    let report = bench(&["report", &out.to_string_lossy()]);
    assert!(report.status.success(), "{}", text(&report));
    let tables = fs::read_to_string(out.join("tables.md")).expect("written");
    assert!(tables.contains("Points that failed") && tables.contains("get_4k/dying/1/1"), "{tables}");
    // Started again, it tries the failed ones alone.
    bench(&arguments);
    let points = journal(&out).into_iter().filter(|r| r["record"] == "point").count();
    assert_eq!(points, 5);
}

#[test]
fn side_by_side_each_server_is_started_and_filled_once_and_gone_at_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, out) = (dir.path().join("s.toml"), dir.path().join("out"));
    // Each start is a line in a file that outlives it.
    let starts = dir.path().join("starts");
    let counted = |name: &str| {
        format!(
            "[[system]]\nname = \"{name}\"\ncap = \"none\"\nfractions = [1.0]\ncommand = [\"sh\", \"-c\", \
             \"echo $$ >> {}; exec redis-server --port $0 --save ''\", \"{{port}}\"]\n",
            starts.display()
        )
    };
    let sweep = sweep_of(&format!("{}{}", counted("one"), counted("other")), "500ms");
    let sweep = sweep.replace("repetitions = 1", "repetitions = 3\nside_by_side = true");
    fs::write(&file, sweep).expect("written");
    let sweep = bench(&["sweep", &file.to_string_lossy(), "--dir", &out.to_string_lossy()]);
    assert!(sweep.status.success(), "{}", text(&sweep));
    let points: Vec<Value> = journal(&out).into_iter().filter(|r| r["record"] == "point").collect();
    let names: Vec<&str> = points.iter().filter_map(|point| point["system"].as_str()).collect();
    assert_eq!(names, ["one", "other", "other", "one", "other", "one"]);
    assert!(points.iter().all(|point| point["measured"]["requests"].as_u64() > Some(0)), "{points:?}");
    let pids = fs::read_to_string(&starts).expect("both were started");
    assert_eq!(pids.lines().count(), 2, "{pids}");
    assert!(pids.lines().all(|pid| !Path::new("/proc").join(pid).exists()), "{pids}");
}

#[test]
fn ctrl_c_stops_the_server_and_removes_cgroup_and_zram() {
    let root =
        fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap_or(1) == 0;
    if !root || !Path::new("/sys/class/zram-control/hot_add").exists() {
        println!("SKIPPED: cgroup and zram need root and the zram module");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (file, out) = (dir.path().join("s.toml"), dir.path().join("out"));
    let swapped = REDIS
        .replace("cap = \"none\"\nfractions = [1.0]", "cap = \"cgroup\"\nswap = \"zram\"")
        .replace("name = \"redis\"", "name = \"redis-swap\"");
    fs::write(&file, sweep_of(&swapped, "60s")).expect("written");
    let mut sweep = Command::new(env!("CARGO_BIN_EXE_remora-bench"))
        .args(["sweep", &file.to_string_lossy(), "--dir", &out.to_string_lossy()])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let name = format!("remora-bench-{}-0", sweep.id());
    let members = wait_for("a member of the cgroup", || {
        let found = cgroup(&name).and_then(|path| fs::read_to_string(path.join("cgroup.procs")).ok());
        found.filter(|pids| !pids.trim().is_empty())
    });
    let swaps = fs::read_to_string("/proc/swaps").expect("Linux");
    let device =
        swaps.lines().find(|line| line.contains("/dev/zram")).and_then(|line| line.split_whitespace().next());
    let device = device.expect("zram is in use").to_owned();
    let interrupt =
        Command::new("kill").args(["-INT", &sweep.id().to_string()]).status().expect("kill is there");
    assert!(interrupt.success());
    assert_eq!(sweep.wait().expect("it ends").code(), Some(1));
    assert_eq!(cgroup(&name), None, "its cgroup is removed");
    assert!(
        !fs::read_to_string("/proc/swaps").expect("Linux").contains(&device) && !Path::new(&device).exists(),
        "{device} is removed"
    );
    for pid in members.split_whitespace() {
        assert!(!Path::new("/proc").join(pid).exists(), "server {pid} is stopped");
    }
    let left: Vec<_> =
        fs::read_dir(&out).expect("the journal's").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["points.jsonl"], "its directory is removed");
}

fn cgroup(name: &str) -> Option<PathBuf> {
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .iter()
        .map(|root| Path::new(root).join(name))
        .find(|path| path.exists())
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} does not appear");
        sleep(Duration::from_millis(20));
    }
}
