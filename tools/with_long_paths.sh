#!/bin/sh
# Runs a pytest command with a base directory as long as pytest has it on macOS (82 bytes before
# the name of a test), where the path of a socket may have 103: sh tools/with_long_paths.sh COMMAND...
set -eu

start=$(mktemp -d /tmp/pool-XXXXXX)
trap 'rm -rf "$start"' EXIT
base="$start/as_long_as_private_var_folders_zz_of_macos_pytest_of_runner_00000"
"$@" --basetemp="$base"
