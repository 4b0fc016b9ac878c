//! A bench of small things that can be timed and counted.
//!
//! ```text
//!   cargo bench -p farmem                            criterion: wall time, for people
//!   BENCH --count fetch_1 1000                       does it so often and ends: for valgrind, see
//!                                                    tests/tests/instructions.rs
//!   BENCH --cases                                    names what there is
//! ```
//!
//! A case is prepared once and then repeated; what is done twice as often minus what is done once is the
//! price of the repetition alone. Refuses to draw: every case does the same in every run.

use criterion::Criterion;

/// One thing worth counting.
pub struct Case {
    /// As in tests/instructions.txt.
    pub name: &'static str,
    /// Makes what the repetitions need, and answers what is to be repeated.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// What the program was started for.
pub fn main(group: &str, cases: &[Case]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--cases", ..] => cases.iter().for_each(|case| println!("{}", case.name)),
        ["--count", name, times] => {
            let case = cases.iter().find(|case| case.name == name).expect("a name that --cases told");
            let mut once = (case.prepare)();
            (0..times.parse::<u64>().expect("a number")).for_each(|_| once());
        }
        _ => timed(group, cases),
    }
}

fn timed(group: &str, cases: &[Case]) {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group(group);
    for case in cases {
        group.bench_function(case.name, |bencher| bencher.iter((case.prepare)()));
    }
    group.finish();
    criterion.final_summary();
}
