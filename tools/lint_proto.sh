#!/bin/sh
# buf: lint, format, and no break of what is promised to clients, which is in promised.binpb;
# with --promise that is written anew, as proto/ says it now.
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

if [ "${1:-}" = --promise ]; then
    "$buf" build --exclude-source-info --output promised.binpb
    echo "proto/promised.binpb is now what proto/ says: see docs/reference/compatibility.md, when it may be"
    exit
fi

"$buf" lint
"$buf" format --diff --exit-code
"$buf" breaking --against promised.binpb
