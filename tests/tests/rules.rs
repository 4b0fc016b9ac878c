//! The repository's own rules: size of files, what each opens with, what may not occur outside tests.
//!
//! Refuses to know style beyond what a line of text shows; the rest is clippy's and the reader's.

use tests::sources::{Source, sources};

/// Lines of a file; above that a room of the house is missing.
const FILE_LINES_MAX: usize = 700;

/// Folders that may hold unsafe code, and why.
const UNSAFE_ROOMS: &[&str] = &[
    "farmem/link/",      // maps devices, hands frames to the kernel
    "farmem/memnode/",   // lends a mapping, moved by the kernel alone
    "farmem/uffd/",      // maps the far heap, serves userfaultfd
    "unikernel-target/", // page tables, interrupts, devices
    "tests/no_std/",     // an entry, an allocator and mem* of its own
];

/// What no line outside tests may hold. In parts, so that this file has none of them.
const BANNED: &[&[&str]] = &[&[".unwrap", "()"], &["todo", "!("], &["unimplemented", "!("], &["dbg", "!("]];

#[test]
fn no_file_is_over_seven_hundred_lines() {
    let long = offenders(|source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{lines} lines"))
    });
    assert_eq!(long, none());
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let silent = offenders(|source| {
        let first = source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
        (!first.is_some_and(|line| line.starts_with("//!"))).then(|| "does not open with //!".to_owned())
    });
    assert_eq!(silent, none());
}

#[test]
fn nothing_outside_tests_unwraps_or_is_left_to_do() {
    let found = offenders(|source| {
        if source.is_test() {
            return None;
        }
        lines_of_code(outside_tests(&source.text))
            .find(|(_, line)| BANNED.iter().any(|parts| line.contains(&parts.concat())))
            .map(|(number, line)| format!("line {number}: {}", line.trim()))
    });
    assert_eq!(found, none());
}

#[test]
fn no_test_is_ignored() {
    let marker = ["#[", "ignore"].concat();
    let found = offenders(|source| source.text.contains(&marker).then(|| "has an ignored test".to_owned()));
    assert_eq!(found, none());
}

#[test]
fn unsafe_code_lives_in_its_rooms_only() {
    let found = offenders(|source| {
        if UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
            return None;
        }
        lines_of_code(&source.text)
            .find(|(_, line)| {
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
            })
            .filter(|_| source.path != file!())
            .map(|(number, line)| format!("line {number}: {}", line.trim()))
    });
    assert_eq!(found, none());
}

#[test]
fn every_crate_outside_those_rooms_forbids_unsafe_code() {
    let found = offenders(|source| {
        let is_root = source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs");
        let free = UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room));
        let forbids = source.text.contains("#![forbid(unsafe_code)]");
        (is_root && !free && !forbids).then(|| "does not forbid unsafe code".to_owned())
    });
    assert_eq!(found, none());
}

/// One line a source file that breaks a rule.
fn offenders(broken: impl Fn(&Source) -> Option<String>) -> Vec<String> {
    sources().iter().filter_map(|source| Some(format!("{}: {}", source.path, broken(source)?))).collect()
}

fn none() -> Vec<String> {
    Vec::new()
}

/// Everything before the file's own tests.
fn outside_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

/// Numbered lines that are no comments.
fn lines_of_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}
