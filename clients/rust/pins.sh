#!/bin/sh
# Cargo.lock names where each package comes from; Cargo.pins is the same without that, and is
# what is committed.
#   sh pins.sh lock    makes Cargo.lock from Cargo.pins
#   sh pins.sh pins    makes Cargo.pins from Cargo.lock
# in the present directory. The name of the source is asked of cargo itself.
set -eu

fail() {
    echo "pins.sh: $1" >&2
    exit 1
}

# The line of a lock file that names the source of a package, as cargo writes it here.
source_line() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir "$scratch/src"
    touch "$scratch/src/lib.rs"
    printf '[package]\nname = "scratch"\n[dependencies]\nfnv = "1"\n' >"$scratch/Cargo.toml"
    (cd "$scratch" && cargo generate-lockfile --quiet) || fail "cargo could not resolve a package"
    grep '^source = ' "$scratch/Cargo.lock" || fail "cargo's lock file names no source"
}

make_lock() {
    [ -f Cargo.pins ] || fail "there is no Cargo.pins here"
    line=$(source_line)
    # Packages of this workspace have no checksum, and no source.
    awk -v line="$line" '/^checksum = / { print line } { print }' Cargo.pins >Cargo.lock.part
    mv Cargo.lock.part Cargo.lock
}

make_pins() {
    [ -f Cargo.lock ] || fail "there is no Cargo.lock here"
    [ "$(grep -c '^source = ' Cargo.lock)" = "$(grep -c '^checksum = ' Cargo.lock)" ] ||
        fail "a package of Cargo.lock comes from elsewhere than the registry"
    grep -v '^source = ' Cargo.lock >Cargo.pins.part
    if grep -q '://' Cargo.pins.part; then
        rm Cargo.pins.part
        fail "two packages of one name and version come from different sources"
    fi
    mv Cargo.pins.part Cargo.pins
}

case "${1-}" in
lock) make_lock ;;
pins) make_pins ;;
*) fail "say lock or pins" ;;
esac
