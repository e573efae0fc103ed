#!/bin/sh
# Builds the sdists and wheels of the service and of its Python client into a directory. A wheel is
# built from its sdist, so that whoever builds one from what is published gets the same.
set -eu
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
mkdir -p "${1:?usage: tools/dist.sh DIRECTORY}"
target=$(cd "$1" && pwd)
# What is built requires the client by version, and not where it lies here (hatch_build.py).
export POOL_SERVICE_DIST=1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
build() {
    mkdir "$scratch/$2"
    (cd "$1" && "$python" -m hatchling build --target sdist --directory "$target")
    tar -xzf "$target/$2"-[0-9]*.tar.gz -C "$scratch/$2" --strip-components 1
    (cd "$scratch/$2" && "$python" -m hatchling build --target wheel --directory "$target")
}
build . pool_service
build clients/python pool_service_client
