//! Cargo.pins is Cargo.lock without the name of the registry, and the one is made of the other.

use std::fs::{self, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// A directory of its own for each test, below cargo's for tests.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the directory can be made");
    path
}

fn pins(way: &str, directory: &Path) -> Output {
    Command::new("sh")
        .arg(Path::new(PACKAGE).join("pins.sh"))
        .arg(way)
        .current_dir(directory)
        // What cargo has already seen of the registry is enough.
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .expect("sh runs")
}

#[test]
fn a_lock_is_made_of_its_pins_again() {
    let (here, lock) = (directory("again"), Path::new(PACKAGE).join("Cargo.lock"));
    fs::copy(&lock, here.join("Cargo.lock")).expect("there is a lock");
    assert!(pins("pins", &here).status.success());
    fs::remove_file(here.join("Cargo.lock")).expect("it is there");
    let made = pins("lock", &here);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (made, lock) = (read_to_string(here.join("Cargo.lock")), read_to_string(lock));
    assert_eq!(made.expect("it was made"), lock.expect("there is a lock"));
}

#[test]
fn the_pins_are_those_of_the_lock_and_name_no_host() {
    let here = directory("committed");
    fs::copy(Path::new(PACKAGE).join("Cargo.lock"), here.join("Cargo.lock")).expect("a lock");
    assert!(pins("pins", &here).status.success());
    let made = read_to_string(here.join("Cargo.pins")).expect("they were made");
    let committed = read_to_string(Path::new(PACKAGE).join("Cargo.pins"));
    assert_eq!(made, committed.expect("they are committed"));
    assert!(!made.contains("://") && made.lines().all(|line| !line.starts_with("source")));
}

#[test]
fn a_package_from_elsewhere_is_refused() {
    let here = directory("elsewhere");
    let lock = "[[package]]\nname = \"x\"\nversion = \"1.0.0\"\nsource = \"git+file:x\"\n";
    fs::write(here.join("Cargo.lock"), lock).expect("it can be written");
    let refused = pins("pins", &here);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("elsewhere"));
    assert!(!here.join("Cargo.pins").exists());
}
