//! A report from a small result that is checked in.

use std::path::Path;

use super::*;

fn small() -> Results {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small");
    let records = journal::read(&dir).expect("checked in");
    Results::new(records, "Small".into())
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
    assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("src="), "nothing is fetched");
}
