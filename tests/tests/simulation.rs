//! The whole engine under a virtual clock, a nemesis and clients with bad habits: many seeds.
//!
//! A failing seed says how to run it alone. `SEEDS=1000` runs more, `FROM=5000` others, `TRACE=1` prints every
//! command and its reply.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tests::simulation::scenario::Scenario;
use tests::simulation::{Outcome, Simulation};

/// Seeds of an ordinary run.
const SEEDS: u64 = 120;

/// Runs one scenario; says how to run it again if it fails.
fn run(scenario: Scenario) -> Outcome {
    let seed = scenario.seed;
    let shown = format!("{scenario:?}");
    catch_unwind(AssertUnwindSafe(|| Simulation::new(scenario).run())).unwrap_or_else(|panic| {
        eprintln!("{shown}");
        eprintln!("replay: SEED={seed} cargo test -p tests --test simulation -- --nocapture");
        resume_unwind(panic)
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The seeds that the environment asks for.
fn seeds() -> impl Iterator<Item = u64> {
    let from = number("SEED").or(number("FROM")).unwrap_or(1);
    let count = if number("SEED").is_some() { 1 } else { number("SEEDS").unwrap_or(SEEDS) };
    from..from + count
}

#[test]
fn no_client_is_ever_told_anything_wrong() {
    for seed in seeds() {
        let outcome = run(Scenario::new(seed));
        if number("SEED").is_some() {
            eprintln!("{outcome:?}");
        }
    }
}

#[test]
fn without_a_nemesis_nothing_goes_wrong_and_every_page_was_planned() {
    for seed in seeds().take(SEEDS as usize / 4) {
        let scenario = Scenario { value_max: 60_000, ..Scenario::new(seed).calm() };
        let is_ahead = scenario.policy == farmem::Prefetch::Ahead;
        let outcome = run(scenario);
        assert_eq!(outcome.heard.world_errors, 0, "seed {seed}");
        assert!(!is_ahead || outcome.unplanned_faults == 0, "seed {seed}: {outcome:?}");
    }
}

#[test]
fn a_reader_that_comes_back_is_served_to_the_end() {
    for seed in seeds().take(SEEDS as usize / 2) {
        let calm = Scenario::new(seed).calm();
        let readers = Scenario { clients: 3, slow_readers: true, vanishing: false, ..calm };
        run(Scenario { value_max: 400_000, pipeline_max: 30, ..readers });
    }
}

#[test]
fn no_command_touches_a_page_that_it_had_not_planned() {
    for seed in seeds().take(SEEDS as usize / 4) {
        run(Scenario::alone(seed));
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in seeds().take(4) {
        assert_eq!(run(Scenario::new(seed)), run(Scenario::new(seed)), "seed {seed}");
    }
}
