#!/bin/sh
# Builds the documentation's site into build/site. Its packages are in an environment of their
# own, .cache/site-venv, which is made again when their list has changed. A warning is an error,
# and so is a link inside the site that leads nowhere.
set -eu
cd "$(dirname "$0")/.."

list=packaging/requirements/docs.txt
venv=.cache/site-venv
if ! cmp -s "$list" "$venv/made-from.txt"; then
    python=$(sh tools/find_python.sh)
    echo "site: making $venv" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps \
        --require-hashes --only-binary :all: --requirement "$list"
    cp "$list" "$venv/made-from.txt"
fi
rm -rf build/site
"$venv/bin/python" -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --fresh-env \
    --conf-dir docs/site --doctree-dir .cache/site-doctrees --builder html . build/site "$@"
echo "site: build/site/index.html"
