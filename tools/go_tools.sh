#!/bin/sh
# grpcurl, grpc-health-probe and ghz, built from the sources that tools/go pins, into
# .cache/tools/bin of this checkout. Go does nothing where they are there already.
set -eu
cd "$(dirname "$0")/.."

if ! command -v go >/dev/null 2>&1; then
    echo "go_tools: Go is not there, and is needed to build grpcurl, grpc-health-probe and ghz:" >&2
    echo "install Go 1.21 or later, which gets the version that they need by itself." >&2
    exit 1
fi

GOBIN=$(pwd)/.cache/tools/bin
export GOBIN
mkdir -p "$GOBIN"
for tool in grpcurl grpc-health-probe ghz; do
    # A module each, so that none gets its libraries in the versions of another.
    (cd "tools/go/$tool" && go install tool) || {
        echo "go_tools: $tool could not be built, as told above." >&2
        exit 1
    }
done
