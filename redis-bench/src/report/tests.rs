//! A report from a small result that is checked in.

use std::path::Path;

use super::*;

fn small() -> Results {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small");
    let records = journal::read(&dir).expect("checked in");
    Results::new(records, "Small".into())
}

#[test]
fn the_tables_of_a_small_result_are_as_checked_in() {
    let expected = include_str!("../../tests/small/tables.md");
    assert_eq!(
        tables::markdown(&small()),
        expected,
        "if the change is meant: remora-bench report redis-bench/tests/small, keep tables.md"
    );
}

#[test]
fn a_plot_is_drawn_for_each_question() {
    let names: Vec<String> = figures::all(&small().cells).into_iter().map(|figure| figure.name).collect();
    assert_eq!(
        names,
        ["figure2-get_mixed", "figure2-lrange_100", "cost-get_mixed", "cost-lrange_100", "latency-get_mixed"]
    );
}

#[test]
fn a_target_is_judged_by_medians_and_only_if_its_systems_were_measured() {
    let targets = targets::all(&small().cells, None);
    let kept = targets
        .iter()
        .find(|t| t.says.starts_with("get_mixed") && t.says.contains("keeps"))
        .expect("measured");
    assert!(kept.got > 0.0 && kept.met() == (kept.got >= 0.95));
    assert!(targets.iter().all(|t| !t.says.starts_with("get_64k")), "not measured");
}

#[test]
fn the_page_needs_no_network() {
    let results = small();
    let drawn = figures::all(&results.cells).into_iter().map(|figure| {
        let svg = chart::svg(&figure).expect("drawn");
        (figure, svg)
    });
    let page = page::html(&results, &drawn.collect::<Vec<_>>());
    assert!(page.contains("Printed elsewhere, on other hardware"));
    assert!(
        !page.contains("<script") && !page.contains("<link") && !page.contains("src="),
        "nothing is fetched"
    );
}
