#!/bin/sh
# Makes targets in every client whose toolchain is there:
#   for_clients.sh TARGET...
# A client whose toolchain is missing is left out and said to be; with CI set that is an error.
set -eu
cd "$(dirname "$0")/../clients"

missing=""
for pair in go:go rust:cargo typescript:npm; do
    client=${pair%%:*}
    tool=${pair##*:}
    if command -v "$tool" >/dev/null 2>&1; then
        make --no-print-directory -C "$client" "$@"
    else
        echo "for_clients: $tool is not installed: the client in clients/$client was left out" >&2
        missing="$missing $client"
    fi
done
[ -z "$missing" ] || [ -z "${CI:-}" ] || exit 1
