//! The points of a sweep, in the order in which they are measured.
//!
//! ```text
//!   for each repetition, closed loop before open loop
//!     for each workload
//!       for each fraction
//!         for each system          A B C  C B A  B C A: a drift of the machine meets all alike
//! ```
//!
//! With `side_by_side` each workload has all its repetitions, closed and open loop, before the next one begins, because all
//! its servers are up.
//! Every other repetition goes backwards, and each pair of them begins one place later: who always came behind the
//! same neighbour would be measured on the memory that this one leaves behind. Two equal Redis, one behind Remora and
//! one behind the other, differed by a third that way.

use super::config::{Config, System, Traffic};

/// One measurement to be made.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// From 1 on.
    pub repetition: u32,
    /// What is asked.
    pub traffic: &'a Traffic,
    /// Who is asked.
    pub system: &'a System,
    /// Local share of the working set.
    pub fraction: f64,
    /// Open loop: the share of the all-local closed-loop rate.
    pub load: Option<f64>,
}

impl Point<'_> {
    /// Names the point in the journal; the same for every sweep of the same configuration.
    pub fn id(&self) -> String {
        let load = self.load.map(|load| format!("/load {load}")).unwrap_or_default();
        format!("{}/{}/{}{load}/{}", self.traffic.label(), self.system.name, self.fraction, self.repetition)
    }
}

/// Every point, in order.
pub fn points(config: &Config) -> Vec<Point<'_>> {
    let repetitions = 1..=config.repetitions;
    if config.side_by_side {
        let of = |traffic| {
            let one = move |repetition| {
                closed(config, traffic, repetition).chain(open(config, traffic, repetition))
            };
            repetitions.clone().flat_map(one)
        };
        return config.workloads.iter().flat_map(of).collect();
    }
    repetitions
        .flat_map(|repetition| {
            let all = config.workloads.iter().flat_map(move |traffic| closed(config, traffic, repetition));
            all.chain(config.workloads.iter().flat_map(move |traffic| open(config, traffic, repetition)))
        })
        .collect()
}

fn closed<'a>(
    config: &'a Config,
    traffic: &'a Traffic,
    repetition: u32,
) -> impl Iterator<Item = Point<'a>> + use<'a> {
    let fractions = traffic.fractions.as_ref().unwrap_or(&config.fractions);
    turned(fractions.iter(), repetition).flat_map(move |&fraction| {
        let systems = config.systems.iter().filter(move |system| takes_part(system, traffic, fraction));
        turned(systems, repetition).map(move |system| Point {
            repetition,
            traffic,
            system,
            fraction,
            load: None,
        })
    })
}

/// The same in the order of this repetition.
fn turned<T>(items: impl Iterator<Item = T>, repetition: u32) -> impl Iterator<Item = T> {
    let mut items: Vec<T> = items.collect();
    if !items.is_empty() {
        let first = (repetition as usize - 1) / 2 % items.len();
        items.rotate_left(first);
    }
    if repetition.is_multiple_of(2) {
        items.reverse();
    }
    items.into_iter()
}

fn open<'a>(
    config: &'a Config,
    traffic: &'a Traffic,
    repetition: u32,
) -> impl Iterator<Item = Point<'a>> + use<'a> {
    traffic.load.iter().flat_map(move |load| {
        let grid = load
            .fractions
            .iter()
            .flat_map(move |&fraction| load.shares.iter().map(move |&share| (fraction, share)));
        grid.flat_map(move |(fraction, share)| {
            let named = config.systems.iter().filter(move |system| load.systems.contains(&system.name));
            let systems = named.filter(move |system| takes_part(system, traffic, fraction));
            turned(systems, repetition).map(move |system| Point {
                repetition,
                traffic,
                system,
                fraction,
                load: Some(share),
            })
        })
    })
}

fn takes_part(system: &System, traffic: &Traffic, fraction: f64) -> bool {
    traffic.systems.as_ref().is_none_or(|names| names.contains(&system.name))
        && system.workloads.as_ref().is_none_or(|names| names.contains(&traffic.name))
        && system.fractions.as_ref().is_none_or(|own| own.contains(&fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_take_turns_and_open_loops_come_after_the_peak_is_known() {
        let config = super::super::config::parse(
            r#"
title = "t"
data = "8mb"
duration = "1s"
repetitions = 2
fractions = [1.0, 0.5]
[[workload]]
name = "get_4k"
[workload.load]
shares = [0.5]
fractions = [1.0, 0.5]
systems = ["A", "B"]
[[system]]
name = "A"
command = ["a", "{port}", "{local}"]
cap = "argument"
[[system]]
name = "B"
command = ["b", "{port}"]
cap = "none"
fractions = [1.0]
"#,
        )
        .expect("good");
        let ids: Vec<String> = points(&config).iter().map(Point::id).collect();
        let wanted = [
            "get_4k/A/1/1",
            "get_4k/B/1/1",
            "get_4k/A/0.5/1",
            "get_4k/A/1/load 0.5/1",
            "get_4k/B/1/load 0.5/1",
            "get_4k/A/0.5/load 0.5/1",
            // Another begins.
            "get_4k/A/0.5/2",
            "get_4k/B/1/2",
            "get_4k/A/1/2",
            "get_4k/B/1/load 0.5/2",
            "get_4k/A/1/load 0.5/2",
            "get_4k/A/0.5/load 0.5/2",
        ];
        assert_eq!(ids, wanted);
    }

    #[test]
    fn side_by_side_a_workload_is_done_before_the_next_begins() {
        let config = super::super::config::parse(
            r#"
title = "t"
data = "8mb"
duration = "1s"
repetitions = 2
fractions = [1.0]
side_by_side = true
[[workload]]
name = "get_4k"
[[workload]]
name = "get_64k"
[workload.load]
shares = [0.5]
fractions = [1.0]
systems = ["B"]
[[system]]
name = "A"
command = ["a", "{port}", "{local}"]
cap = "argument"
[[system]]
name = "B"
command = ["b", "{port}", "{local}"]
cap = "argument"
[[system]]
name = "C"
command = ["c", "{port}", "{local}"]
cap = "argument"
workloads = ["get_4k"]
"#,
        )
        .expect("good");
        let ids: Vec<String> = points(&config).iter().map(Point::id).collect();
        let first =
            ["A/1/1", "B/1/1", "C/1/1", "C/1/2", "B/1/2", "A/1/2"].map(|rest| format!("get_4k/{rest}"));
        let loads = ["B/1/load 0.5/1", "B/1/load 0.5/2"];
        let then =
            ["A/1/1", "B/1/1", loads[0], "B/1/2", "A/1/2", loads[1]].map(|rest| format!("get_64k/{rest}"));
        assert_eq!(ids, [first, then].concat());
    }
}
