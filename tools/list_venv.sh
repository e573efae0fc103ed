#!/bin/sh
# Makes an environment of the packages of a list, again when the list has changed:
#   list_venv.sh LIST DIRECTORY
set -eu
cd "$(dirname "$0")/.."

list=$1
venv=$2
cmp -s "$list" "$venv/made-from.txt" && exit
python=$(sh tools/find_python.sh)
echo "list_venv: making $venv" >&2
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps \
    --require-hashes --only-binary :all: --requirement "$list"
cp "$list" "$venv/made-from.txt"
