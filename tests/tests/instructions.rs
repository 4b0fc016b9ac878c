//! Instructions of the small things, held against a table: the gate on speed that no busy machine can fool.
//!
//! ```text
//!   BENCH --count fetch_1 200 ─► callgrind ─► a ─┐
//!   BENCH --count fetch_1 400 ─► callgrind ─► b ─┴─► (b - a) / 200  ── within 3 % of tests/instructions.txt?
//! ```
//!
//! The difference leaves out start and preparation. The count does not depend on the processor: our code is
//! built for plain x86-64; XXH3 and memchr choose by processor only where a body links them with `std`, which these
//! programs do not; and what glibc would choose (memcpy) is fixed by `GLIBC_TUNABLES`. It does depend on
//! the compiler, so the table names its own, and another one is given more room. `BLESS=1` writes the table anew: in
//! a commit that says why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How far a count may lie off: measured, two runs differ by less than a thousandth.
const TOLERANCE: f64 = 0.03;
/// The same if the table was made with another compiler.
const TOLERANCE_ELSEWHERE: f64 = 0.15;
/// Repetitions of the shorter run; the longer one has twice as many. As many as the largest case has keys or pages to
/// go round, so that both halves do the same.
const TIMES: u64 = 512;
/// glibc's functions for a processor with SSE2 and no more, whatever this one has.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-AVX512BW,\
                        -BMI1,-BMI2,-LZCNT,-MOVBE,-POPCNT,-SSE4_1,-SSE4_2,-SSSE3,-ERMS,-FSRM,-RTM,-XSAVE,-XSAVEC";
const TABLE: &str = "tests/instructions.txt";

#[test]
fn nothing_small_has_become_dearer() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the table is of x86-64");
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("no valgrind");
    }
    let counts = count_all();
    let table = render(&counts);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(root().join(TABLE), &table).expect("the repository can be written");
        return;
    }
    let wanted = std::fs::read_to_string(root().join(TABLE)).expect("the table is checked in");
    let same_compiler = wanted.lines().any(|line| line == compiler_line());
    let tolerance = if same_compiler { TOLERANCE } else { TOLERANCE_ELSEWHERE };
    let wanted = parse(&wanted);
    let mut wrong = String::new();
    for name in wanted.keys().chain(counts.keys().filter(|name| !wanted.contains_key(*name))) {
        match (wanted.get(name), counts.get(name)) {
            (Some(&want), Some(&got)) if (got / want - 1.0).abs() <= tolerance => {}
            (want, got) => {
                writeln!(wrong, "{name}: the table says {want:?}, it takes {got:?}").expect("text")
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "instructions a repetition are off by more than {} %:\n{wrong}\nthe table would be\n{table}\n\
         If that is as it should be: BLESS=1 cargo test -p tests --test instructions",
        tolerance * 100.0
    );
}

/// Instructions a repetition, by case.
fn count_all() -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for bench in benches() {
        let cases = Command::new(&bench).arg("--cases").output().expect("cargo has built it");
        for case in String::from_utf8_lossy(&cases.stdout).lines() {
            let (once, twice) = (count(&bench, case, TIMES), count(&bench, case, 2 * TIMES));
            counts.insert(case.to_owned(), (twice - once) as f64 / TIMES as f64);
        }
    }
    counts
}

/// All instructions of one run.
fn count(bench: &Path, case: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(bench)
        .args(["--count", case, &times.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .expect("valgrind starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.filter(|_| output.status.success()).unwrap_or_else(|| panic!("{case}: {said}"))
}

/// The bench programs, built as they are measured.
fn benches() -> Vec<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["bench", "--no-run", "-p", "farmem", "-p", "engine", "--bench", "pager", "--bench", "engine"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root())
        .output()
        .expect("cargo has built this test");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "the benches do not build: {}", String::from_utf8_lossy(&output.stderr));
    let programs: Vec<PathBuf> = said
        .lines()
        .filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next().map(PathBuf::from))
        .collect();
    assert_eq!(programs.len(), 2, "{said}");
    programs
}

fn compiler_line() -> String {
    let version = Command::new("rustc").arg("--version").output().expect("it came with cargo").stdout;
    format!("# {}", String::from_utf8_lossy(&version).trim())
}

fn render(counts: &BTreeMap<String, f64>) -> String {
    let mut table =
        format!("# Instructions a repetition: tests/tests/instructions.rs\n{}\n", compiler_line());
    for (name, count) in counts {
        writeln!(table, "{name:<24} {count:>10.1}").expect("text");
    }
    table
}

fn parse(table: &str) -> BTreeMap<String, f64> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').expect("a name and a count a line");
            (name.to_owned(), count.trim().parse().expect("a count is a number"))
        })
        .collect()
}

/// Says what is missing; a failure in CI.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "skipped: {why} (`make setup` installs it)");
    eprintln!("SKIPPED: {why} (`make setup` installs it)");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository")
}
