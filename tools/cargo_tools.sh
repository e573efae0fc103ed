#!/bin/sh
# Tools in Rust, built into .cache/tools/bin of this checkout from the crates that cargo_tools.txt
# pins: cargo_tools.sh TOOL...
# Unoptimized, which takes half the time: they do little work.
set -eu
cd "$(dirname "$0")/.."

if ! cargo --version >/dev/null 2>&1; then
    echo "cargo_tools: cargo is not there or does not run, and is needed to build $*:" >&2
    echo "install Rust." >&2
    exit 1
fi

# Prints the hash that the registry has of a crate: that of what cargo downloads, which it checks.
registry_hash() {
    mkdir "$scratch/src"
    : > "$scratch/src/lib.rs"
    printf '[package]\nname = "pin"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n' \
        "$1" "$2" > "$scratch/Cargo.toml"
    cargo generate-lockfile --quiet --manifest-path "$scratch/Cargo.toml" || return 1
    awk -v name="name = \"$1\"" '$0 == name { found = 1 } found && /^checksum/ { print $3; exit }' \
        "$scratch/Cargo.lock" | tr -d '"'
}

build() {
    hash=$(registry_hash "$1" "$2") || return 1
    if [ "$hash" != "${3:-none}" ]; then
        echo "cargo_tools: $1 $2 is not the crate that was pinned: its SHA-256 is $hash," >&2
        echo "and not ${3:-none} as in tools/cargo_tools.txt." >&2
        return 1
    fi
    cargo install --quiet --debug --locked --root .cache/tools "$1@=$2"
}

for tool in "$@"; do
    pin=$(grep "^$tool " tools/cargo_tools.txt) || {
        echo "cargo_tools: tools/cargo_tools.txt has no $tool" >&2
        exit 1
    }
    made=.cache/tools/cargo/$(echo "$pin" | tr ' ' -)
    [ ! -e "$made" ] || continue
    scratch=$(mktemp -d)
    # shellcheck disable=SC2086  # name, version, hash
    build $pin || {
        rm -rf "$scratch"
        echo "cargo_tools: $tool could not be built, as told above." >&2
        exit 1
    }
    rm -rf "$scratch"
    mkdir -p .cache/tools/cargo
    : > "$made"
done
