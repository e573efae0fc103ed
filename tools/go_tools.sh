#!/bin/sh
# Tools in Go, built from the sources that tools/go pins, into .cache/tools/bin of this checkout:
#   go_tools.sh [TOOL...]
# Without a name: those that call the service. Go does nothing where they are there already.
set -eu
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- grpcurl grpc-health-probe ghz
if ! command -v go >/dev/null 2>&1; then
    echo "go_tools: Go is not there, and is needed to build $*:" >&2
    echo "install Go 1.21 or later, which gets the version that they need by itself." >&2
    exit 1
fi

GOBIN=$(pwd)/.cache/tools/bin
export GOBIN
mkdir -p "$GOBIN"
for tool in "$@"; do
    # A module each, so that none gets its libraries in the versions of another.
    (cd "tools/go/$tool" && go install tool) || {
        echo "go_tools: $tool could not be built, as told above." >&2
        exit 1
    }
done
