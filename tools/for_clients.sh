#!/bin/sh
# Makes targets in every client whose toolchain is there:
#   for_clients.sh TARGET...
# A client whose toolchain is missing or does not run (a version manager's shim without a version)
# is left out and said to be; with CI set that is an error.
set -eu
cd "$(dirname "$0")/../clients"

missing=""
for asked in "go go version" "rust cargo --version" "typescript npm --version"; do
    client=${asked%% *}
    version=${asked#* }
    if $version >/dev/null 2>&1; then
        make --no-print-directory -C "$client" "$@"
    else
        tool=${version%% *}
        echo "for_clients: $tool is not installed or does not run: clients/$client was left out" >&2
        missing="$missing $client"
    fi
done
[ -z "$missing" ] || [ -z "${CI:-}" ] || exit 1
