#!/bin/sh
# actionlint comes as source alone, so it is built where Go is there. Without Go the workflows are
# not checked, which is said; with CI set that is an error.
set -eu
cd "$(dirname "$0")/.."

if ! command -v go >/dev/null 2>&1; then
    echo "lint_workflows: Go is not there: .github/workflows was not checked" >&2
    [ -z "${CI:-}" ]
    exit
fi
sh tools/go_tools.sh actionlint
# Without what it would find on this machine by chance.
exec .cache/tools/bin/actionlint -shellcheck= -pyflakes=
