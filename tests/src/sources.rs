//! The repository's Rust sources, for tests that keep its own rules.
//!
//! Refuses to look into build output and hidden folders.

use std::path::{Path, PathBuf};

/// A source file.
pub struct Source {
    /// From the root of the repository, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// Whether the file is a test, or exists for tests.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository")
}

/// Every `.rs` file of the repository, sorted by path.
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the repository can be read") {
            let path = entry.expect("the repository can be read").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if name == "target" || name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let inside = path.strip_prefix(root()).expect("the walk began at the root");
                let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
                found.push(Source { path: inside.to_string_lossy().into_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
