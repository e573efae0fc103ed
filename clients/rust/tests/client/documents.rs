use std::fs::read_to_string;

fn file(name: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first block of the README that begins like this.
fn shown(fence: &str) -> String {
    let readme = file("README.md");
    let block = readme.split(fence).nth(1).expect("it shows code");
    block.split("```").next().expect("the code ends").to_owned()
}

#[test]
fn the_readme_shows_the_example() {
    assert_eq!(shown("```rust,no_run\n"), file("examples/ensure.rs"));
}

#[test]
fn the_readme_shows_the_engine_which_is_short() {
    let engine = file("examples/engine/src/main.rs");
    assert_eq!(shown("```rust,ignore\n"), engine);
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    assert!(engine.lines().filter(is_code).count() <= 30);
}
