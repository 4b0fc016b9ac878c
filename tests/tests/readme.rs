//! Keeps the README's tour of a GET true: its table is the eight `GET n/8` comments of the source, in order.
//!
//! Refuses to judge prose.

use std::path::Path;
use tests::sources::{Source, root, sources};

/// Steps of the tour.
const STEPS: usize = 8;

#[test]
fn the_tour_of_a_get_has_eight_steps_in_the_source_each_once() {
    let tour = tour(&sources());
    let numbers: Vec<usize> = tour.iter().map(|step| step.number).collect();
    let places: Vec<String> =
        tour.iter().map(|step| format!("{}/{STEPS} {}", step.number, step.file)).collect();
    assert_eq!(numbers, (1..=STEPS).collect::<Vec<_>>(), "found: {places:#?}");
}

#[test]
fn the_readme_shows_the_tour_as_it_stands_in_the_source() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the repository has a README");
    let table: Vec<String> = tour(&sources())
        .iter()
        .map(|step| {
            format!("| {}/{STEPS} | {} | [`{file}`]({file}) |", step.number, step.text, file = step.file)
        })
        .collect();
    let shown: Vec<&str> = readme.lines().filter(|line| is_row(line)).collect();
    assert_eq!(shown, table, "README.md must have these rows:\n{}\n", table.join("\n"));
}

#[test]
fn every_file_that_the_readme_links_to_is_there() {
    for page in ["README.md", "ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(root().join(page)).expect("the repository has this page");
        for target in links(&text) {
            assert!(root().join(target).exists(), "{page} links to {target}, which is not there");
        }
    }
}

struct Step {
    number: usize,
    text: String,
    file: String,
}

/// The `GET n/8: text` comments of the source, sorted by number.
fn tour(sources: &[Source]) -> Vec<Step> {
    let marker = ["// GET", " "].concat(); // in two parts, so that this line is none
    let mut steps = Vec::new();
    for source in sources.iter().filter(|source| !source.path.starts_with("tests/")) {
        for line in source.text.lines() {
            let Some((_, rest)) = line.split_once(&marker) else { continue };
            let Some((number, text)) = rest.split_once(&format!("/{STEPS}: ")) else { continue };
            let Ok(number) = number.parse() else { continue };
            steps.push(Step { number, text: text.trim().to_owned(), file: source.path.clone() });
        }
    }
    steps.sort_by_key(|step| step.number);
    steps
}

fn is_row(line: &str) -> bool {
    (1..=STEPS).any(|number| line.starts_with(&format!("| {number}/{STEPS} |")))
}

/// Targets of the page's links that are files of the repository.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next())
        .filter(|target| !target.is_empty() && !target.contains("://") && Path::new(target).is_relative())
        .collect()
}
