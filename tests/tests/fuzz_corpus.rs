//! Replays the fuzz corpora, and a little fuzzing from a fixed seed, as ordinary tests.
//!
//! Refuses to search: `make fuzz` does.

use std::path::PathBuf;
use tests::fuzz::{mutate, target};
use tests::sources::root;

/// Mutated inputs a target: a second or two.
const MUTATIONS: usize = 300;

#[test]
fn requests_are_cut_in_pieces_without_a_difference() {
    replay("resp");
}

#[test]
fn commands_over_a_disorderly_far_memory_answer_as_the_model_does() {
    replay("commands");
}

#[test]
fn a_memory_node_survives_whatever_a_client_says() {
    replay("nbd-server");
}

#[test]
fn a_link_survives_whatever_a_memory_node_says() {
    replay("nbd-client");
}

#[test]
fn nobody_is_let_in_who_does_not_say_what_an_honest_peer_would() {
    replay("rdma-handshake");
}

fn replay(name: &str) {
    let entries =
        std::fs::read_dir(root().join("tests/fuzz/corpus").join(name)).expect("a target has a corpus");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("a corpus file")).collect();
    assert!(!corpus.is_empty());
    let mut target = target(name).expect("the target exists");
    for (path, input) in paths.iter().zip(&corpus) {
        eprintln!("{}", path.display());
        target.run(input);
    }
    let mut random = mutate::Random::new(1);
    for _ in 0..MUTATIONS {
        target.run(&mutate::mutate(&corpus, &mut random));
    }
}
