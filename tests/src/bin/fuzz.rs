//! `fuzz TARGET [--seconds 60] [--seed 1]` looks for inputs that break a target; `fuzz TARGET FILE...` runs
//! these inputs, in this order.
//!
//! Starts from `tests/fuzz/corpus/TARGET`. What was run since the target began is left in
//! `target/fuzz/TARGET-SEED` when an assertion fails. Refuses to run in parallel: a run is its seed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::fuzz::{Target, mutate, target};
use tests::sources::root;

/// Inputs kept as material for further ones: 20,000 x 8 KiB are 160 MB at most.
const KEPT_MAX: usize = 20_000;

/// What the running target was given so far, for the report of a failure.
static GIVEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = words.split_first().filter(|(name, _)| target(name).is_some()) else {
        eprintln!(
            "usage: fuzz resp|commands|nbd-server|nbd-client|rdma-handshake [--seconds N] [--seed N] \
             | fuzz TARGET FILE..."
        );
        return ExitCode::FAILURE;
    };
    let option = |flag: &str, or: u64| {
        let at = rest.iter().position(|word| word == flag);
        at.and_then(|at| rest.get(at + 1)?.parse().ok()).unwrap_or(or)
    };
    let (seconds, seed) = (option("--seconds", 60), option("--seed", 1));
    leave_inputs_on_failure(root().join("target/fuzz").join(format!("{name}-{seed}")));
    if rest.first().is_some_and(|word| !word.starts_with("--")) {
        replay(name, rest);
    } else {
        search(name, Duration::from_secs(seconds), seed);
    }
    ExitCode::SUCCESS
}

fn replay(name: &str, files: &[String]) {
    let mut target = target(name).expect("main has checked the name");
    for file in files {
        let input = std::fs::read(file).expect("the file named on the command line can be read");
        target.run(&input);
    }
    println!("fuzz {name}: {} inputs hold", files.len());
}

fn search(name: &str, length: Duration, seed: u64) {
    let mut corpus = corpus(name);
    let (mut seen, mut random) = (HashSet::new(), mutate::Random::new(seed));
    let (mut runs, began) = (0u64, Instant::now());
    let mut current = target(name).expect("main has checked the name");
    for input in corpus.clone() {
        seen.insert(give(&mut *current, &input));
    }
    while began.elapsed() < length {
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).len() >= current.inputs_max() {
            GIVEN.lock().unwrap_or_else(PoisonError::into_inner).clear();
            current = target(name).expect("main has checked the name");
        }
        let input = mutate::mutate(&corpus, &mut random);
        if seen.insert(give(&mut *current, &input)) && corpus.len() < KEPT_MAX {
            corpus.push(input);
        }
        runs += 1;
    }
    println!("fuzz {name}: seed {seed}, {runs} inputs hold, {} kinds of outcome", seen.len());
}

fn give(target: &mut dyn Target, input: &[u8]) -> u64 {
    if target.inputs_max() < usize::MAX {
        GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push(input.to_vec());
    } else {
        *GIVEN.lock().unwrap_or_else(PoisonError::into_inner) = vec![input.to_vec()];
    }
    target.run(input)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = root().join("tests/fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).expect("a target has a corpus");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("the corpus can be read")).collect()
}

/// In a hook, because the release profile aborts on a panic.
fn leave_inputs_on_failure(folder: PathBuf) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        match write(&folder, &given) {
            Ok(()) => eprintln!(
                "{} inputs are in {folder}: `fuzz TARGET {folder}/*` runs them",
                given.len(),
                folder = folder.display()
            ),
            Err(error) => eprintln!("the inputs could not be written to {}: {error}", folder.display()),
        }
    }));
}

fn write(folder: &Path, inputs: &[Vec<u8>]) -> std::io::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    (0..)
        .zip(inputs)
        .try_for_each(|(number, input)| std::fs::write(folder.join(format!("{number:05}")), input))
}
