use std::fs::read_to_string;

fn file(name: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_readme_shows_the_example() {
    let readme = file("README.md");
    let shown = readme.split("```rust,no_run\n").nth(1).expect("it shows code");
    let shown = shown.split("```").next().expect("the code ends");
    assert_eq!(shown, file("examples/ensure.rs"));
}
