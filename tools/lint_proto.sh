#!/bin/sh
# buf: lint, format, and no break of what the last release promised on the wire.
set -eu
cd "$(dirname "$0")/../proto"

if ! command -v npm >/dev/null 2>&1; then
    echo "make lint needs npm, for buf: install Node.js (Debian, Ubuntu: apt install npm)," >&2
    echo "or use Dockerfile.dev, which has it. Nothing else here needs it." >&2
    exit 1
fi

buf=node_modules/.bin/buf
# npm writes its own copy of the lock when all is installed: older or missing means do it again.
if [ ! -x "$buf" ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --ignore-scripts --silent || {
        echo "npm could not install buf from proto/package-lock.json:" >&2
        echo "see 'cd proto && npm ci'." >&2
        exit 1
    }
fi

"$buf" lint
"$buf" format --diff --exit-code

release=$(git describe --tags --match 'v[0-9]*' --abbrev=0 2>/dev/null) || release=""
if [ -n "$release" ]; then
    "$buf" breaking --against "$(git rev-parse --git-common-dir)#tag=$release,subdir=proto"
else
    echo "buf breaking: no release is tagged yet, nothing to compare with"
fi
