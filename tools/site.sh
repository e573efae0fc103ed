#!/bin/sh
# Builds the documentation's site into build/site. Its packages are in an environment of their
# own, .cache/site-venv, which is made again when their list has changed. A warning is an error,
# and so is a link inside the site that leads nowhere.
set -eu
cd "$(dirname "$0")/.."

venv=.cache/site-venv
sh tools/list_venv.sh packaging/requirements/docs.txt "$venv"
rm -rf build/site
"$venv/bin/python" -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --fresh-env \
    --conf-dir docs/site --doctree-dir .cache/site-doctrees --builder html . build/site "$@"
echo "site: build/site/index.html"
